package localdir

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// remembered is the sum of a folder by way of the memory, and whether it was computed.
func remembered(t *testing.T, ix *Index, sel Selection) (sum string, computed bool) {
	t.Helper()
	tree := scan(t, ix, sel)
	sum, err := tree.Remember("sum", func() (string, error) {
		computed = true
		return tree.Sum(t.Context())
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := ix.Save(); err != nil {
		t.Fatal(err)
	}
	return sum, computed
}

// TestRemember changes a folder in each way that there is: what is remembered is what would be computed.
func TestRemember(t *testing.T) {
	dir, st := write(t, "a", "b/c", "b/d", "e/f"), openStore(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.Symlink("a", at("link")); err != nil {
		t.Fatal(err)
	}
	age(t, dir)
	sel := Selection{Dir: dir}
	if _, computed := remembered(t, Open(st), sel); !computed {
		t.Fatal("something was remembered at first")
	}
	for _, c := range []struct {
		name   string
		change func() error
	}{
		{"nothing", nil},
		{"content", func() error { return os.WriteFile(at("a"), []byte("other"), 0o644) }},
		{"content of the same size with an older time", func() error {
			return os.WriteFile(at("a"), []byte("OTHER"), 0o644)
		}},
		{"mode", func() error { return os.Chmod(at("b/c"), 0o755) }},
		{"new", func() error { return os.WriteFile(at("b/z"), []byte("z"), 0o644) }},
		{"gone", func() error { return os.Remove(at("b/d")) }},
		{"renamed", func() error { return os.Rename(at("e/f"), at("e/g")) }},
		{"empty folder", func() error { return os.Mkdir(at("e/new"), 0o755) }},
		{"link", func() error {
			os.Remove(at("link"))
			return os.Symlink("b", at("link"))
		}},
		{"file in place of a folder", func() error {
			os.Remove(at("e/new"))
			return os.WriteFile(at("e/new"), nil, 0o644)
		}},
	} {
		if c.change != nil {
			if err := c.change(); err != nil {
				t.Fatal(err)
			}
			if c.name == "content of the same size with an older time" {
				now := time.Unix(1000, 5)
				if err := os.Chtimes(at("a"), now, now); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(tick + 20*time.Millisecond)
		want := sum(t, scan(t, Open(nil), sel))
		got, computed := remembered(t, Open(st), sel)
		if got != want || computed != (c.change != nil) {
			t.Errorf("%s: computed: %v, got %s, want %s", c.name, computed, got, want)
		}
		if again, computed := remembered(t, Open(st), sel); again != want || computed {
			t.Errorf("%s, again: computed: %v, got %s, want %s", c.name, computed, again, want)
		}
	}
	if got, computed := remembered(t, Open(st), Selection{Dir: dir, Exclude: []string{"b"}}); !computed || got == "" {
		t.Error("another selection is taken for the same")
	}
}

// TestRememberNothingUnsettled: what was read of a file just written is not kept, as its next content may have the same stamp.
func TestRememberNothingUnsettled(t *testing.T) {
	dir, st := write(t, "a", "b"), openStore(t)
	age(t, dir)
	for i := range 30 {
		if err := os.WriteFile(filepath.Join(dir, "a"), []byte{byte(i)}, 0o644); err != nil {
			t.Fatal(err)
		}
		want := sum(t, scan(t, Open(nil), Selection{Dir: dir}))
		if got, computed := remembered(t, Open(st), Selection{Dir: dir}); got != want || !computed {
			t.Fatalf("round %d: computed: %v, got %s, want %s", i, computed, got, want)
		}
	}
}

// TestRememberedMayChange: of a file whose content was told by memory, Changed sees a later one.
func TestRememberedMayChange(t *testing.T) {
	dir, st := write(t, "a", "b"), openStore(t)
	age(t, dir)
	remembered(t, Open(st), Selection{Dir: dir})
	tree := scan(t, Open(st), Selection{Dir: dir})
	if _, err := tree.Remember("sum", func() (string, error) { t.Error("not remembered"); return "", nil }); err != nil {
		t.Fatal(err)
	}
	if changed := tree.Changed(nil); len(changed) > 0 {
		t.Errorf("changed: %q", changed)
	}
	if err := os.WriteFile(filepath.Join(dir, "b"), []byte("later"), 0o644); err != nil {
		t.Fatal(err)
	}
	if changed := tree.Changed(nil); len(changed) != 1 || changed[0] != "b" {
		t.Errorf("changed: %q", changed)
	}
}

// TestStampsAgree holds that a scan says of each kind of file what package os does.
func TestStampsAgree(t *testing.T) {
	dir := write(t, "file", "dir/x", "setuid", "sticky/x")
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.Symlink("nowhere", at("link")), syscall.Mkfifo(at("fifo"), 0o640), os.Chmod(at("setuid"), fs.ModeSetuid|fs.ModeSetgid|0o751),
		os.Chmod(at("sticky"), fs.ModeSticky|0o777),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		defer syscall.Close(fd)
		err = syscall.Bind(fd, &syscall.SockaddrUnix{Name: at("socket")})
	}
	if err != nil {
		t.Fatal(err)
	}
	tree := scan(t, Open(nil), Selection{Dir: dir})
	for name, n := range tree.nodes {
		if name == "." {
			continue
		}
		fi, err := os.Lstat(at(name))
		if err != nil || n.stamp != stampOf(fi) {
			t.Errorf("%s: %+v, want %+v, %v", name, n.stamp, stampOf(fi), err)
		}
	}
	if len(tree.nodes) < 10 {
		t.Errorf("only %d files", len(tree.nodes))
	}
}
