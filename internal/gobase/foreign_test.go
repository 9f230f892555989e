package gobase

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// TestForeignStages is the table of what is compiled across for another platform, and of what sends a stage back to programs of its own.
func TestForeignStages(t *testing.T) {
	const build = "RUN CGO_ENABLED=0 go build -o /app .\n"
	tests := []struct {
		name, platform, tag, steps string
		why                        string // empty: compiled across
	}{
		{"a build", "linux/arm64", "1.26-alpine", "RUN go mod download && go build -o /app .", ""},
		{"ENV", "linux/arm64", "1.26", "ENV CGO_ENABLED=0\nRUN go build -o /app .", ""},
		{"for one command", "linux/arm64", "1.26", build, ""},
		{"bash", "linux/arm64", "1.26", "SHELL [\"/bin/bash\", \"-c\"]\nRUN export CGO_ENABLED=0 && go build -o /app .", ""},
		{"arguments of the frontend", "linux/arm64", "1.26-alpine", "ARG TARGETOS TARGETARCH\nRUN GOOS=$TARGETOS GOARCH=$TARGETARCH go build -o /app .", ""},
		{"ARG GOARCH", "linux/arm64", "1.26-alpine", "ARG GOARCH=riscv64\nRUN echo $GOARCH && go build -o /app .", ""},
		{"32-bit ARM", "linux/arm/v7", "1.26-alpine", "ARG TARGETVARIANT\nRUN GOARM=${TARGETVARIANT#v} go build -o /app .", ""},
		{"vet and the version in the log", "linux/arm64", "1.26-alpine", "RUN go version && go vet ./... && go env\n" + build, ""},
		{"git's own version in the program", "linux/arm64", "1.26-alpine", "RUN apk add git && go build -ldflags \"-X main.v=$(go env GOVERSION)\" -o /app .", ""},
		{"own commands", "linux/arm64", "1.26-alpine", "RUN adduser -D app && mkdir -p /data && uname -s\n" + build, ""},
		{"an exec form", "linux/s390x", "1.26-alpine", "RUN [\"go\", \"build\", \"-o\", \"/app\", \".\"]", ""},
		{"certificates out of it", "linux/arm64", "1.26-alpine", build + "FROM scratch\nCOPY --from=builder /etc/ssl/certs/ca-certificates.crt /usr/local/go/lib/time/zoneinfo.zip /\nFROM scratch", ""},

		{"test", "linux/arm64", "1.26-alpine", "RUN go test ./...\n" + build, "runs what it compiles"},
		{"run", "linux/arm64", "1.26-alpine", "RUN go run . > x\n" + build, "runs what it compiles"},
		{"tool", "linux/arm64", "1.26-alpine", "RUN go tool dist list\n" + build, "runs what it compiles"},
		{"install", "linux/arm64", "1.26-alpine", "RUN go install .\n" + build, "go install puts programs elsewhere"},
		{"the program", "linux/arm64", "1.26-alpine", build + "RUN /app --version", "runs what the stage compiled"},
		{"cgo", "linux/arm64", "1.26", "RUN go build -o /app .", "cgo: CGO_ENABLED is not 0 and the image has a C compiler"},
		{"make", "linux/arm64", "1.26-bookworm", "ENV CGO_ENABLED=0\nRUN make app", "make reads every variable"},
		{"uname", "linux/arm64", "1.26-alpine", "RUN uname -m\n" + build, "the machine's architecture"},
		{"the version in the program", "linux/arm64", "1.26-alpine", "RUN go build -ldflags \"-X main.v=$(go version)\" -o /app .", "the machine's architecture"},
		{"the version in a file", "linux/arm64", "1.26-alpine", "RUN { go version; } > /v\n" + build, "the machine's architecture"},
		{"the host's name", "linux/arm64", "1.26-alpine", "RUN go env GOHOSTARCH\n" + build, "the machine that go runs on"},
		{"all settings in a file", "linux/arm64", "1.26-alpine", "RUN go env > /env\n" + build, "the machine that go runs on"},
		{"a setting of go env", "linux/arm64", "1.26-alpine", "RUN go env -w GOARCH=386\n" + build, "go env -w sets GOARCH"},
		{"the variable read", "linux/arm64", "1.26-alpine", "RUN echo x${GOARCH:-none} > /x\n" + build, "the variable is read"},
		{"the variable read where a branch sets it", "linux/arm64", "1.26-alpine", "RUN false && export GOARCH=386; echo $GOARCH > /x\n" + build, "the variable is read"},
		{"all variables", "linux/arm64", "1.26-alpine", "RUN env > /x\n" + build, "all variables"},
		{"without variables", "linux/arm64", "1.26-alpine", "RUN env -i PATH=$PATH HOME=/root go build -o /app .", "takes variables away"},
		{"without the variable", "linux/arm64", "1.26-alpine", "RUN unset GOARCH; go build -o /app .", "takes variables away"},
		{"an empty one", "linux/arm64", "1.26-alpine", "RUN GOARCH=$TARGETARCH go build -o /app .", "the value is empty"},
		{"an empty ENV", "linux/arm64", "1.26-alpine", "ENV GOARCH=\nRUN go build -o /app .", "the value is empty"},
		{"an unknown one", "linux/arm64", "1.26-alpine", "RUN GOARCH=$(cat arch) go build -o /app .", "known only when it runs"},
		{"one that is not exported", "linux/arm64", "1.26-alpine", "RUN GOARCH=386; go build -o /app .", "keeps the variable for itself"},
		{"a loop", "linux/arm64", "1.26-alpine", "RUN for GOARCH in 386 arm; do go build -o /app .; done", "keeps the variable for itself"},
		{"a program around the compiler", "linux/arm64", "1.26-alpine", "RUN go build -toolexec=/x -o /app .", "-toolexec names a program"},
		{"Go itself out of it", "linux/arm64", "1.26-alpine", build + "FROM scratch\nCOPY --from=builder /usr/local/go /go\nFROM scratch", "Go itself is copied"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dockerfile, rest, more := strings.Cut(tt.steps, "\nFROM scratch\n")
			if dockerfile = "FROM golang:" + tt.tag + " AS builder\nWORKDIR /src\nCOPY . .\n" + dockerfile + "\nFROM scratch\n"; more {
				dockerfile += strings.TrimSuffix(rest, "\nFROM scratch") + "\n"
			}
			files := fstest.MapFS{
				"Dockerfile": {Data: []byte(dockerfile + "COPY --from=builder /src /src\n")},
				"go.mod":     {Data: []byte("module example.com/x\n\ngo 1.13\n")},
				"main.go":    {Data: []byte("package main\n")},
				"Makefile":   {Data: []byte("GOARCH ?= 386\napp:\n\tGOARCH=$(GOARCH) go build -o $@ .\n")},
			}
			b := buildWith(t, files, Options{}, realImages, map[string]string{"platform": tt.platform})
			if b.err != nil {
				t.Fatal(b.err)
			}
			notes := strings.Join(b.notes, "\n")
			if len(b.bases) != 1 {
				t.Fatalf("bases %q, images %q; notes %q", b.bases, b.images, notes)
			}
			if across := strings.Contains(b.bases[0], "?host="); across != (tt.why == "") {
				t.Errorf("base %s, want it across: %v; notes %q", b.bases[0], tt.why == "", notes)
			}
			if !strings.Contains(notes, tt.why) {
				t.Errorf("notes %q, want %q", notes, tt.why)
			}
			for _, step := range execs(b.graph) {
				meta := step.Op.GetExec().Meta
				p := step.Op.Platform
				if tt.why != "" {
					if "linux/"+p.Architecture != tt.platform || slices.Contains(meta.Env, "GOARCH=arm64") {
						t.Errorf("a step of %s/%s with %q", p.OS, p.Architecture, meta.Env)
					}
					continue
				}
				arch := strings.Split(tt.platform, "/")[1]
				if p.Architecture == arch {
					t.Errorf("a step of %s", p.Architecture)
				}
				want := []string{"GOARCH=" + arch}
				switch {
				case strings.Contains(tt.steps, "ARG GOARCH=riscv64"):
					want = []string{"GOARCH=riscv64"}
				case arch == "arm":
					want = append(want, "GOARM=6", "TARGETVARIANT=v7")
				}
				for _, w := range append(want, "CGO_ENABLED=0") {
					if !slices.Contains(meta.Env, w) {
						t.Errorf("a step with %q, want %s", meta.Env, w)
					}
				}
			}
		})
	}
}

// A variable that the shell does not export is nothing to go: the image's C compiler is then in use.
func TestVariablesNotExported(t *testing.T) {
	for step, served := range map[string]bool{
		"RUN CGO_ENABLED=0; go build -o /app example.com/x":                              false,
		"RUN CGO_ENABLED=0 true; go build -o /app example.com/x":                         false,
		"RUN CGO_ENABLED=0; export CGO_ENABLED; go build -o /app example.com/x":          true,
		"RUN set -a; CGO_ENABLED=0; go build -o /app example.com/x":                      true,
		"RUN (export CGO_ENABLED=0); go build -o /app example.com/x":                     false,
		"ENV CGO_ENABLED=1\nRUN CGO_ENABLED=0; go build -o /app example.com/x":           true,
		"RUN env CGO_ENABLED=0 go version; go build -o /app example.com/x":               false,
		"RUN CGO_ENABLED=0; make":                                                        false,
		"RUN export CGO_ENABLED=0; make":                                                 true,
		"RUN export CGO_ENABLED=0; CGO_ENABLED=0 go vet; go build -o /app example.com/x": true,
	} {
		files := fstest.MapFS{
			"Dockerfile": {Data: []byte("FROM golang:1.26-bookworm AS builder\nWORKDIR /src\nCOPY . .\n" + step + "\nFROM scratch\nCOPY --from=builder /app /\n")},
			"go.mod":     {Data: []byte("module example.com/x\n")},
			"Makefile":   {Data: []byte("app:\n\tgo build -o /app example.com/x\n")},
			"main.go":    {Data: []byte("package main\n\nimport _ \"net/http\"\n")},
		}
		b := buildDockerfile(t, files, Options{}, realImages)
		if b.err != nil {
			t.Fatal(b.err)
		}
		if (len(b.bases) == 1) != served {
			t.Errorf("%s: bases %q, images %q, want served: %v; notes %q", step, b.bases, b.images, served, b.notes)
		}
	}
}
