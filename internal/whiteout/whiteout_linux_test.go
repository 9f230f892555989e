package whiteout

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/skiff-build/skiff/internal/inode"
)

func TestMarks(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "d")
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "empty"), nil, 0o644))
	must(t, Make(root, "d/real"))
	if Marked(root) {
		t.Fatal("this file system holds no whiteouts; the test needs one that does")
	}
	must(t, makeMarker(root, filepath.Join(dir, "marker")))
	must(t, inode.Create(filepath.Join(dir, "device"), inode.Info{Mode: inode.TypeChar | 0o600})) // 0:0, of an image
	for name, want := range map[string]bool{"real": true, "marker": true, "empty": false, "device": false, ".": false} {
		path := filepath.Join(dir, name)
		i, err := inode.Lstat(path)
		must(t, err)
		if got := Is(path, i); got != want {
			t.Errorf("%s: whiteout is %v", name, got)
		}
	}
	if !Marked(root) || Marked(dir) {
		t.Errorf("marked: root %v, directory %v", Marked(root), Marked(dir))
	}
	if err := Make(root, "d/empty"); err == nil {
		t.Error("a whiteout over a file")
	}

	if IsOpaque(dir) {
		t.Error("opaque at first")
	}
	must(t, SetOpaque(dir, false))
	must(t, SetOpaque(dir, true))
	if !IsOpaque(dir) {
		t.Error("not opaque")
	}
	must(t, SetOpaque(dir, false))
	if IsOpaque(dir) {
		t.Error("opaque still")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
