package skiff_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skiff-build/skiff/internal/skifftest"
)

// sleeper is a context whose one step sleeps as many seconds as the build argument SECONDS says. The step's processes carry
// the test's mark.
func (c *cli) sleeper() string {
	c.t.Helper()
	r := skifftest.NewRegistry(c.t, nil)
	base := r.Push(c.t, "shell:1", skifftest.ShellImage(c.t))
	return skifftest.Files(c.t, "Dockerfile", "FROM "+base+"\nENV "+c.mark+"\nARG SECONDS\nRUN echo begun; sleep $SECONDS; echo done > /done\n")
}

// begin starts a build and returns when its step runs.
func (c *cli) begin(args ...string) *exec.Cmd {
	c.t.Helper()
	cmd := exec.Command(c.bin, args...)
	cmd.Env = c.env
	stderr, err := cmd.StderrPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	var seen strings.Builder
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		seen.WriteString(lines.Text() + "\n")
		if strings.HasSuffix(lines.Text(), " begun") {
			// skiff, its child, and the step's: else what is left behind would not be seen either.
			if running := skifftest.Processes(c.mark); len(running) < 3 {
				c.t.Errorf("while it runs: %q", running)
			}
			go func() {
				for lines.Scan() { // a full pipe would hold it up
				}
			}()
			return cmd
		}
	}
	c.t.Fatalf("the step did not begin: %v\n%s", cmd.Wait(), &seen)
	panic("unreachable")
}

// TestKilled: after kill -9 in the middle of a step nothing runs on, and the next build is as if nothing had been.
func TestKilled(t *testing.T) {
	c := newCLI(t)
	src := c.sleeper()
	cmd := c.begin("build", "-t", "killed:1", "--build-arg", "SECONDS=1000", src)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if out := c.run("images", "-q", "--format", "{{.Repository}}"); strings.Contains(out, "killed") {
		t.Errorf("an image of a killed build: %s", out)
	}
	dir := t.TempDir()
	c.run("build", "-o", "type=local,dest="+dir, "--build-arg", "SECONDS=0", src)
	if b, err := os.ReadFile(filepath.Join(dir, "done")); string(b) != "done\n" || err != nil {
		t.Errorf("built again: %q, %v", b, err)
	}
}
