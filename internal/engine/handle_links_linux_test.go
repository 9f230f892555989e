package engine

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/skiff-build/skiff/internal/inode"
)

// TestLinksIntoCaches: what a go command writes beside its caches must not end in one.
func TestLinksIntoCaches(t *testing.T) {
	root, context := t.TempDir(), t.TempDir()
	for _, dir := range []string{"usr/local/go/bin", "src/sub", "src/out", "bound", "ok"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name string) {
		if err := os.WriteFile(filepath.Join(root, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("src/go.mod")
	write("src/main")
	link := func(target, dir, name string) {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("../ok", root, "src/fine")
	link("nowhere", root, "src/dangling")
	tree, done, err := inode.Dir(root)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	bound, done, err := inode.Dir(context)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	l := linkFinder{views: []view{{"", root, tree}, {"bound", context, bound}}, guarded: []string{"usr/local/go", "root/.cache/go-build", "go/pkg/mod"}}
	for _, w := range []string{"/src", "/src/main", "/src/sub", "/src/out/app", "/missing/x", "/bound", "/bound/app", "/", "/go"} {
		if l.leads(w) {
			t.Errorf("%s: leads somewhere without a link", w)
		}
	}
	if !l.leads("/root/.cache/go-build/00/x-d") || !l.leads("/usr/local/go/bin/go") {
		t.Error("guarded places by their own names are not seen")
	}
	for _, c := range []struct{ target, dir, name, write string }{
		{"/root/.cache/go-build/00", root, "src/out/link", "/src/out/link/x-d"},
		{"../root/.cache/go-build/00/x-d", root, "src/app", "/src"}, // the name may be that of the program
		{"/root/.cache/go-build/00/x-d", root, "src/app", "/src/app"},
		{"/go/pkg/mod/example.com/a@v1.0.0/data", root, "src/go.sum", "/src/sub"},
		{"/usr/local/go/src", root, "src/cwd", "/src/cwd"},
		{"../../../../../go/pkg", root, "src/sub/a", "/src/sub/a/mod/x"},
		{"loop", root, "src/loop", "/src/loop"},
		{"/root/.cache", context, "link", "/bound/link/go-build/00/x-d"},
		{"/go/pkg/mod/x", context, "go.mod", "/bound"},
	} {
		link(c.target, c.dir, c.name)
		if !l.leads(c.write) {
			t.Errorf("%s -> %s: writing %s was not seen", c.name, c.target, c.write)
		}
		if err := os.Remove(filepath.Join(c.dir, c.name)); err != nil {
			t.Fatal(err)
		}
	}
}
