package gobin

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// TestMentions: what code does with a path does not matter, only whether it has one; both machines.
func TestMentions(t *testing.T) {
	const source = `package main

import (
	"fmt"
	"os"
	"os/user"
	"strings"
)

var inData = "/var/spool/" + "x"

//go:noinline
func below() string { return "/tmp/app.log" }

//go:noinline
func itself() *os.PathError { return &os.PathError{Op: "stat", Path: "/tmp"} }

//go:noinline
func longer() string { return "/tmpl/page.html" }

//go:noinline
func compares(s string) bool { return strings.HasPrefix(s, "/tmp/") }

//go:noinline
func dropped() string {
	name := "nobody"
	if u, err := user.Current(); err == nil {
		name = u.Name
	}
	return name
}

//go:noinline
func shown() error {
	_, err := user.Current()
	if err != nil {
		return fmt.Errorf("who: %w", err)
	}
	return nil
}

//go:noinline
func returned() (*user.User, error) { return user.Current() }

func main() {
	fmt.Println(inData, below(), itself(), longer(), compares(os.Args[0]), dropped(), shown())
	fmt.Println(returned())
}
`
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o644); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", "app", "main.go")
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch, "GOOS=linux", "GOFLAGS=", "GOWORK=off")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			r, err := os.Open(filepath.Join(dir, "app"))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			st, err := r.Stat()
			if err != nil {
				t.Fatal(err)
			}
			f, err := Open(r, st.Size())
			if err != nil {
				t.Fatal(err)
			}
			in, _ := f.Mentions("/tmp")
			for name, want := range map[string]bool{"main.below": true, "main.itself": true, "main.longer": false, "main.compares": false} {
				if name == "main.compares" && arch == "arm64" { // it loads what it compares with
					continue
				}
				if fn, ok := f.Lookup(name); !ok || slices.Contains(in, fn) != want {
					t.Errorf("%s mentions /tmp: %t, want %t", name, !want, want)
				}
			}
			if _, inData := f.Mentions("/var/spool"); !inData {
				t.Error("a variable with a path is not seen")
			}
			current, _ := f.Lookup("os/user.Current")
			for _, r := range f.Refs(current) {
				if got, want := f.Ignored(r, 2), f.Name(r.From) == "main.dropped"; got != want {
					t.Errorf("%s ignores the error: %t, want %t", f.Name(r.From), got, want)
				}
			}
		})
	}
}
