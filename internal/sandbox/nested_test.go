//go:build linux

package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// nest runs a step within this step, in the mode given.
var _ = helper("nest", func(args []string) error {
	c, err := Enter(context.Background(), Options{Mode: Mode(args[0]), Root: "/tmp/state"})
	if err != nil {
		return fmt.Errorf("enter: %w", err)
	}
	defer c.Close()
	s := DefaultSpec()
	s.Root.Path = "/tmp/root"
	if err := os.MkdirAll(s.Root.Path, 0o755); err != nil {
		return err
	}
	s.Process.Args = []string{SelfPath, "hello", "from within"}
	return c.Call(context.Background(), "run", runRequest{Spec: s, FakeIDs: c.Mode() == ModeOneID}, nil, func(m json.RawMessage) {
		var o output
		json.Unmarshal(m, &o)
		fmt.Print(o.Text)
	})
})

// In a step with Docker's profile namespaces are forbidden, as in a container without privilege, and the error says
// by whom.
func TestNestedInAnOrdinaryStep(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) {
		s := step(t, "nest", "")
		s.Process.Env = append(s.Process.Env, "container=test")
		if err := os.Mkdir(s.Root.Path+"/tmp", 0o777); err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		err := c.Call(t.Context(), "run", runRequest{Spec: s, FakeIDs: c.Mode() == ModeOneID}, nil, func(m json.RawMessage) {
			var o output
			json.Unmarshal(m, &o)
			text.WriteString(o.Text)
		})
		var exit *ExitError
		if !errors.As(err, &exit) || !strings.Contains(text.String(), "the seccomp profile of this container (test) forbids namespaces") {
			t.Fatalf("%v: %s", err, &text)
		}
	})
}

// An old kernel, or an outer container whose filter is old, has none of the newer calls.
func TestNestedWithoutNewerCalls(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) {
		s := step(t, "nest", string(ModeOneID))
		all := AllCaps()
		s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Permitted: all, Effective: all}
		nosys := uint(unix.ENOSYS)
		s.Linux.Seccomp = &specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow, Architectures: nativeArchs,
			Syscalls: []specs.LinuxSyscall{{
				Names:  []string{"openat2", "mount_setattr", "open_tree", "move_mount", "fsopen", "close_range", "keyctl"},
				Action: specs.ActErrno, ErrnoRet: &nosys,
			}},
		}
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/tmp", Type: "bind", Source: t.TempDir()})
		if out := mustRun(t, c, s); out != "hello from within\n" {
			t.Errorf("got %q", out)
		}
	})
}

// In a privileged container everything works but what the outer one has masked: there /proc and /sys are bound.
func TestNestedInAPrivilegedStep(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) {
		for _, mode := range []Mode{ModeRoot, ModeOneID} {
			if mode == ModeRoot && c.Mode() == ModeOneID {
				continue
			}
			s := step(t, "nest", string(mode))
			all := AllCaps()
			s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Permitted: all, Effective: all}
			s.Linux.Seccomp = nil
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/tmp", Type: "bind", Source: t.TempDir()})
			if out := mustRun(t, c, s); out != "hello from within\n" {
				t.Errorf("%s: got %q", mode, out)
			}
		}
	})
}
