//go:build linux

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ways are prefixes by which a path may leave the root of a step: links of /proc to what the init or one of its threads has,
// and names that climb.
func ways() []string {
	w := []string{"/proc/1/root", "/proc/thread-self/root", "/proc/self/cwd/../../../../../..", "/../../../../..", "/proc/self/fd/5"}
	for n := range 4 { // Go starts some threads before it is told anything
		w = append(w, fmt.Sprintf("/proc/self/task/%d/root", n+2))
	}
	return w
}

// outside is a directory of the machine with a program that marks it, a passwd and an empty file.
func outside(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for p := dir; p != os.TempDir() && p != "/"; p = filepath.Dir(p) { // other users are to be able to come here
		if err := os.Chmod(p, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	prog, err := os.OpenFile(filepath.Join(dir, "prog"), os.O_CREATE|os.O_WRONLY, 0o777)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(prog, exe); err != nil {
		t.Fatal(err)
	}
	if err := prog.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "passwd"), "root:x:0:0::/home-of-the-machine:/bin/sh\n", 0o644)
	return dir
}

// Whatever a step, an image or a Dockerfile names leads nowhere out of the step's root: not the working directory, not the
// program, its interpreter or the shell that it is a link to, not a mount's target, not the accounts. Issue 12, A1; also
// CVE-2024-21626 (working directory by a descriptor), CVE-2021-30465 and CVE-2023-27561 (mount targets by links).
func TestNoPathLeadsOutside(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) {
		dir := outside(t)
		before := listing(t, dir)
		link := func(s *specs.Spec, name, to string) {
			t.Helper()
			name = filepath.Join(s.Root.Path, name)
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(to, name); err != nil {
				t.Fatal(err)
			}
		}
		for _, way := range ways() {
			for what, change := range map[string]func(s *specs.Spec, to string){
				"working directory":             func(s *specs.Spec, to string) { s.Process.Cwd = to + "/made" },
				"working directory, by a link":  func(s *specs.Spec, to string) { link(s, "w", to+"/made"); s.Process.Cwd = "/w" },
				"working directory, made there": func(s *specs.Spec, to string) { link(s, "w", to); s.Process.Cwd = "/w/made" },
				"program":                       func(s *specs.Spec, to string) { s.Process.Args = []string{to + "/prog", "hello"} },
				"program in PATH": func(s *specs.Spec, to string) {
					s.Process.Args, s.Process.Env = []string{"prog", "hello"}, []string{"PATH=" + to}
				},
				"shell": func(s *specs.Spec, to string) {
					link(s, "bin/sh", to+"/prog")
					s.Process.Args = []string{"/bin/sh", "hello"}
				},
				"interpreter": func(s *specs.Spec, to string) {
					write(t, filepath.Join(s.Root.Path, "script"), "#!"+to+"/prog\n", 0o755)
					s.Process.Args = []string{"/script"}
				},
				"target": func(s *specs.Spec, to string) {
					s.Mounts = append(s.Mounts, specs.Mount{Destination: to + "/made", Type: "tmpfs", Source: "tmpfs"})
				},
				"target, by a link": func(s *specs.Spec, to string) {
					link(s, "etc/hosts", to+"/made")
					s.Mounts = append(s.Mounts, specs.Mount{Destination: "/etc/hosts", Type: "bind", Source: "/etc/hostname", Options: []string{"bind"}})
				},
				"home": func(s *specs.Spec, to string) {
					link(s, "etc/passwd", to+"/passwd")
					s.Process.Args = []string{SelfPath, "getenv", "HOME"}
				},
			} {
				if way == "/../../../../.." && (what == "interpreter" || strings.HasPrefix(what, "working") || strings.HasPrefix(what, "target")) {
					continue // stays in the root, where the directory may be made
				}
				s := step(t, "hello")
				change(s, way+dir)
				out, err := run(t, c, s)
				switch {
				case what == "home" && strings.Contains(out, "machine"):
					t.Errorf("%s by %s: read on the machine", what, way)
				case (what == "program" || what == "shell" || what == "interpreter" || what == "program in PATH") && err == nil:
					t.Errorf("%s by %s: run from the machine (%q)", what, way, out)
				}
				if after := listing(t, dir); after != before {
					t.Fatalf("%s by %s: the machine has changed:\n%s", what, way, after)
				}
			}
		}
	})
}

// look prints whatever of the machine a step can find in /proc: directories and files that processes have, and mounts.
var _ = helper("look", func([]string) error {
	for line := range strings.Lines(readAll("/proc/self/mountinfo")) {
		if fields := strings.Fields(line); len(fields) > 5 {
			fmt.Println("mount", fields[4])
		}
	}
	var root unix.Stat_t
	if err := unix.Stat("/", &root); err != nil {
		return err
	}
	tasks, _ := filepath.Glob("/proc/[0-9]*/task/[0-9]*")
	for _, task := range tasks {
		for _, name := range []string{"root", "cwd"} {
			var st unix.Stat_t
			if err := unix.Stat(task+"/"+name, &st); err == nil && st.Dev != root.Dev {
				fmt.Println("outside", task+"/"+name)
			}
		}
		fds, _ := filepath.Glob(filepath.Dir(filepath.Dir(task)) + "/fd/*")
		for _, fd := range fds {
			to, err := os.Readlink(fd)
			if err == nil && !strings.HasPrefix(to, "anon_inode:") && !strings.HasPrefix(to, "pipe:") && to != "/dev/null" {
				fmt.Println("descriptor", filepath.Base(fd), to)
			}
		}
	}
	procs, _ := filepath.Glob("/proc/[0-9]*")
	fmt.Println("processes", len(procs))
	fmt.Println("null", readlink("/proc/self/fd/0"))
	return nil
})

func readAll(name string) string {
	b, _ := os.ReadFile(name)
	return string(b)
}

func readlink(name string) string {
	to, _ := os.Readlink(name)
	return to
}

// A step that looks through all of /proc finds its own processes, descriptors and mounts.
func TestStepSeesItselfAlone(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) {
		s := step(t, "look")
		s.Process.Env = append(s.Process.Env, "GODEBUG=containermaxprocs=0") // of the helper
		if err := os.MkdirAll(filepath.Join(s.Root.Path, "usr/libexec"), 0o755); err != nil {
			t.Fatal(err)
		}
		want := []string{"/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", SelfPath}
		want = append(want, devices...)
		want = append(want, s.Linux.ReadonlyPaths...)
		want = append(want, s.Linux.MaskedPaths...)
		processes := 0
		for line := range strings.Lines(mustRun(t, c, s)) {
			kind, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
			switch {
			case kind == "mount" && (slices.Contains(want, rest) || strings.Contains(rest, ".so.")): // of this test's program
			case kind == "mount" && strings.HasPrefix(rest, "/sys/") && c.Mode() != ModeRoot:
				// The machine's own, with what is mounted there, read-only: the network namespace is not the step's.
			case kind == "processes":
				fmt.Sscan(rest, &processes)
			case kind == "null" && rest == "/dev/null":
			default:
				t.Errorf("the step sees %s", line)
			}
		}
		if processes != 1 {
			t.Errorf("the step sees %d processes", processes)
		}
	})
}

// Docker's newest masks hide what they are for, and what cannot be hidden is an error.
func TestMasks(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) {
		s := step(t, "masked", s0(t).Linux.MaskedPaths...)
		if out := mustRun(t, c, s); out != "" {
			t.Errorf("seen: %s", out)
		}
		bad := step(t, "hello")
		bad.Linux.MaskedPaths = append(bad.Linux.MaskedPaths, "/etc")
		if _, err := run(t, c, bad); err == nil || !strings.Contains(err.Error(), "mask /etc") {
			t.Errorf("a mask in the image: %v", err)
		}
	})
}

func s0(t *testing.T) *specs.Spec { t.Helper(); return DefaultSpec() }

var _ = helper("masked", func(paths []string) error {
	for _, p := range paths {
		fi, err := os.Stat(p)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return err
		}
		if fi.IsDir() {
			if names, err := os.ReadDir(p); err != nil || len(names) > 0 {
				fmt.Println(p, names, err)
			}
			continue
		}
		if b, err := os.ReadFile(p); err != nil || len(b) > 0 || fi.Mode()&os.ModeCharDevice == 0 {
			fmt.Println(p, len(b), err)
		}
	}
	return nil
})

// A user runs what that user may run: docker refuses a program that root alone may execute.
func TestUserHasNoCapabilities(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) {
		if c.Mode() == ModeOneID {
			t.Skip("nobody else exists in mode oneid")
		}
		s := step(t, "hello")
		if err := os.Chmod(filepath.Dir(s.Root.Path), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(s.Root.Path, "own"), "#!"+SelfPath+" hello\n", 0o700)
		s.Process.Args, s.Process.User = []string{"/own"}, specs.User{UID: 1000, GID: 1000}
		_, err := run(t, c, s)
		var exit *ExitError
		if !errors.As(err, &exit) || exit.Code != 126 || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("got %v", err)
		}
		s.Process.User = specs.User{}
		if out := mustRun(t, c, s); !strings.HasPrefix(out, "hello") {
			t.Errorf("got %q", out)
		}
	})
}

// A file, a directory or a terminal of the machine is copied and not handed over.
func TestHandsOverPipesAlone(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for name, want := range map[string]bool{"/dev/null": true, "/": false, "/etc/passwd": false, "/dev/zero": false, "/dev/ptmx": false} {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if mayHandOver(f) != want {
			t.Errorf("%s: %v", name, !want)
		}
		f.Close()
	}
	if !mayHandOver(r) || outputTo(w) != io.Writer(w) {
		t.Error("a pipe is not handed over")
	}
}

var _ = helper("environ", func([]string) error {
	env := os.Environ()
	slices.Sort(env)
	fmt.Println(strings.Join(env, " "))
	return nil
})

// CVE-2021-3602: the environment of whoever builds.
func TestEnvironmentStaysOutside(t *testing.T) {
	t.Setenv("SKIFF_TEST_TOKEN", "hunter2")
	modes(t, func(t *testing.T, c *Child) {
		if out := mustRun(t, c, step(t, "environ")); out != "HOME=/ PATH=/usr/libexec\n" {
			t.Errorf("got %q", out)
		}
	})
}

// peek tries to get at the root of each process that /all shows, and prints the processes that let it, but for itself.
var _ = helper("peek", func([]string) error {
	if err := os.WriteFile("/all/here", nil, 0o600); err == nil {
		return errors.New("/all is no /proc")
	}
	for range 100 { // the step beside this one may take its time
		roots, _ := filepath.Glob("/all/[0-9]*/root")
		for _, root := range roots {
			cmd := readAll(filepath.Join(filepath.Dir(root), "cmdline"))
			if _, err := os.Stat(root + "/"); err == nil && !strings.Contains(cmd, "peek") {
				return fmt.Errorf("got at the root of %q", cmd)
			}
			if strings.Contains(cmd, "sleep") {
				fmt.Println("seen and kept out")
				return nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("the step beside this one was not seen")
})

// Where steps see each other, since no fresh /proc was to be had, none gets at what another one has.
func TestStepsKeepApart(t *testing.T) {
	if v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION); errno != 0 || v < scopeABI {
		t.Skipf("the kernel has no Landlock with scopes (version %d, %v)", v, errno)
	}
	modes(t, func(t *testing.T, c *Child) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan error, 1)
		beside := step(t, "sleep")
		go func() {
			ended <- c.Call(ctx, "run", runRequest{Spec: beside, FakeIDs: c.Mode() == ModeOneID}, nil, nil)
		}()
		s := step(t, "peek")
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/all", Type: "bind", Source: "/proc", Options: []string{"rbind", "ro"}})
		if out := mustRun(t, c, s); out != "seen and kept out\n" {
			t.Errorf("got %q", out)
		}
		cancel()
		<-ended
	})
}
