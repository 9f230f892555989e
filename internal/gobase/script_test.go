package gobase

import (
	"strings"
	"testing"
	"testing/fstest"
)

// TestScriptDecision is the table of scripts of the context that are served and refused before anything runs.
func TestScriptDecision(t *testing.T) {
	const build = "#!/bin/sh\nset -e\nCGO_ENABLED=0 go build -o bin/app .\n"
	tests := []struct {
		name, tag, steps string
		script           string // scripts/build.sh
		why              string // empty: served
	}{
		{"by its path", "1.26-alpine", "RUN ./scripts/build.sh", build, ""},
		{"by exec form", "1.26-alpine", `RUN ["/src/scripts/build.sh"]`, build, ""},
		{"by sh", "1.26-alpine", "RUN sh scripts/build.sh", "go build .\n", ""},
		{"by sh -e", "1.26", "RUN sh -eu ./scripts/build.sh", "go build .\n", ""},
		{"by bash", "1.26", "RUN bash scripts/build.sh", "set -o pipefail\n[ -n x ] && go build .\n", ""},
		{"after chmod", "1.26-alpine", "RUN chmod +x scripts/build.sh && ./scripts/build.sh", build, ""},
		{"by make", "1.26", "RUN make x", build, ""},
		{"env bash", "1.26", "RUN scripts/build.sh", "#!/usr/bin/env bash\nset -euo pipefail\ngo build .\n", ""},
		{"env -S", "1.26", "RUN scripts/build.sh", "#!/usr/bin/env -S bash -e\ngo build .\n", ""},
		{"bash that Alpine has not", "1.26-alpine", "RUN scripts/build.sh", "#!/bin/bash\ngo build .\n", "bash, which the image has not"},
		{"bash by apk", "1.26-alpine", "RUN apk add bash && scripts/build.sh", "#!/bin/bash\ngo build .\n", ""},
		{"another script", "1.26-alpine", "RUN scripts/build.sh", "#!/bin/sh\n./scripts/more.sh\n", ""},
		{"sourced", "1.26-alpine", "RUN scripts/build.sh", "#!/bin/sh\n. ./scripts/lib.sh\nlib_build .\n", ""},
		{"its own folder", "1.26-alpine", "RUN scripts/build.sh", "#!/bin/sh\ncd \"$(dirname \"$0\")\"\nD=$(cd \"$(dirname \"$0\")\" && pwd)\n./more.sh\n", ""},
		{"its parameters", "1.26-alpine", "RUN scripts/build.sh go version", "#!/bin/sh\n\"$@\"\n$1 version\n", ""},
		{"what it calls", "1.26-alpine", "RUN ./scripts/build.sh", build + "upx bin/app\n", "upx is not in the built-in base"},
		{"what another script calls", "1.26-alpine", "RUN ./scripts/build.sh", "#!/bin/sh\nsh scripts/bad.sh\n", "(in /src/scripts/bad.sh)"},
		{"by a parameter", "1.26-alpine", "RUN scripts/build.sh upx x", "#!/bin/sh\n\"$@\"\n", "upx is not"},
		{"of sh -c", "1.26-alpine", "RUN scripts/build.sh go", "#!/bin/sh\nsh -c '$1 x' a upx\n", "upx is not"},
		{"after return", "1.26-alpine", "RUN scripts/build.sh", "#!/bin/sh\nexport CGO_ENABLED=0\n. ./scripts/cgo.sh\ngo build .\n", "cgo"},
		{"shifted", "1.26-alpine", "RUN scripts/build.sh upx go version", "#!/bin/sh\nshift\n\"$@\"\n", "known only when it runs"},
		{"set -- ", "1.26-alpine", "RUN scripts/build.sh go", "#!/bin/sh\nset -e\nset -- $(cat x)\n$1\n", "known only when it runs"},
		{"of a function", "1.26-alpine", "RUN scripts/build.sh go", "#!/bin/sh\nf() { $1; }\nf upx\n", "known only when it runs"},
		{"python", "1.26-alpine", "RUN ./scripts/build.sh", "#!/usr/bin/python3\n", "asks for /usr/bin/python3"},
		{"without #!", "1.26-alpine", "RUN ./scripts/build.sh", "go build .\n", "without #!"},
		{"what is not served", "1.26", "RUN bash scripts/build.sh", "coproc cat\ngo build .\n", "(in /src/scripts/build.sh)"},
		{"written by a step", "1.26-alpine", "RUN echo upx >> scripts/build.sh\nRUN ./scripts/build.sh", build, "an earlier step writes to the script"},
		{"written by the same step", "1.26-alpine", "RUN sed -i s/go/upx/ scripts/build.sh && sh scripts/build.sh", build, "an earlier step writes to the script"},
		{"made by a step", "1.26-alpine", "RUN echo 'go build .' > /made.sh && sh /made.sh", build, "an earlier step writes to the script"},
		{"not there", "1.26-alpine", "RUN sh scripts/none.sh", build, "cannot be read"},
		{"for ever", "1.26-alpine", "RUN scripts/build.sh", "#!/bin/sh\n./scripts/build.sh\n", "nested too deep"},
		{"many times", "1.26-alpine", "RUN scripts/build.sh", "#!/bin/sh\n" + strings.Repeat("./scripts/build.sh; ", 30) + "\n", "nested too deep"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := fstest.MapFS{
				"Dockerfile": {Data: []byte("FROM golang:" + tt.tag + " AS builder\nENV GOFLAGS=-buildvcs=false CGO_ENABLED=0\nWORKDIR /src\nCOPY . .\n" +
					tt.steps + "\nFROM scratch\nCOPY --from=builder /src/bin /bin\n")},
				"go.mod": {Data: []byte("module example.com/x\n\ngo 1.21\n")}, "main.go": {Data: []byte("package main\n")},
				"Makefile":         {Data: []byte("x:\n\t./scripts/build.sh\n")},
				"scripts/build.sh": {Data: []byte(tt.script), Mode: 0o755}, "scripts/more.sh": {Data: []byte("#!/bin/sh\ngo vet .\n"), Mode: 0o755},
				"scripts/lib.sh": {Data: []byte("lib_build() { go build \"$1\"; }\n")}, "scripts/cgo.sh": {Data: []byte("if [ -n \"$X\" ]; then export CGO_ENABLED=1; return; fi\n")}, "scripts/bad.sh": {Data: []byte("protoc x\n")},
			}
			b := buildDockerfile(t, files, Options{}, map[string]string{"golang:" + tt.tag: golangConfig})
			if b.err != nil {
				t.Fatal(b.err)
			}
			served := len(b.bases) == 1 && len(b.images) == 0
			if served != (tt.why == "") || !strings.Contains(strings.Join(b.notes, "\n"), tt.why) {
				t.Errorf("bases %q, images %q, notes %q, want %q", b.bases, b.images, b.notes, tt.why)
			}
		})
	}
}
