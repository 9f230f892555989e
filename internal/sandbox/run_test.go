//go:build linux

package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

var _ = helper("hello", func(args []string) error {
	fmt.Println("hello", strings.Join(args, " "))
	return nil
})

func TestRunHello(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) {
		if out := mustRun(t, c, step(t, "hello", "world")); out != "hello world\n" {
			t.Fatalf("got %q", out)
		}
	})
}

var _ = helper("exit", func(args []string) error {
	code, err := strconv.Atoi(args[0])
	if err == nil {
		os.Exit(code)
	}
	return err
})

func TestExitCodes(t *testing.T) {
	c := enter(t)
	script := step(t, "")
	script.Process.Args = []string{"/script"}
	write(t, filepath.Join(script.Root.Path, "script"), "#!/no/such/interpreter\n", 0o755)
	text := step(t, "")
	text.Process.Args = []string{"/text"}
	write(t, filepath.Join(text.Root.Path, "text"), "nothing that runs\n", 0o755)
	plain := step(t, "")
	plain.Process.Args = []string{"/plain"}
	write(t, filepath.Join(plain.Root.Path, "plain"), "", 0o644)
	missing, unnamed := step(t, ""), step(t, "")
	missing.Process.Args, unnamed.Process.Args = []string{"/nope"}, []string{"nope"}
	for _, tt := range []struct {
		spec *specs.Spec
		code int
		text string
	}{
		{step(t, "exit", "3"), 3, "exit code: 3"},
		{step(t, "exit", "255"), 255, "exit code: 255"},
		{missing, 127, `exec: "/nope": stat /nope: no such file or directory`},
		{unnamed, 127, `exec: "nope": executable file not found in $PATH`},
		{plain, 126, `exec: "/plain": permission denied`},
		{script, 127, "exec /script: no such file or directory (the file is there: its interpreter, or dynamic loader, is missing)"},
		{text, 126, "exec /text: exec format error (neither a program for this platform nor a script that begins with #!)"},
	} {
		_, err := run(t, c, tt.spec)
		var exit *ExitError
		if !errors.As(err, &exit) || exit.Code != tt.code || err.Error() != tt.text {
			t.Errorf("%v: got %v (%+v), want code %d, %q", tt.spec.Process.Args, err, exit, tt.code, tt.text)
		}
	}
}

func write(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

var _ = helper("sleep", func([]string) error {
	fmt.Println("sleeping")
	time.Sleep(time.Hour)
	return nil
})

func TestKilledBySignal(t *testing.T) {
	c := enter(t)
	_, err := runReq(t, c, runRequest{Spec: step(t, "sleep"), FakeIDs: c.Mode() == ModeOneID, Kill: true})
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Code != 137 || exit.Signal != syscall.SIGKILL || !strings.Contains(err.Error(), "SIGKILL") {
		t.Fatalf("%v (%+v)", err, exit)
	}
}

func TestCancelKillsTheStep(t *testing.T) {
	c := enter(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := c.Call(ctx, "run", runRequest{Spec: step(t, "sleep"), FakeIDs: c.Mode() == ModeOneID}, nil, func(json.RawMessage) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if !eventually(func() bool {
		var n int
		if err := c.Call(t.Context(), "steps", nil, &n, nil); err != nil {
			t.Fatal(err)
		}
		return n == 0
	}) {
		t.Fatal("the handler never ended")
	}
}

var _ = helper("background", func([]string) error {
	cmd := exec.Command(SelfPath, "sleep")
	cmd.Stdout = os.Stdout
	return cmd.Start()
})

// A process in the background that keeps stdout open must not keep the step.
func TestBackgroundProcessEndsWithTheStep(t *testing.T) {
	c := enter(t)
	mustRun(t, c, step(t, "background")) // which waits for less than the process sleeps
}

var _ = helper("cat", func([]string) error {
	_, err := io.Copy(os.Stdout, os.Stdin)
	return err
})

func TestStdin(t *testing.T) {
	c := enter(t)
	s := step(t, "cat")
	for _, text := range []string{"", strings.Repeat("some text\n", 50000)} {
		out, err := runReq(t, c, runRequest{Spec: s, Stdin: text, FakeIDs: c.Mode() == ModeOneID})
		if err != nil || out != text {
			t.Fatalf("%v: %d of %d bytes", err, len(out), len(text))
		}
	}
}

// describe prints what the environment of the step looks like from within.
var _ = helper("describe", func([]string) error {
	cwd, err := os.Getwd()
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &files); err != nil {
		return err
	}
	umask := syscall.Umask(0)
	fmt.Printf("cwd=%s host=%s home=%s pid=%d umask=%03o core=%d\n", cwd, host, os.Getenv("HOME"), os.Getpid(), umask, files.Cur)
	return nil
})

func TestProcessSettings(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) {
		s := step(t, "describe")
		s.Hostname = "buildkitsandbox"
		s.Process.Cwd = "/made/for/it"
		s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: 0, Hard: 0}}
		if err := os.Mkdir(filepath.Join(s.Root.Path, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(s.Root.Path, "etc/passwd"), "root:x:0:0:root:/root-home:/bin/sh\n", 0o644)
		want := "cwd=/made/for/it host=buildkitsandbox home=/root-home pid=1 umask=022 core=0\n"
		if out := mustRun(t, c, s); out != want {
			t.Errorf("got  %swant %s", out, want)
		}
	})
}

func TestRlimitThatCannotBeRaised(t *testing.T) {
	c, err := Enter(t.Context(), Options{Mode: ModeOneID, Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := step(t, "hello")
	s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1 << 30, Hard: 1 << 30}}
	if _, err := run(t, c, s); err == nil || !strings.Contains(err.Error(), "set RLIMIT_NOFILE to 1073741824") {
		t.Fatal(err)
	}
}

var _ = helper("interfaces", func([]string) error {
	list, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, i := range list {
		fmt.Print(i.Name, " ", i.Flags&net.FlagUp != 0, ";")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	return l.Close()
})

func TestNoNetwork(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) {
		s := step(t, "interfaces")
		if out := mustRun(t, c, s); out != "lo true;" {
			t.Fatalf("got %q", out)
		}
	})
}

// files checks the mounts of a step from within.
var _ = helper("files", func([]string) error {
	var bad []error
	check := func(what string, err error, want error) {
		if !errors.Is(err, want) {
			bad = append(bad, fmt.Errorf("%s: got %v, want %v", what, err, want))
		}
	}
	for _, dev := range []string{"null", "zero", "full", "random", "urandom"} {
		f, err := os.OpenFile("/dev/"+dev, os.O_RDWR, 0)
		check("open /dev/"+dev, err, nil)
		f.Close()
	}
	_, err := os.Stat("/dev/ptmx")
	check("/dev/ptmx", err, nil)
	check("write /dev/shm", os.WriteFile("/dev/shm/f", []byte("x"), 0o600), nil)
	check("write /rw", os.WriteFile("/rw/new", []byte("x"), 0o600), nil)
	check("write /ro", os.WriteFile("/ro/new", []byte("x"), 0o600), unix.EROFS)
	check("write /proc/sys", os.WriteFile("/proc/sys/kernel/hostname", []byte("x"), 0), unix.EROFS)
	check("write /sys", os.Mkdir("/sys/x", 0o755), unix.EROFS)
	var fs unix.Statfs_t
	check("statfs /tmp/small", unix.Statfs("/tmp/small", &fs), nil)
	if size := int64(fs.Blocks) * int64(fs.Bsize); size != 1<<20 {
		bad = append(bad, fmt.Errorf("/tmp/small has %d bytes", size))
	}
	if b, err := os.ReadFile("/proc/kcore"); len(b) > 0 {
		bad = append(bad, fmt.Errorf("read /proc/kcore: %v", err))
	}
	if b, err := os.ReadFile("/etc/hosts"); string(b) != "127.0.0.1 x\n" {
		bad = append(bad, fmt.Errorf("/etc/hosts: %q, %v", b, err))
	}
	return errors.Join(bad...)
})

func TestMounts(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) {
		s := step(t, "files")
		dir := t.TempDir()
		write(t, filepath.Join(dir, "hosts"), "127.0.0.1 x\n", 0o644)
		s.Mounts = append(s.Mounts,
			specs.Mount{Destination: "/rw", Type: "bind", Source: dir, Options: []string{"rbind"}},
			specs.Mount{Destination: "/ro", Type: "bind", Source: dir, Options: []string{"rbind", "ro"}},
			specs.Mount{Destination: "/tmp/small", Type: "tmpfs", Source: "tmpfs", Options: []string{"size=1m"}},
			specs.Mount{Destination: "/etc/hosts", Type: "bind", Source: filepath.Join(dir, "hosts"), Options: []string{"bind", "ro"}},
		)
		mustRun(t, c, s)
	})
}

func TestReadonlyRoot(t *testing.T) {
	c := enter(t)
	s := step(t, "touch", "/f")
	mustRun(t, c, s)
	s.Root.Readonly = true
	if _, err := run(t, c, s); err == nil {
		t.Fatal("a file was made on a read-only root")
	}
}

var _ = helper("touch", func(args []string) error { return os.WriteFile(args[0], nil, 0o600) })

func TestSpecsThatAreRefused(t *testing.T) {
	c := enter(t)
	for what, change := range map[string]func(*specs.Spec){
		"no command":              func(s *specs.Spec) { s.Process.Args = nil },
		"no root":                 func(s *specs.Spec) { s.Root.Path = "" },
		"control groups":          func(s *specs.Spec) { s.Linux.CgroupsPath = "/x" },
		"hooks":                   func(s *specs.Spec) { s.Hooks = &specs.Hooks{} },
		"joining":                 func(s *specs.Spec) { s.Linux.Namespaces[0].Path = "/proc/1/ns/pid" },
		"unknown resource limit":  func(s *specs.Spec) { s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_X"}} },
		"unknown capability":      func(s *specs.Spec) { s.Process.Capabilities.Bounding = []string{"CAP_X"} },
		"a terminal is asked for": func(s *specs.Spec) { s.Process.Terminal = true },
		"unknown options": func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "bind", Source: "/etc", Options: []string{"idmap"}})
		},
	} {
		s := step(t, "hello")
		change(s)
		if _, err := run(t, c, s); err == nil || !strings.Contains(err.Error(), what) && what != "no command" && what != "no root" {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// What may run in the place of the spec's program does, with its variables, where it is found; else the spec's does.
func TestDirect(t *testing.T) {
	c := enter(t)
	s := step(t, "hello", "by the spec")
	s.Process.Env = append(s.Process.Env, "A=spec", "B=spec")
	for _, test := range []struct {
		direct []string
		want   string
	}{
		{[]string{SelfPath, "getenv", "A", "B", "C"}, "direct spec direct\n"},
		{[]string{"nothing"}, "hello by the spec\n"},
		{[]string{"/proc/version"}, "hello by the spec\n"},
	} {
		out, err := runReq(t, c, runRequest{Spec: s, Direct: test.direct, DirectEnv: []string{"A=direct", "C=direct"}})
		if err != nil || out != test.want {
			t.Errorf("%q: got %q, %v", test.direct, out, err)
		}
	}
}

var _ = helper("getenv", func(names []string) error {
	var values []string
	for _, name := range names {
		values = append(values, os.Getenv(name))
	}
	fmt.Println(strings.Join(values, " "))
	return nil
})
