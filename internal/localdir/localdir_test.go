package localdir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/skiff-build/skiff/internal/inode"
)

// write makes files below a new folder: a name that ends with a slash is a directory, "name -> target" a
// symlink, all others are files that hold their own name.
func write(t testing.TB, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		name, target, link := strings.Cut(name, " -> ")
		p := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(p), 0o755)
		switch {
		case err != nil:
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(p, 0o755)
		case link:
			err = os.Symlink(target, p)
		default:
			err = os.WriteFile(p, []byte(name), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func scan(t testing.TB, ix *Index, sel Selection) *Tree {
	t.Helper()
	tree, err := ix.Scan(t.Context(), sel)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// names lists a tree, directories with a slash.
func names(t testing.TB, tree *Tree) []string {
	t.Helper()
	var out []string
	err := tree.Walk(func(name string, i inode.Info) error {
		if i.IsDir() {
			name += "/"
		}
		out = append(out, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSelection(t *testing.T) {
	dir := write(t, "main.go", "sub/a.go", "sub/deep/b.txt", "sub/keep/c.txt", "vol/f", "vol/x/f", "link -> sub/deep",
		"abs -> /sub/keep", "out -> ../../etc", "empty/", ".git/config")
	for _, c := range []struct {
		sel  Selection
		want string
	}{
		{Selection{}, ".git/ .git/config abs empty/ link main.go out sub/ sub/a.go sub/deep/ sub/deep/b.txt sub/keep/ sub/keep/c.txt vol/ vol/f vol/x/ vol/x/f"},
		{Selection{Exclude: []string{".git", "vol"}}, "abs empty/ link main.go out sub/ sub/a.go sub/deep/ sub/deep/b.txt sub/keep/ sub/keep/c.txt"},
		{Selection{Exclude: []string{"*", "!vol", "vol/x"}}, "vol/ vol/f"},
		{Selection{Exclude: []string{"sub", "!*/keep*", "vol/", "!**/f", ".git"}}, "abs empty/ link main.go out sub/ sub/keep/ sub/keep/c.txt vol/ vol/f vol/x/ vol/x/f"},
		{Selection{Include: []string{"sub/*.go"}}, "sub/ sub/a.go"},
		{Selection{Include: []string{"**/*.txt"}}, "sub/ sub/deep/ sub/deep/b.txt sub/keep/ sub/keep/c.txt"},
		{Selection{Follow: []string{"link"}}, "link sub/ sub/deep/ sub/deep/b.txt"},
		{Selection{Follow: []string{"link/b.txt"}}, "link sub/ sub/deep/ sub/deep/b.txt"},
		{Selection{Follow: []string{"abs"}}, "abs sub/ sub/keep/ sub/keep/c.txt"},
		{Selection{Follow: []string{"/"}}, ".git/ .git/config abs empty/ link main.go out sub/ sub/a.go sub/deep/ sub/deep/b.txt sub/keep/ sub/keep/c.txt vol/ vol/f vol/x/ vol/x/f"},
		{Selection{Follow: []string{"missing", "*.go"}}, "main.go"},
		{Selection{Include: []string{"missing"}}, ""},
	} {
		c.sel.Dir = dir
		tree := scan(t, Open(nil), c.sel)
		if got := strings.Join(names(t, tree), " "); got != c.want {
			t.Errorf("%+v:\ngot  %s\nwant %s", c.sel, got, c.want)
		}
	}
}

func TestAttributes(t *testing.T) {
	dir := write(t, "f", "d/", "l -> ../outside")
	for _, err := range []error{os.Chmod(filepath.Join(dir, "f"), 0o4751|fs.ModeSetuid), os.Chmod(filepath.Join(dir, "d"), 0o700),
		os.Chmod(dir, 0o700)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	tree := scan(t, Open(nil), Selection{Dir: dir})
	for name, want := range map[string]inode.Info{
		".": {Mode: inode.TypeDir | 0o755},
		"f": {Mode: inode.TypeFile | 0o4751},
		"d": {Mode: inode.TypeDir | 0o700},
		"l": {Mode: inode.TypeLink | 0o777, Link: "../outside"},
	} {
		if got, err := tree.Lstat(name); err != nil || !got.SameAttributes(want) {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, want)
		}
	}
	for _, name := range []string{"x", "f/x", "l/x", "../" + filepath.Base(dir), "/f"} {
		if _, err := tree.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, want fs.ErrNotExist", name, err)
		}
	}
	for _, name := range []string{"d", "l"} {
		if _, err := tree.Open(name); err == nil {
			t.Errorf("open %s: no error", name)
		}
		if _, err := tree.Digest(name); err == nil {
			t.Errorf("digest %s: no error", name)
		}
	}
	if _, err := tree.ReadDir("f"); err == nil {
		t.Error("readdir f: no error")
	}
}

func TestSocketIsAnEmptyFile(t *testing.T) {
	dir := write(t, "f")
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tree := scan(t, Open(nil), Selection{Dir: dir})
	i, err := tree.Lstat("s")
	if err != nil || !i.IsRegular() || i.Size != 0 {
		t.Fatalf("%+v, %v", i, err)
	}
	if d, err := tree.Digest("s"); err != nil || d != "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" {
		t.Errorf("digest %s, %v", d, err)
	}
	r, err := tree.Open("s")
	if err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(r); err != nil || len(data) != 0 {
		t.Errorf("content %q, %v", data, err)
	}
	if _, err := tree.Sum(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestContextIsALink(t *testing.T) {
	dir := write(t, "f")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	tree := scan(t, Open(nil), Selection{Dir: link})
	if got := names(t, tree); !slices.Equal(got, []string{"f"}) {
		t.Errorf("got %q", got)
	}
}

func TestScanErrors(t *testing.T) {
	dir := write(t, "f")
	for _, c := range []struct {
		sel  Selection
		want string
	}{
		{Selection{Dir: filepath.Join(dir, "missing")}, "missing"},
		{Selection{Dir: filepath.Join(dir, "f")}, "not a directory"},
		{Selection{Dir: dir, Exclude: []string{"["}}, "["},
		{Selection{Dir: dir, Exclude: []string{"!"}}, "!"},
	} {
		if _, err := Open(nil).Scan(t.Context(), c.sel); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want an error with %q", c.sel, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(nil).Scan(ctx, Selection{Dir: dir}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestManyFiles(t *testing.T) {
	dir := manyFiles(t, 10_000)
	tree := scan(t, Open(nil), Selection{Dir: dir})
	got, err := tree.ReadDir(".")
	if err != nil || len(got) != 10_000 || !slices.IsSorted(got) {
		t.Errorf("%d names, sorted: %v, %v", len(got), slices.IsSorted(got), err)
	}
}

// manyFiles makes a folder of n files, which are links to one: they are quickly made.
func manyFiles(t testing.TB, n int) string {
	t.Helper()
	dir := write(t, "f0")
	for i := 1; i < n; i++ {
		if err := os.Link(filepath.Join(dir, "f0"), filepath.Join(dir, fmt.Sprint("f", i))); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestVanishedFile removes a file between the listing of its directory and the look at it.
func TestVanishedFile(t *testing.T) {
	dir := write(t, "a", "b/x", "b/y/z", "c")
	tree := newTree(dir, nil)
	var found []listed
	if err := tree.list(t.Context(), Selection{}, func(l listed) { found = append(found, l) }); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	f := tree.filler(t.Context())
	for _, l := range found {
		f.add(l)
	}
	err := f.wait(nil)
	seen := names(t, tree)
	if err != nil || !slices.Equal(seen, []string{"a", "c"}) {
		t.Errorf("saw %q, %v", seen, err)
	}
}
