//go:build linux

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

var _ = helper("status", func([]string) error {
	b, err := os.ReadFile("/proc/self/status")
	fmt.Print(string(b))
	return err
})

// statusOf runs a step and returns the fields of its /proc/self/status.
func statusOf(t *testing.T, c *Child, s *specs.Spec) map[string]string {
	t.Helper()
	fields := map[string]string{}
	for line := range strings.Lines(mustRun(t, c, s)) {
		k, v, _ := strings.Cut(line, ":")
		fields[k] = strings.Join(strings.Fields(v), " ")
	}
	return fields
}

func TestPrivilegesOfRoot(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) {
		got := statusOf(t, c, step(t, "status"))
		for k, want := range map[string]string{
			"CapBnd": "00000000a80425fb", "CapEff": "00000000a80425fb", "CapPrm": "00000000a80425fb",
			"CapInh": "0000000000000000", "CapAmb": "0000000000000000",
			"NoNewPrivs": "1", "Seccomp": "2", "Uid": "0 0 0 0", "Gid": "0 0 0 0",
		} {
			if got[k] != want {
				t.Errorf("%s is %s, want %s", k, got[k], want)
			}
		}
	})
}

func TestPrivilegesOfAUser(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) {
		s := step(t, "status")
		s.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{1002}}
		got := statusOf(t, c, s)
		want := map[string]string{
			"CapBnd": "00000000a80425fb", "CapEff": "0000000000000000", "CapPrm": "0000000000000000",
			"NoNewPrivs": "1", "Uid": "1000 1000 1000 1000", "Gid": "1001 1001 1001 1001", "Groups": "1001 1002",
		}
		if c.Mode() == ModeOneID {
			want["Uid"], want["Gid"] = "0 0 0 0", "0 0 0 0"
			delete(want, "Groups")
		}
		for k, want := range want {
			if got[k] != want {
				t.Errorf("%s is %s, want %s", k, got[k], want)
			}
		}
	})
}

// mknod-disk makes nodes of a disk wherever it can write and tries to read the disk by them.
var _ = helper("mknod-disk", func(args []string) error {
	dev, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	for _, dir := range []string{"/", "/dev", "/dev/shm", "/mnt", "/tmpfs"} {
		path := filepath.Join(dir, "disk")
		if err := unix.Mknod(path, unix.S_IFBLK|0o666, dev); err != nil {
			fmt.Println("mknod", err)
			continue
		}
		f, err := os.Open(path)
		if err == nil {
			f.Close()
			return fmt.Errorf("%s opened", path)
		}
		var errno syscall.Errno
		errors.As(err, &errno)
		fmt.Println("open", errno)
	}
	return nil
})

func TestDeviceNodesOpenNothing(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) {
		var st unix.Stat_t
		if err := unix.Stat("/", &st); err != nil {
			t.Fatal(err)
		}
		s := step(t, "mknod-disk", fmt.Sprint(st.Dev))
		s.Mounts = append(s.Mounts,
			specs.Mount{Destination: "/mnt", Type: "bind", Source: t.TempDir(), Options: []string{"rbind", "dev"}},
			specs.Mount{Destination: "/tmpfs", Type: "tmpfs", Source: "tmpfs", Options: []string{"dev"}})
		want := map[Mode]string{
			ModeRoot:   "open permission denied\n",
			ModeSubIDs: "mknod operation not permitted\n",
			ModeOneID:  "open no such file or directory\n", // said to be made, and not made
		}[c.Mode()]
		if out := mustRun(t, c, s); out != strings.Repeat(want, 5) {
			t.Fatalf("got %q", out)
		}
	})
}

// overwrite keeps a descriptor of the init's executable, lets the init go by another execve, and writes.
var _ = helper("overwrite", func(args []string) error {
	if len(args) == 0 || strings.HasPrefix(args[0], "/") { // as a script's interpreter
		fd, err := unix.Open("/proc/self/exe", unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		return syscall.Exec(SelfPath, []string{SelfPath, "overwrite", strconv.Itoa(fd)}, os.Environ())
	}
	for _, path := range []string{"/proc/self/fd/" + args[0], "/proc/self/exe", "/proc/1/exe"} {
		unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND, "")
		unix.MountSetattr(unix.AT_FDCWD, path, 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
		for _, flags := range []int{unix.O_WRONLY, unix.O_RDWR, unix.O_WRONLY | unix.O_TRUNC} {
			fd, err := unix.Open(path, flags, 0)
			if err != nil {
				continue
			}
			if n, err := unix.Write(fd, []byte("#!")); err == nil {
				return fmt.Errorf("wrote %d bytes to %s", n, path)
			}
		}
	}
	// Whoever runs it keeps it from being written to as well, but not for ever.
	fd, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return err
	}
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if fs.Flags&unix.ST_RDONLY == 0 && (err != nil || seals&unix.F_SEAL_WRITE == 0) {
		return errors.New("neither a read-only mount nor a sealed file")
	}
	fmt.Println("kept out")
	return nil
})

// CVE-2019-5736: a step whose program is a script with /proc/self/exe for an interpreter, which the kernel looks up itself,
// runs the init's own image.
func TestInitCannotBeOverwritten(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) {
		for _, more := range [][]string{nil, {"CAP_SYS_ADMIN"}} {
			s := step(t, "")
			s.Process.Args = []string{"/overwrite"}
			write(t, filepath.Join(s.Root.Path, "overwrite"), "#!/proc/self/exe overwrite\n", 0o755)
			caps := append(slices.Clone(defaultCaps), more...)
			s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Permitted: caps, Effective: caps}
			s.Linux.Seccomp = nil // it would not let them mount
			for range 2 {         // the second run would start from a changed image
				if out := mustRun(t, c, s); out != "kept out\n" {
					t.Fatalf("with %v: got %q", more, out)
				}
			}
		}
	})
}

var _ = helper("descriptors", func([]string) error {
	for fd := 3; fd < 1000; fd++ {
		to, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		// This program's own: Go's poller, and what its runtime reads the cpu limit from.
		if err == nil && !strings.HasPrefix(to, "anon_inode:") && !strings.HasPrefix(to, "/sys/fs/cgroup/") {
			fmt.Println(fd, to)
		}
	}
	return nil
})

func TestNoDescriptorLeaks(t *testing.T) {
	c := enter(t)
	if err := c.Call(t.Context(), "leak", nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	if out := mustRun(t, c, step(t, "descriptors")); out != "" {
		t.Fatalf("the step has %q", out)
	}
}

// CVE-2024-21626: a working directory by way of a descriptor of the host's.
func TestWorkingDirectoryOutside(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) {
		first(t, c, true) // it does not inherit the descriptor
		if err := c.Call(t.Context(), "leak", nil, nil, nil); err != nil {
			t.Fatal(err)
		}
		s := step(t, "describe")
		s.Process.Cwd = "/proc/self/fd/50"
		if out, err := run(t, c, s); err == nil || !strings.Contains(err.Error(), "no such file or directory") {
			t.Fatalf("%q, %v", out, err)
		}
	})
}

func TestLinksDoNotLeadMountsOutside(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) {
		outside := t.TempDir()
		s := step(t, "touch", "/out/x/made")
		if err := os.Symlink(outside, filepath.Join(s.Root.Path, "out")); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("../../../../../.."+outside+"/f", filepath.Join(s.Root.Path, "file")); err != nil {
			t.Fatal(err)
		}
		s.Mounts = append(s.Mounts,
			specs.Mount{Destination: "/out/x", Type: "tmpfs", Source: "tmpfs"},
			specs.Mount{Destination: "/file", Type: "bind", Source: "/etc/passwd", Options: []string{"bind", "ro"}})
		mustRun(t, c, s)
		if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
			t.Fatalf("%v: made outside: %v", err, entries)
		}
		if _, err := os.Stat(filepath.Join(s.Root.Path, outside, "x")); err != nil {
			t.Errorf("the mount point is not where the link leads inside: %v", err)
		}
	})
}

func TestProcIsNotMountedThroughALink(t *testing.T) {
	c := enter(t)
	s := step(t, "hello")
	if err := os.Mkdir(filepath.Join(s.Root.Path, "elsewhere"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("elsewhere", filepath.Join(s.Root.Path, "proc")); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, c, s); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Fatal(err)
	}
}

func mountinfo(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestNoMountIsLeft(t *testing.T) {
	before := mountinfo(t)
	root := t.TempDir()
	modes(t, func(t *testing.T, c *Child) {
		s := step(t, "hello")
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "bind", Source: root, Options: []string{"rbind"}})
		mustRun(t, c, s)
		if now := mountinfo(t); strings.Contains(now, s.Root.Path) {
			t.Errorf("while the child runs:\n%s", now)
		}
	})
	if now := mountinfo(t); strings.Contains(now, root) || strings.Count(now, "\n") > strings.Count(before, "\n")+3 {
		t.Errorf("before:\n%s\nafter:\n%s", before, now)
	}
}

// TestKilledParent starts itself again as a parent whose step sleeps, and kills that parent alone.
func TestKilledParent(t *testing.T) {
	const variable = "SKIFF_TEST_VICTIM"
	if token := os.Getenv(variable); token != "" {
		c := enter(t)
		s := step(t, "sleep")
		s.Process.Env = append(s.Process.Env, variable+"="+token)
		run(t, c, s)
		return
	}
	token := fmt.Sprintf("%d-%d", os.Getpid(), time.Now().UnixNano())
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestKilledParent$")
	cmd.Env = append(os.Environ(), variable+"="+token, "TMPDIR="+t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// The parent, the child and the program; and for a moment the init before it.
	if !eventually(func() bool { return len(processesWith(token)) >= 3 }) {
		t.Fatalf("the step did not start: %q", processesWith(token))
	}
	cmd.Process.Kill()
	cmd.Wait()
	if !eventually(func() bool { return len(processesWith(token)) == 0 }) {
		t.Fatalf("left: %q", processesWith(token))
	}
}

func eventually(ok func() bool) bool {
	for guard := time.Now().Add(5 * time.Minute); time.Now().Before(guard); {
		if ok() {
			return true
		}
		time.Sleep(20 * time.Millisecond)
	}
	return false
}

// processesWith lists the command lines of the processes that have token in their environment.
func processesWith(token string) []string {
	var found []string
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		env, err := os.ReadFile(d + "/environ")
		if err == nil && strings.Contains(string(env), token) {
			cmd, _ := os.ReadFile(d + "/cmdline")
			found = append(found, string(cmd))
		}
	}
	return found
}

// fake-ids does what only a process with many ids could do.
var _ = helper("fake-ids", func([]string) error {
	if err := os.WriteFile("/f", nil, 0o644); err != nil {
		return err
	}
	var bad []error
	for what, err := range map[string]error{
		"chown":     os.Chown("/f", 12, 34),
		"lchown":    os.Lchown("/f", 12, 34),
		"mknod":     unix.Mknod("/node", unix.S_IFCHR|0o666, 0x103),
		"mkfifo":    unix.Mkfifo("/fifo", 0o644),
		"setgroups": unix.Setgroups([]int{1, 2, 3}),
		"setgid":    syscall.Setgid(100),
		"setuid":    syscall.Setuid(100),
	} {
		if err != nil {
			bad = append(bad, fmt.Errorf("%s: %w", what, err))
		}
	}
	if st, err := os.Lstat("/fifo"); err != nil || st.Mode()&os.ModeNamedPipe == 0 {
		bad = append(bad, fmt.Errorf("the fifo was not really made: %v", err))
	}
	return errors.Join(bad...)
})

func TestFakeIDs(t *testing.T) {
	c, err := Enter(t.Context(), Options{Mode: ModeOneID, Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	mustRun(t, c, step(t, "fake-ids"))
	insecure := step(t, "fake-ids") // fake ids do not depend on the profile
	insecure.Linux.Seccomp = nil
	mustRun(t, c, insecure)
	if _, err := runReq(t, c, runRequest{Spec: step(t, "fake-ids")}); err == nil {
		t.Error("without fake ids chown worked, so this test shows nothing")
	}
}
