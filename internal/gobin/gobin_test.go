package gobin

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
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
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.com/probe\n\ngo 1.21\n", "main.go": source} {
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
