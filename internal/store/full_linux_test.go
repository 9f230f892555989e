package store

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The test runs again in a process of its own, whose files cannot grow above 64 KiB: the write fails midway, as on
// a full disk.
func TestNoRoomLeavesNothing(t *testing.T) {
	if os.Getenv("SKIFF_STORE_FULL") == "" {
		c := exec.Command(os.Args[0], "-test.run=^TestNoRoomLeavesNothing$", "-test.v")
		c.Env = append(os.Environ(), "SKIFF_STORE_FULL="+t.TempDir())
		out, err := c.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "PASS: TestNoRoomLeavesNothing") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	s := open(t, os.Getenv("SKIFF_STORE_FULL"))
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 64 << 10, Max: 64 << 10}); err != nil {
		t.Fatal(err)
	}
	big := strings.Repeat("x", 1<<20)
	_, _, err := s.WriteBlob(t.Context(), strings.NewReader(big), hashOf(big), int64(len(big)))
	if !errors.Is(err, syscall.EFBIG) {
		t.Errorf("WriteBlob: %v", err)
	}
	if err := s.Put("k", Key{}, big); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("Put: %v", err)
	}
	var v string
	if err := s.Get("k", Key{}, &v); !errors.Is(err, ErrMiss) {
		t.Errorf("Get: %v", err)
	}
	nothingLeft(t, s)
}

// A root that belongs to somebody else, or lies on a read-only file system, is a clear error.
func TestReadOnlyRoot(t *testing.T) {
	if os.Getenv("SKIFF_STORE_READONLY") == "" {
		root := t.TempDir()
		if err := os.Chmod(root, 0o755); err != nil {
			t.Fatal(err)
		}
		c := exec.Command(os.Args[0], "-test.run=^TestReadOnlyRoot$", "-test.v")
		c.Env = append(os.Environ(), "SKIFF_STORE_READONLY="+root)
		if os.Getuid() == 0 {
			// The binary lies where only root can read: it is started by descriptor.
			exe, err := os.Open("/proc/self/exe")
			if err != nil {
				t.Fatal(err)
			}
			defer exe.Close()
			c.Path, c.ExtraFiles = "/proc/self/fd/3", []*os.File{exe}
			c.Dir = "/"
			c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			// So that it can be reached, and not written to.
			for dir := root; dir != os.TempDir() && dir != "/"; dir = dir[:strings.LastIndex(dir, "/")] {
				if err := os.Chmod(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
		} else if err := os.Chmod(root, 0o500); err != nil {
			t.Fatal(err)
		}
		out, err := c.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "PASS: TestReadOnlyRoot") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	_, err := Open(os.Getenv("SKIFF_STORE_READONLY"))
	if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "--root or SKIFF_ROOT") {
		t.Errorf("%v", err)
	}
}
