package scaffold

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/patternmatcher"
)

// project is one with files; name and content by turns.
func project(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		name := filepath.Join(dir, files[i])
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(files[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestOpen(t *testing.T) {
	for name, c := range map[string]struct {
		files     []string
		version   string
		downloads bool
		err       string
	}{
		"patch":     {[]string{"go.mod", "module m\ngo 1.25.3\n"}, "1.25", false, ""},
		"toolchain": {[]string{"go.mod", "module m\ngo 1.24\ntoolchain go1.26.1\n"}, "1.26", false, ""},
		"old":       {[]string{"go.mod", "module m\ngo 1.16\n"}, "1.26", false, ""},
		"none":      {[]string{"go.mod", "module m\n"}, "1.26", false, ""},
		"requires":  {[]string{"go.mod", "module m\ngo 1.26\nrequire example.com/x v1.0.0\n"}, "1.26", true, ""},
		"vendored":  {[]string{"go.mod", "module m\ngo 1.26\nrequire example.com/x v1.0.0\n", "vendor/modules.txt", "# x\n"}, "1.26", false, ""},
		"replaced":  {[]string{"go.mod", "module m\ngo 1.26\nrequire example.com/x v1.0.0\nreplace example.com/x => ./x\n"}, "1.26", false, ""},
		"outside":   {[]string{"go.mod", "module m\ngo 1.26\nreplace example.com/x => ../x\n"}, "", false, "outside of the build context"},
		"absolute":  {[]string{"go.mod", "module m\ngo 1.26\nreplace example.com/x => /x\n"}, "", false, "absolute path"},
		"workspace": {[]string{"go.work", "go 1.25\nuse ./a\n", "go.mod", "module m\ngo 1.24\n"}, "1.25", false, ""},
		"above":     {[]string{"go.work", "go 1.25\nuse ../a\n"}, "", false, "outside of the build context"},
		"broken":    {[]string{"go.mod", "modul m\n"}, "", false, "go.mod:1"},
	} {
		p, err := Open(project(t, c.files...), "go1.26.8")
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want %q", name, err, c.err)
			}
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case p.GoVersion != c.version || p.Downloads != c.downloads:
			t.Errorf("%s: Go %s, downloads %v", name, p.GoVersion, p.Downloads)
		}
	}
}

func TestPorts(t *testing.T) {
	for body, want := range map[string]string{
		`http.ListenAndServe(":8080", nil)`:                                        "8080",
		`http.ListenAndServe("0.0.0.0:80", nil)`:                                   "80",
		`http.ListenAndServe("127.0.0.1:6060", nil)`:                               "",
		`http.ListenAndServe(os.Getenv("ADDR"), nil)`:                              "",
		`http.ListenAndServe(addr, nil)`:                                           "9000",
		`http.ListenAndServe(":http", nil)`:                                        "",
		`http.ListenAndServe(":99999", nil)`:                                       "",
		`s := &http.Server{Addr: ":8443"}; s.ListenAndServe()`:                     "8443",
		`net.Listen("tcp", ":7000"); net.ListenPacket("udp", ":53")`:               "7000 53/udp",
		`flag.String("listen", ":8081", "where")`:                                  "8081",
		`flag.StringVar(&x, "listen", ":8082", "where")`:                           "8082",
		`flag.String("x", "y", ":8083 is usual")`:                                  "",
		`gin.Default().Run(":8084"); fmt.Println(":1"); http.Get("http://x:8085")`: "8084",
	} {
		dir := project(t, "main.go", "package main\n\nconst addr = \":9000\"\n\nfunc main() {\n"+body+"\n}\n")
		got, err := portsOf(Package{Dir: dir, GoFiles: []string{"main.go"}})
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %q, %v; want %q", body, got, err, want)
		}
	}
}

// TestDockerignoreKeepsSources: nothing that go build reads is left out, whatever it is called.
func TestDockerignoreKeepsSources(t *testing.T) {
	root := t.TempDir()
	own := &struct{ Main bool }{true}
	p := &Project{Root: root, GoVersion: "1.26"}
	err := p.Add([]Package{
		{Dir: filepath.Join(root, "bin"), ImportPath: "m/bin", Module: own, GoFiles: nil, CFiles: []string{"x.c"}},
		{Dir: root, ImportPath: "m", Name: "main", Module: own, EmbedFiles: []string{"README.md", "testdata/a[1].txt", ".env", "plain.txt"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := p.Dockerignore()
	if err != nil {
		t.Fatal(err)
	}
	var patterns []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			patterns = append(patterns, line)
		}
	}
	m, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"bin/x.c": false, "README.md": false, "testdata/a[1].txt": false, ".env": false, "plain.txt": false,
		"CHANGES.md": true, "testdata/a1.txt": true, ".git/config": true, "a/b_test.go": true, ".env.local": true, "bin/app": true,
	} {
		if got, err := m.MatchesOrParentMatches(name); err != nil || got != want {
			t.Errorf("%s left out: %v, %v", name, got, err)
		}
	}
}

func TestShipped(t *testing.T) {
	for in, want := range map[string]string{
		". ./tools/gen":             ". | ./tools/gen",
		"./cmd/a ./cmd/b ./hack/x":  "./cmd/a ./cmd/b | ./hack/x",
		"./server ./worker":         "./server ./worker | ",
		"./api/cmd/api ./scripts/x": "./api/cmd/api | ./scripts/x",
	} {
		shipped, rest := Shipped(strings.Fields(in))
		if got := strings.Join(shipped, " ") + " | " + strings.Join(rest, " "); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}

func TestDockerfile(t *testing.T) {
	extras := [][]Extra{{{Why: "It verifies TLS certificates.", Text: "COPY --from=build /certs /certs"}}}
	for name, c := range map[string]struct {
		p    Project
		want string
	}{
		"one": {Project{GoVersion: "1.26", Downloads: true, HasSum: true, Programs: []Program{{Name: "app", Package: "./cmd/app", Ports: []string{"80", "53/udp"}}}},
			`# The compiler runs on the machine's own platform, and compiles for the image's.
FROM --platform=$BUILDPLATFORM golang:1.26-alpine AS build

WORKDIR /src
# The modules come first: they are fetched again only where these files change.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags '-s -w' -o /out/ ./cmd/app

FROM scratch
# It verifies TLS certificates.
COPY --from=build /certs /certs
COPY --from=build /out/app /app
USER 65532:65532
EXPOSE 80 53/udp
ENTRYPOINT ["/app"]
`},
		"cgo": {Project{GoVersion: "1.25", Programs: []Program{{Name: "tmp", Package: ".", Cgo: true}}},
			`FROM golang:1.25-alpine AS build
# cgo needs a C compiler. musl, Alpine's C library, can be linked statically.
RUN apk add --no-cache build-base

WORKDIR /src
COPY . .
RUN CGO_ENABLED=1 go build -trimpath -ldflags '-s -w -extldflags "-static"' -o /out/ .

FROM scratch
# It verifies TLS certificates.
COPY --from=build /certs /certs
COPY --from=build /out/tmp /usr/local/bin/tmp
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/tmp"]
`},
		"several": {Project{GoVersion: "1.26", Programs: []Program{{Name: "Build", Package: "./cmd/Build"}, {Name: "7z", Package: "./cmd/7z"}}},
			`# The compiler runs on the machine's own platform, and compiles for the image's.
FROM --platform=$BUILDPLATFORM golang:1.26-alpine AS go-build

WORKDIR /src
COPY . .
ARG TARGETOS TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags '-s -w' -o /out/ ./cmd/Build ./cmd/7z

FROM scratch AS build
# It verifies TLS certificates.
COPY --from=build /certs /certs
COPY --from=go-build /out/Build /Build
USER 65532:65532
ENTRYPOINT ["/Build"]

FROM scratch AS app-7z
COPY --from=go-build /out/7z /7z
USER 65532:65532
ENTRYPOINT ["/7z"]
`},
	} {
		if got := c.p.Dockerfile(extras); got != c.want {
			t.Errorf("%s: got\n%s", name, got)
		}
	}
}

func TestAdd(t *testing.T) {
	root := project(t, "main.go", "package main\nfunc main() {}\n")
	p := &Project{Root: root}
	err := p.Add([]Package{
		{ImportPath: "runtime/cgo", Standard: true, CgoFiles: []string{"cgo.go"}},
		{ImportPath: "x/v3", CgoFiles: []string{"x.go"}, CgoPkgConfig: []string{"libx", "liba"}, Module: &struct{ Main bool }{}},
		{ImportPath: "example.com/app/v2", Dir: root, GoFiles: []string{"main.go"}, Module: &struct{ Main bool }{true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	g := p.Programs[0]
	if g.Name != "app" || g.Package != "." || !g.Cgo || !slices.Equal(g.Needs, []string{"liba", "libx"}) {
		t.Errorf("%+v", g)
	}
}
