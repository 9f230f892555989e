package progress

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/skiff-build/skiff/internal/printable"
)

func TestMode(t *testing.T) {
	for _, c := range []struct{ flag, env, want, err string }{
		{"", "", "auto", ""},
		{"", "plain", "plain", ""},
		{"tty", "plain", "tty", ""},
		{"none", "", "quiet", ""},
		{"fancy", "", "", `--progress: "fancy" is not a mode`},
		{"", "fancy", "", `BUILDKIT_PROGRESS: "fancy" is not a mode`},
	} {
		got, err := Mode(c.flag, func(string) string { return c.env })
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("Mode(%q, %q) = %q, %v", c.flag, c.env, got, err)
		}
	}
}

// failing is a step that writes n lines, the last one unfinished, and fails.
func failing(n int) []*client.SolveStatus {
	now := time.Now()
	v := client.Vertex{Digest: digest.FromString("v"), Name: "[b 1/1] RUN false", Started: &now}
	out := []*client.SolveStatus{{Vertexes: []*client.Vertex{new(v)}}}
	for i := range n {
		text := fmt.Sprintf("line %d\n", i)
		if i == n-1 {
			text = strings.TrimSuffix(text, "\n")
		}
		out = append(out, &client.SolveStatus{Logs: []*client.VertexLog{{Vertex: v.Digest, Stream: 1, Data: []byte(text), Timestamp: now}}})
	}
	v.Completed, v.Error = &now, "exit code: 1"
	return append(out, &client.SolveStatus{Vertexes: []*client.Vertex{new(v)}})
}

func show(t *testing.T, mode string, s []*client.SolveStatus) string {
	t.Helper()
	var out bytes.Buffer
	d, err := New(mode, &out)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range s {
		d.Status(s)
	}
	d.Close()
	d.Status(s[0]) // late news is dropped, not a panic
	d.Close()
	return out.String()
}

func TestQuietShowsTheTailOfAFailedStep(t *testing.T) {
	want := "------\n > [b 1/1] RUN false:\n"
	for i := 2; i < 12; i++ {
		want += fmt.Sprintf("line %d\n", i)
	}
	want += "------\n"
	if got := show(t, "quiet", failing(12)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := show(t, "quiet", failing(12)[:5]); got != "" {
		t.Errorf("a step that did not fail was shown: %q", got)
	}
}

func TestPlainAndRawJSON(t *testing.T) {
	if got := show(t, "plain", failing(3)); !strings.Contains(got, "#1 [b 1/1] RUN false") || !strings.Contains(got, "line 1") {
		t.Errorf("plain: %q", got)
	}
	if got := show(t, "rawjson", failing(3)); !strings.Contains(got, `"name":"[b 1/1] RUN false"`) {
		t.Errorf("rawjson: %q", got)
	}
}

func TestTTYNeedsATerminal(t *testing.T) {
	if _, err := New("tty", &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "show progress: tty") {
		t.Errorf("err = %v", err)
	}
}

// TestControls: nothing that a Dockerfile, a registry or a step says reaches a terminal or a log as more than text.
func TestControls(t *testing.T) {
	now := time.Now()
	evil := "\x1b]0;PWNED\x07\x1b[2J\u009b31m\u202e\r"
	v := client.Vertex{Digest: digest.FromString("v"), Name: "[1/1] RUN " + evil + "\n#9 FORGED", Started: &now}
	log := func(text string) *client.SolveStatus {
		return &client.SolveStatus{Logs: []*client.VertexLog{{Vertex: v.Digest, Stream: 2, Data: []byte(text), Timestamp: now}}}
	}
	statuses := []*client.SolveStatus{
		{Vertexes: []*client.Vertex{new(v)}}, log("\x1b[3"), log("1mred\x1b[0m " + evil + "over\n"),
		{Statuses: []*client.VertexStatus{{ID: "status " + evil, Vertex: v.Digest, Timestamp: now, Started: &now, Completed: &now}}},
		{Warnings: []*client.VertexWarning{{Vertex: v.Digest, Short: []byte("warning " + evil)}}},
	}
	failed := v
	failed.Completed, failed.Error = &now, "failed: "+evil+"\n#9 FORGED"
	statuses = append(statuses, &client.SolveStatus{Vertexes: []*client.Vertex{&failed}})
	for _, mode := range []string{"plain", "quiet"} {
		got := show(t, mode, statuses)
		if printable.Text(got) != got || strings.Contains(got, "\n#9 FORGED") || !strings.Contains(got, "red \\u009b31m\\u202e\nover\n") && mode == "quiet" {
			t.Errorf("%s: %q", mode, got)
		}
		if mode == "plain" && (!strings.Contains(got, "red \\u009b31m") || !strings.Contains(got, "status \\u001b]0;")) {
			t.Errorf("%s: %q", mode, got)
		}
	}
	if statuses[0].Vertexes[0].Name != v.Name || !strings.HasPrefix(string(statuses[1].Logs[0].Data), "\x1b") {
		t.Error("what was to be shown was changed for others, too")
	}
	if got := show(t, "rawjson", statuses); !strings.Contains(got, `FORGED`) || strings.Contains(got, "\x1b") {
		t.Errorf("rawjson: %q", got)
	}
}
