package skiff_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/skiff-build/skiff/internal/skifftest"
)

// TestExamples runs the tests of the examples. They are modules of their own, which `./...` of this
// module does not reach; their dependencies come from the module cache or the module proxy.
func TestExamples(t *testing.T) {
	skifftest.Long(t, "it builds and tests the examples")
	for _, c := range []struct {
		dir  string
		args []string
	}{
		{"examples/slackbot", []string{"test", "./..."}},
		{"examples/slackbot", []string{"vet", "./..."}},
		{"examples/slackbot-2021", []string{"build", "-o", os.DevNull, "."}},
	} {
		t.Run(c.dir+" go "+c.args[0], func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "go", c.args...)
			cmd.Dir = c.dir
			cmd.Env = append(os.Environ(), "GOWORK=off")
			out, err := cmd.CombinedOutput()
			t.Logf("go %v in %s:\n%s", c.args, c.dir, out)
			if err != nil {
				t.Errorf("go %v in %s: %v", c.args, c.dir, err)
			}
		})
	}
}
