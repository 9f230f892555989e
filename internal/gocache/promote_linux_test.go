package gocache

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestPromoteWhatGoMakes: of what the real go command writes, all is kept that a later go command needs for the same, and
// nothing that rests on the names, times and sizes of the project's files alone.
func TestPromoteWhatGoMakes(t *testing.T) {
	src, step, shared, own := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	write(t, filepath.Join(src, "go.mod"), "module example.com/app\n\ngo 1.24\n")
	write(t, filepath.Join(src, "app.go"), "package app\n\nimport \"unicode/utf8\"\n\nvar N = utf8.RuneCountInString(\"å\")\n")
	old := time.Now().Add(-time.Hour)
	for _, name := range []string{"go.mod", "app.go"} {
		if err := os.Chtimes(filepath.Join(src, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	goroot, release := goTool(t, "env", "GOROOT"), strings.TrimPrefix(goTool(t, "env", "GOVERSION"), "go")
	build := func(cache string) (compiled int) {
		cmd := exec.CommandContext(t.Context(), "go", "build", "-x", "-o", os.DevNull, ".")
		cmd.Dir = src
		cmd.Env = append(os.Environ(), "GOCACHE="+cache, "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off", "GO111MODULE=", "TZ=UTC", "GOTOOLCHAIN=local")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return strings.Count(string(out), "/compile -o ")
	}
	now := time.Now()
	if err := Dir(step).Begin(now); err != nil {
		t.Fatal(err)
	}
	if build(step) == 0 {
		t.Fatal("nothing was compiled with an empty cache")
	}
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "net/http")
	cmd.Dir, cmd.Env = src, append(os.Environ(), "GOCACHE="+step, "TZ=UTC", "GOTOOLCHAIN=local", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	indexes := func(dir string) (n int) {
		actions, err := Dir(dir).actions()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range actions {
			if Dir(dir).verifyHead(a.entry.Output) {
				n++
			}
		}
		return n
	}
	before := indexes(step)
	p := Promotion{Below: []Dir{Dir(shared)}, To: Dir(shared), Indexes: func() (map[ActionID]Dir, error) {
		known := map[ActionID]Dir{}
		return known, GorootIndexes(func(a ActionID) { known[a] = Dir(own) }, release, goroot, goroot)
	}}
	if err := p.Build(Dir(step), now); err != nil {
		t.Fatal(err)
	}
	// All but that of the project's own folder.
	if n := indexes(own); before < 50 || n != before-1 {
		t.Errorf("%d of %d indexes of packages kept, want %d", n, before, before-1)
	}
	if n := indexes(shared); n != 0 {
		t.Errorf("%d indexes of packages in the shared cache", n)
	}
	if n := build(shared); n != 0 {
		t.Errorf("%d packages compiled although all was kept", n)
	}
	onlyEntries(t, own)
	// What was kept is used without the go command writing to it: its times are such.
	again := listing(t, shared)
	build(shared)
	if got := listing(t, shared); got != again {
		t.Errorf("the go command wrote to what it used:\n%s\nbefore:\n%s", got, again)
	}
}

func goTool(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// onlyEntries: every name in a cache is of the form that the go command makes.
func onlyEntries(t *testing.T, dir string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && p != dir && (d.IsDir() && len(d.Name()) != 2 || !d.IsDir() && (len(d.Name()) != 2*sha256.Size+2 || !d.Type().IsRegular())) {
			t.Errorf("%s is no entry", p)
		}
		return err
	}))
}

// TestPromoteForms: what a step leaves beside entries, or in their places without their form, is not taken.
func TestPromoteForms(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(t *testing.T, d Dir, a ActionID, e Entry, data []byte)
		want bool
	}{
		{"an entry", func(*testing.T, Dir, ActionID, Entry, []byte) {}, true},
		{"a digest that is not the content's", func(t *testing.T, d Dir, a ActionID, e Entry, data []byte) {
			write(t, d.OutputFile(e.Output), strings.Repeat("x", len(data)))
		}, false},
		{"another size", func(t *testing.T, d Dir, a ActionID, e Entry, data []byte) {
			e.Size++
			write(t, d.actionFile(a), string(formatEntry(a, e)))
		}, false},
		{"no output", func(t *testing.T, d Dir, a ActionID, e Entry, data []byte) {
			must(t, os.Remove(d.OutputFile(e.Output)))
		}, false},
		{"an output that is a link", func(t *testing.T, d Dir, a ActionID, e Entry, data []byte) {
			must(t, os.Rename(d.OutputFile(e.Output), filepath.Join(string(d), "aside")))
			must(t, os.Symlink(filepath.Join(string(d), "aside"), d.OutputFile(e.Output)))
		}, false},
		{"an action that is a link", func(t *testing.T, d Dir, a ActionID, e Entry, data []byte) {
			must(t, os.Rename(d.actionFile(a), filepath.Join(string(d), "aside")))
			must(t, os.Symlink(filepath.Join(string(d), "aside"), d.actionFile(a)))
		}, false},
		{"an action that is a pipe", func(t *testing.T, d Dir, a ActionID, e Entry, data []byte) {
			must(t, os.Remove(d.actionFile(a)))
			must(t, syscall.Mkfifo(d.actionFile(a), 0o644))
		}, false},
		{"an action for another one", func(t *testing.T, d Dir, a ActionID, e Entry, data []byte) {
			other := a
			other[5] ^= 1
			write(t, d.actionFile(a), string(formatEntry(other, e)))
		}, false},
		{"more after the entry", func(t *testing.T, d Dir, a ActionID, e Entry, data []byte) {
			write(t, d.actionFile(a), string(formatEntry(a, e))+"\n")
		}, false},
		{"the wrong folder", func(t *testing.T, d Dir, a ActionID, e Entry, data []byte) {
			must(t, os.Mkdir(filepath.Join(string(d), "zz"), 0o755))
			must(t, os.Rename(d.actionFile(a), filepath.Join(string(d), "zz", filepath.Base(d.actionFile(a)))))
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			step, shared := Dir(t.TempDir()), Dir(t.TempDir())
			data := []byte("!<arch>\n" + c.name)
			a := ActionID(sha256.Sum256([]byte(c.name)))
			e := Entry{Output: sha256.Sum256(data), Size: int64(len(data)), Time: time.Unix(1, 0)}
			must(t, step.Put(a, e, bytes.NewReader(data)))
			c.make(t, step, a, e, data)
			write(t, filepath.Join(string(step), "PWNED"), "")
			write(t, filepath.Join(filepath.Dir(step.OutputFile(e.Output)), "PWNED"), "")
			must(t, os.Symlink("/etc", filepath.Join(string(step), "ab")))
			p := Promotion{Below: []Dir{shared}, To: shared}
			must(t, p.Build(step, time.Now()))
			if _, err := shared.Get(a); (err == nil) != c.want {
				t.Errorf("in the shared cache: %v, want %v", err == nil, c.want)
			}
			onlyEntries(t, string(shared))
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestPromoteKeepsWhatIsThere: an action that a cache has keeps its output, whatever a step says later.
func TestPromoteKeepsWhatIsThere(t *testing.T) {
	step, shared := Dir(t.TempDir()), Dir(t.TempDir())
	put := func(d Dir, text string) Entry {
		e := Entry{Output: sha256.Sum256([]byte(text)), Size: int64(len(text)), Time: time.Unix(1, 0)}
		must(t, d.Put(ActionID{1}, e, strings.NewReader(text)))
		return e
	}
	first := put(shared, "first")
	put(step, "second")
	p := Promotion{Below: []Dir{shared}, To: shared}
	must(t, p.Build(step, time.Now()))
	if e, err := shared.Get(ActionID{1}); err != nil || e.Output != first.Output {
		t.Errorf("%v, %v", e, err)
	}
}

// TestTrim: what nobody used for five days goes, with what only it names; what a step used stays, and so it is noted.
func TestTrim(t *testing.T) {
	d := Dir(t.TempDir())
	now := time.Now()
	for i := range 3 {
		text := fmt.Sprint("output ", i)
		e := Entry{Output: sha256.Sum256([]byte(text)), Size: int64(len(text)), Time: now}
		step := Dir(t.TempDir())
		must(t, step.Put(ActionID{byte(i)}, e, strings.NewReader(text)))
		p := Promotion{Below: []Dir{d}, To: d}
		must(t, p.Build(step, now.Add(-time.Duration(i)*3*24*time.Hour)))
	}
	// The last was used by another step since.
	step := Dir(t.TempDir())
	e, err := d.Get(ActionID{2})
	must(t, err)
	must(t, step.Put(ActionID{2}, e, strings.NewReader("output 2")))
	p := Promotion{Below: []Dir{d}, To: d}
	must(t, p.Build(step, now.Add(-time.Hour)))
	text := "left over"
	must(t, d.putOutput(Entry{Output: sha256.Sum256([]byte(text)), Size: int64(len(text))}, strings.NewReader(text)))
	must(t, d.Trim(now.Add(time.Hour)))
	must(t, d.Trim(now.Add(3*24*time.Hour)))
	for i, want := range []bool{true, false, true} {
		if _, err := d.Get(ActionID{byte(i)}); (err == nil) != want {
			t.Errorf("entry %d is there: %v, want %v", i, err == nil, want)
		}
	}
	outputs := 0
	must(t, d.each("-d", func([sha256.Size]byte, string) error { outputs++; return nil }))
	if outputs != 2 {
		t.Errorf("%d outputs, want 2", outputs)
	}
}

// TestAssembly: the go command knows nothing of files that assembly includes from outside of its package, so what was made with
// them is not kept; all else is.
func TestAssembly(t *testing.T) {
	src := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(src, "asm"), 0o755))
	must(t, os.MkdirAll(filepath.Join(src, "plain"), 0o755))
	write(t, filepath.Join(src, "go.mod"), "module example.com/app\n\ngo 1.24\n")
	write(t, filepath.Join(src, "plain", "a.go"), "package plain\n\nvar A = 1\n")
	write(t, filepath.Join(src, "asm", "a.go"), "package asm\n\nfunc f()\n")
	build := func(cache string, packages ...string) (compiled int) {
		cmd := exec.CommandContext(t.Context(), "go", append([]string{"build", "-x", "-o", os.DevNull}, packages...)...)
		cmd.Dir, cmd.Env = src, append(os.Environ(), "GOCACHE="+cache, "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off", "GOTOOLCHAIN=local")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return strings.Count(string(out), "/compile -o ")
	}
	for _, c := range []struct {
		include string
		again   int // packages that have to be compiled again
	}{{"textflag.h", 0}, {"../inc.h", 1}, {`\x2e\x2e\x2finc.h`, 1}, {"inc.txt", 1}, {"inc.h", 0}} {
		for _, name := range []string{"inc.h", "asm/inc.h", "asm/inc.txt"} {
			must(t, os.WriteFile(filepath.Join(src, name), []byte("#define NOSPLIT 4\n"), 0o644))
		}
		// A header of C's beside it, which the assembler does not read.
		write(t, filepath.Join(src, "asm", "c.h"), "#include <sys/types.h>\n")
		write(t, filepath.Join(src, "asm", "a.s"), "#include \""+c.include+"\"\n\nTEXT ·f(SB), NOSPLIT, $0-0\n\tRET\n")
		step, shared := Dir(t.TempDir()), Dir(t.TempDir())
		build(string(step), "./asm", "./plain")
		p := Promotion{Below: []Dir{shared}, To: shared, Elsewhere: func() bool {
			found, err := IncludesElsewhere(src)
			must(t, err)
			return found
		}}
		must(t, p.Build(step, time.Now()))
		if n := build(string(shared), "./asm", "./plain"); n != c.again {
			t.Errorf("%s: %d packages compiled again, want %d", c.include, n, c.again)
		}
	}
}
