package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// project is a source tree that tools build.
type project struct {
	name string
	make func(dir string) error
}

// slackbot is the example of this repository, as it lies there.
var slackbot = &project{"slackbot", func(dir string) error { return copyModule("examples/slackbot", dir) }}

// tuned is the same with a Dockerfile as people write who know about caches.
var tuned = &project{"tuned", func(dir string) error {
	if err := copyModule("examples/slackbot", dir); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(`FROM golang:1.26-alpine AS builder
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -ldflags '-s -w' -o /slackbot .
FROM scratch
COPY --from=builder /slackbot /slackbot
CMD ["/slackbot"]
`), 0o644)
}}

// machines is the same with a Dockerfile that names the machine's Go and compiles as people do at their desks, so that what the user's
// cache holds can serve.
var machines = &project{"machines", func(dir string) error {
	if err := copyModule("examples/slackbot", dir); err != nil {
		return err
	}
	version, err := exec.Command("go", "env", "GOVERSION").Output()
	if err != nil {
		return fmt.Errorf("ask go for its version: %w", err)
	}
	tag := strings.TrimPrefix(strings.TrimSpace(string(version)), "go")
	return os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM golang:"+tag+`-alpine AS builder
WORKDIR /src
COPY . .
RUN go mod download
RUN CGO_ENABLED=0 go build -a -ldflags '-s -w' -o main .
FROM scratch
COPY --from=builder /src/main /slackbot
CMD ["/slackbot"]
`), 0o644)
}}

// plain is the same without a Dockerfile.
var plain = &project{"package", func(dir string) error {
	if err := copyModule("examples/slackbot", dir); err != nil {
		return err
	}
	return os.Remove(filepath.Join(dir, "Dockerfile"))
}}

// copyModule copies a folder of this repository, with what begins with a dot.
func copyModule(name, dir string) error {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/skiff-build/skiff").Output()
	if err != nil {
		return fmt.Errorf("find this module: %w", err)
	}
	return os.CopyFS(dir, os.DirFS(filepath.Join(strings.TrimSpace(string(root)), name)))
}

// editBot changes one line of the bot.
func editBot(dir string, i int) error {
	return edit(filepath.Join(dir, "bot.go"), `pong[0-9]*"`, fmt.Sprintf(`pong%d"`, i))
}

func edit(file, pattern, with string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	re := regexp.MustCompile(pattern)
	if !re.Match(old) {
		return fmt.Errorf("%s: nothing to change there", file)
	}
	return os.WriteFile(file, re.ReplaceAll(old, []byte(with)), 0o644)
}

// mains is a module with n main packages that share one.
func mains(n int) *project {
	return &project{fmt.Sprintf("mains-%d", n), func(dir string) error {
		files := map[string]string{"go.mod": "module bench.invalid/mains\n\ngo 1.24\n", "shared/shared.go": `// Package shared is what all programs of the module use.
package shared

import (
	"encoding/json"
	"fmt"
	"net/http"
)

const text = "shared 0"

// Serve answers with the name of the program.
func Serve(name string) error {
	return http.ListenAndServe("127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := json.Marshal(map[string]string{"name": name, "path": r.URL.Path, "text": text})
		fmt.Fprintln(w, string(b), err)
	}))
}
`}
		for i := range n {
			files[fmt.Sprintf("cmd/app%03d/main.go", i)] = fmt.Sprintf("package main\n\nimport (\n\t\"log\"\n\n\t\"bench.invalid/mains/shared\"\n)\n\nfunc main() { log.Fatal(shared.Serve(\"app%03d 0\")) }\n", i)
		}
		return writeFiles(dir, files)
	}}
}

func editMain(dir string, i int) error {
	return edit(filepath.Join(dir, "cmd/app000/main.go"), `app000 [0-9]*`, fmt.Sprintf("app000 %d", i))
}

func editShared(dir string, i int) error {
	return edit(filepath.Join(dir, "shared/shared.go"), `shared [0-9]+`, fmt.Sprintf("shared %d", i))
}

func writeFiles(dir string, files map[string]string) error {
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// tree is a context of n files of size bytes each, in folders of a hundred, with a Dockerfile. The text of the files compresses
// to about half, and no two are alike.
func tree(n, size int, dockerfile string) *project {
	return &project{fmt.Sprintf("tree-%d-%d-%d", n, size, len(dockerfile)), func(dir string) error {
		if err := writeFiles(dir, map[string]string{"Dockerfile": dockerfile}); err != nil {
			return err
		}
		random, text := rand.NewChaCha8([32]byte{1}), make([]byte, size)
		for i := range n {
			path := filepath.Join(dir, treeFile(i))
			if i%100 == 0 {
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					return err
				}
			}
			random.Read(text)
			for j := range text {
				text[j] = "abcdefghijklmnop"[text[j]%16]
			}
			if err := os.WriteFile(path, text, 0o644); err != nil {
				return err
			}
		}
		return nil
	}}
}

func treeFile(i int) string { return fmt.Sprintf("d%03d/e%d/file%06d.txt", i/1000, i/100%10, i) }

// editTree changes the first line of a file in the middle of a tree of n files.
func editTree(n int) func(dir string, i int) error {
	return func(dir string, i int) error {
		f, err := os.OpenFile(filepath.Join(dir, treeFile(n/2)), os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(f, "change %d\n", i)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		return err
	}
}
