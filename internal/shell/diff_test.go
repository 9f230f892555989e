package shell

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "record what the real shells of this machine do in testdata")

// result is what a script does, as far as anybody can tell.
type result struct {
	Out, Err string
	Code     int
	Files    []string `json:",omitempty"` // "name mode content"
}

// golden is the record of one snippet.
type golden struct {
	Script string
	// Refused says that this package must not serve the script; the rest is what the real shell does.
	Refused bool `json:",omitempty"`
	result
}

// oracle is a real shell, or the place of one that this machine has not.
type oracle struct {
	variant Variant
	program string
	name    string // argv[0]
}

// findOracle returns the real shell of a variant.
func findOracle(v Variant) (o *oracle, found bool) {
	o = &oracle{variant: v, name: "/bin/sh"}
	program := string(v)
	switch v {
	case Ash:
		program = "busybox"
	case Bash:
		o.name = "/bin/bash"
	}
	p, err := exec.LookPath(program)
	o.program = p
	return o, err == nil
}

var testEnv = []string{"PATH=/usr/bin:/bin", "HOME=/root", "LC_ALL=C", "TZ=UTC"}

func (o *oracle) run(t testing.TB, script string) result {
	t.Helper()
	dir := workDir(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, o.program)
	cmd.Args = []string{o.name, "-c", script}
	cmd.Dir, cmd.Env = dir, testEnv
	cmd.WaitDelay = time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	r := result{Out: out.String(), Err: errs.String(), Files: files(t, dir)}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		r.Code = codeOf(exit)
	} else if err != nil {
		t.Fatalf("%s: %v", o.name, err)
	}
	if o.variant == Bash {
		r.Err = ""
	}
	if o.variant == Ash { // Alpine's has these words of it, and so has the package
		r.Err = strings.ReplaceAll(r.Err, ": bad number\n", ": out of range\n")
	}
	return r.clean(dir)
}

// workDir is an empty folder with the same name for all, and so are those above it, as far up as a script goes.
func workDir(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "x/x/x/x/x/x/x/x/above/work")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func codeOf(exit *exec.ExitError) int {
	if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		return 128 + int(s.Signal())
	}
	return exit.ExitCode()
}

// clean takes away what differs from run to run.
func (r result) clean(dir string) result {
	for _, s := range []*string{&r.Out, &r.Err} {
		*s = strings.ReplaceAll(*s, dir, "/work")
	}
	for i := range r.Files {
		r.Files[i] = strings.ReplaceAll(r.Files[i], dir, "/work")
	}
	return r
}

// files lists what a script left.
func files(t testing.TB, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		line := strings.TrimPrefix(path, dir+"/") + " " + info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += " " + string(data)
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " -> " + target
		}
		all = append(all, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// ours runs a script in this package. refused says why it is not served.
func ours(t testing.TB, o *oracle, script string) (r result, refused error) {
	t.Helper()
	s, err := Parse(o.variant, script)
	if err != nil {
		return r, err
	}
	dir := workDir(t)
	old := setUmask(0o22)
	defer setUmask(old)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	sh := Shell{
		Variant: o.variant, Name: o.name, Env: testEnv, Dir: dir, Stdin: null, Stdout: &out, Stderr: &errs,
		Exec: o.execute, Unserved: func(err error) { refused = err },
	}
	r.Code = sh.Run(ctx, s)
	if refused != nil {
		return r, refused
	}
	if ctx.Err() != nil {
		t.Errorf("%q: does not end", script)
	}
	r.Out, r.Err, r.Files = out.String(), errs.String(), files(t, dir)
	if o.variant == Bash { // its messages have other words
		r.Err = ""
	}
	return r.clean(dir), nil
}

// execute runs a command as a process. Debian's busybox takes its own commands before those of PATH.
func (o *oracle) execute(ctx context.Context, c *Command) (int, error) {
	cmd := exec.CommandContext(ctx, c.Path, c.Args[1:]...)
	cmd.Args[0] = c.Args[0]
	if o.variant == Ash && !strings.Contains(c.Args[0], "/") && applets()[c.Args[0]] {
		cmd.Path = o.program
	}
	cmd.Dir, cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Dir, c.Env, c.Stdin, c.Stdout, c.Stderr
	cmd.WaitDelay = time.Second
	most := 2
	for n := range c.Extra {
		most = max(most, n)
	}
	for n := 3; n <= most; n++ {
		f, _ := c.Extra[n].(*os.File)
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit):
		return codeOf(exit), nil
	}
	return 126, err
}

// applets are the commands of this machine's busybox; none without one.
var applets = sync.OnceValue(func() map[string]bool {
	all := map[string]bool{}
	out, _ := exec.Command("busybox", "--list").Output() // none: no busybox
	for _, name := range strings.Fields(string(out)) {
		all[name] = true
	}
	return all
})

func snippets(t testing.TB) []string {
	t.Helper()
	data, err := os.ReadFile("testdata/snippets.txt")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n%%\n")
}

func show(r result) string {
	data, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	return string(data)
}

// TestSnippets holds that each snippet does what the real shell does, or is refused. What the real shells do is recorded; where this
// machine has them they are asked again.
func TestSnippets(t *testing.T) {
	for _, v := range []Variant{Dash, Ash, Bash} {
		t.Run(string(v), func(t *testing.T) { testSnippets(t, v) })
	}
}

func testSnippets(t *testing.T, v Variant) {
	file := "testdata/" + string(v) + ".json"
	recorded := map[string]golden{}
	var all []golden
	switch data, err := os.ReadFile(file); {
	case err == nil:
		if err := json.Unmarshal(data, &all); err != nil {
			t.Fatal(err)
		}
	case !*update:
		t.Fatal(err)
	}
	for _, g := range all {
		recorded[g.Script] = g
	}
	all = nil
	o, live := findOracle(v)
	if !live && (*update || os.Getenv("CI") != "") {
		t.Fatalf("%s is not installed", v)
	}
	served := 0
	for _, script := range snippets(t) {
		got, refused := ours(t, o, script)
		want, have := recorded[script]
		if live {
			want.result = o.run(t, script)
			if refused == nil && !same(want.result, got) {
				t.Errorf("%q\n real %s\n ours %s", script, show(want.result), show(got))
			}
		}
		if refused == nil {
			served++
		}
		if *update {
			all = append(all, golden{Script: script, Refused: refused != nil, result: want.result})
			continue
		}
		switch {
		case !have:
			t.Errorf("%q is not recorded: go test -update", script)
		case want.Refused != (refused != nil):
			t.Errorf("%q: refused %v (%v), recorded %v", script, refused != nil, refused, want.Refused)
		case refused == nil && !same(recorded[script].result, got):
			t.Errorf("%q\n recorded %s\n ours %s", script, show(recorded[script].result), show(got))
		}
	}
	t.Logf("%d of %d served", served, len(snippets(t)))
	if !*update {
		return
	}
	data, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(data, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

func same(a, b result) bool {
	return a.Out == b.Out && a.Err == b.Err && a.Code == b.Code && slices.Equal(a.Files, b.Files)
}
