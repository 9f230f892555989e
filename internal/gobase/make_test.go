package gobase

import (
	"strings"
	"testing"
	"testing/fstest"
)

// TestMakeDecision is the table of Makefiles that are served and refused before anything runs.
func TestMakeDecision(t *testing.T) {
	const build = "build:\n\tCGO_ENABLED=0 go build -o bin/app .\n"
	tests := []struct {
		name, tag, steps, makefile string
		why                        string // empty: served
		git                        bool   // the machine has a git
		with                       string // in the base's name
	}{
		{"a build", "1.26-alpine", "RUN apk add make\nRUN make build", build, "", false, "with=make-4.4.1"},
		{"Debian has it", "1.26-bookworm", "RUN make build", build, "", false, "make-4.3"},
		{"Debian's newest", "1.26", "RUN make", build, "", false, "make-4.4.1"},
		{"Alpine has it not", "1.26-alpine", "RUN make build", build, "make is not in the built-in base", false, ""},
		{"no Makefile", "1.26", "RUN make release", "", "No rule to make target 'release'", false, ""},
		{"another target calls protoc", "1.26", "RUN make build", build + "gen:\n\tprotoc x.proto\n", "", false, ""},
		{"this target calls protoc", "1.26", "RUN make build", "build: gen\n\tgo build .\ngen:\n\tprotoc x.proto\n", "protoc is not in the built-in base (called by make, Makefile:4)", false, ""},
		{"behind $(MAKE)", "1.26", "RUN make all", "all:\n\t$(MAKE) gen\ngen:\n\tprotoc x.proto\n", "protoc is not", false, ""},
		{"in another folder", "1.26", "RUN make -C sub", build, "upx is not", false, ""},
		{"behind cd", "1.26", "RUN make x", "x:\n\tcd sub && $(MAKE)\n", "upx is not", false, ""},
		{"an included Makefile", "1.26", "RUN make gen", "include inc.mk\n", "protoc is not", false, ""},
		{"a script of the context", "1.26", "RUN make x", "x:\n\t./build.sh\n", "", false, ""},
		{"a script that calls protoc", "1.26", "RUN make x", "x:\n\tsh gen.sh\n", "protoc is not in the built-in base (in /src/gen.sh) (called by make, Makefile:2)", false, ""},
		{"by variable", "1.26", "RUN make x TOOL=protoc", "TOOL = go\nx:\n\t$(TOOL) version\n", "protoc is not", false, ""},
		{"by the environment", "1.26", "RUN TOOL=protoc make x", "TOOL ?= go\nx:\n\t$(TOOL) version\n", "protoc is not", false, ""},
		{"by ENV, overridden", "1.26", "ENV TOOL=protoc\nRUN make x TOOL=go", "x:\n\t$(TOOL) version\n", "", false, ""},
		{"$(shell) that is not had", "1.26", "RUN make", "V := $(shell protoc --version)\n" + build, "protoc is not in the built-in base (called by make, Makefile:1)", false, ""},
		{"$(shell date)", "1.26", "RUN make", "V := $(shell date -u +%Y)\nbuild:\n\tgo build -ldflags \"-X main.v=$(V)\" .\n", "", false, ""},
		{"a command by $(shell)", "1.26", "RUN make", "V := $(shell cat x)\nbuild:\n\t$(V) x\n", "known only when it runs", false, ""},
		{"both ways of a condition", "1.26", "RUN make", "ifeq ($(shell uname),Linux)\nbuild:\n\tgo build .\nelse\nbuild:\n\tprotoc x\nendif\n", "protoc is not", false, ""},
		{"git describe without a git", "1.26", "RUN make", "V := $(shell git describe --tags 2>/dev/null || echo dev)\n" + build, "git is used", false, ""},
		{"git describe", "1.26", "RUN make", "V := $(shell git describe --tags 2>/dev/null || echo dev)\n" + build, "", true, "machine-git"},
		{"git in what is not taken", "1.26", "RUN make", "V = $(shell git describe)\n" + build, "", true, "machine-git"},
		{"no git on Alpine", "1.26-alpine", "RUN apk add make && make", "V := $(shell git describe || echo dev)\n" + build, "", false, "make-4.4.1"},
		{"VPATH", "1.26", "RUN make", "VPATH = src\n" + build, "VPATH is not served", false, ""},
		{"a Makefile that is made", "1.26", "RUN make", "-include gen.mk\n" + build + "gen.mk:\n\tgo run . > $@\n", "is made by a rule", false, ""},
		{"for ever", "1.26", "RUN make", "all:\n\t$(MAKE) all\n", "nested too deep", false, ""},
		{"asks for its version", "1.26", "RUN make", "V := $(MAKE_VERSION)\n" + build, "which make it is", false, ""},
		{"which tool", "1.26", "RUN make", "ifeq ($(shell which golangci-lint),)\n$(info none)\nendif\n" + build, "", false, ""},
		{"bash with pipefail", "1.26", "RUN make", "SHELL = /usr/bin/env bash -o pipefail\n.SHELLFLAGS = -ec\n" + build, "", false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := fstest.MapFS{
				"Dockerfile": {Data: []byte("FROM golang:" + tt.tag + " AS builder\nWORKDIR /src\nCOPY . .\n" + tt.steps +
					"\nFROM scratch\nCOPY --from=builder /src/bin /bin\n")},
				"go.mod": {Data: []byte("module example.com/x\n\ngo 1.21\n")}, "main.go": {Data: []byte("package main\n")},
				"build.sh": {Data: []byte("#!/bin/sh\ngo build .\n"), Mode: 0o755}, "gen.sh": {Data: []byte("protoc x\n")}, "inc.mk": {Data: []byte("gen:\n\tprotoc x\n")},
				"sub/Makefile": {Data: []byte("all:\n\tupx x\n")},
				".git/HEAD":    {Data: []byte("ref: refs/heads/main\n")}, ".git/config": {},
			}
			if tt.makefile != "" {
				files["Makefile"] = &fstest.MapFile{Data: []byte(tt.makefile)}
			}
			images := map[string]string{"golang:" + tt.tag: golangConfig}
			// That go build stamps a revision would ask for git in each of these.
			files["Dockerfile"].Data = []byte(strings.Replace(string(files["Dockerfile"].Data), "WORKDIR", "ENV GOFLAGS=-buildvcs=false CGO_ENABLED=0\nWORKDIR", 1))
			o := Options{Git: func() bool { return tt.git }}
			b := buildDockerfile(t, files, o, images)
			if b.err != nil {
				t.Fatal(b.err)
			}
			served := len(b.bases) == 1 && len(b.images) == 0
			if served != (tt.why == "") || !strings.Contains(strings.Join(b.notes, "\n"), tt.why) {
				t.Errorf("bases %q, images %q, notes %q, want %q", b.bases, b.images, b.notes, tt.why)
			}
			if !strings.Contains(strings.Join(b.bases, " "), tt.with) {
				t.Errorf("bases %q, want %s", b.bases, tt.with)
			}
		})
	}
}
