//go:build linux

package fileop

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// inNamespace is set in the environment of the tests that run in a namespace of one id.
const inNamespace = "SKIFF_TEST_ONE_ID"

// TestOneID runs all tests again where one id is mapped, as for a user without subordinate ids: the
// results are the same.
func TestOneID(t *testing.T) {
	if os.Getenv(inNamespace) != "" {
		if b, err := os.ReadFile("/proc/self/uid_map"); err != nil || len(b) == 0 {
			t.Fatalf("not in a user namespace: %v", err)
		}
		return
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.v="+map[bool]string{true: "true", false: "false"}[testing.Verbose()])
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Skipf("no user namespaces here: %v", err)
	}
	if err != nil {
		t.Errorf("with one id: %v\n%s", err, out)
	}
}
