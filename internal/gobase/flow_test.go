package gobase

import (
	"strings"
	"testing"
	"testing/fstest"
)

// TestFlow holds that what decides how a program is built counts only where it is certain: below Go 1.20 the base serves cgo that is
// off for certain, and nothing else.
func TestFlow(t *testing.T) {
	const unknown, on = "CGO_ENABLED is known only when it runs", "on without a C compiler too"
	for _, tt := range []struct{ steps, why string }{
		{"RUN export CGO_ENABLED=0; go build", ""},
		{"RUN if [ -f x ]; then export CGO_ENABLED=0; fi; go build", unknown},
		{"RUN if [ -f x ]; then export CGO_ENABLED=0; else export CGO_ENABLED=0; fi; go build", ""},
		{"RUN if [ -f x ]; then export CGO_ENABLED=0; else exit 1; fi; go build", ""},
		{"RUN if [ -f x ]; then echo a; elif export CGO_ENABLED=0; then echo b; fi; go build", unknown},
		{"ENV CGO_ENABLED=0\nRUN if [ -f x ]; then export CGO_ENABLED=1; fi; go build", unknown},
		{"ENV CGO_ENABLED=0\nRUN if [ -f x ]; then CGO_ENABLED=1 go vet .; fi; go build", ""},
		{"ENV CGO_ENABLED=0\nRUN (export CGO_ENABLED=1; true); export CGO_ENABLED=1 | cat; export CGO_ENABLED=1 & go build", ""},
		{"ENV CGO_ENABLED=0\nRUN echo $(export CGO_ENABLED=1); go build", ""},
		{"RUN [ -f x ] && export CGO_ENABLED=0; go build", unknown},
		{"RUN [ -f x ] && export CGO_ENABLED=0 && go build", ""},
		{"RUN cd cmd && export CGO_ENABLED=0 && true && go build", ""},
		{"RUN [ -f x ] || export CGO_ENABLED=0; go build", unknown},
		{"RUN cd cmd && export CGO_ENABLED=0 || exit 1; go build", ""},
		{"RUN case $X in a) export CGO_ENABLED=0;; esac; go build", unknown},
		{"RUN case $X in a) export CGO_ENABLED=0;; *) export CGO_ENABLED=0;; esac; go build", ""},
		{"ENV CGO_ENABLED=0\nRUN case $X in a) export CGO_ENABLED=1;; *) go build;; esac", ""},
		{"ENV CGO_ENABLED=0\nRUN for i in a b; do go build; export CGO_ENABLED=1; done", unknown},
		{"RUN for i in a b; do export CGO_ENABLED=0; go build; done", ""},
		{"RUN while read CGO_ENABLED; do export CGO_ENABLED=0; break; done; go build", unknown},
		{"RUN CGO_ENABLED=0; set -a; go build", on},
		{"RUN set -a; CGO_ENABLED=0; go build", ""},
		{"RUN set -a; set +a; CGO_ENABLED=0; go build", on},
		{"RUN set -o allexport; CGO_ENABLED=0; set +o allexport; go build", ""},
		{"RUN if [ -f x ]; then set -a; fi; CGO_ENABLED=0; go build", unknown},
		{"RUN CGO_ENABLED=0; if [ -f x ]; then export CGO_ENABLED; fi; go build", unknown},
		{"RUN CGO_ENABLED=0; export CGO_ENABLED; go build", ""},
		{"RUN sh -ac 'CGO_ENABLED=0; go build'", ""},
		{"RUN CGO_ENABLED=0; sh -c 'go build'", on},
		{"ENV CGO_ENABLED=0\nRUN unset CGO_ENABLED; go build", on},
		{"ENV CGO_ENABLED=0\nRUN env -u CGO_ENABLED go build", on},
		{"ENV CGO_ENABLED=0\nRUN env -i go build", on},
		{"ENV CGO_ENABLED=0\nRUN env -u X go build", ""},
		{"ENV CGO_ENABLED=0\nRUN read CGO_ENABLED < x; go build", unknown},
		{"ENV CGO_ENABLED=0\nRUN export CGO_ENABLED=$(cat x); go build", unknown},
		{"ENV CGO_ENABLED=0\nRUN export $(cat .env); go build", "known only when it runs"},
		{"ENV CGO_ENABLED=0\nRUN export \"A=$(cat x)\"; go build", ""},
		{"RUN : ${CGO_ENABLED:=0}; export CGO_ENABLED; go build", ""},
		{"ENV CGO_ENABLED=0\nRUN : $((CGO_ENABLED=1)); go build", unknown},
		{"RUN f() { export CGO_ENABLED=0; }; go build", on},
		{"RUN f() { export CGO_ENABLED=0; }; f; go build", ""},
		{"RUN f() { go build; }; export CGO_ENABLED=0; f", ""},
		{"ENV CGO_ENABLED=0\nRUN f() { go build; }; f; export CGO_ENABLED=1; f", on + "|CGO_ENABLED=1"},
		{"ENV CGO_ENABLED=0\nRUN f() { local CGO_ENABLED=1; }; f; go build", ""},
		{"RUN f() { if [ -f x ]; then return; fi; export CGO_ENABLED=0; }; f; go build", unknown},
		{"RUN f() { f; }; f", "nested too deep"},
		{"RUN if [ -f x ]; then go() { true; }; fi; go build", on},
		{"RUN if [ -f x ]; then go env -w CGO_ENABLED=0; fi\nRUN go build", unknown},
		{"RUN true && go env -w CGO_ENABLED=0\nRUN go build", ""},
		{"RUN trap 'go build' EXIT; export CGO_ENABLED=0", "known only when it runs"},
		{"RUN export GOFLAGS=$(cat x); CGO_ENABLED=0 go build", "GOFLAGS is known only when it runs"},
	} {
		files := fstest.MapFS{
			"Dockerfile": {Data: []byte("FROM golang:1.19-alpine AS b\nARG X\nWORKDIR /src\nCOPY . .\n" + tt.steps + "\nFROM scratch\nCOPY --from=b /src /src\n")},
			"go.mod":     {Data: []byte("module example.com/x\n")}, "main.go": {Data: []byte("package main\n")},
		}
		b := buildDockerfile(t, files, Options{}, realImages)
		if b.err != nil {
			t.Errorf("%s: %v", tt.steps, b.err)
			continue
		}
		notes, found := strings.Join(b.notes, "\n"), tt.why == ""
		for _, why := range strings.Split(tt.why, "|") {
			found = found || strings.Contains(notes, why)
		}
		if served := len(b.bases) == 1 && len(b.images) == 0; served != (tt.why == "") || !found {
			t.Errorf("%s: served %v, want %v for %q; notes %q", tt.steps, served, tt.why == "", tt.why, notes)
		}
	}
}

// TestBashEnvironment holds that what shows bash's environment takes the image, whatever shell of a step shows it.
func TestBashEnvironment(t *testing.T) {
	for steps, served := range map[string]bool{
		"RUN bash -c 'env > x'": false, "RUN bash -c 'sh -c \"env > x\"'": false, "RUN bash -c 'xargs env < x'": false,
		"RUN bash -c \"sh -c 'echo \\$SHLVL'\"": false, "RUN bash -c 'printenv A'": true, "RUN bash -c 'env A=1 go version'": true, "RUN env > x": true,
		"RUN bash -c 'printenv _'": false, "RUN bash -c 'env -u A env -i B=1'": false,
	} {
		files := fstest.MapFS{"Dockerfile": {Data: []byte("FROM golang:1.26 AS b\n" + steps + "\nFROM scratch\nCOPY --from=b /go /go\n")}}
		b := buildDockerfile(t, files, Options{}, realImages)
		if b.err != nil || (len(b.bases) == 1) != served {
			t.Errorf("%s: served %v, error %v; notes %q", steps, len(b.bases) == 1, b.err, b.notes)
		}
	}
}
