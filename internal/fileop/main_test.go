//go:build linux

package fileop

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// inNamespace is set in the environment of the tests that run in a namespace of one id.
const inNamespace = "SKIFF_TEST_ONE_ID"

// TestMain runs the tests as the engine's child runs file operations: as root, real or, for an ordinary
// user, of a namespace.
func TestMain(m *testing.M) {
	if os.Geteuid() == 0 {
		os.Exit(m.Run())
	}
	out, err := oneID(exec.Command("/proc/self/exe", os.Args[1:]...))
	fmt.Printf("%s", out)
	if err != nil {
		fmt.Println("in a user namespace:", err)
		os.Exit(1)
	}
}

// TestOneID runs all tests again where one id is mapped, as for a user without subordinate ids: the
// results are the same.
func TestOneID(t *testing.T) {
	if os.Getenv(inNamespace) != "" {
		if err := os.Lchown(t.TempDir(), 1, 1); err == nil {
			t.Error("chown works: not a namespace of one id")
		}
		return
	}
	out, err := oneID(exec.CommandContext(t.Context(), "/proc/self/exe", "-test.skip=TestManyFiles"))
	if err != nil {
		t.Errorf("with one id: %v\n%s", err, out)
	}
}

// oneID runs cmd in a user namespace that maps root to the current user and nothing else.
func oneID(cmd *exec.Cmd) ([]byte, error) {
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	return cmd.CombinedOutput()
}
