package gobase

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/fstest"
)

// golangConfig is a config that a registry would give for any golang image.
var golangConfig = strings.Replace(alpineConfig, "/usr/bin:/bin", "/go/bin:/usr/local/go/bin:/usr/bin:/bin", 1)

var realImages = map[string]string{
	"golang:1.26-alpine": golangConfig, "golang:1.26": golangConfig, "golang:1.26-bookworm": golangConfig, "golang:1.13-alpine": golangConfig, "golang:1.19-alpine": golangConfig,
	"golang:1.24-bookworm": golangConfig, "alpine": alpineConfig, "alpine:latest": alpineConfig,
}

// TestDecision is the table of what is served and what is refused: builder stages, by their steps. The stage
// begins with FROM, WORKDIR /src and COPY . ., and /src/app goes to scratch.
func TestDecision(t *testing.T) {
	const build = "RUN CGO_ENABLED=0 go build -o /app ."
	tests := []struct {
		name, tag, steps string
		why              string // empty: served
	}{
		{"the first Dockerfile", "1.26-alpine", "RUN apk update && apk add git\nRUN go mod download\nRUN CGO_ENABLED=0 GOOS=linux GOARCH=amd64 go build -a -ldflags '-s -w' -o main .", ""},
		{"alpine without a compiler", "1.26-alpine", "RUN go build -o /app .", ""},
		{"cgo off by ENV", "1.26", "ENV CGO_ENABLED=0\nRUN go build -o /app .", ""},
		{"cgo off by export", "1.26", "RUN export CGO_ENABLED=0 && go build -o /app .", ""},
		{"cgo off by go env -w", "1.26", "RUN go env -w CGO_ENABLED=0\nRUN go build -o /app .", ""},
		{"cgo off by env", "1.26", "RUN env CGO_ENABLED=0 go build -o /app .", ""},
		{"cgo off by cross compiling", "1.26", "RUN GOARCH=arm64 go build -o /app .", ""},
		{"cgo for one command only", "1.26", "RUN CGO_ENABLED=0 go vet ./... && go build -o /app .", ""},
		{"cgo on Debian", "1.26", "RUN go build -o /app .", ""},
		{"cgo on Alpine with gcc", "1.26-alpine", "RUN apk add --no-cache build-base\nRUN go build -o /app .", ""},
		{"cgo with a compiler of its own", "1.26-alpine", "RUN apk add --no-cache musl-dev clang\nRUN CC=clang go build -o /app .", "clang was asked for"},
		{"gcc out of habit", "1.26-alpine", "RUN apk add --no-cache gcc musl-dev\n" + build, ""},
		{"cgo before 1.20", "1.19-alpine", "RUN go build -o /app .", "before Go 1.20"},
		{"race detector", "1.26-alpine", "RUN CGO_ENABLED=0 go test -race ./...\n" + build, "-race needs cgo"},
		{"make", "1.26-alpine", "RUN apk add make\nRUN make release", "make is not served, since it would end by an error: make: *** No rule to make target 'release'"},
		{"make asked for, not called", "1.26-alpine", "RUN apk add make\n" + build, ""},
		{"curl", "1.26", "RUN curl -sSL https://example.com/x | sh\n" + build, "curl is not in the built-in base"},
		{"a script of the repository", "1.26-alpine", "RUN ./build.sh", ""},
		{"a script by sh", "1.26-alpine", "RUN sh build.sh", ""},
		{"a script that is not there", "1.26-alpine", "RUN sh nothere.sh", "cannot be read"},
		{"the new program", "1.26-alpine", build + "\nRUN /app --version", ""},
		{"the new program by default name", "1.26-alpine", "RUN go build && ./src --version", ""},
		{"an installed program", "1.26-alpine", "RUN go install github.com/x/swag/cmd/swag@latest && swag init\n" + build, ""},
		{"an installed program of v2", "1.26-alpine", "RUN go install github.com/x/task/v2@latest\nRUN /go/bin/task lint\n" + build, ""},
		{"go install ./...", "1.26-alpine", "RUN go install ./...\nRUN app version\n" + build, ""},
		{"go install ./... does not make make", "1.26-alpine", "RUN go install ./... && make\n" + build, "make is not"},
		{"unknown command", "1.26-alpine", "RUN $(cat cmd) x\n" + build, "known only when it runs"},
		{"a command from ARG", "1.26-alpine", "ARG GO=go\nRUN CGO_ENABLED=0 $GO build -o /app .", ""},
		{"shell features", "1.26-alpine", "RUN set -eux; if [ -f go.sum ]; then go mod verify; fi; for x in a b; do echo $x > $x.txt; done\n" + build, ""},
		{"a function", "1.26-alpine", "RUN f() { CGO_ENABLED=0 go build -o /app .; }; f", ""},
		{"bash with pipefail", "1.26-alpine", "SHELL [\"/bin/bash\", \"-eo\", \"pipefail\", \"-c\"]\n" + build, ""},
		{"exec form", "1.26-alpine", "ENV CGO_ENABLED=0\nRUN [\"go\", \"build\", \"-o\", \"/app\", \".\"]", ""},
		{"heredoc", "1.26-alpine", "RUN <<EOF\nset -e\nCGO_ENABLED=0 go build -o /app .\nEOF", ""},
		{"heredoc with python", "1.26-alpine", "RUN <<EOF\n#!/usr/bin/env python3\nprint(1)\nEOF\n" + build, "is no program that this stage built"},
		{"adduser", "1.26-alpine", "RUN adduser -D -g '' -u 10001 appuser\n" + build, ""},
		{"an option that the small ls lacks", "1.26-alpine", "RUN ls --zero\n" + build, "unrecognized option --zero"},
		{"find -exec", "1.26-alpine", "RUN find . -name '*.go' -exec gofmt -l {} +\n" + build, ""},
		{"find -exec sed", "1.26-alpine", "RUN find . -name '*.go' -exec sed -i s/a/b/ {} \\;\n" + build, ""},
		{"find -exec perl", "1.26-alpine", "RUN find . -name '*.go' -exec perl -i {} \\;\n" + build, "perl is not"},
		{"sed with a command that it has not", "1.26-alpine", "RUN sed -i 's/a/b/e' x\n" + build, "the flag e of s"},
		{"grep of a word of GNU", "1.26-alpine", "RUN grep '\\w' go.mod\n" + build, "escape"},
		{"xargs", "1.26-alpine", "RUN go list ./... | xargs -n 1 go vet\n" + build, ""},
		{"git without a repository", "1.26-alpine", "RUN apk add git && CGO_ENABLED=0 go build -ldflags \"-X main.v=$(git describe --tags)\" -o /app .", ""},
		{"descriptor 3", "1.26-alpine", "RUN exec 3>&1; echo x >&3\n" + build, ""},
		{"descriptors below", "1.26-alpine", "RUN go vet ./... >/dev/null 2>&1 || echo no >&2\n" + build, ""},
		{"trap of the end", "1.26-alpine", "RUN trap 'echo bye' EXIT; go vet ./...\n" + build, ""},
		// What builder stages of public projects do (a census of 125): the base serves it.
		{"census: packages and a build", "1.26-alpine", "RUN apk update && apk add --no-cache git ca-certificates tzdata && update-ca-certificates\nRUN go mod download && go mod verify\n" + build, ""},
		{"census: a user", "1.26-alpine", "RUN adduser --disabled-password --gecos '' --home /nonexistent --shell /sbin/nologin --no-create-home --uid 10001 appuser\n" + build, ""},
		{"census: a system user", "1.26-alpine", "RUN addgroup -S app && adduser -S -G app app && mkdir -p /app/data && chown -R app:app /app\n" + build, ""},
		{"census: flags of the linker", "1.26-alpine", "ARG VERSION=dev\nRUN CGO_ENABLED=0 go build -a -installsuffix cgo -ldflags \"-s -w -X main.version=${VERSION} -X main.date=$(date -u +%Y-%m-%dT%H:%M:%SZ)\" -o app .\n" + build, ""},
		{"census: a choice", "1.26-alpine", "ARG TARGETARCH\nRUN if [ \"$TARGETARCH\" = arm ]; then export GOARM=7; fi; CGO_ENABLED=0 go build -o app .\n" + build, ""},
		{"census: case of a platform", "1.26-alpine", "ARG TARGETPLATFORM\nRUN case \"$TARGETPLATFORM\" in linux/arm/v7) GOARM=7 ;; *) GOARM= ;; esac; go build -o app .\n" + build, ""},
		{"census: a loop over services", "1.26", "ENV CGO_ENABLED=0\nRUN set -eux; for s in api web; do go build -o /out/$s .; done; ls -la /out\n" + build, ""},
		{"census: what is missing", "1.26-alpine", "RUN test -f config.yaml || cp go.mod config.yaml; grep -q module go.mod && echo ok; cat VERSION 2>/dev/null | tr -d v\n" + build, ""},
		{"census: a file", "1.26-alpine", "RUN printf 'nobody:x:65534:65534:nobody:/:\\n' > /etc_passwd && chmod 644 /etc_passwd && touch empty && mv empty full && rm -rf /tmp/*\n" + build, ""},
		{"census: go env and go install", "1.26-alpine", "RUN go env -w GOFLAGS=-mod=mod && go version && go vet ./... && go test ./...\n" + build, ""},
		{"census: bash with pipefail", "1.26", "SHELL [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]\nENV CGO_ENABLED=0\nRUN set -euo pipefail && go list ./... | sort | tee list && go build -o app .\n" + build, ""},
		{"census: ash with pipefail", "1.26-alpine", "SHELL [\"/bin/ash\", \"-eo\", \"pipefail\", \"-c\"]\nRUN go list ./... | head -n 1; sed -i 's/a/b/' go.mod; find . -name '*.go' -print | xargs wc -l\n" + build, ""},
		{"trap of a signal that ends builds", "1.26-alpine", "RUN trap 'echo bye' TERM; go vet ./...\n" + build, ""},
		{"trap of another signal", "1.26-alpine", "RUN trap 'echo bye' USR1; go vet ./...\n" + build, "trap of USR1"},
		{"trap that calls make", "1.26-alpine", "RUN trap 'make clean' EXIT; go vet ./...\n" + build, "make is not in the built-in base"},
		{"a word of bash in ash", "1.26-alpine", "RUN [[ a == a ]] && go vet ./...\n" + build, "the builtin [[ is not served"},
		{"a word of bash in dash", "1.26", "RUN [[ a == a ]] || CGO_ENABLED=0 go vet ./...\nENV CGO_ENABLED=0\n" + build, ""},
		{"an expansion that dash has not", "1.26", "RUN v=abc; echo ${v/b/x}\nENV CGO_ENABLED=0\n" + build, "search and replace"},
		{"an expansion of BusyBox and bash", "1.26-alpine", "RUN v=abc; echo ${v:0:2} ${v/b/x}\n" + build, ""},
		{"an option of a builtin", "1.26-alpine", "RUN printf '%q' x\n" + build, "conversion"},
		{"which of a command of the image", "1.26-alpine", "RUN command -v wget || exit 1\n" + build, "the image has a wget"},
		{"which of what nobody has", "1.26-alpine", "RUN command -v golangci-lint || echo none\n" + build, ""},
		{"git init", "1.26", "RUN git init && git add .\n" + build, "needs a git on this machine"},
		{"git clone", "1.26", "RUN git clone https://example.com/x\n" + build, "git is used"},
		{"git insteadOf", "1.26", "RUN git config --global url.https://t@h/.insteadOf https://h/\n" + build, "modules are fetched with git"},
		{"private modules", "1.26-alpine", "ENV GOPRIVATE=example.com/*\n" + build, "GOPRIVATE is set"},
		{"GOPROXY=direct", "1.26-alpine", "ENV GOPROXY=direct\n" + build, "GOPROXY=direct"},
		{"GOPROXY with direct at its end", "1.26-alpine", "ENV GOPROXY=https://proxy.example,direct\n" + build, ""},
		{"an empty argument", "1.26-alpine", "RUN CGO_ENABLED=0 GOOS=$OS GOARCH= go build -o /app .", ""},
		{"apt on Alpine", "1.26-alpine", "RUN apt-get update\n" + build, "no apt-get"},
		{"protoc asked for and generate", "1.26-alpine", "RUN apk add protoc && go generate ./...\n" + build, "go generate may call"},
		{"generate with go run", "1.26-alpine", "RUN go generate ./gen/good\n" + build, "gen/bad.go has go generate call protoc"},
		{"external linking", "1.26-alpine", "RUN CGO_ENABLED=0 go build -ldflags '-linkmode external -extldflags -static' -o /app .", "-linkmode external needs"},
		{"GOPATH mode", "1.13-alpine", "RUN GO111MODULE=off go get example.com/x\n" + build, "outside of a module"},
		{"ssh", "1.26-alpine", "RUN --mount=type=ssh go mod download\n" + build, "ssh agent"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := fstest.MapFS{
				"Dockerfile": {Data: []byte("FROM golang:" + tt.tag + " AS builder\nWORKDIR /src\nCOPY . .\n" + tt.steps +
					"\nFROM scratch\nCOPY --from=builder /src /src\n")},
				"go.mod":     {Data: []byte("module example.com/x\n\ngo 1.13\n")},
				"main.go":    {Data: []byte("package main\n")},
				"build.sh":   {Data: []byte("#!/bin/sh\n")},
				"gen/bad.go": {Data: []byte("package gen\n\n//go:generate go run ./x\n//go:generate protoc --go_out=. x.proto\n")},
			}
			b := buildDockerfile(t, files, Options{}, realImages)
			if b.err != nil {
				t.Fatal(b.err)
			}
			served := len(b.bases) == 1 && len(b.images) == 0
			if served != (tt.why == "") {
				t.Errorf("bases %q, images %q, want served %v; notes %q", b.bases, b.images, tt.why == "", b.notes)
			}
			if notes := strings.Join(b.notes, "\n"); !strings.Contains(notes, tt.why) {
				t.Errorf("notes %q, want %q", notes, tt.why)
			}
		})
	}
}

// TestStages is the table of what happens to stages as a whole.
func TestStages(t *testing.T) {
	const build = "WORKDIR /src\nCOPY . .\nENV CGO_ENABLED=0\nRUN go build -o /app .\n"
	head := "FROM golang:1.26-alpine AS builder\n" + build
	tests := []struct {
		name, dockerfile string
		bases, images    int
		why              string // in the notes, or the error
		policy           Policy
		fails            bool
	}{
		{"the stage ships", "FROM golang:1.26-alpine\n" + build, 0, 1, "the stage is what ships", "", false},
		{"a stage on it ships", head + "FROM builder\nRUN go version\n", 0, 1, "the stage is what ships", "", false},
		{"whole root", head + "FROM scratch\nCOPY --from=builder / /\n", 0, 1, "the whole root of the stage is copied", "", false},
		{"certificates", head + "FROM scratch\nCOPY --from=builder /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/\nCOPY --from=builder /app /\n", 1, 0, "", "", false},
		{"passwd and zones", head + "FROM scratch\nCOPY --from=builder /etc/passwd /etc/group /etc/\nCOPY --from=builder /usr/share/zoneinfo /usr/share/zoneinfo\nCOPY --from=builder /etc/nsswitch.conf /etc/\n", 1, 0, "", "", false},
		{"the image's loader", head + "FROM scratch\nCOPY --from=builder /lib/ld-musl-x86_64.so.1 /lib/\nCOPY --from=builder /app /\n", 0, 1, "/lib/ld-musl-x86_64.so.1 of the image is copied", "", false},
		{"a system path that a step wrote", "FROM golang:1.26-alpine AS builder\nWORKDIR /src\nCOPY . .\nRUN go build -o /usr/bin/app .\nFROM scratch\nCOPY --from=builder /usr/bin/app /\n", 1, 0, "", "", false},
		{"installed programs", "FROM golang:1.26-alpine AS builder\nRUN go install example.com/x@latest\nFROM scratch\nCOPY --from=builder /go/bin/x /\n", 1, 0, "", "", false},
		{"by a wildcard", head + "FROM scratch\nCOPY --from=builder /app* /\n", 1, 0, "", "", false},
		{"COPY --link", "FROM golang:1.26-alpine AS builder\nWORKDIR /src\nCOPY --link . .\nRUN go build -o /app .\nFROM scratch\nCOPY --link --from=builder /app /\n", 1, 0, "", "", false},
		{"bind mounts", "FROM golang:1.26-alpine AS builder\nWORKDIR /src\nRUN --mount=type=bind,target=. --mount=type=cache,target=/root/.cache go build -o /app .\nFROM scratch\nCOPY --from=builder /app /\n", 1, 0, "", "", false},
		{"two stages on one image", "FROM golang:1.26-alpine AS mods\nWORKDIR /src\nCOPY go.mod .\nRUN go mod download\nFROM mods AS builder\nCOPY . .\nRUN go build -o /app .\nFROM scratch\nCOPY --from=builder /app /\n", 1, 0, "", "", false},
		{"two images, one refused", head + "FROM golang:1.26 AS other\nRUN make\nFROM scratch\nCOPY --from=builder /app /\nCOPY --from=other /out /out\n", 1, 1, "make is not", "", false},
		{"a stage that nothing needs", head + "FROM golang:1.26 AS other\nRUN make\nFROM scratch\nCOPY --from=builder /app /\n", 1, 0, "", "", false},
		{"by ARG", "ARG IMAGE=golang:1.26-alpine\nFROM ${IMAGE} AS builder\n" + build + "FROM scratch\nCOPY --from=builder /app /\n", 1, 0, "", "", false},
		{"for the build platform", "FROM --platform=$BUILDPLATFORM golang:1.26-alpine AS builder\nARG TARGETOS TARGETARCH\n" + build + "RUN GOOS=$TARGETOS GOARCH=$TARGETARCH go build -o /b .\nFROM scratch\nCOPY --from=builder /app /\n", 1, 0, "", "", false},
		{"into alpine", head + "FROM alpine\nCOPY --from=builder /app /\n", 1, 1, "", "", false},
		{"another registry's golang", "FROM localhost/golang:1.26 AS builder\n" + build + "FROM scratch\nCOPY --from=builder /app /\n", 0, 1, "", "", false},
		{"policy image", head + "FROM scratch\nCOPY --from=builder /app /\n", 0, 1, "", Image, false},
		{"policy builtin, served", head + "FROM scratch\nCOPY --from=builder /app /\n", 1, 0, "", Builtin, false},
		{"policy builtin, refused", "FROM golang:1.26-alpine AS builder\nRUN make\nFROM scratch\nCOPY --from=builder /app /\n", 0, 0, "Dockerfile:2: \"make\": make is not in the built-in base (write what it runs as RUN: go build …) (--go-base=image", Builtin, true},
		{"policy builtin, cgo", "FROM golang:1.26 AS builder\nRUN go build -o /app example.com/x\nFROM scratch\nCOPY --from=builder /app /\n", 1, 0, "warning: cgo", Builtin, false},
		{"no image to be had", "FROM golang:1.24-alpine AS builder\nRUN make\nFROM scratch\nCOPY --from=builder /app /\n", 0, 0, "the built-in Go cannot stand in for the image: Dockerfile:2: \"make\": make is not in the built-in base (write what it runs as RUN: go build …); the image cannot be had: ", "", true},
		{"a Go that is not there yet", "FROM golang:1.99-alpine AS builder\nRUN go version\nFROM scratch\nCOPY --from=builder /app /\n", 0, 0, "the image cannot be had: no registry in reach", "", true},
		{"a digest, asked for", "FROM golang@" + pinnedDigest + " AS builder\n" + build + "FROM scratch\nCOPY --from=builder /app /\n", 1, 0, "built-in Go 1.26.8", "", false},
		{"a tag with a digest", "FROM golang:1.26-alpine@" + pinnedDigest + " AS builder\n" + build + "FROM scratch\nCOPY --from=builder /app /\n", 1, 0, "built-in Go 1.26.8", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := fstest.MapFS{
				"Dockerfile": {Data: []byte(tt.dockerfile)}, "go.mod": {Data: []byte("module example.com/x\n")}, "main.go": {Data: []byte("package main\n")},
			}
			images := maps.Clone(realImages)
			images["localhost/golang:1.26"] = golangConfig
			pinned := strings.Replace(golangConfig, `"Env":[`, `"Cmd":["/bin/sh"],"Env":["GOLANG_VERSION=1.26.8",`, 1)
			images["golang"] = pinned
			if strings.Contains(tt.dockerfile, "-alpine@") {
				images["golang:1.26-alpine"] = pinned
			}
			b := buildDockerfile(t, files, Options{Policy: tt.policy}, images)
			if (b.err != nil) != tt.fails {
				t.Fatalf("error %v, want one: %v", b.err, tt.fails)
			}
			if len(b.bases) != tt.bases || len(b.images) != tt.images {
				t.Errorf("bases %q, images %q; notes %q", b.bases, b.images, b.notes)
			}
			if said := strings.Join(b.notes, "\n") + fmt.Sprint(b.err); !strings.Contains(said, tt.why) {
				t.Errorf("said %q, want %q", said, tt.why)
			}
		})
	}
}

const pinnedDigest = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
