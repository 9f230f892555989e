package skiff_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/skiff-build/skiff/internal/skifftest"
)

// shipped is what all Dockerfiles of [TestRewritesNeverChangeWhatShips] build.
const shipped = `package main

import "os"

var name = "nobody"

func main() { os.Stdout.WriteString("hello " + name + "\n") }
`

// corpus are the shapes of Dockerfiles that public repositories have: the steps after FROM, WORKDIR /src and COPY . . ,
// or all of it where FROM stands in it. "{go}" is the golang image.
var corpus = []struct{ name, text string }{
	{"seed", "RUN go mod tidy\nRUN go build -a -ldflags '-s -w' -o main .\nFROM scratch\nCOPY --from=builder /src/main /main"},
	{"modules first", "FROM {go} AS builder\nENV CGO_ENABLED=0\nWORKDIR /src\nCOPY go.mod go.su[m] ./\nRUN go mod download\nCOPY . .\nRUN go build -o /app .\nFROM scratch\nCOPY --from=builder /app /app"},
	{"version", "ARG VERSION=1.2.3\nRUN go build -ldflags \"-s -w -X main.name=$VERSION\" -o app .\nFROM scratch\nCOPY --from=builder /src/app /"},
	{"version computed", "RUN go build -ldflags \"-X main.name=$(cat VERSION)\" -o app .\nFROM scratch\nCOPY --from=builder /src/app /"},
	{"install", "RUN go install .\nFROM scratch\nCOPY --from=builder /go/bin/shipped /"},
	{"vendor", "RUN go mod vendor\nRUN go build -mod=mod -o app .\nFROM scratch\nCOPY --from=builder /src/app /"},
	{"several", "RUN mkdir /out && go build -o /out/ ./...\nFROM scratch\nCOPY --from=builder /out /bin"},
	{"heredoc", "RUN <<EOF\nset -eux\ngo vet .\ngo build -o app .\nEOF\nFROM scratch\nCOPY --from=builder /src/app /"},
	{"user", "RUN echo app:x:10001:10001::/:/bin/false >> /etc/passwd\nRUN go build -o app .\nFROM scratch\nCOPY --from=builder /etc/passwd /etc/\nCOPY --from=builder /src/app /\nUSER app"},
	{"generate", "RUN go generate ./...\nRUN go build -o app .\nFROM scratch\nCOPY --from=builder /src/app /src/generated /"},
	{"run", "RUN go run . > greeting\nRUN go build -o app .\nFROM scratch\nCOPY --from=builder /src/app /src/greeting /"},
	{"tests between", "FROM builder AS test\nRUN go vet ./... && go list ./... > /list\nFROM builder AS build\nRUN go build -o app .\nFROM scratch\nCOPY --from=build /src/app /\nCOPY --from=test /list /"},
	{"bind", "FROM {go} AS builder\nENV CGO_ENABLED=0\nWORKDIR /src\nRUN --mount=type=bind,target=. go build -o /app .\nFROM scratch\nCOPY --from=builder /app /"},
	{"cache mounts", "RUN --mount=type=cache,target=/root/.cache/go-build --mount=type=cache,target=/go/pkg/mod go build -o app .\nFROM scratch\nCOPY --from=builder /src/app /"},
	{"exec form", "RUN [\"go\", \"build\", \"-o\", \"app\", \".\"]\nFROM scratch\nCOPY --from=builder /src/app /"},
	{"link", "RUN go build -o app .\nFROM scratch\nCOPY --link --from=builder /src/app /"},
	{"what go says", "RUN go env GOCACHE GOMODCACHE GOFLAGS GOPROXY > env && go list -m all > modules && go build -o app .\nFROM scratch\nCOPY --from=builder /src/app /src/env /src/modules /"},
	{"looks around", "RUN go build -o app . && ls /go/pkg /root > listing || true\nFROM scratch\nCOPY --from=builder /src/app /src/listin[g] /"},
	{"ships with go", "RUN go build -o app ."},
	{"GOPATH", "FROM {go} AS builder\nENV CGO_ENABLED=0\nWORKDIR /go/src/app\nCOPY . .\nRUN go get -d ./... || true\nRUN go build -v -o app .\nFROM scratch\nCOPY --from=builder /go/src/app/app /"},
}

// evil spoils what lies in Go's caches, wherever it is run, and goes on with the program that it was started for. The go command
// keeps to itself what some of its tools print, so evil says that it ran where the step's first process does.
const evil = `package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

func main() {
	os.Stderr.WriteString("evil ran\n")
	if f, err := os.OpenFile("/proc/1/fd/2", os.O_WRONLY, 0); err == nil {
		f.WriteString("evil ran\n")
		f.Close()
	}
	for _, dir := range []string{"/root/.cache/go-build", "/go/pkg/mod"} {
		filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil
			}
			data, _ := os.ReadFile(p)
			for i := len(data) / 2; i < len(data); i++ {
				data[i] ^= 0x55
			}
			return os.WriteFile(p, data, 0o644)
		})
		os.WriteFile(dir+"/planted", nil, 0o644)
	}
	if len(os.Args) > 1 && filepath.IsAbs(os.Args[1]) {
		syscall.Exec(os.Args[1], os.Args[1:], os.Environ())
	}
}
`

// hostile are ways to have evil run in a step that looks like the go command's, or to write into a cache without it.
var hostile = []struct {
	name, text string
	runs       bool // evil does: else there is nothing to see but that nothing was planted
	links      bool // the context has links into a cache
}{
	{"by name", "RUN ./evil", true, false},
	{"go run", "RUN go run ./cmd/evil", true, false},
	{"toolexec", "RUN go build -toolexec=/src/evil -o app .", true, false},
	{"quoted GOFLAGS", "ENV GOFLAGS=\"'-toolexec=/src/evil'\"\nRUN go build -o app .", true, false},
	{"export", "RUN export GOFLAGS=-toolexec=/src/evil && go build -o app .", true, false},
	{"default value", "RUN : ${GOFLAGS:=-toolexec=/src/evil} && export GOFLAGS && go build -o app .", true, false},
	{"go env", "RUN go env -w GOFLAGS=-toolexec=/src/evil\nRUN go build -o app .", true, false},
	{"HOME", "ENV HOME=/src/home\nRUN go build -o app .", true, false},
	{"shell", "SHELL [\"/src/bin/sh\", \"-c\"]\nRUN go build -o app .", true, false},
	{"PATH", "ENV PATH=/src/bin:$PATH\nRUN go build -o app .", true, false},
	{"function", "RUN go() { /src/evil; }; go build -o app .", true, false},
	{"vettool", "RUN go vet -vettool=/src/evil .", true, false},
	{"generate", "RUN go generate ./cmd/generate && go build -o app .", true, false},
	{"GOCACHEPROG", "ENV GOCACHEPROG=/src/evil\nRUN go build -o app .", true, false},
	{"CC", "ENV CGO_ENABLED=1 CC=/src/evil\nRUN go build -o app ./cmd/c", true, false},
	{"compiler", "COPY evil /usr/local/go/pkg/tool/linux_" + runtime.GOARCH + "/compile\nRUN go build -o app .", true, false},
	{"own mount", "RUN --mount=type=cache,id=skiff-go:build,target=/root/.cache/go-build ./evil", true, false},
	{"link", "RUN go build -o out/planted .", false, true},
	{"link to a file", "RUN cd linked && go build", false, true},
	{"compiler's -o", "RUN go build -gcflags=-o=/root/.cache/go-build/planted .", false, false},
	{"linker's -o", "RUN go build -ldflags=-o=/root/.cache/go-build/planted .", false, false},
}

// TestRewritesNeverChangeWhatShips builds a corpus without any rewrite; then, beside projects that try to plant something
// in the caches that all share, with all of them; the images are the same to the bit.
func TestRewritesNeverChangeWhatShips(t *testing.T) {
	if os.Getenv("SKIFF_CORPUS") == "" {
		t.Skip("SKIFF_CORPUS is not set: these are eighty builds, which take minutes")
	}
	c := newCLI(t)
	tag := "golang:" + strings.TrimPrefix(skifftest.GoVersion(t), "go") + "-corpus"
	r := skifftest.NewRegistry(t, nil)
	c.mirror(r.Host)
	r.Push(t, "library/"+tag, warmImage(t))

	built := regexp.MustCompile(`writing image (sha256:[0-9a-f]{64})`)
	build := func(dir string, flags ...string) (id, out string) {
		t.Helper()
		out = c.run(append(append([]string{"build", "--go-base=image"}, flags...), dir)...)
		m := built.FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("no image:\n%s", out)
		}
		return m[1], out
	}
	var dirs, plain []string
	for _, k := range corpus {
		dirs = append(dirs, project(t, tag, k.text))
		id, out := build(dirs[len(dirs)-1], "--faithful")
		if strings.Contains(out, "gocache: ") || strings.Contains(out, "force: ") {
			t.Errorf("%s: --faithful, yet rewritten:\n%s", k.name, out)
		}
		plain = append(plain, id)
	}
	others := caches(t)
	build(project(t, tag, corpus[0].text)) // fills what is shared
	shared := slices.DeleteFunc(caches(t), func(dir string) bool { return slices.Contains(others, dir) })
	for _, k := range hostile {
		dir := project(t, tag, k.text+"\nFROM scratch\nCOPY --from=builder /src/go.mod /")
		if k.links {
			linkIntoCache(t, dir)
		}
		out, _ := c.try("build", "--go-base=image", dir)
		if strings.Contains(out, "evil ran") != k.runs {
			t.Errorf("%s: evil ran: %v\n%s", k.name, !k.runs, out)
		}
	}
	checkCaches(t, shared)
	rewritten := 0
	for i, k := range corpus {
		id, out := build(dirs[i])
		if id != plain[i] {
			t.Errorf("%s: %s with rewrites, %s without:\n%s", k.name, id, plain[i], out)
		}
		if strings.Contains(out, "gocache: ") {
			rewritten++
		}
	}
	if rewritten < len(corpus)-4 { // one ships its stage, one has mounts of its own, two look where the caches are
		t.Errorf("only %d of %d Dockerfiles were rewritten", rewritten, len(corpus))
	}
}

// caches are the directories of all cache mounts in the state.
func caches(t *testing.T) []string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(stateRoot, "cache", "*", "data"))
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

// checkCaches: evil's file is nowhere in these directories, and what the go command has compiled is called by its digest.
func checkCaches(t *testing.T, dirs []string) {
	t.Helper()
	outputs := 0
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.Name() == "planted" {
				t.Errorf("%s: planted", p)
			}
			digest, ok := strings.CutSuffix(d.Name(), "-d")
			if !ok || d.IsDir() {
				return nil
			}
			outputs++
			data, err := os.ReadFile(p)
			if got := fmt.Sprintf("%x", sha256.Sum256(data)); err == nil && got != digest {
				t.Errorf("%s: its digest is %s", p, got)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	if outputs == 0 {
		t.Error("nothing compiled is in the shared caches: nothing was tried")
	}
}

// project is a context with a Dockerfile, and all that hostile ones need.
func project(t *testing.T, tag, text string) string {
	t.Helper()
	if !strings.HasPrefix(text, "FROM {go}") {
		text = "FROM {go} AS builder\nENV CGO_ENABLED=0\nWORKDIR /src\nCOPY . .\n" + text
	}
	dir := skifftest.Files(t, "Dockerfile", strings.ReplaceAll(text, "{go}", tag)+"\n", "VERSION", "1.2",
		"go.mod", "module example.com/shipped\n\ngo 1.21\n", "main.go", shipped,
		"gen.go", "package main\n\n//go:generate cp VERSION generated\n", "cmd/generate/gen.go", "package main\n\n//go:generate /src/evil\n\nfunc main() {}\n",
		"cmd/c/main.go", "package main\n\nimport \"C\"\n\nfunc main() {}\n", "cmd/evil/main.go", evil, "home/.config/go/env", "GOFLAGS=-toolexec=/src/evil\n", "linked/go.mod", "module example.com/planted\n", "linked/main.go", shipped, "bin/", "")
	program := evilProgram(t, filepath.Join(dir, "cmd/evil"))
	for _, name := range []string{"evil", "bin/go", "bin/sh"} {
		if err := os.WriteFile(filepath.Join(dir, name), program, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// linkIntoCache has the go command write into a cache where it is told to write elsewhere.
func linkIntoCache(t *testing.T, dir string) {
	t.Helper()
	for name, target := range map[string]string{"out": "/root/.cache/go-build", "linked/planted": "/root/.cache/go-build/planted"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

var evilBytes []byte // compiled once

func evilProgram(t *testing.T, dir string) []byte {
	t.Helper()
	if evilBytes == nil {
		evilBytes = goBuild(t, dir, os.Environ())
	}
	return evilBytes
}

// goBuild builds the package in dir with this machine's Go and returns the program.
func goBuild(t *testing.T, dir string, env []string) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "program")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", file, ".")
	cmd.Dir, cmd.Env = dir, append(env, "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOTOOLCHAIN=local", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// warmImage is the golang image with the standard library compiled, so that a build without rewrites takes a second.
func warmImage(t *testing.T) v1.Image {
	t.Helper()
	cache := t.TempDir()
	src := skifftest.Files(t, "go.mod", "module example.com/warm\n\ngo 1.21\n", "main.go", strings.Replace(evil, `"evil ran`, `"`, 1))
	goBuild(t, src, append(os.Environ(), "GOCACHE="+cache))
	entries := []skifftest.Entry{{Name: "root/.cache/"}, {Name: "root/.cache/go-build/"}}
	err := filepath.WalkDir(cache, func(p string, d os.DirEntry, err error) error {
		if err != nil || p == cache {
			return err
		}
		e := skifftest.Entry{Name: "root/.cache/go-build/" + filepath.ToSlash(strings.TrimPrefix(p, cache+string(filepath.Separator)))}
		if d.IsDir() {
			e.Name += "/"
		} else {
			e.File, e.Mode = p, 0o644
		}
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(skifftest.GolangImage(t), skifftest.Layer(t, entries...))
	if err != nil {
		t.Fatal(err)
	}
	return img
}
