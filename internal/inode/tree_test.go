package inode_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/skiff-build/skiff/internal/inode"
)

// sample is a directory with links of all kinds; secret lies beside it.
func sample(t *testing.T) inode.Tree {
	top := t.TempDir()
	write := func(name, text string) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(top, name)), 0o755),
			os.WriteFile(filepath.Join(top, name), []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write("secret", "secret")
	write("root/a/b/file", "text")
	write("root/z", "")
	for name, target := range map[string]string{
		"abs": "/a/b", "up": "../../secret", "out": filepath.Join(top, "secret"), "loop": "loop", "a/rel": "b",
		"a/b/top": "../../..", "tofile": "abs/file", "dangling": "/a/none/x", "chain": "a/rel",
	} {
		if err := os.Symlink(target, filepath.Join(top, "root", name)); err != nil {
			t.Skipf("this system cannot make symlinks: %v", err)
		}
	}
	tree, done, err := inode.Dir(filepath.Join(top, "root"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { done() })
	return tree
}

func TestResolve(t *testing.T) {
	tree := sample(t)
	for _, c := range []struct {
		name, want string
		follow     bool
		err        error
	}{
		{"", ".", true, nil},
		{"/", ".", true, nil},
		{"/a//b/./file", "a/b/file", true, nil},
		{"abs/file", "a/b/file", true, nil},
		{"abs", "a/b", true, nil},
		{"abs", "abs", false, nil},
		{"chain/file", "a/b/file", false, nil},
		{"a/b/top/z", "z", true, nil},
		{"tofile", "a/b/file", true, nil},
		{"abs/../z", "a/z", true, fs.ErrNotExist},
		{"../../..", ".", true, nil},
		{"up", "secret", true, fs.ErrNotExist},
		{"missing/x/y", "missing/x/y", true, fs.ErrNotExist},
		{"abs/new", "a/b/new", true, fs.ErrNotExist},
		{"missing/../z", "z", true, nil},
		{"dangling", "a/none/x", true, fs.ErrNotExist},
		{"dangling", "dangling", false, nil},
		{"loop", "loop", true, syscall.ELOOP},
		{"z/x", "z", true, syscall.ENOTDIR},
	} {
		got, err := inode.Resolve(tree, c.name, c.follow)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("Resolve(%q, %v) = %q, %v; want %q, %v", c.name, c.follow, got, err, c.want, c.err)
		}
	}
}

func TestDir(t *testing.T) {
	tree := sample(t)
	names, err := tree.ReadDir(".")
	if want := []string{"a", "abs", "chain", "dangling", "loop", "out", "tofile", "up", "z"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("%q, %v", names, err)
	}
	r, err := tree.Open("a/b/file")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if text, err := io.ReadAll(r); err != nil || string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
	if i, err := tree.Lstat("."); err != nil || !i.IsDir() {
		t.Errorf("root: %+v, %v", i, err)
	}
	for _, name := range []string{"none", "abs/file", "z/x", "a/rel/file", "out/x"} {
		_, err1 := tree.Lstat(name)
		_, err2 := tree.Open(name)
		_, err3 := tree.ReadDir(name)
		for _, err := range []error{err1, err2, err3} {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for _, name := range []string{"", "/a", "..", "../secret", "a/../../secret", "a/", "a/./b", "a\x00b"} {
		if _, err := tree.Lstat(name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("Lstat(%q): %v", name, err)
		}
	}
	for _, name := range []string{"up", "out", "tofile", "a"} {
		if r, err := tree.Open(name); err == nil {
			r.Close()
			t.Errorf("Open(%q) followed a link or opened a directory", name)
		}
	}
	if _, err := tree.ReadDir("abs"); err == nil {
		t.Error("ReadDir followed a link")
	}
}
