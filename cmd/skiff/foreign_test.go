package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/skiff-build/skiff"
	"github.com/skiff-build/skiff/internal/skifftest"
)

// evil is what a terminal would obey, in one text: a title, a cleared screen, C1, a reversal, and a line that looks like one of ours.
const evil = "\x1b]0;PWNED\x07\x1b[2J\u009b31m\u202e\x7f\r\nFORGED: all is well\n"

// command runs the skiff command with a state of its own below dir, and returns what it printed, both outputs together.
func command(t *testing.T, dir string, args ...string) (out string, code int) {
	t.Helper()
	cmd := exec.Command(skifftest.Binary(t), args...)
	cmd.Env = os.Environ()
	for k, v := range testEnv(dir) {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	text, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

// wellBehaved fails where output holds more than text, or a line that others forged.
func wellBehaved(t *testing.T, what, out string) {
	t.Helper()
	var b bytes.Buffer
	fmt.Fprint(skiff.Printable(&b), out)
	if b.String() != out || !utf8.ValidString(out) {
		t.Errorf("%s: control characters reach the terminal: %q", what, out)
	}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(strings.TrimSpace(line), "FORGED") {
			t.Errorf("%s: a line is forged: %q", what, out)
		}
	}
}

// TestControlCharacters: whatever an image, a registry, a Dockerfile, a step or a file's name holds, no verb prints it as it is.
func TestControlCharacters(t *testing.T) {
	registry := skifftest.NewRegistry(t, nil)
	program := filepath.Join(t.TempDir(), "app")
	source := skifftest.Files(t, "go.mod", "module x\n\ngo 1.26\n", "main.go", "package main\n\nfunc main() {}\n")
	build := exec.Command("go", "build", "-o", program, "-ldflags=-X 'main.x=\x1b]0;PWNED\x07'", ".")
	build.Dir, build.Env = source, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOOS=linux")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	entry := "/bin/" + strings.ReplaceAll(evil, "/", "")
	img := skifftest.Image(t, v1.Config{
		Entrypoint: []string{entry}, Env: []string{"A=" + evil, "PATH=/bin"}, Labels: map[string]string{"x" + evil: evil}, User: "u" + evil, WorkingDir: "/w" + evil,
	}, skifftest.Layer(t,
		skifftest.Entry{Name: entry[1:], File: program, Mode: 0o755}, skifftest.Entry{Name: ".ssh/id_rsa" + evil, Body: "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAt0dGtYYp0mC1p6bqDn0X6v8rL8L9mVbTzqVQx1\n-----END RSA PRIVATE KEY-----\n"},
		skifftest.Entry{Name: "src/go.mod" + evil, Body: "x"}, skifftest.Entry{Name: "\xff\x9b31m", Body: "x"}, skifftest.Entry{Name: "l" + evil, Link: evil}))
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cf = cf.DeepCopy()
	cf.Author = evil
	for i := range cf.History {
		cf.History[i].CreatedBy, cf.History[i].Comment = "RUN "+evil, evil
	}
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		t.Fatal(err)
	}
	ref := registry.Push(t, "evil:1", img)
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, status := range map[string]int{"/a/": 401, "/b/": 403, "/c/": 404, "/d/": 418} {
			if strings.Contains(r.URL.Path, name) {
				w.WriteHeader(status)
			}
		}
		text, _ := json.Marshal(map[string]any{"errors": []any{map[string]string{"code": "DENIED" + evil, "message": evil, "detail": evil}}})
		_, _ = w.Write(text)
	}))
	t.Cleanup(refuses.Close)
	host := strings.TrimPrefix(refuses.URL, "http://")
	context := skifftest.Files(t, "Dockerfile", "FROM scratch AS a\nCOPY f* /x/\nLABEL x=\"\x1b[2J\"\nENTRYPOINT [\"/p\x1b[31mrog\"]\n",
		"broken/Dockerfile", "FROM scratch\nCOPY nope\x1b[2J /\nNOPE\x1b[2J\n", "missing/Dockerfile", "FROM scratch\nCOPY nope\x1b[2J /\n",
		"on/Dockerfile", "FROM "+ref+"\nCOPY Dockerfile /x\n", "f\x1b[31m\u009b\nFORGED", "x")
	shell := registry.Push(t, "shell:1", skifftest.ShellImage(t))
	step := skifftest.Files(t, "Dockerfile", "FROM "+shell+"\nRUN printf '\\033]0;PWNED\\007\\033[2J\\302\\23331m\\r#9 FORGED\\n'; exit 3\n")

	dir := t.TempDir()
	archive := filepath.Join(dir, "a.tar")
	for _, c := range [][]string{
		{"pull", ref}, {"images"}, {"images", "--digests", "--no-trunc"}, {"images", "--format", "json"},
		{"inspect", ref}, {"inspect", "-f", "{{json .Author}} {{json .Config}}", ref},
		{"check", ref}, {"check", "--format", "json", ref}, {"check", "--report", "/dev/stdout", ref}, {"check", "--report", filepath.Join(dir, "r.json"), ref},
		{"run", ref}, {"run", "-u", "0", "-w", "/", ref}, {"run", "-u", "0", "-w", "/", "--entrypoint", evil, ref},
		{"save", "-o", archive, ref}, {"rmi", ref}, {"load", "-i", archive}, {"check", archive}, {"check", program}, {"rmi", ref, evil, "nope:1"},
		{"build", "-t", "x:1", context}, {"build", "-q", context}, {"check", "x:1"}, {"build", "--check", context},
		{"build", context + "/broken"}, {"build", context + "/missing"}, {"build", context + "/on"}, {"build", "--progress", "rawjson", context + "/on"},
		{"build", step}, {"build", "-q", step}, {"build", "--progress", "rawjson", step}, {"build", evil}, {"build", "-t", evil, context}, {"build", "--" + evil, context},
		{"pull", host + "/a:1"}, {"pull", host + "/b:1"}, {"pull", host + "/c:1"}, {"pull", host + "/d:1"}, {"push", evil}, {evil}, {"tag", "x:1", evil},
	} {
		out, _ := command(t, dir, c...)
		if strings.Contains(out, "panic: ") {
			t.Errorf("%.100q panics: %s", c, out)
		}
		wellBehaved(t, fmt.Sprintf("%.100q", c), out)
	}
	for _, file := range []string{"r.json"} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil || !json.Valid(text) {
			t.Errorf("%s is no JSON: %v", file, err)
		}
		wellBehaved(t, file, string(text))
	}
}

// TestOneText: errors that were joined stand in one line, and a newline of anything else does not.
func TestOneText(t *testing.T) {
	a, b := errors.New("a\nFORGED"), errors.New("b")
	for _, c := range []struct {
		err  error
		want string
	}{
		{a, "a\nFORGED"}, {errors.Join(a, b), "a\nFORGED; b"}, {fmt.Errorf("step: %w", errors.Join(a, nil, b)), "step: a\nFORGED; b"},
		{errors.Join(a, fmt.Errorf("x: %w", errors.Join(b, b))), "a\nFORGED; x: b; b"}, {fmt.Errorf("%w, %w", a, b), "a\nFORGED, b"},
		{fmt.Errorf("none: %w and %w", nil, nil), fmt.Errorf("none: %w and %w", nil, nil).Error()},
	} {
		if got := oneText(c.err); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
