package busybox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDirect(t *testing.T) {
	for text, want := range map[string]string{
		"go mod download":                         `["go" "mod" "download"] []`,
		"go build -o /app ./cmd/app # the server": `["go" "build" "-o" "/app" "./cmd/app"] []`,
		"CGO_ENABLED=0 GOOS=linux go build -ldflags '-s -w' -o \"the app\" .": `["go" "build" "-ldflags" "-s -w" "-o" "the app" "."] ["CGO_ENABLED=0" "GOOS=linux"]`,
		"GOFLAGS= go build \\\n  -trimpath .":                                 `["go" "build" "-trimpath" "."] ["GOFLAGS="]`,
		"GOFLAGS='-mod=mod' go list ''":                                       `["go" "list" ""] ["GOFLAGS=-mod=mod"]`,
		"go build -gcflags=all=-l -tags a,b":                                  `["go" "build" "-gcflags=all=-l" "-tags" "a,b"] []`,
	} {
		command, env, ok := Direct([]string{"/bin/sh", "-c", text})
		if got := fmt.Sprintf("%q %q", command, env); !ok || got != want {
			t.Errorf("%s: got %s %v, want %s", text, got, ok, want)
		}
	}
	for _, text := range []string{
		"", "true", "echo a", "mkdir /a", "cd /a", "exit 1", "exec go version", "./build.sh", "/app -v", ". ./env", "export A=b", "local a",
		"go build && go test", "go build; go test", "go build | cat", "go build > log", "go build &", "! go build", "(go build)", "{ go build; }",
		"go build $FLAGS", "go build \"$FLAGS\"", "go build `x`", "go build $(x)", "go build *.go", "go build ~/x", "go build {a,b}", "go build a?", "go build [a]",
		`go build a\ b`, `go build "a\$b"`, "go build $'a'", "PATH=/x go build", "HOME=/x go build", "IFS=: go build", "GOOS=$X go build", "GOOS=linux",
		"./app", "app x", "go", "go run .", "go test ./...", "go generate", "go tool x", "go build -toolexec=./x .", "go vet -vettool ./x",
		"if go build; then x; fi", "go() { x; }", "go build <<E\nE", "'unclosed",
	} {
		if command, _, ok := Direct([]string{"/bin/sh", "-c", text}); ok {
			t.Errorf("%s: taken as %q", text, command)
		}
	}
	for _, args := range [][]string{{"/bin/sh", "-ec", "go version"}, {"/bin/bash", "-c", "go version"}, {"go", "version"}, {"/bin/sh", "-c", "go version", "sh"}} {
		if _, _, ok := Direct(args); ok {
			t.Errorf("%q is taken", args)
		}
	}
}

// FuzzDirect: a program that is started without the shell gets the arguments and variables that the shell would give it.
func FuzzDirect(f *testing.F) {
	dir := f.TempDir()
	program, err := filepath.Abs(filepath.Join(dir, "go"))
	if err == nil {
		err = os.WriteFile(program, []byte("#!/bin/sh\nprintf '%s|' \"$#\" \"$@\" \"$GOOS\" \"$CGO_CFLAGS\"\n"), 0o755)
	}
	if err != nil {
		f.Fatal(err)
	}
	for _, rest := range []string{"build", "build -ldflags '-s -w' \"a b\"", "a=b c:d +x %y @z", "'' \"\" a''b", "-o=/x # c", "a \\\n b", "é 'ü'"} {
		f.Add("", rest)
		f.Add("GOOS=linux CGO_CFLAGS='-O2 -g' ", rest)
	}
	f.Fuzz(func(t *testing.T, vars, rest string) {
		text := vars + "go " + rest
		command, env, ok := Direct([]string{"/bin/sh", "-c", text})
		if !ok || command[0] != "go" || strings.ContainsAny(text, "\x00\r") {
			return
		}
		said := map[string]string{}
		for _, e := range env {
			name, value, _ := strings.Cut(e, "=")
			said[name] = value
		}
		want := fmt.Sprint(len(command)-1) + "|"
		for _, word := range append(command[1:], said["GOOS"], said["CGO_CFLAGS"]) {
			want += word + "|"
		}
		var out, errOut strings.Builder
		c := &call{ctx: context.Background(), args: []string{"sh", "-c", text}, dir: dir, env: []string{"PATH=" + dir + ":/usr/bin:/bin"},
			stdin: strings.NewReader(""), stdout: &out, stderr: &errOut}
		if code := runCommand(c); code != 0 || out.String() != want {
			t.Errorf("%q: the shell gives %q (%d, %s), and without it %q", text, out.String(), code, errOut.String(), want)
		}
	})
}
