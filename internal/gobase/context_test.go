package gobase

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/skiff-build/skiff/internal/gotoolchain/gotoolchaintest"
)

// TestRepository: whether .git reaches a stage, and what follows from that.
func TestRepository(t *testing.T) {
	const debian = "FROM golang:1.26 AS builder\nENV CGO_ENABLED=0\nWORKDIR /src\n"
	const alpine = "FROM golang:1.26-alpine AS builder\nWORKDIR /src\n"
	const out = "\nFROM scratch\nCOPY --from=builder /app /\n"
	tests := []struct {
		name, dockerfile, ignore string
		why                      string // empty: served
		git                      bool   // the base has the git that knows no repository
	}{
		{"copied, Debian", debian + "COPY . .\nRUN go build -o /app ." + out, "", "stamps revision and time", false},
		{"copied, -buildvcs=false", debian + "COPY . .\nRUN go build -buildvcs=false -o /app ." + out, "", "", false},
		{"copied, GOFLAGS", debian + "ENV GOFLAGS=-buildvcs=false\nCOPY . .\nRUN go build -o /app ." + out, "", "", false},
		{"ignored", debian + "COPY . .\nRUN go build -o /app ." + out, ".git\n", "", true},
		{"ignored by all but", debian + "COPY . .\nRUN go build -o /app ." + out, "**\n!*.go\n!go.mod\n", "", true},
		{"ignored and taken back", debian + "COPY . .\nRUN go build -o /app ." + out, "*\n!.git\n!*.go\n", "stamps revision and time", false},
		{"other files copied", debian + "COPY go.mod main.go ./\nRUN go build -o /app ." + out, "", "", true},
		{"a folder copied", debian + "COPY cmd cmd\nRUN go build -o /app ./cmd" + out, "", "", true},
		{"only .git copied", debian + "COPY .git .git\nCOPY *.go go.mod ./\nRUN go build -o /app ." + out, "", "stamps", false},
		{"wildcard", debian + "COPY *.go go.mod ./\nRUN go build -o /app ." + out, "", "", true},
		{"left out by the copy", debian + "COPY --exclude=.git . .\nRUN go build -o /app ." + out, "", "", true},
		{"mounted", debian + "RUN --mount=type=bind,target=. go build -o /app ." + out, "", "stamps", false},
		{"Alpine has no git", alpine + "COPY . .\nRUN go build -o /app ." + out, "", "", false},
		{"Alpine with git", alpine + "RUN apk add git\nCOPY . .\nRUN go build -o /app ." + out, "", "stamps", false},
		{"describe, copied", alpine + "RUN apk add git\nCOPY . .\nRUN V=$(git describe --tags) && go build -buildvcs=false -ldflags \"-X main.v=$V\" -o /app ." + out, "", "git is used, and .git is in the build context", false},
		{"describe, ignored", alpine + "RUN apk add git\nCOPY . .\nRUN V=$(git describe --tags) && go build -ldflags \"-X main.v=$V\" -o /app ." + out, ".git", "", true},
		{"describe without git", alpine + "COPY . .\nRUN go build -ldflags \"-X main.v=$(git describe)\" -o /app ." + out, "", "", false},
		{"built elsewhere", debian + "COPY . .\nWORKDIR /other\nRUN go mod init x && go build -o /app ." + out, "", "", false},
		{"from another stage", "FROM golang:1.26-alpine AS src\nWORKDIR /src\nCOPY . .\n" + debian + "COPY --from=src /src .\nRUN go build -o /app ." + out, "", "stamps", false},
		{"an older Go does not stamp", strings.Replace(debian, "1.26", "1.13", 1) + "COPY . .\nRUN go build -o /app ." + out, "", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := fstest.MapFS{
				"Dockerfile": {Data: []byte(tt.dockerfile)}, "go.mod": {Data: []byte("module example.com/x\n")},
				"main.go": {Data: []byte("package main\n")}, "cmd/main.go": {Data: []byte("package main\n")},
				".git/HEAD": {Data: []byte("ref: refs/heads/main\n")}, ".git/config": {},
			}
			if tt.ignore != "" {
				files[".dockerignore"] = &fstest.MapFile{Data: []byte(tt.ignore)}
			}
			images := map[string]string{"golang:1.26": golangConfig, "golang:1.26-alpine": golangConfig, "golang:1.13": golangConfig}
			b := buildDockerfile(t, files, Options{}, images)
			if b.err != nil {
				t.Fatal(b.err)
			}
			said := strings.Join(b.notes, "\n")
			if served := len(b.images) == 0; served != (tt.why == "") || !strings.Contains(said, tt.why) {
				t.Fatalf("bases %q, images %q, notes %q; want %q", b.bases, b.images, b.notes, tt.why)
			}
			if tt.why == "" && strings.Contains(strings.Join(b.bases, " "), "git") != tt.git {
				t.Errorf("bases %q, want git %v", b.bases, tt.git)
			}
			if tt.why == "" {
				return
			}
			// With a git on the machine each of them is served.
			b = buildDockerfile(t, files, Options{Git: func() bool { return true }}, images)
			if b.err != nil || len(b.images) > 0 || !strings.Contains(strings.Join(b.bases, " "), "with=machine-git") ||
				!strings.Contains(strings.Join(b.notes, "\n"), "git is this machine's") {
				t.Errorf("with a git: bases %q, images %q, notes %q, error %v", b.bases, b.images, b.notes, b.err)
			}
		})
	}
}

// TestNewerGoForOlderTags: below 1.21 a tag's own Go is used unless it cannot read go.mod, and where it has failed the one that go.mod's
// toolchain line names, else the smallest that serves.
func TestNewerGoForOlderTags(t *testing.T) {
	const dockerfile = "FROM golang:1.13-alpine AS builder\nWORKDIR /src\nCOPY . .\nRUN CGO_ENABLED=0 go build -o /app .\nFROM scratch\nCOPY --from=builder /app /\n"
	const dependency = "module example.com/x\n\ngo 1.13\n\nrequire example.com/y v1.0.0\n"
	tests := []struct {
		name, mod, dependency, ignore string
		want                          string // at first
		failed                        string // when its step has failed; empty: nothing else is tried
	}{
		{"its own", "module x\n\ngo 1.13\n", "", "", "1.13.15", ""},
		{"older", "module x\n\ngo 1.11\n", "", "", "1.13.15", ""},
		{"none", "module x\n", "", "", "1.13.15", ""},
		{"newer", "module x\n\ngo 1.15\n", "", "", "1.13.15", "1.15.15"},
		{"much newer", "module x\n\ngo 1.24\n", "", "", "1.13.15", "1.24.13"},
		{"newer, with a patch", "module x\n\ngo 1.24.7\n", "", "", "1.13.15", "1.24.9"},
		{"a toolchain line", "module x\n\ngo 1.21.0\n\ntoolchain go1.24.9\n", "", "", "1.24.9", ""},
		{"a toolchain line, older", "module x\n\ngo 1.13\n\ntoolchain go1.24.9\n", "", "", "1.13.15", ""},
		{"a toolchain that nobody has", "module x\n\ngo 1.21.0\n\ntoolchain go1.23.4\n", "", "", "1.21.13", ""},
		{"a tool line", "module x\n\ngo 1.24\n\ntool example.com/y\n", "", "", "1.24.13", ""},
		{"a dependency's own", dependency, "go 1.12", "", "1.13.15", ""},
		{"a dependency newer", dependency, "go 1.24.0", "", "1.13.15", "1.24.9"},
		{"ignored", "module x\n\ngo 1.26\n", "", "go.mod", "1.13.15", ""},
		{"not copied", "module x\n\ngo 1.13\n", "", "", "1.13.15", ""}, // other/go.mod asks for 1.26
		{"another go.mod that it reads", "module x\n\ngo 1.15\n", "", "", "1.13.15", "1.24.9"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			proxy := gotoolchaintest.NewProxy(t, "1.13.15", "1.15.3", "1.15.15", "1.21.13", "1.24.9", "1.24.13", "1.26.8")
			tools := proxy.Tools(gotoolchaintest.NewState(t))
			if tt.dependency != "" {
				rec := map[string]string{"go": strings.TrimPrefix(tt.dependency, "go ")}
				if err := tools.State().Save("gomod", "mod example.com/y@v1.0.0", rec); err != nil {
					t.Fatal(err)
				}
			}
			files := fstest.MapFS{"Dockerfile": {Data: []byte(dockerfile)}, "go.mod": {Data: []byte(tt.mod)}, "main.go": {Data: []byte("package main\n")}}
			if tt.ignore != "" {
				files[".dockerignore"] = &fstest.MapFile{Data: []byte(tt.ignore)}
			}
			switch tt.name {
			case "not copied":
				files["other/go.mod"] = &fstest.MapFile{Data: []byte("module y\n\ngo 1.26\n")}
				files["Dockerfile"].Data = []byte(strings.Replace(dockerfile, "COPY . .", "COPY go.mod *.go ./", 1))
			case "another go.mod that it reads":
				files["tools/go.mod"] = &fstest.MapFile{Data: []byte("module y\n\ngo 1.24.1\n\ntool example.com/y\n")}
			}
			build := func(o Options, want string) built {
				t.Helper()
				b := buildDockerfile(t, files, o, nil)
				if b.err != nil {
					t.Fatal(b.err)
				}
				if want := Scheme + want + "/alpine/amd64"; len(b.bases) != 1 || b.bases[0] != want {
					t.Fatalf("bases %q, want %s; notes %q", b.bases, want, b.notes)
				}
				env := strings.Join(execs(b.graph)[0].Op.GetExec().Meta.Env, " ")
				if strings.Contains(env, "GOFLAGS=-mod=mod GOWORK=off") != (want != "1.13.15") || strings.Contains(env, "GOLANG_VERSION=1.13.15") != (want == "1.13.15") {
					t.Errorf("environment %s", env)
				}
				return b
			}
			o := Options{Tools: tools, Newer: &Newer{Project: "p"}, Note: func(string) {}}
			b := build(o, tt.want)
			again := o.TryNewer("Dockerfile:4", execs(b.graph)[0].Meta.GetDescription())
			if again != (tt.failed != "") {
				t.Fatalf("after a step has failed another Go is tried: %v", again)
			}
			if !again {
				return
			}
			b = build(o, tt.failed)
			if notes := strings.Join(b.notes, "\n"); !strings.Contains(notes, "warning: built-in Go "+tt.failed+" is used, not the tag's 1.13.15") {
				t.Errorf("notes %s", notes)
			}
			if o.TryNewer("Dockerfile:4", execs(b.graph)[0].Meta.GetDescription()) {
				t.Error("it is tried twice")
			}
			// A build that succeeds is remembered, for this project alone.
			if err := o.Newer.Remember(tools.State()); err != nil {
				t.Fatal(err)
			}
			build(Options{Tools: tools, Newer: &Newer{Project: "p"}}, tt.failed)
			build(Options{Tools: tools, Newer: &Newer{Project: "other"}}, "1.13.15")
		})
	}
}

// TestNewerGoAfterTheImage: where the image has to be taken for its own old Go, its steps come first too, and a newer Go takes their
// place when one fails or the image cannot be had.
func TestNewerGoAfterTheImage(t *testing.T) {
	// Before 1.20 cgo that is on takes the image.
	const dockerfile = "FROM golang:1.13 AS builder\nWORKDIR /src\nCOPY . .\nRUN go build -o /app .\nFROM scratch\nCOPY --from=builder /app /\n"
	files := fstest.MapFS{"Dockerfile": {Data: []byte(dockerfile)}, "go.mod": {Data: []byte("module x\n\ngo 1.15\n")}, "main.go": {Data: []byte("package main\n")}}
	proxy := gotoolchaintest.NewProxy(t, "1.13.15", "1.15.15", "1.21.13", "1.26.8")
	const newer = Scheme + "1.21.13/debian/amd64" // the smallest that serves: 1.15 would take the image, too

	o := Options{Tools: proxy.Tools(gotoolchaintest.NewState(t)), Newer: &Newer{}, Note: func(string) {}}
	b := buildDockerfile(t, files, o, map[string]string{"golang:1.13": golangConfig})
	if b.err != nil || len(b.bases) > 0 || len(b.images) != 1 {
		t.Fatalf("bases %q, images %q, error %v, notes %q", b.bases, b.images, b.err, b.notes)
	}
	if !o.TryNewer("Dockerfile:4", execs(b.graph)[0].Meta.GetDescription()) {
		t.Fatal("a step of the image failed, and nothing else is tried")
	}
	b = buildDockerfile(t, files, o, map[string]string{"golang:1.13": golangConfig})
	if b.err != nil || len(b.bases) != 1 || !strings.HasPrefix(b.bases[0], newer) {
		t.Fatalf("bases %q, images %q, error %v, notes %q", b.bases, b.images, b.err, b.notes)
	}

	o = Options{Tools: proxy.Tools(gotoolchaintest.NewState(t)), Newer: &Newer{}, Note: func(string) {}}
	b = buildDockerfile(t, files, o, map[string]string{})
	if b.err != nil || len(b.bases) != 1 || !strings.HasPrefix(b.bases[0], newer) {
		t.Fatalf("without the image: bases %q, images %q, error %v, notes %q", b.bases, b.images, b.err, b.notes)
	}
}
