package gobin

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// source is a program whose calls and constants the tests know.
const source = `package main

import (
	"fmt"
	"os"
	"strings"
)

var stored = kept

func main() {
	wrapper("constant one")
	wrapper("constant two")
	os.Setenv(strings.Repeat("x", len(os.Args)), "v")
	os.Unsetenv(choose())
	if len(os.Args) > 1 {
		run(kept)
	}
	stored("")
}

//go:noinline
func wrapper(name string) {
	fmt.Println("called", len(os.Args)) // keeps its arguments on the stack
	os.Setenv(name, "")
}

//go:noinline
func choose() string {
	if len(os.Args) > 2 {
		return "a"
	}
	return "b"
}

//go:noinline
func run(f func(string)) { f("taken") }

//go:noinline
func kept(s string) { println(s) }
`

// compile builds the program for a machine and returns the file's bytes.
func compile(t testing.TB, env []string, flags ...string) []byte {
	t.Helper()
	return compileText(t, source, env, flags...)
}

func compileText(t testing.TB, text string, env []string, flags ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.com/probe\n\ngo 1.21\n", "main.go": text} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"build", "-o", "out"}, flags...)...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=", "GOWORK=off"), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	b, err := os.ReadFile(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func open(t testing.TB, b []byte) *File {
	t.Helper()
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func lookup(t testing.TB, f *File, name string) Func {
	t.Helper()
	fn, ok := f.Lookup(name)
	if !ok {
		t.Fatalf("no function %s", name)
	}
	return fn
}

// callers are the names of who refers to a function, with the kind.
func callers(f *File, fn Func, kind RefKind) map[string]int {
	all := map[string]int{}
	for _, r := range f.Refs(fn) {
		if r.Kind == kind {
			all[f.Name(r.From)]++
		}
	}
	return all
}

func TestCallGraph(t *testing.T) {
	for _, tt := range []struct {
		name  string
		env   []string
		flags []string
		pie   bool
	}{
		{"amd64", []string{"GOARCH=amd64"}, []string{"-ldflags=-s -w"}, false},
		{"amd64 pie", []string{"GOARCH=amd64"}, []string{"-ldflags=-s -w", "-buildmode=pie"}, true},
		{"arm64", []string{"GOARCH=arm64"}, []string{"-ldflags=-s -w"}, false},
		{"arm64 pie", []string{"GOARCH=arm64"}, []string{"-ldflags=-s -w", "-buildmode=pie"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := open(t, compile(t, tt.env, tt.flags...))
			if !f.CallGraph || f.PIE != tt.pie || !f.Stripped || f.DebugBytes != 0 || f.CGO() {
				t.Fatalf("call graph %v (%s), PIE %v, stripped %v, debug %d, cgo %v", f.CallGraph, f.NoCallGraph, f.PIE, f.Stripped, f.DebugBytes, f.CGO())
			}
			if f.Info == nil || f.Info.Path != "example.com/probe" {
				t.Errorf("build info: %+v", f.Info)
			}
			if got := callers(f, lookup(t, f, "main.wrapper"), Call); got["main.main"] != 2 || len(got) != 1 {
				t.Errorf("wrapper is called by %v", got)
			}
			kept := lookup(t, f, "main.kept")
			if got := callers(f, kept, Taken); got["main.main"] != 1 {
				t.Errorf("kept is taken by %v", got)
			}
			if !f.Stored(kept) || f.Stored(lookup(t, f, "main.wrapper")) {
				t.Errorf("stored: kept %v, wrapper %v", f.Stored(kept), f.Stored(lookup(t, f, "main.wrapper")))
			}
			got := f.Args(lookup(t, f, "main.wrapper"), 0, nil)
			if !got.Complete || len(got.Values) != 2 || got.Values[0] != "constant one" || got.Values[1] != "constant two" {
				t.Errorf("wrapper's argument: %+v", got)
			}
			// Through the wrapper, and once with a value made at run time.
			got = f.Args(lookup(t, f, "os.Setenv"), 0, func(fn Func) bool { return Package(f.Name(fn)) == "main" })
			if got.Complete || len(got.Values) != 2 {
				t.Errorf("os.Setenv's first argument: %+v", got)
			}
		})
	}
}

// TestNamesOnly: where calls are not read, names are, in either byte order and both word sizes.
func TestNamesOnly(t *testing.T) {
	const text = "package main\n\nfunc main() { there() }\n\n//go:noinline\nfunc there() { println() }\n"
	for _, arch := range []string{"386", "arm", "riscv64", "ppc64le", "s390x"} {
		t.Run(arch, func(t *testing.T) {
			t.Parallel()
			f := open(t, compileText(t, text, []string{"GOARCH=" + arch}))
			lookup(t, f, "main.there")
			if f.Arch != arch || f.CallGraph || f.NoCallGraph == "" {
				t.Errorf("arch %s, call graph %v, %q", f.Arch, f.CallGraph, f.NoCallGraph)
			}
			if f.Stripped || f.DebugBytes < 10000 || f.Info == nil || f.GoVersion == "" {
				t.Errorf("stripped %v, debug %d, info %v", f.Stripped, f.DebugBytes, f.Info)
			}
			if refs := f.Refs(lookup(t, f, "main.there")); refs != nil {
				t.Errorf("references out of nothing: %v", refs)
			}
		})
	}
}

// TestNoSectionHeaders: some tools take them away; the tables are then found in what is mapped.
func TestNoSectionHeaders(t *testing.T) {
	b := slices.Clone(bases(t)[0])
	clear(b[40:48])
	clear(b[58:64])
	f := open(t, b)
	if got := callers(f, lookup(t, f, "main.wrapper"), Call); got["main.main"] != 2 {
		t.Errorf("wrapper is called by %v", got)
	}
	if f.Info == nil || f.Info.Path != "example.com/probe" {
		t.Errorf("build info: %+v", f.Info)
	}
}

func TestNotGo(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty": nil, "text": []byte("#!/bin/sh\n"), "short": []byte("\x7fELF"), "object": objectFile(),
	} {
		if _, err := Open(bytes.NewReader(b), int64(len(b))); err == nil {
			t.Errorf("%s: no error", name)
		} else if !errors.Is(err, ErrNotGo) && name != "short" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// objectFile is the header of what a compiler leaves for a linker.
func objectFile() []byte {
	b := make([]byte, 64)
	copy(b, "\x7fELF\x02\x01\x01")
	b[16], b[18] = 1, 62
	return b
}

func TestPackage(t *testing.T) {
	for name, want := range map[string]string{
		"main.main": "main", "net/http.(*conn).serve": "net/http", "gopkg.in/yaml%2ev3.Unmarshal": "gopkg.in/yaml.v3",
		"example.com/a/b.F[go.shape.struct { example.com/c.X int }]": "example.com/a/b", "slices.SortFunc[...]": "slices",
		"type:.eq.[2]string": "", "go:buildid": "", "crosscall2": "", "vendor/golang.org/x/net/idna.init": "vendor/golang.org/x/net/idna",
	} {
		if got := Package(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
