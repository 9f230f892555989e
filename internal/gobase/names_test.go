package gobase

import (
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/skiff-build/skiff/internal/graph"
)

// TestNamesOfBases: progress names the base of a stage once, however the Dockerfile comes to it (issue 19, point 9).
func TestNamesOfBases(t *testing.T) {
	want := regexp.MustCompile(`^(\[[^\]]+\] )?FROM golang:1\.26-alpine \(built-in Go 1\.26\.8\)$`)
	const build = "WORKDIR /src\nCOPY . .\nRUN go build -o /app .\n"
	tests := []struct{ name, dockerfile, context string }{
		{"a stage with a name", "FROM golang:1.26-alpine AS builder\n" + build + "FROM scratch\nCOPY --from=builder /app /\n", ""},
		{"a stage with a number", "FROM golang:1.26-alpine\n" + build + "FROM scratch\nCOPY --from=0 /app /\n", ""},
		{"a copy from the image", "FROM scratch\nCOPY --from=golang:1.26-alpine /etc/passwd /\n", ""},
		{"both", "FROM golang:1.26-alpine AS builder\n" + build + "FROM scratch\nCOPY --from=builder /app /\nCOPY --from=golang:1.26-alpine /etc/passwd /\n", ""},
		{"a mount of the image", "FROM golang:1.26-alpine AS builder\n" + build + "RUN --mount=from=golang:1.26-alpine,source=/etc/passwd,target=/other cat /other >/p\n" +
			"FROM scratch\nCOPY --from=builder /app /p /\n", ""},
		{"by an argument", "ARG V=1.26\nFROM golang:${V}-alpine AS builder\n" + build + "FROM scratch\nCOPY --from=builder /app /\n", ""},
		{"with a platform", "FROM --platform=$BUILDPLATFORM golang:1.26-alpine AS builder\n" + build + "FROM scratch\nCOPY --from=builder /app /\n", ""},
		{"by a build context", "FROM go AS builder\n" + build + "FROM scratch\nCOPY --from=builder /app /\n", "go"},
		{"a copy by a build context", "FROM scratch\nCOPY --from=go /etc/passwd /\n", "go"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := fstest.MapFS{"Dockerfile": {Data: []byte(tt.dockerfile)}, "go.mod": {Data: []byte("module x\n")}, "main.go": {Data: []byte("package main\n")}}
			opts := map[string]string{}
			if tt.context != "" {
				opts["context:"+tt.context] = "docker-image://golang:1.26-alpine"
			}
			b := buildWith(t, files, Options{}, nil, opts)
			if b.err != nil || len(b.bases) == 0 {
				t.Fatalf("bases %q, error %v, notes %q", b.bases, b.err, b.notes)
			}
			err := graph.Walk(b.graph, func(v *graph.Vertex) error {
				if strings.HasPrefix(v.Op.GetSource().GetIdentifier(), Scheme) && !want.MatchString(v.Name()) {
					t.Errorf("it is called %q", v.Name())
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestGitIsSaidOnce: git is this machine's, or is not installed since nobody needs it: the notes say one of them (issue 19, point 10).
func TestGitIsSaidOnce(t *testing.T) {
	const head = "FROM golang:1.26-alpine AS builder\nRUN apk add git make\nWORKDIR /src\nCOPY . .\n"
	const tail = "FROM scratch\nCOPY --from=builder /app /\n"
	tests := []struct {
		name, steps string
		repository  bool
		lent        bool
	}{
		{"a stamp", "RUN go build -o /app .\n", true, true},
		{"describe", "RUN go build -buildvcs=false -ldflags \"-X main.v=$(git describe --tags)\" -o /app .\n", true, true},
		{"no repository", "RUN go build -o /app .\n", false, false},
		{"never called", "RUN go build -buildvcs=false -o /app .\n", true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := fstest.MapFS{"Dockerfile": {Data: []byte(head + tt.steps + tail)}, "go.mod": {Data: []byte("module x\n")}, "main.go": {Data: []byte("package main\n")}}
			if tt.repository {
				files[".git/HEAD"] = &fstest.MapFile{Data: []byte("ref: refs/heads/main\n")}
			}
			b := buildDockerfile(t, files, Options{Git: func() bool { return true }}, nil)
			if b.err != nil || len(b.bases) != 1 {
				t.Fatalf("bases %q, error %v, notes %q", b.bases, b.err, b.notes)
			}
			said := strings.Join(b.notes, "\n")
			lent, missing := strings.Contains(said, "git is this machine's"), regexp.MustCompile(`\bgit\b[^;]* not installed`).MatchString(said)
			if lent != tt.lent || missing == tt.lent {
				t.Errorf("lent %v, said not to be installed %v: %s", lent, missing, said)
			}
			if !strings.Contains(said, "make not installed") && !strings.Contains(said, "make, ") && !strings.Contains(said, ", make not installed") {
				t.Errorf("what else was asked for: %s", said)
			}
		})
	}
}
