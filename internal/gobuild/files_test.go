package gobuild

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/skiff-build/skiff/internal/skifftest"
	"github.com/skiff-build/skiff/internal/store"
)

func openStore(t *testing.T) *store.Store {
	t.Helper()
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return st
}

// listing is a layer as lines of type, mode, name, link or size.
func listing(t *testing.T, st *store.Store, f Files) string {
	t.Helper()
	r, err := st.OpenBlob(f.Layer)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var out strings.Builder
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%c %o %s %s%d %d\n", h.Typeflag, h.Mode, h.Name, h.Linkname, h.Size, h.ModTime.Unix())
	}
}

func TestWriteFiles(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no permissions and links as elsewhere")
	}
	st := openStore(t)
	dir := skifftest.Files(t, "site/index.html", "hello", "site/css/a.css", "x", "run.sh", "#!", "outside", "12345")
	for _, err := range []error{
		os.Chmod(filepath.Join(dir, "run.sh"), 0o700), os.Chmod(filepath.Join(dir, "site/index.html"), 0o600),
		os.Symlink("../outside", filepath.Join(dir, "site/link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	site, run := filepath.Join(dir, "site"), filepath.Join(dir, "run.sh")
	got, err := WriteFiles(t.Context(), []Static{{Source: site, Target: "/srv"}, {Source: run, Target: "/srv/bin/"}}, FilesOptions{Store: st})
	if err != nil {
		t.Fatal(err)
	}
	want := "5 755 srv/ 0 0\n5 755 srv/bin/ 0 0\n0 755 srv/bin/run.sh 2 0\n5 755 srv/css/ 0 0\n0 644 srv/css/a.css 1 0\n" +
		"0 644 srv/index.html 5 0\n2 777 srv/link ../outside0 0\n"
	if l := listing(t, st, got); l != want || got.Size != 8 {
		t.Errorf("%d bytes:\n%swant:\n%s", got.Size, l, want)
	}
	followed, err := WriteFiles(t.Context(), []Static{{Source: site, Target: "/", Follow: true}}, FilesOptions{Store: st})
	if l := listing(t, st, followed); err != nil || !strings.Contains(l, "0 644 link 5 0\n") {
		t.Errorf("%v:\n%s", err, l)
	}

	// Another content shows, and so does its return.
	if err := os.WriteFile(filepath.Join(site, "index.html"), []byte("HELLO"), 0o600); err != nil {
		t.Fatal(err)
	}
	statics := []Static{{Source: site, Target: "/srv"}, {Source: run, Target: "/srv/bin/"}}
	changed, err := WriteFiles(t.Context(), statics, FilesOptions{Store: st})
	if err != nil || changed.Layer == got.Layer {
		t.Errorf("the layer is the same after a change, %v", err)
	}
	if err := os.Symlink("..", filepath.Join(site, "css/up")); err != nil {
		t.Fatal(err)
	}
	if _, err := WriteFiles(t.Context(), []Static{{Source: site, Target: "/", Follow: true}}, FilesOptions{Store: st}); err == nil || !strings.Contains(err.Error(), "leads back") {
		t.Errorf("links in a circle: %v", err)
	}
	if _, err := WriteFiles(t.Context(), []Static{{Source: run, Target: "/a"}, {Source: run, Target: "/a"}}, FilesOptions{Store: st}); err == nil {
		t.Error("two files of a name are no error")
	}
	if _, err := WriteFiles(t.Context(), []Static{{Source: filepath.Join(dir, "nosuch"), Target: "/a"}}, FilesOptions{Store: st}); err == nil {
		t.Error("a file that is not there is no error")
	}
}
