// Package inodetest runs tests the ways skiff runs: as real root, with subordinate ids, and with one id.
package inodetest

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// modeEnv is set in the processes that Run starts.
const modeEnv = "SKIFF_INODETEST_MODE"

// The modes of [Run].
const (
	Root   = "root"   // real root, no user namespace
	Subids = "subids" // a user namespace with ids 0 to 65535, so chown works and mknod does not
	OneID  = "oneid"  // a user namespace with id 0 alone, so neither does
)

// Run runs f in every mode that this user can have, each in a process and mount namespace of its own:
// root has all three, anybody else OneID. Run must be called first in a top-level test function, as it
// runs the test binary again for that function.
func Run(t *testing.T, f func(t *testing.T, mode string)) {
	t.Helper()
	if mode := os.Getenv(modeEnv); mode != "" {
		// What is mounted here must not appear outside.
		if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		f(t, mode)
		return
	}
	modes := []string{OneID}
	if os.Geteuid() == 0 {
		modes = []string{Root, Subids, OneID}
	}
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			name, _, _ := strings.Cut(t.Name(), "/")
			out, err := command(mode, name).CombinedOutput()
			if err != nil {
				t.Fatalf("in mode %s: %v\n%s", mode, err, out)
			}
			if !strings.Contains(string(out), "--- PASS: "+name) {
				t.Fatalf("in mode %s: the test did not run\n%s", mode, out)
			}
			if testing.Verbose() {
				t.Logf("%s", out)
			}
		})
	}
}

// command runs one test of this binary again. It goes through /proc since the folder in which go test
// builds is closed to the ids that root maps.
func command(mode, test string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", "-test.v", "-test.run=^"+test+"$", "-test.testlogfile=")
	cmd.Env = append(os.Environ(), modeEnv+"="+mode)
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	cmd.SysProcAttr = attr
	if mode == Root {
		return cmd
	}
	attr.Cloneflags |= syscall.CLONE_NEWUSER
	attr.Credential = &syscall.Credential{NoSetGroups: true}
	uid, gid, size := os.Getuid(), os.Getgid(), 1
	switch {
	case mode == Subids:
		uid, gid, size = 100000, 100000, 65536
	case uid == 0:
		uid, gid = 65534, 65534
	}
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: size}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: size}}
	return cmd
}
