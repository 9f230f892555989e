package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/skiff-build/skiff"
	"github.com/skiff-build/skiff/internal/sandbox"
	"github.com/skiff-build/skiff/internal/skifftest"
)

// TestMain makes the test binary the skiff command, too. Init comes first: the command starts itself again as the child that
// enters namespaces, and that is this binary.
func TestMain(m *testing.M) {
	skiff.Init()
	testscript.Main(cleaned{m}, map[string]func(){"skiff": func() { os.Exit(run(os.Args[1:])) }})
}

// cleaned are tests that remove the binary that skifftest built for them.
type cleaned struct{ *testing.M }

func (c cleaned) Run() int { return skifftest.Main(c.M) }

// testEnv are the variables of a command with a state and a home of its own below dir.
func testEnv(dir string) map[string]string {
	return map[string]string{
		"HOME":              dir,
		"SKIFF_ROOT":        filepath.Join(dir, ".state"),
		"XDG_CONFIG_HOME":   filepath.Join(dir, ".config"),
		"DOCKER_CONFIG":     filepath.Join(dir, ".docker"),
		"DOCKER_HOST":       "unix://" + filepath.Join(dir, "no-docker.sock"),
		"BUILDKIT_PROGRESS": "plain",
	}
}

// TestScripts runs testdata/script. In $REGISTRY is a registry with the image shell:1, which has a shell and small commands. A
// script that builds Go packages takes the machine's caches: env GOCACHE=$GO_CACHE GOMODCACHE=$GO_MODCACHE.
func TestScripts(t *testing.T) {
	registry := skifftest.NewRegistry(t, nil)
	registry.Push(t, "shell:1", skifftest.ShellImage(t))
	skifftest.NoLeftovers(t)
	caches := map[string]string{
		"GO_CACHE": skifftest.GoEnv(t, "GOCACHE"), "GO_MODCACHE": skifftest.GoEnv(t, "GOMODCACHE"),
		"GO_VERSION": strings.TrimPrefix(skifftest.GoEnv(t, "GOVERSION"), "go"),
	}
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		Condition:           condition,
		Setup: func(e *testscript.Env) error {
			for k, v := range testEnv(e.WorkDir) {
				e.Setenv(k, v)
			}
			for k, v := range caches {
				e.Setenv(k, v)
			}
			e.Setenv("REGISTRY", registry.Host)
			e.Setenv("SKIFF", skifftest.Binary(t))
			e.Setenv("SKIFF_TEST_MARK", os.Getenv("SKIFF_TEST_MARK")) // see [skifftest.NoLeftovers]
			return nil
		},
	})
}

// condition knows [oneid]: the user who runs the tests has no other ids to run programs under.
func condition(name string) (bool, error) {
	if name != "oneid" {
		return false, fmt.Errorf("unknown condition %s", name)
	}
	mode, err := sandbox.Probe()
	return mode == sandbox.ModeOneID, err
}

// TestInterrupt: the first Ctrl-C ends a build within a second, and leaves no process, mount or image.
func TestInterrupt(t *testing.T) {
	registry := skifftest.NewRegistry(t, nil)
	base := registry.Push(t, "shell:1", skifftest.ShellImage(t))
	mark := skifftest.NoLeftovers(t)
	dir := t.TempDir()
	context := skifftest.Files(t, "Dockerfile", "FROM "+base+"\nENV "+mark+"\nRUN echo started; sleep 1000\n")
	command := func(args ...string) *exec.Cmd {
		cmd := exec.Command(skifftest.Binary(t), args...)
		cmd.Env = os.Environ()
		for k, v := range testEnv(dir) {
			cmd.Env = append(cmd.Env, k+"="+v)
		}
		return cmd
	}
	cmd := command("build", "-t", "x", context)
	out := &waiter{want: "started", seen: make(chan struct{})}
	cmd.Stderr = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-out.seen:
	case <-time.After(time.Minute):
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		t.Fatalf("the step did not start:\n%s", out.text)
	}
	begin := time.Now()
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitInterrupted {
		t.Errorf("%v, want exit code %d:\n%s", err, exitInterrupted, out.text)
	}
	if took := time.Since(begin); took > 25*time.Second { // of the 1000 seconds that the step sleeps
		t.Errorf("it took %s", took)
	}
	if list, err := command("images", "-q").Output(); err != nil || len(list) > 0 {
		t.Errorf("images after an interrupt: %q, %v", list, err)
	}
}

// waiter closes seen when the text want has been written.
type waiter struct {
	want string
	seen chan struct{}
	text []byte
	done bool
}

func (w *waiter) Write(p []byte) (int, error) {
	w.text = append(w.text, p...)
	// The name of the step holds the text, too; its output comes with the time before it.
	if !w.done && strings.Contains(string(w.text), " "+w.want+"\n") {
		w.done = true
		close(w.seen)
	}
	return len(p), nil
}
