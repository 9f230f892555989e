package localdir

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skiff-build/skiff/internal/inode"
)

// TestUnreadable holds that what cannot be read is an error that names it, and only when it is asked for.
func TestUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		// Root can read everything, so somebody else runs the test.
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestUnreadable$")
		cmd.Dir = "/"
		cmd.Env = append(os.Environ(), "TMPDIR=/tmp")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, NoSetGroups: true}}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("as an ordinary user: %v\n%s", err, out)
		}
		return
	}
	dir := write(t, "ok", "secret", "locked/f", "open/f")
	for name, mode := range map[string]fs.FileMode{"secret": 0, "locked": 0} {
		p := filepath.Join(dir, name)
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Chmod(p, 0o700) })
	}
	check := func(err error, name string) {
		t.Helper()
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), filepath.Join(dir, name)) {
			t.Errorf("%v, want one that names %s", err, name)
		}
	}
	tree := scan(t, Open(nil), Selection{Dir: dir})
	_, err := tree.Digest("secret")
	check(err, "secret")
	_, err = tree.Open("secret")
	check(err, "secret")
	_, err = tree.ReadDir("locked")
	check(err, "locked")
	_, err = tree.Sum(t.Context())
	if !errors.Is(err, fs.ErrPermission) {
		t.Errorf("sum: %v", err)
	}
	if d, err := tree.Digest("open/f"); err != nil || d != hashOf("open/f") {
		t.Errorf("digest of a readable file: %s, %v", d, err)
	}
	tree = scan(t, Open(nil), Selection{Dir: dir, Exclude: []string{"secret", "locked"}})
	sum(t, tree)
	tree = scan(t, Open(nil), Selection{Dir: dir, Include: []string{"open"}})
	sum(t, tree)
}

// TestSpecialFiles scans fifos and, as root, devices; nobody opens them.
func TestSpecialFiles(t *testing.T) {
	dir := write(t, "f")
	if err := syscall.Mkfifo(filepath.Join(dir, "p"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := map[string]inode.Info{"p": {Mode: inode.TypeFIFO | 0o600}}
	if syscall.Mknod(filepath.Join(dir, "c"), syscall.S_IFCHR|0o600, 1<<8|3) == nil {
		want["c"] = inode.Info{Mode: inode.TypeChar | 0o600, Major: 1, Minor: 3}
	}
	tree := scan(t, Open(nil), Selection{Dir: dir})
	sum(t, tree)
	for name, w := range want {
		if got, err := tree.Lstat(name); err != nil || !got.SameAttributes(w) {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, w)
		}
		if _, err := tree.Open(name); err == nil {
			t.Errorf("%s was opened", name)
		}
	}
}

// TestFIFOInPlaceOfAFile holds that a file which became a fifo after the scan does not block the build.
func TestFIFOInPlaceOfAFile(t *testing.T) {
	dir := write(t, "f")
	tree := scan(t, Open(nil), Selection{Dir: dir})
	if err := os.Remove(filepath.Join(dir, "f")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "f"), 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { _, err := tree.Digest("f"); done <- err }()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "no longer a regular file") {
			t.Errorf("got %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("the fifo blocks")
	}
}
