package gobuild

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skiff-build/skiff/internal/skifftest"
)

// project is a module that is built again and again, with a go command that notes what it is started for.
type project struct {
	t        *testing.T
	dir, log string
	o        Options
}

func newProject(t *testing.T, files ...string) *project {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the go command that keeps a log is a shell script")
	}
	golang, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	p := &project{t: t, dir: skifftest.Files(t, append([]string{"m/go.mod", "module example.com/m\n\ngo 1.24\n"}, files...)...)}
	p.dir, err = filepath.EvalSymlinks(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	p.log = filepath.Join(t.TempDir(), "log")
	bin := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\necho \"$1\" >>'%s'\nexec '%s' \"$@\"\n", p.log, golang)
	if err := os.WriteFile(filepath.Join(bin, "go"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("GOENV", filepath.Join(p.dir, "goenv"))
	t.Setenv("GOFLAGS", "")
	t.Setenv("GOWORK", "")
	p.o = Options{
		Packages: []string{filepath.Join(p.dir, "m") + "/..."}, Platforms: []Platform{{OS: "linux", Arch: runtime.GOARCH}}, Store: openStore(t),
		Inspect: func(string, Platform) ([]byte, error) { return []byte("facts"), nil },
	}
	return p
}

func (p *project) path(name string) string { return filepath.Join(p.dir, filepath.FromSlash(name)) }

// write replaces a file in one step and with a time of its own, as an editor and a second do.
func (p *project) write(name, text string) {
	p.t.Helper()
	file := p.path(name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

func (p *project) remove(name string) {
	p.t.Helper()
	if err := os.RemoveAll(p.path(name)); err != nil {
		p.t.Fatal(err)
	}
}

// build returns what each program's layer is, or the error, and what go was started for.
func (p *project) build(o Options) (layers, started string) {
	p.t.Helper()
	if err := os.WriteFile(p.log, nil, 0o644); err != nil {
		p.t.Fatal(err)
	}
	results, err := Build(p.t.Context(), o)
	log, rerr := os.ReadFile(p.log)
	if rerr != nil {
		p.t.Fatal(rerr)
	}
	started = strings.Join(strings.Fields(string(log)), " ")
	if err != nil {
		return "error: " + err.Error(), started
	}
	for _, r := range results {
		for _, prog := range r.Programs {
			if string(prog.Facts) != "facts" {
				p.t.Errorf("%s: facts %q", prog.ImportPath, prog.Facts)
			}
			layers += fmt.Sprintf("%s %s\n", prog.ImportPath, prog.Layer)
		}
	}
	return layers, started
}

// settle waits until no write can hide in the time of the one before.
func settle() { time.Sleep(tick + 20*time.Millisecond) }

// check builds, compares with what the go command makes without any memory, and with what go is started for: "" for not at all, and
// "?" for anything.
func (p *project) check(what, want string) {
	p.t.Helper()
	settle()
	got, started := p.build(p.o)
	if want != "?" && started != want {
		p.t.Errorf("%s: go was started for %q, want %q", what, started, want)
	}
	oracle := p.o
	oracle.Again = true
	if expected, _ := p.build(oracle); got != expected {
		p.t.Errorf("%s: built\n%swant\n%s", what, got, expected)
	}
	settle()
	if again, started := p.build(p.o); again != got || started != "" && !strings.HasPrefix(got, "error") {
		p.t.Errorf("%s, unchanged: go was started for %q, and it came to\n%swant\n%s", what, started, again, got)
	}
}

const (
	all     = "env list build"
	onlyOne = "build"
)

var sources = []string{
	"m/a/a.go", "package main\n\nimport \"example.com/m/lib\"\n\nfunc main() { println(lib.Name, word) }\n",
	"m/a/word.go", "package main\n\nvar word = \"one\"\n",
	"m/a/word_test.go", "package main\n\nvar tested = 1\n",
	"m/a/other.go", "//go:build special\n\npackage main\n\nfunc init() { word = \"special\" }\n",
	"m/b/b.go", "package main\n\nimport _ \"embed\"\n\n//go:embed files/*.txt\nvar fs string\n\nfunc main() { println(fs) }\n",
	"m/b/files/a.txt", "text",
	"m/lib/lib.go", "package lib\n\nconst Name = \"lib\"\n",
	"m/lib/lib_windows.go", "package lib\n\nconst windows = true\n",
	"m/README", "words",
}

func TestMemory(t *testing.T) {
	skifftest.Long(t, "it runs go build many times")
	p := newProject(t, sources...)

	p.check("first", all)
	p.check("nothing", "")

	// What changes no binary.
	now := time.Now()
	if err := os.Chtimes(p.path("m/a/word.go"), now, now); err != nil {
		t.Fatal(err)
	}
	p.check("touched", "")
	p.write("m/README", "other words")
	p.write("m/a/notes.txt", "none of go's")
	p.check("files that are not go's", "")
	p.write("m/a/word_test.go", "package main\n\nvar tested = 2\n")
	p.write("m/lib/lib_windows.go", "package lib\n\nconst windows = false\n")
	p.check("files that are not compiled", "")

	// Code.
	p.write("m/a/word.go", "package main\n\nvar word = \"two\"\n")
	p.check("a line", onlyOne)
	p.write("m/a/word.go", "package main\n\nvar word = \"one\"\n")
	p.write("m/lib/lib.go", "package lib\n\nconst Name = \"LIB\"\n")
	p.check("a line of a library", onlyOne)
	p.write("m/a/new.go", "package main\n\nfunc init() { word = \"new\" }\n")
	p.check("a new file", "env list build")
	p.remove("m/a/new.go")
	p.check("the file removed", "env list")
	p.write("m/a/word.go", "package main\n\nimport \"unsafe\"\n\nvar word = \"one\"\nvar size = unsafe.Sizeof(word)\n")
	p.check("another import", all)
	p.write("m/a/word.go", "package main\n\nvar word = missing\n")
	p.check("code that does not compile", "?")
	p.write("m/a/word.go", "package main\n\nvar word = \"one\"\n")
	p.write("m/a/other.go", "package main\n\nfunc init() { word = \"special\" }\n")
	p.check("a build constraint less", all)
	p.write("m/c/c.go", "package main\n\nfunc main() {}\n")
	p.check("a new program", all)
	p.remove("m/c")
	p.write("m/lib/go.mod", "module example.com/m/lib\n")
	p.check("a go.mod in a library", "?")
	p.remove("m/lib/go.mod")

	// Embedded files.
	p.check("no go.mod in a library", "?")
	p.write("m/b/files/a.txt", "TEXT")
	p.check("an embedded file", onlyOne)
	p.write("m/b/b.go", "package main\n\nimport \"embed\"\n\n//go:embed files\nvar fs embed.FS\n\nfunc main() {\n\t_, err := fs.Open(\"files/a.txt\")\n\tprintln(err == nil)\n}\n")
	p.check("an embedded folder", "?")
	p.write("m/b/files/deep/er/c.txt", "deep")
	p.check("a new file in it", all)

	// Settings.
	p.write("goenv", "GOFLAGS=-tags=special\n")
	p.write("m/a/other.go", "//go:build special\n\npackage main\n\nfunc init() { word = \"special\" }\n")
	p.check("go env -w", "?")
	p.remove("goenv")
	t.Setenv("GOFLAGS", "-tags=special")
	p.check("the environment", "?")
	t.Setenv("GOFLAGS", "")
	p.o.LDFlags = "-X main.word=flag"
	p.check("linker flags", "?")
	p.o.LDFlags = ""
	p.o.Env = []string{"GOFLAGS=-tags=special"}
	p.check("--env", "?")
	p.o.Env = nil

	// Modules.
	p.write("r/go.mod", "module example.com/r\n")
	p.write("r/r.go", "package r\n\nconst Name = \"r\"\n")
	p.write("m/go.mod", "module example.com/m\n\ngo 1.24\n\nrequire example.com/r v1.0.0\n\nreplace example.com/r => ../r\n")
	p.write("m/a/a.go", "package main\n\nimport \"example.com/r\"\n\nfunc main() { println(r.Name, word) }\n")
	p.check("a replaced module", all)
	p.write("r/r.go", "package r\n\nconst Name = \"R\"\n")
	p.check("a line of it", onlyOne)
	p.write("r/sub/go.mod", "module example.com/sub\n")
	p.write("m/go.mod", "module example.com/m\n\ngo 1.25\n\nrequire example.com/r v1.0.0\n\nreplace example.com/r => ../r\n")
	p.check("another language version", all)
	p.write("go.work", "go 1.25\n\nuse ./m\n")
	p.check("a go.work above", "?")
	p.remove("go.work")

	// A new go command.
	bin, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bin, append(script, "# another\n"...), 0o755); err != nil {
		t.Fatal(err)
	}
	p.check("another go command", all)
}

// TestAlways: what go list does not tell in full is asked of go each time.
func TestAlways(t *testing.T) {
	skifftest.Long(t, "it runs go build many times")
	p := newProject(t, sources...)
	for _, c := range []struct {
		what string
		o    func(*Options)
	}{
		{"VCS", func(o *Options) { o.Env = []string{"GOFLAGS=-buildvcs=auto"} }},
		{"overlay", func(o *Options) { o.Env = []string{"GOFLAGS=-overlay=" + p.path("overlay.json")} }},
		{"external linking", func(o *Options) { o.LDFlags = "-linkmode=internal" }},
		{"again", func(o *Options) { o.Again = true }},
	} {
		p.write("overlay.json", "{}")
		o := p.o
		c.o(&o)
		settle()
		first, _ := p.build(o)
		second, started := p.build(o)
		if first != second || strings.HasPrefix(first, "error") || !strings.HasSuffix(started, "build") {
			t.Errorf("%s: go was started for %q:\n%s%s", c.what, started, first, second)
		}
	}
}

// TestMemoryAgainstGo changes files at random, and holds each build against one that remembers nothing.
func TestMemoryAgainstGo(t *testing.T) {
	p := newProject(t, sources...)
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	names := []string{
		"m/a/a.go", "m/a/word.go", "m/a/extra.go", "m/a/extra_linux.go", "m/a/extra_test.go", "m/lib/lib.go", "m/lib/more.go", "m/b/files/a.txt",
		"m/b/files/x.html", "m/c/c.go", "m/go.mod",
	}
	texts := func(name string) string {
		n := r.IntN(3)
		pkg := filepath.Base(filepath.Dir(name))
		switch {
		case pkg == "m":
			return fmt.Sprintf("module example.com/m\n\ngo 1.%d\n", 24+n%2)
		case !strings.HasSuffix(name, ".go"):
			return fmt.Sprint("text ", n)
		case pkg == "lib" && filepath.Base(name) == "lib.go":
			return fmt.Sprintf("package lib\n\nconst Name = \"lib %d\"\n", n)
		case pkg == "lib":
			return fmt.Sprintf("package lib\n\nvar More = %d\n\nfunc init() { println(More) }\n", n)
		case name == "m/a/a.go" && n > 0:
			return fmt.Sprintf("package main\n\nimport \"example.com/m/lib\"\n\nfunc main() { println(lib.Name, word, %d) }\n", n)
		case name == "m/a/a.go":
			return "package main\n\nfunc main() { println(word) }\n"
		case name == "m/a/word.go":
			return fmt.Sprintf("package main\n\nvar word = \"%d\"\n", n)
		case name == "m/c/c.go":
			return fmt.Sprintf("package main\n\nfunc main() { println(%d) }\n", n)
		}
		constraint := []string{"", "//go:build !special\n\n", "//go:build special\n\n"}[r.IntN(3)]
		return fmt.Sprintf("%spackage main\n\nfunc init() { println(%d) }\n", constraint, n)
	}
	removable := []string{"m/a/extra.go", "m/a/extra_linux.go", "m/a/extra_test.go", "m/lib/more.go", "m/b/files/x.html", "m/c/c.go"}
	rounds := 8
	if testing.Short() {
		rounds = 2
	}
	for i := range rounds {
		var did []string
		for range 1 + r.IntN(3) {
			name := names[r.IntN(len(names))]
			if slices.Contains(removable, name) && r.IntN(3) == 0 {
				p.remove(name)
			} else {
				p.write(name, texts(name))
			}
			did = append(did, name)
		}
		got, _ := p.build(p.o) // at once: a write may hide in the time of the one before
		oracle := p.o
		oracle.Again = true
		if want, _ := p.build(oracle); got != want {
			t.Fatalf("round %d, after %s:\n%swant\n%s", i, strings.Join(did, ", "), got, want)
		}
	}
}

func TestHeaderOf(t *testing.T) {
	head := func(text string) [32]byte { return headerOf("a.go", []byte(text)) }
	base := head("package a\n\nimport \"fmt\"\n\nvar x = 1\n")
	for text, same := range map[string]bool{
		"package a\n\nimport \"fmt\"\n\nvar x = 2\n// more\n":                      true,
		"package a\n\nimport \"fmt\"\nimport \"os\"\n\nvar x = 1\n":                false,
		"//go:build x\n\npackage a\n\nimport \"fmt\"\n\nvar x = 1\n":               false,
		"package b\n\nimport \"fmt\"\n\nvar x = 1\n":                               false,
		"package a\n\nimport \"fmt\"\n\n//go:embed x\nvar x = 1\n":                 false,
		"package a\n\nimport \"fmt\"\n\nvar x = 1\n\nfunc f() { import \"os\" }\n": true,
	} {
		if got := head(text) == base; got != same {
			t.Errorf("%q: the same head: %t, want %t", text, got, same)
		}
	}
	if head("package") != [32]byte{} || headerOf("a.s", []byte("x")) != [32]byte{} {
		t.Error("what cannot be read has a head")
	}
}

func FuzzDecodeMemory(f *testing.F) {
	m := &memory{
		flags: []string{"-trimpath"}, env: []string{"CGO_ENABLED=0"},
		inputs:   []input{{path: "/a/b", kind: source, state: state{settled: true, digest: [32]byte{1}, header: [32]byte{2}, stamp: stamp{size: 3}}}, {path: "/a/c"}},
		packages: []pkg{{path: "a", files: []uint64{0, 1}}, {path: "b", imports: []uint64{0}}},
		mains:    []mainPackage{{path: "b", dir: "/b", index: 1}},
	}
	f.Add(m.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMemory(b)
		if err != nil {
			return
		}
		again, err := decodeMemory(m.encode())
		if err != nil || fmt.Sprint(again) != fmt.Sprint(m) {
			t.Errorf("%v: %+v, want %+v", err, again, m)
		}
		m.programKeys(nil)
	})
}

// BenchmarkProgramKeys names twenty programs that share all but one of 150 packages.
func BenchmarkProgramKeys(b *testing.B) {
	m := &memory{}
	for i := range 170 {
		p := pkg{path: fmt.Sprintf("package%03d", i)}
		for range 10 {
			p.files = append(p.files, uint64(len(m.inputs)))
			name := fmt.Sprintf("/usr/local/go/src/package%03d/file%d.go", i, len(p.files))
			s := state{stamp: stamp{size: 1000, mtime: 1 << 60, ctime: 1 << 60, ino: 1 << 20, mode: 0o644}}
			m.inputs = append(m.inputs, input{path: name, state: s})
		}
		if i >= 150 {
			for j := range 150 {
				p.imports = append(p.imports, uint64(j))
			}
			m.mains = append(m.mains, mainPackage{path: p.path, index: uint64(i)})
		}
		m.packages = append(m.packages, p)
	}
	b.ReportAllocs()
	for b.Loop() {
		m.programKeys(nil)
	}
}
