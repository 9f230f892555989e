//go:build linux

package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
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
	s.Root.Path, s.Hostname = "/tmp/root", "nested"
	if err := os.MkdirAll(s.Root.Path, 0o755); err != nil {
		return err
	}
	s.Process.Args = []string{SelfPath, "hello", "from within"}
	if len(args) > 1 {
		s.Process.Args = append([]string{SelfPath}, args[1:]...)
	}
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

// climb leaves a chroot of its own upwards, and prints what is there (chroot(2), NOTES).
var _ = helper("climb", func([]string) error {
	top, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(os.Mkdir("/below", 0o755), unix.Chroot("/below"), unix.Fchdir(top)); err != nil {
		return err
	}
	for range 64 {
		if err := unix.Chdir(".."); err != nil {
			return err
		}
	}
	dir, err := os.Open(".")
	if err != nil {
		return err
	}
	names, err := dir.Readdirnames(-1)
	slices.Sort(names)
	fmt.Println(strings.Join(names, " "))
	return err
})

const climbed = "below dev proc sys usr\n" // of the step's own root

// Podman's default profile forbids to set the names of the machine. Elsewhere pivot_root is refused: by a profile, or since the
// machine runs from its initial ramdisk. Either runs steps, and the root that was moved holds them, too.
func TestNestedWhereCallsAreRefused(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) {
		for _, names := range [][]string{{"sethostname", "setdomainname"}, {"pivot_root"}} {
			for _, errno := range []unix.Errno{unix.EPERM, unix.EINVAL} {
				if errno == unix.EINVAL && names[0] == "sethostname" {
					continue
				}
				s := step(t, "nest", string(ModeOneID), "climb")
				all := AllCaps()
				s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Permitted: all, Effective: all}
				number := uint(errno)
				s.Linux.Seccomp = &specs.LinuxSeccomp{
					DefaultAction: specs.ActAllow, Architectures: nativeArchs,
					Syscalls: []specs.LinuxSyscall{{Names: names, Action: specs.ActErrno, ErrnoRet: &number}},
				}
				s.Mounts = append(s.Mounts, specs.Mount{Destination: "/tmp", Type: "bind", Source: t.TempDir()})
				if out := mustRun(t, c, s); !sameWords(out, climbed) {
					t.Errorf("%s (%v): got %q", names, errno, out)
				}
			}
		}
	})
}

// sameWords reports whether out is want, but for the directories of the libraries that the test's program may need.
func sameWords(out, want string) bool {
	words := slices.DeleteFunc(strings.Fields(out), func(w string) bool { return strings.HasPrefix(w, "lib") })
	return strings.Join(words, " ")+"\n" == want
}

// In a chroot root builds as elsewhere, whether its directory is a mount or not, and no step climbs out of it: pivot_root(2)
// alone exchanges what is mounted there, and leaves the machine above.
func TestInAChroot(t *testing.T) {
	const variable = "SKIFF_TEST_CHROOT"
	switch dir, bound, _ := strings.Cut(os.Getenv(variable), ","); {
	case dir == "inside":
		c, err := Enter(t.Context(), Options{Root: "/tmp/state"})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if mode, err := Probe(); err != nil || mode != c.Mode() {
			t.Errorf("the probe says %s, %v", mode, err)
		}
		s := DefaultSpec()
		s.Root.Path = "/tmp/root"
		s.Process.Args = []string{SelfPath, "climb"}
		if out := mustRun(t, c, s); !sameWords(out, climbed) {
			t.Errorf("got %q", out)
		}
		return
	case dir != "": // in a mount namespace of its own
		mounts := []specs.Mount{{Source: "/proc", Destination: dir + "/proc"}, {Source: "/dev", Destination: dir + "/dev"}}
		if bound == "bound" {
			mounts = append([]specs.Mount{{Source: dir, Destination: dir}}, mounts...)
		}
		for _, m := range mounts {
			if err := unix.Mount(m.Source, m.Destination, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(unix.Chroot(dir), unix.Chdir("/")); err != nil {
			t.Fatal(err)
		}
		err := syscall.Exec("/test", []string{"/test", "-test.run=^TestInAChroot$"}, []string{variable + "=inside"})
		t.Fatal(err)
	}
	if mode, err := Probe(); err != nil || mode != ModeRoot {
		t.Skip("a chroot is root's: this user may make none")
	}
	for _, kind := range []string{"plain", "bound"} {
		dir := t.TempDir()
		for _, d := range []string{"proc", "dev", "tmp/state", "tmp/root"} {
			if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		libs, err := ownLibraries()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range append(libs, library{"/proc/self/exe", "/test"}) {
			copyFile(t, l.source, filepath.Join(dir, l.dest))
		}
		cmd := exec.Command(os.Args[0], "-test.run=^TestInAChroot$")
		cmd.Env = append(os.Environ(), variable+"="+dir+","+kind)
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", kind, err, out)
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, to, string(b), 0o755)
}
