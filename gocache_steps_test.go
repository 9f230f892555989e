package skiff_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skiff-build/skiff/internal/skifftest"
)

// TestCachesOfStepsThatCallGo: a step that comes to call go by make, a script or go run has Go's
// caches. When one line has changed, nothing but its package is compiled, in the built-in base and on an image.
func TestCachesOfStepsThatCallGo(t *testing.T) {
	skifftest.Long(t, "it compiles programs on two bases")
	version := strings.TrimPrefix(skifftest.GoVersion(t), "go")
	r := skifftest.NewRegistry(t, nil)
	c := newCLI(t)
	c.mirror(r.Host)
	r.Push(t, "library/golang:"+version+"-alpine", skifftest.GolangImage(t))
	r.Push(t, "library/golang:"+version+"-trixie", skifftest.GolangImage(t))
	// Flags that nobody else builds with, so that only what such a step left is found.
	const build = "go build -x -trimpath -gcflags=all=-spectre=index -o lib.a ."
	const tool = "package main\n\nimport \"syscall\"\n\nfunc main() {\n\targs := []string{\"sh\", \"-c\", \"cd /src && " + build + "\"}\n" +
		"\tpanic(syscall.Exec(\"/bin/sh\", args, syscall.Environ()))\n}\n"
	for _, k := range []struct {
		name, tag, run string
		image          bool // it is tried on an image, too
	}{
		{"make", "-trixie", "make", false},
		{"script", "-alpine", "./build.sh", true},
		{"go run", "-alpine", "go run ./tool", false},
	} {
		for _, base := range []string{"builtin", "image"} {
			if base == "image" && !k.image {
				continue
			}
			t.Run(k.name+" "+base, func(t *testing.T) {
				src := skifftest.Files(t, "go.mod", "module example.com/lib\n\ngo 1.21\n", "tool/main.go", tool, "Makefile", "all:\n\t"+build+"\n",
					"lib.go", "package lib\n\nimport \"unicode/utf8\"\n\nvar N = utf8.RuneLen('x')\n",
					"build.sh", "#!/bin/sh\nset -e\n"+build+"\n",
					"Dockerfile", "FROM golang:"+version+k.tag+" AS builder\nENV CGO_ENABLED=0 GOFLAGS=-buildvcs=false\nWORKDIR /src\nCOPY . .\nRUN "+
						k.run+"\nFROM scratch\nCOPY --from=builder /src/lib.a /\n")
				if err := os.Chmod(filepath.Join(src, "build.sh"), 0o755); err != nil {
					t.Fatal(err)
				}
				compiled := func() int {
					out := c.run("build", "--progress=plain", "--go-base="+base, src)
					if builtin := strings.Contains(out, "built-in Go "+version); builtin != (base == "builtin") {
						t.Errorf("built-in base: %v\n%s", builtin, out)
					}
					return strings.Count(out, "/compile -o ")
				}
				if compiled() < 2 {
					t.Fatal("nothing of the standard library was compiled with empty caches")
				}
				lib := filepath.Join(src, "lib.go")
				text, err := os.ReadFile(lib)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(lib, append(text, "\nvar M = N\n"...), 0o644); err != nil {
					t.Fatal(err)
				}
				if n := compiled(); n != 1 {
					t.Errorf("one line changed: %d packages were compiled, want 1", n)
				}
			})
		}
	}
}
