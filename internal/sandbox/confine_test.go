//go:build linux

package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The careless process has left something open to the machine, and looks at itself as the init of a step does.
var _ = helper("careless", func(args []string) error {
	closeInherited() // what whoever runs the tests has open
	proc, err := openDir("/proc")
	if err != nil {
		return err
	}
	root, err := openDir("/")
	if err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	all := func(string) bool { return true }
	switch args[0] {
	case "directory", "file":
		name := map[string]string{"directory": "/etc", "file": "/etc/passwd"}[args[0]]
		if _, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return err
		}
	case "path": // of which nothing can be read
		if _, err := unix.Open("/etc", unix.O_PATH|unix.O_CLOEXEC, 0); err != nil {
			return err
		}
	case "thread":
		// One thread has a working directory of its own, as one that had unshared would have a root.
		there := make(chan error)
		go func() {
			runtime.LockOSThread()
			err := unix.Unshare(unix.CLONE_FS)
			if err == nil {
				err = unix.Chdir("/etc")
			}
			there <- err
			select {}
		}()
		if err := <-there; err != nil {
			return err
		}
	case "mount":
		all = func(at string) bool { return at != "/proc" }
	}
	st := &stage{proc: proc, root: root}
	if err := st.confinedFiles(int(proc.Fd())); err != nil {
		return err
	}
	if args[0] == "mount" { // a machine may have more than one mount at /, which is looked at first
		return confinedMounts(int(proc.Fd()), all)
	}
	if err := st.confined(all); args[0] == "thread" {
		return err
	}
	fmt.Println("nothing was found")
	return nil
})

// What an init looks at itself for is found, wherever it is (CVE-2024-21626 was a descriptor).
func TestConfinedFinds(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for what, want := range map[string]string{
		"":          "nothing was found",
		"directory": "leads out of the step, to /etc",
		"file":      "leads out of the step, to /etc/passwd",
		"path":      "leads out of the step, to /etc",
		"thread":    "the cwd of a thread of the init is outside of the step",
		"mount":     "is none of the step's",
	} {
		cmd := &exec.Cmd{Path: exe, Args: []string{SelfPath, "careless", what}, Env: []string{"GODEBUG=containermaxprocs=0"}}
		out, err := cmd.CombinedOutput()
		if !strings.Contains(string(out), want) || (err == nil) != (what == "") {
			t.Errorf("%q: %v, %s", what, err, out)
		}
	}
}

// What was bound over a masked path is looked at (CVE-2025-31133: it was not the null device).
func TestIsMask(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "", 0o644)
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		dir, mask bool
	}{
		{"/dev/null", false, true},
		{"/dev/zero", false, false},
		{filepath.Join(dir, "file"), false, false},
		{dir, true, false},
		{filepath.Join(dir, "empty"), true, false}, // that can be written to
		{"/dev/null", true, false},
	} {
		fd, err := unix.Open(c.name, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), c.name)
		if err := isMask(f, c.dir); (err == nil) != c.mask {
			t.Errorf("%s, as a directory %v: %v", c.name, c.dir, err)
		}
		f.Close()
	}
}
