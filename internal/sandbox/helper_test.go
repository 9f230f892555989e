//go:build linux

package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The test binary plays every part: the parent (the tests), the child and the step's init (by Init), and, started
// as SelfPath (or as the init's own image, see TestInitCannotBeOverwritten), the program that a step runs.
func TestMain(m *testing.M) {
	if os.Args[0] == SelfPath || os.Args[0] == "/proc/self/exe" {
		os.Exit(helperMain(os.Args[1], os.Args[2:]))
	}
	Init(testHandlers())
	os.Exit(m.Run())
}

type runRequest struct {
	Spec    *specs.Spec
	FakeIDs bool
	Targets bool // make the mount points with EnsureTargets
	Stdin   string
	Kill    bool // end the program by SIGKILL once it runs
	Trace   bool // give back what a Trace took down
	Limits  Limits

	Direct, DirectEnv []string
}

type output struct {
	Stderr bool
	Text   string
}

type eventWriter struct {
	c      *Call
	stderr bool
}

func (w eventWriter) Write(p []byte) (int, error) {
	return len(p), w.c.Event(output{w.stderr, string(p)})
}

func testHandlers() map[string]Handler {
	h := rpcHandlers()
	// leak opens a directory of the host as descriptor 50, inherited by everything that the child starts.
	h["leak"] = func(context.Context, *Call) (any, error) {
		fd, err := unix.Open("/etc", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return nil, err
		}
		return nil, unix.Dup3(fd, 50, 0)
	}
	// first tells whether the init that was started in advance is still there for a step, and ends it if it is asked to.
	h["first"] = func(_ context.Context, c *Call) (any, error) {
		var kill bool
		if err := c.Decode(&kill); err != nil {
			return nil, err
		}
		if kill {
			pid := firstInit().cmd.Process.Pid
			unix.Kill(pid, unix.SIGKILL)
			for ended := 0; ended == 0; {
				ended, _ = zombie(unix.P_PID, pid)
			}
		}
		return self.Step && !firstTaken.Load(), nil
	}
	// steps tells how many steps there are.
	h["steps"] = func(context.Context, *Call) (any, error) {
		n := 0
		steps.Range(func(any, any) bool { n++; return true })
		return n, nil
	}
	h["run"] = func(ctx context.Context, c *Call) (any, error) {
		var req runRequest
		if err := c.Decode(&req); err != nil {
			return nil, err
		}
		own, err := Self()
		if err != nil {
			return nil, err
		}
		req.Spec.Mounts = append(req.Spec.Mounts, own...)
		if req.Targets {
			cleanup, err := EnsureTargets(req.Spec.Root.Path, req.Spec.Mounts)
			if err != nil {
				return nil, err
			}
			defer cleanup()
		}
		o := RunOptions{FakeIDs: req.FakeIDs, Stdout: eventWriter{c, false}, Stderr: eventWriter{c, true}, Limits: req.Limits}
		o.Tell = func(line string) { _, _ = o.Stdout.Write([]byte("told: " + line + "\n")) }
		if req.Stdin != "" {
			o.Stdin = strings.NewReader(req.Stdin)
		}
		if files := c.Files(); len(files) > 0 {
			o.TTY = files[0]
		}
		if req.Kill {
			o.Started = func(p *Process) { p.Signal(os.Kill) }
		}
		if req.Trace {
			o.Trace = &Trace{}
			if err := Run(ctx, req.Spec, o); err != nil {
				return nil, err
			}
			_, opened, err := o.Trace.Paths()
			return traceResult{opened, fmt.Sprint(err)}, nil
		}
		if len(req.Direct) == 0 {
			return nil, Run(ctx, req.Spec, o)
		}
		p, err := Prepare(ctx, PrepareOptions{Network: true}, o)
		if err != nil {
			return nil, err
		}
		defer p.Cancel()
		p.Direct(req.Direct, req.DirectEnv)
		return nil, p.Run(req.Spec)
	}
	return h
}

// enter starts a child in the best mode of the user who runs the tests, or in that of the environment.
func enter(t testing.TB) *Child {
	t.Helper()
	c, err := Enter(t.Context(), Options{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// modes runs fn once for each mode that the user who runs the tests can have. The first step has an init that was there.
func modes(t *testing.T, fn func(t *testing.T, c *Child)) {
	for _, m := range []Mode{ModeRoot, ModeSubIDs, ModeOneID} {
		c, err := Enter(t.Context(), Options{Mode: m, Root: t.TempDir(), Step: true})
		var un *Unavailable
		if errors.As(err, &un) && m != ModeOneID {
			t.Logf("not as %s here: %v", m, err)
			continue
		}
		if err != nil {
			t.Fatal(m, err)
		}
		t.Run(string(m), func(t *testing.T) {
			defer c.Close()
			fn(t, c)
		})
	}
}

// step is a spec that runs a helper in an empty root.
func step(t testing.TB, helper string, args ...string) *specs.Spec {
	t.Helper()
	s := DefaultSpec()
	s.Root.Path = filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(s.Root.Path, 0o755); err != nil {
		t.Fatal(err)
	}
	s.Process.Env = []string{"PATH=/usr/libexec"}
	s.Process.Args = append([]string{SelfPath, helper}, args...)
	return s
}

// run runs a step and returns what it wrote to stdout. Its stderr goes to the log.
func run(t testing.TB, c *Child, s *specs.Spec) (string, error) {
	t.Helper()
	return runReq(t, c, runRequest{Spec: s, FakeIDs: c.Mode() == ModeOneID})
}

func runReq(t testing.TB, c *Child, req runRequest) (string, error) {
	t.Helper()
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // against hanging: a busy machine is no fault
	defer cancel()
	err := c.Call(ctx, "run", req, nil, func(m json.RawMessage) {
		var o output
		if err := json.Unmarshal(m, &o); err != nil {
			t.Error(err)
		}
		if o.Stderr {
			t.Logf("stderr: %s", o.Text)
		} else {
			out.WriteString(o.Text)
		}
	})
	return out.String(), err
}

func mustRun(t testing.TB, c *Child, s *specs.Spec) string {
	t.Helper()
	out, err := run(t, c, s)
	if err != nil {
		t.Fatalf("%v (output %q)", err, out)
	}
	return out
}

// helpers are the programs of the steps. What they print and return is for the test that starts them.
var helpers sync.Map

func helper(name string, fn func(args []string) error) bool {
	helpers.Store(name, fn)
	return true
}

func helperMain(name string, args []string) int {
	fn, ok := helpers.Load(name)
	if !ok {
		fmt.Fprintf(os.Stderr, "no helper %q\n", name)
		return 100
	}
	if err := fn.(func([]string) error)(args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
