//go:build linux

package sandbox

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

type traceResult struct {
	Opened map[string]bool
	Err    string
}

// reads does in a step what is to be taken down.
var _ = helper("reads", func(args []string) error {
	os.ReadFile("/data/read")
	os.Stat("/data/asked")
	os.Stat("/missing/below")
	if err := os.Chdir("/data"); err != nil {
		return err
	}
	os.ReadDir("dir")
	os.Open("../data/up")
	root, err := os.OpenRoot("dir")
	if err != nil {
		return err
	}
	root.ReadFile("in root")
	os.WriteFile("made", nil, 0o644)
	os.Rename("made", "renamed")
	os.ReadFile("/data/" + strings.Repeat("x/", 2040) + "long")
	if len(args) > 0 {
		os.Symlink("read", "link")
		unix.Access("/data/after", unix.R_OK)
	}
	return nil
})

func tracedStep(t *testing.T, c *Child, args ...string) traceResult {
	t.Helper()
	s := step(t, "reads", args...)
	if err := os.MkdirAll(filepath.Join(s.Root.Path, "data/dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(s.Root.Path, "data/read"), "", 0o644)
	var r traceResult
	if err := c.Call(t.Context(), "run", runRequest{Spec: s, FakeIDs: c.Mode() == ModeOneID, Trace: true}, &r, func(m json.RawMessage) { t.Logf("%s", m) }); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTrace(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) {
		r := tracedStep(t, c)
		if r.Err != "<nil>" {
			t.Error(r.Err)
		}
		for path, opened := range map[string]bool{
			"/data/read": true, "/data/asked": false, "/missing/below": false, "/data": false, "/data/dir": true, "/data/../data/up": true,
			"/data/dir/in root": true, "/data/made": true, "/data/renamed": true, "/data/" + strings.Repeat("x/", 2040) + "long": true,
		} {
			if was, known := r.Opened[path]; !known || was != opened {
				t.Errorf("%.100s: opened %v, known %v", path, was, known)
			}
		}
		if _, known := r.Opened["/data/other"]; known {
			t.Error("a file that nobody named")
		}
	})
}

// A link that the step made leads where no path of its calls says.
func TestTraceEndsWithALink(t *testing.T) {
	r := tracedStep(t, enter(t), "link")
	if r.Err == "<nil>" {
		t.Errorf("no error, with %v", r.Opened)
	}
}
