package skiff_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/skiff-build/skiff/internal/skifftest"
)

// TestConfinedSteps: steps in the built-in base that look like the go command's, and would run a program of the context, read
// its settings, or write where they should not: what all projects share has nothing of theirs afterwards, and an honest
// project ships what it ships with no other project on the machine. Each is a kind of attack on which an earlier release fell.
func TestConfinedSteps(t *testing.T) {
	version := strings.TrimPrefix(skifftest.GoVersion(t), "go")
	c := newCLI(t)
	from := "FROM golang:" + version + "-alpine AS b\nENV CGO_ENABLED=0\nWORKDIR /src\nCOPY . .\n"
	const end = "\nFROM scratch\nCOPY --from=b /src/go.mod /\n"
	const program = "package main\n\nimport \"unicode/utf8\"\n\nfunc main() { println(utf8.RuneLen('x'), VARIANT) }\n"
	build := func(t *testing.T, text string, files ...string) (out string) {
		t.Helper()
		dir := skifftest.Files(t, append([]string{"Dockerfile", text, "go.mod", "module example.com/m\n\ngo 1.21\n",
			"main.go", strings.Replace(program, "VARIANT", "1", 1)}, files...)...)
		for i := 0; i+1 < len(files); i += 2 {
			if strings.HasPrefix(files[i+1], "#!") {
				if err := os.Chmod(filepath.Join(dir, files[i]), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if target, ok := strings.CutPrefix(files[i+1], "→"); ok {
				if err := errors.Join(os.Remove(filepath.Join(dir, files[i])), os.Symlink(target, filepath.Join(dir, files[i]))); err != nil {
					t.Fatal(err)
				}
			}
		}
		out, _ = c.try("build", "--progress=plain", dir)
		return out
	}
	build(t, from+"RUN go build -o /app ."+end)
	shared := entries(t)
	if len(shared) == 0 {
		t.Fatal("nothing is in the shared caches")
	}
	const evil = "#!/bin/sh\nfor d in /root/.cache/go-build /go/pkg/mod /dev/skiff-go-*; do echo x > $d/PWNED; done\necho evil ran >&2\nexec \"$@\"\n"
	const settings = "GOFLAGS=-toolexec=/src/evil.sh\n"
	for _, k := range []struct {
		name, text string
		files      []string
		confined   bool // the step runs confined, and so evil does not
	}{
		{"HOME in /proc", "ENV HOME=/proc/self/cwd GOCACHE=/root/.cache/go-build\nRUN go build -o /app .", []string{".config/go/env", settings}, false},
		{"HOME behind a link", "ENV HOME=/src/h\nRUN go build -o /app .", []string{"h", "→/src", ".config/go/env", settings}, false},
		{"PATH in /proc", "ENV PATH=/proc/self/cwd:$PATH\nRUN go build -o /app .", []string{"go", evil}, false},
		{"settings copied", "COPY env /root/.config/go/env\nRUN go build -o /app .", []string{"env", settings}, false},
		{"a mount behind a link", "RUN --mount=type=bind,source=cfg,target=/src/lnk go build -o /app .", []string{"cfg/env", settings, "lnk", "→/root/.config/go"}, false},
		{"GOBIN in the toolchain", "ENV GOBIN=/usr/local/go/pkg/tool/linux_amd64\nRUN go install ./compile .", []string{"compile/main.go", strings.Replace(program, "VARIANT", "2", 1)}, false},
		{"GOBIN behind a link", "ENV GOBIN=/src/bin\nRUN go install ./compile .", []string{"compile/main.go", strings.Replace(program, "VARIANT", "2", 1), "bin", "→/usr/local/go/pkg/tool/linux_amd64"}, true},
		{"GOBIN in the module cache", "ENV GOBIN=/go/pkg/mod\nRUN go install ./PWNED", []string{"PWNED/main.go", strings.Replace(program, "VARIANT", "2", 1)}, true},
		{"GOFLAGS=-o", "ENV GOFLAGS=-o=/root/.cache/go-build/PWNED\nRUN go build .", nil, true},
		{"-o in a cache", "RUN go build -o /root/.cache/go-build/PWNED .", nil, false},
		{"a link into a cache", "RUN go build -o out/PWNED .", []string{"out", "→/root/.cache/go-build"}, true},
		{"a link through /proc", "RUN go build -o out/PWNED .", []string{"out", "→/proc/self/root/root/.cache/go-build"}, true},
		{"vendor is a link", "RUN go mod vendor", []string{"vendor", "→/root/.cache/go-build"}, true},
		{"go.sum is a link", "RUN go mod tidy", []string{"go.sum", "→/go/pkg/mod/PWNED"}, true},
		{"a git in PATH", "COPY evil.sh /usr/bin/git\nRUN go build -buildvcs=true -o /app .", []string{"evil.sh", evil, ".git/HEAD", "ref: refs/heads/x\n"}, false},
		{"a compiler in PATH", "COPY evil.sh /usr/bin/gcc\nENV CGO_ENABLED=1\nRUN go build -o /app .", []string{"evil.sh", evil}, false},
		{"a patched compiler", "COPY evil.sh /usr/local/go/pkg/tool/linux_amd64/compile\nRUN go build -a -o /app .", []string{"evil.sh", evil}, false},
		{"a patched library", "COPY utf8.go /usr/local/go/src/unicode/utf8/x.go\nRUN go build -a -o /app .", []string{"utf8.go", "package utf8\n\nfunc init() { println(\"PWNED\") }\n"}, false},
		{"what the linker is told", "RUN go build -ldflags=\"-X main.v=$(cat flags)\" -o /app .", []string{"flags", "1 -linkmode=external -extld=/src/evil.sh", "evil.sh", evil}, true},
		{"the shell as the linker", "RUN go build -ldflags=\"-X main.v=$(cat flags)\" -o /app .", []string{"flags", "1 -linkmode=external -extld=/bin/sh -extldflags=/src/evil.sh", "evil.sh", evil}, true},
		{"skiff as the linker", "RUN go build -ldflags=\"-X main.v=$(cat flags)\" -o /app .", []string{"flags", "1 -linkmode=external -extld=/usr/libexec/skiff", "evil.sh", evil}, true},
		{"a toolchain of the module", "RUN go build -o /app .", []string{"go.mod", "module example.com/m\n\ngo 1.21\n\ntoolchain go9.99.9\n"}, true},
	} {
		t.Run(k.name, func(t *testing.T) {
			out := build(t, from+k.text+end, append([]string{"evil.sh", evil}, k.files...)...)
			if k.confined != strings.Contains(out, "what it compiles is shared)") && !strings.Contains(out, "stays this Dockerfile's own") {
				t.Errorf("the step is confined: %v, want %v\n%s", !k.confined, k.confined, out)
			}
			if k.confined && strings.Contains(out, "evil ran") {
				t.Errorf("a program of the context ran in a step that is confined:\n%s", out)
			}
			for name, content := range entries(t) {
				if filepath.Base(name) == "PWNED" && slices.Contains(sharedDirs(t, shared), filepath.Dir(name)) {
					t.Errorf("%s is in a cache that all share", name)
				}
				if before, ok := shared[name]; ok && !bytes.Equal(before, content) {
					t.Errorf("%s was changed", name)
				}
			}
		})
	}
	// The honest one, with what all those have left and with nothing.
	honest := skifftest.Files(t, "Dockerfile", from+"RUN go build -a -o /app .\nFROM scratch\nCOPY --from=b /app /app\n",
		"go.mod", "module example.com/honest\n\ngo 1.21\n", "main.go", strings.Replace(program, "VARIANT", "3", 1))
	ship := func(flags ...string) []byte {
		dest := t.TempDir()
		c.run(append([]string{"build", "--no-cache", "-o", "type=local,dest=" + dest}, append(flags, honest)...)...)
		data, err := os.ReadFile(filepath.Join(dest, "app"))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	if got := ship(); !bytes.Equal(got, ship("--faithful")) {
		t.Error("an honest project ships another program")
	}
}

// entries are the files in the caches of the state, but for Go's own sources.
func entries(t *testing.T) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	for _, dir := range caches(t) {
		err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			found[p], err = os.ReadFile(p)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// sharedDirs are the directories of caches in which entries lie.
func sharedDirs(t *testing.T, entries map[string][]byte) (dirs []string) {
	t.Helper()
	for name := range entries {
		if dir := filepath.Dir(filepath.Dir(name)); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// TestOwnCachesAreTheProjects: what a step that is not confined left in its own caches is not there for another project at the same
// path.
func TestOwnCachesAreTheProjects(t *testing.T) {
	version := strings.TrimPrefix(skifftest.GoVersion(t), "go")
	c := newCLI(t)
	dir := filepath.Join(t.TempDir(), "workspace")
	lay := func(mark string) {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		src := skifftest.Files(t, "Dockerfile", "FROM golang:"+version+"-alpine AS b\nENV CGO_ENABLED=0\nWORKDIR /src\nCOPY . .\nARG AGAIN\n"+
			"RUN go build -x -trimpath -gcflags=all=-spectre=index -o lib.a . 2>&1 | tee log\nFROM scratch\nCOPY --from=b /src/lib.a /\n",
			"go.mod", "module example.com/same\n\ngo 1.21\n", "lib.go", "package lib\n\nimport \"unicode/utf8\"\n\nvar N = utf8.RuneLen('x')\n", "mark", mark)
		if err := os.CopyFS(dir, os.DirFS(src)); err != nil {
			t.Fatal(err)
		}
	}
	compiled := func(again string) bool {
		out := c.run("build", "--progress=plain", "--build-arg", "AGAIN="+again, "--no-cache-filter=b", dir)
		return strings.Contains(out, "/compile -o ")
	}
	lay("one")
	if !compiled("1") {
		t.Fatal("nothing was compiled with empty caches")
	}
	if compiled("2") {
		t.Error("a project does not find its own cache again")
	}
	lay("two")
	if !compiled("3") {
		t.Error("a project finds what another one at its path has left")
	}
}

// TestVerdictsEnd: a test that passed is run again by the next build, since what it rests on may lie anywhere; and a package whose
// files keep name, time and size is read again when their content is another.
func TestVerdictsEnd(t *testing.T) {
	version := strings.TrimPrefix(skifftest.GoVersion(t), "go")
	c := newCLI(t)
	dir := skifftest.Files(t,
		"Dockerfile", "FROM golang:"+version+"-alpine AS b\nENV CGO_ENABLED=0\nCOPY . /repo\nWORKDIR /repo/svc\nRUN go test . 2>&1\nRUN go list -f '{{.GoFiles}}' . 2>&1 | cat\nFROM scratch\nCOPY --from=b /repo/svc/go.mod /\n",
		"svc/go.mod", "module example.com/svc\n\ngo 1.21\n", "svc/svc.go", "package svc\n", "svc/tagged.go", "//go:build linux\n\npackage svc\n",
		"svc/svc_test.go", "package svc\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\nfunc TestSchema(t *testing.T) {\n\tif d, _ := os.ReadFile(\"../schema\"); string(d) != \"good\" {\n\t\tt.Fatal(\"schema is broken\")\n\t}\n}\n",
		"schema", "good")
	old := func(names ...string) {
		for _, name := range names {
			if out, err := exec.Command("touch", "-d", "2 hours ago", filepath.Join(dir, name)).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
	}
	old("schema", "svc/go.mod", "svc/svc.go", "svc/svc_test.go")
	stamp := func() {
		if out, err := exec.Command("touch", "-d", "2001-02-03 04:05:06", filepath.Join(dir, "svc/tagged.go")).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	stamp()
	for range 2 {
		if out := c.run("build", "--progress=plain", "--no-cache", dir); !strings.Contains(out, "[svc.go tagged.go]") {
			t.Fatalf("want both files:\n%s", out)
		}
	}
	// As long as linux was.
	if err := os.WriteFile(filepath.Join(dir, "svc/tagged.go"), []byte("//go:build plan9\n\npackage svc\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	stamp()
	if out := c.run("build", "--progress=plain", "--no-cache", dir); !strings.Contains(out, "[svc.go]") {
		t.Errorf("a file of the same size and time is taken for the old one:\n%s", out)
	}
	if err := os.WriteFile(filepath.Join(dir, "schema"), []byte("evil"), 0o644); err != nil {
		t.Fatal(err)
	}
	old("schema")
	if out, code := c.try("build", "--progress=plain", dir); code == 0 || !strings.Contains(out, "schema is broken") {
		t.Errorf("a test that fails on the files of this build passes:\n%s", out)
	}
}

// TestConfinedStepsShipTheSame: what a step that is confined prints to files, about itself and its surroundings, is what it prints
// without any rewrite; and where it could not be, the step is not confined.
func TestConfinedStepsShipTheSame(t *testing.T) {
	version := strings.TrimPrefix(skifftest.GoVersion(t), "go")
	c := newCLI(t)
	for _, k := range []struct {
		steps    string
		confined bool
	}{
		{"RUN go env GOOS GOFLAGS GOROOT GOTOOLCHAIN > env && echo \"$PATH $HOME\" >> env && ls /etc > ls && mkdir sub && go build -o lib.a .", true},
		{"RUN V=$(ls /etc; cat go.mod | head -n 1) && go list -f '{{.Dir}} {{.Imports}}' . > list && echo \"$V\" > v && if [ -d sub ]; then exit 1; fi && go vet . && cp go.mod copy", true},
		{"RUN echo one > /etc/one\nRUN rm -rf /usr/src\nRUN go mod tidy && go mod vendor && go list -deps . > list", true},
		{"RUN go env GOENV > env; go env GOPROXY >> env; go env | grep -v GOGCCFLAGS > all; echo \"$GOENV\" >> env", false},
		{"RUN go env -w GOFLAGS=-trimpath\nRUN go env GOFLAGS > env && go build -o lib.a .", false},
	} {
		dir := skifftest.Files(t, "Dockerfile", "FROM golang:"+version+"-alpine AS b\nENV CGO_ENABLED=0\nWORKDIR /src\nCOPY . .\n"+k.steps+"\nFROM scratch\nCOPY --from=b /src /src\n",
			"go.mod", "module example.com/same\n\ngo 1.21\n", "lib.go", "package lib\n\nimport \"unicode/utf8\"\n\nvar N = utf8.RuneLen('x')\n")
		id := func(flags ...string) (digest, out string) {
			out = c.run(append([]string{"build", "--progress=plain", "--no-cache"}, append(flags, dir)...)...)
			_, digest, _ = strings.Cut(out, "writing image ")
			digest, _, _ = strings.Cut(digest, " ")
			return digest, out
		}
		got, out := id()
		if want, plain := id("--faithful"); got != want || got == "" {
			t.Errorf("%s: image %s, without rewrites %s\n%s\n%s", k.steps, got, want, out, plain)
		}
		lines := strings.Split(out, "\n")
		last := ""
		for _, l := range lines {
			if strings.Contains(l, "gocache: ") {
				last = l
			}
		}
		if confined := strings.Contains(last, "what it compiles is shared)"); confined != k.confined {
			t.Errorf("%s: confined: %v, want %v\n%s", k.steps, confined, k.confined, out)
		}
	}
}
