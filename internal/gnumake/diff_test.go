package gnumake

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
	"syscall"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "record what the real make of this machine does in testdata")

// result is what a call of make does, as far as anybody can tell.
type result struct {
	Out, Err string
	Code     int
	Files    []string `json:",omitempty"` // names of what is there afterwards
}

// golden is the record of one snippet.
type golden struct {
	Snippet string
	Refused bool `json:",omitempty"` // this package must not serve it
	result
}

// snippet is a Makefile with files beside it and a command line.
type snippet struct {
	text  string
	args  []string
	env   []string
	files map[string]string
}

// parseSnippet reads "#! ARGS", "#env NAME=VALUE", the Makefile, and files that begin with "-- NAME --".
func parseSnippet(text string) snippet {
	s := snippet{text: text, files: map[string]string{}}
	name := "Makefile"
	var body strings.Builder
	for line := range strings.SplitSeq(text, "\n") {
		switch {
		case strings.HasPrefix(line, "#! "):
			s.args = strings.Fields(line[3:])
		case strings.HasPrefix(line, "#env "):
			s.env = append(s.env, line[5:])
		case strings.HasPrefix(line, "-- ") && strings.HasSuffix(line, " --"):
			s.files[name] = body.String()
			body.Reset()
			name = line[3 : len(line)-3]
		default:
			body.WriteString(line + "\n")
		}
	}
	s.files[name] = body.String()
	return s
}

// lay makes the files of a snippet in an empty folder. Each is a second newer than the one before it by its name.
func (s snippet) lay(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, 0, len(s.files))
	for name := range s.files {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(s.files[name]), 0o644); err != nil {
			t.Fatal(err)
		}
		at := time.Unix(1_000_000_000+int64(i), 0)
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var testEnv = []string{"PATH=/usr/bin:/bin", "HOME=/root", "LC_ALL=C"}

// versions are those of the records: testdata has a file for each.
var versions = []string{"4.3", "4.4.1"}

func recordOf(version string) string {
	return "testdata/make" + strings.ReplaceAll(version, ".", "") + ".json"
}

// oracle is the real make of this machine, with its version; none where no record is of that version.
func oracle(t testing.TB) (program, version string) {
	t.Helper()
	p, err := exec.LookPath("make")
	if err != nil && os.Getenv("CI") != "" {
		t.Fatal("GNU make is not installed")
	}
	if err != nil {
		return "", ""
	}
	out, err := exec.Command(p, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	version, _ = strings.CutPrefix(line, "GNU Make ")
	if !slices.Contains(versions, version) {
		return "", ""
	}
	return p, version
}

func (s snippet) real(t testing.TB, program string) result {
	t.Helper()
	dir := s.lay(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program)
	cmd.Args = append([]string{"make"}, s.args...)
	cmd.Dir, cmd.Env = dir, append(slices.Clone(testEnv), s.env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	r := result{}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		r.Code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	r.Out, r.Err, r.Files = out.String(), errs.String(), left(t, dir)
	return r.clean(dir)
}

// ours is the same in this package.
func (s snippet) ours(t testing.TB, version string) (result, error) {
	t.Helper()
	dir := s.lay(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	m := &Make{
		Version: version, Args: s.args, Env: append(slices.Clone(testEnv), s.env...), Dir: dir, Files: Root(""), Runner: processes{version},
		Stdout: &out, Stderr: &errs,
	}
	code, err := m.Run(ctx)
	r := result{Out: out.String(), Err: errs.String(), Code: code, Files: left(t, dir)}
	return r.clean(dir), err
}

// processes runs jobs as processes, and makes within makes in this one.
type processes struct{ version string }

func (p processes) Run(ctx context.Context, j *Job) (Exit, error) {
	program := j.Argv[0]
	if !strings.Contains(program, "/") {
		var err error
		if program, err = lookPath(program, j.Env); err != nil {
			return Exit{}, fs.ErrNotExist
		}
	}
	if !j.Shell && j.Argv[0] == "make" {
		m := &Make{Version: p.version, Args: j.Argv[1:], Env: j.Env, Dir: j.Dir, Files: Root(""), Runner: p, Stdout: j.Stdout, Stderr: j.Stderr}
		code, err := m.Run(ctx)
		return Exit{Code: code}, err
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Args, cmd.Dir, cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = j.Argv, j.Dir, j.Env, j.Stdin, j.Stdout, j.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return Exit{}, nil
	case errors.As(err, &exit):
		if w := exit.Sys().(syscall.WaitStatus); w.Signaled() {
			name := w.Signal().String()
			return Exit{Code: 128 + int(w.Signal()), Signal: strings.ToUpper(name[:1]) + name[1:]}, nil
		}
		return Exit{Code: exit.ExitCode()}, nil
	}
	return Exit{}, err
}

func lookPath(name string, env []string) (string, error) {
	for _, kv := range env {
		list, ok := strings.CutPrefix(kv, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(list) {
			p := filepath.Join(dir, name)
			if info, err := os.Stat(p); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
				return p, nil
			}
		}
	}
	return "", fs.ErrNotExist
}

// left lists the files in a folder.
func left(t testing.TB, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && p != dir {
			all = append(all, strings.TrimPrefix(p, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (r result) clean(dir string) result {
	r.Out = strings.ReplaceAll(r.Out, dir, "/work")
	r.Err = strings.ReplaceAll(r.Err, dir, "/work")
	return r
}

func (r result) String() string {
	data, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	return string(data)
}

func snippets(t testing.TB) []string {
	t.Helper()
	data, err := os.ReadFile("testdata/snippets.txt")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n%%\n")
}

// TestSnippets holds that each Makefile does what GNU make does with it, or is refused, in each version. What the real one does is
// recorded; that of this machine is asked again.
func TestSnippets(t *testing.T) {
	program, installed := oracle(t)
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			if version == installed {
				testSnippets(t, version, program)
			} else {
				testSnippets(t, version, "")
			}
		})
	}
	if *update && installed == "" {
		t.Fatalf("a GNU make of one of the versions %q is not installed", versions)
	}
}

// testSnippets compares with the record of a version, and with a real make; empty: this machine has none of the version.
func testSnippets(t *testing.T, version, program string) {
	file := recordOf(version)
	recording := *update && program != ""
	var all []golden
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if err != nil && !recording {
		t.Fatal(err)
	}
	recorded := map[string]golden{}
	for _, g := range all {
		recorded[g.Snippet] = g
	}
	all = nil
	served := 0
	for _, text := range snippets(t) {
		s := parseSnippet(text)
		got, refused := s.ours(t, version)
		want, have := recorded[text]
		if program != "" {
			want.result = s.real(t, program)
			if refused == nil && want.result.String() != got.String() {
				t.Errorf("%s\n real %s\n ours %s", text, want.result, got)
			}
		}
		if refused == nil {
			served++
		}
		if recording {
			all = append(all, golden{Snippet: text, Refused: refused != nil, result: want.result})
			continue
		}
		switch {
		case !have:
			t.Errorf("%s\n is not recorded: go test -update where make is %s", text, version)
		case want.Refused != (refused != nil):
			t.Errorf("%s\n refused %v, recorded %v", text, refused, want.Refused)
		case refused == nil && recorded[text].result.String() != got.String():
			t.Errorf("%s\n recorded %s\n ours %s", text, recorded[text].result, got)
		}
	}
	t.Logf("%d of %d served", served, len(snippets(t)))
	if !recording {
		return
	}
	if data, err = json.MarshalIndent(all, "", " "); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(data, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
