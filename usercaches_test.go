package skiff_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skiff-build/skiff/internal/skifftest"
)

// TestUserCaches: a step of the go command alone takes compiled packages and modules from the user's caches, once; the
// caches stay as they are; what is there in the wrong form is not taken.
func TestUserCaches(t *testing.T) {
	skifftest.Long(t, "it compiles a program")
	version := strings.TrimPrefix(skifftest.GoVersion(t), "go")
	c := newCLI(t)
	cache := t.TempDir()
	env := append(os.Environ(), "GOCACHE="+cache)
	c.env = append(c.env, "GOCACHE="+cache)
	// A package that needs no runtime, and flags that nobody else builds with: the cache has just that.
	src := skifftest.Files(t, "go.mod", "module example.com/lib\n\ngo 1.21\n", "lib.go", "package lib\n\nimport \"unicode/utf8\"\n\nvar N = utf8.RuneLen('x')\n",
		"Dockerfile", fmt.Sprintf("FROM golang:%s-alpine AS builder\nENV CGO_ENABLED=0\nWORKDIR /src\nCOPY . .\n", version)+
			"RUN go build -x -trimpath -gcflags=all=-B -o lib.a .\nFROM scratch\nCOPY --from=builder /src/lib.a /\n")
	local := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-gcflags=all=-B", "-o", os.DevNull, ".")
	local.Dir, local.Env = src, append(env, "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOTOOLCHAIN=local", "GOWORK=off")
	if out, err := local.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	compiled := func(out string) bool { return strings.Contains(out, "/compile -o ") }
	listing := func() string {
		out, err := exec.CommandContext(t.Context(), "find", cache, "-printf", "%p %s %T@\n").Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	before := listing()

	off := c.run("build", "--faithful=usercache,gocache", "-o", "type=local,dest="+filepath.Join(t.TempDir(), "off"), src)
	if strings.Contains(off, "usercache: ") || !compiled(off) {
		t.Errorf("switched off:\n%s", off)
	}
	dest := filepath.Join(t.TempDir(), "on")
	on := c.run("build", "-o", "type=local,dest="+dest, src)
	if !strings.Contains(on, "its go is the released "+version) || compiled(on) {
		t.Errorf("the first build:\n%s", on)
	}
	if after := listing(); after != before {
		t.Errorf("the user's cache was changed:\n%s\nbefore:\n%s", after, before)
	}
	lib := filepath.Join(src, "lib.go")
	text, err := os.ReadFile(lib)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(lib, append(bytes.TrimSpace(text), " // changed\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	again := c.run("build", src)
	if strings.Contains(again, "usercache: ") || strings.Count(again, "/compile -o ") != 1 {
		t.Errorf("one line changed: the cache is asked again, or more was compiled than that:\n%s", again)
	}
}
