package goaware

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/protobuf/proto"

	"github.com/skiff-build/skiff/internal/graph"
	"github.com/skiff-build/skiff/internal/skifftest"
	"github.com/skiff-build/skiff/internal/store"
)

// TestDockerfiles runs BuildKit's frontend on each testdata/NAME.txtar and compares what the steps got, on the image and on the
// built-in base in its place. Comment lines
// before the Dockerfile are its reason.
func TestDockerfiles(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(err, "no cases")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got [2]string
			for i, base := range []string{"", testBase} {
				got[i] = describe(t, solve(t, string(a.Files[0].Data), func(c gwclient.Client) gwclient.Client {
					return swap{Wrap(c, Options{Generation: "GEN", Project: "p"}), base}
				}))
			}
			if skifftest.Update() {
				a.Files = []txtar.File{a.Files[0], {Name: "image", Data: []byte(got[0])}, {Name: "built-in base", Data: []byte(got[1])}}
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			for i, got := range got {
				if want := a.Files[i+1]; got != string(want.Data) {
					t.Errorf("%s%s: got:\n%s\nwant:\n%s", a.Comment, want.Name, got, want.Data)
				}
			}
		})
	}
}

// describe lists the steps with their arguments and cache mounts.
func describe(t *testing.T, def *pb.Definition) string {
	t.Helper()
	g, err := graph.Decode(def)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	var seen []string
	around := regexp.MustCompile(`\+[0-9a-f]{16}`)
	graph.Walk(g, func(v *graph.Vertex) error {
		if op := v.Op.GetExec(); op != nil {
			fmt.Fprintf(&b, "%q\n", op.Meta.Args[len(op.Meta.Args)-1])
			if called, ok := v.Meta.GetDescription()[HintGo]; ok {
				fmt.Fprintf(&b, "\tconfined to %s\n", called)
			}
			for _, m := range op.Mounts {
				if m.CacheOpt != nil {
					id := strings.Replace(m.CacheOpt.ID, "148de9c5a7a44d19", "PROJECT", 1)
					fmt.Fprintf(&b, "\t%s %s\n", m.Dest, around.ReplaceAllStringFunc(id, func(digest string) string {
						if !slices.Contains(seen, digest) {
							seen = append(seen, digest)
						}
						return fmt.Sprintf("+CGO%d", slices.Index(seen, digest))
					}))
				}
			}
		}
		return nil
	})
	return b.String()
}

const example = `FROM golang:1.26-alpine AS builder
RUN apk update && apk add git
WORKDIR /tmp/slackbot
COPY . .
RUN go mod download
RUN CGO_ENABLED=0 GOOS=linux GOARCH=amd64 go build -a -ldflags '-s -w' -o main .
FROM scratch
COPY --from=builder /tmp/slackbot/main /slackbot
CMD ["/slackbot"]
`

func TestNotesNameEachRewriteOnce(t *testing.T) {
	var notes []string
	o := Options{Generation: "GEN", Note: func(s string) { notes = append(notes, s) }}
	var engine forward
	c := Wrap(&engine, o)
	for range 2 { // as for two platforms, or when the frontend runs again
		solve(t, example, func(r gwclient.Client) gwclient.Client { engine.Client = r; return swap{c, testBase} })
	}
	want := []string{
		"gocache: [builder 5/6] RUN go mod download: Go's build cache and module cache mounted (what it compiles is shared)",
		"gocache: [builder 6/6] RUN CGO_ENABLED=0 GOOS=linux GOARCH=amd64 go build -a -ldflags '-s -w' -o main .: Go's build cache and module cache mounted (what it compiles is shared)",
		"force: [builder 6/6] RUN CGO_ENABLED=0 GOOS=linux GOARCH=amd64 go build -a -ldflags '-s -w' -o main .: -a left out, the build cache is keyed by content",
	}
	if !slices.Equal(notes, want) {
		t.Errorf("notes:\n%s\nwant:\n%s", strings.Join(notes, "\n"), strings.Join(want, "\n"))
	}
}

// forward hands calls on to a client that may be replaced.
type forward struct{ gwclient.Client }

func TestSwitchedOff(t *testing.T) {
	plain := solve(t, example, func(c gwclient.Client) gwclient.Client { return c })
	for _, o := range []Options{{Faithful: true, Generation: "GEN"}, {Off: []string{GoCache}, Generation: "GEN"}} {
		def := solve(t, example, func(c gwclient.Client) gwclient.Client { return Wrap(c, o) })
		if !proto.Equal(plain, def) {
			t.Errorf("%+v: the definition changed", o)
		}
	}
	def := solve(t, example, func(c gwclient.Client) gwclient.Client { return Wrap(c, Options{Off: []string{Force}}) })
	got := describe(t, def)
	if !strings.Contains(got, "go build -a ") || !strings.Contains(got, "skiff-go:build") || strings.Contains(got, "skiff-go:mod") {
		t.Errorf("without force and without a generation:\n%s", got)
	}
}

// TestEverythingElseStays: the rewritten definition differs from the plain one in the mounts and the one flag only,
// and metadata and source lines follow the new digests.
func TestEverythingElseStays(t *testing.T) {
	plain, err := graph.Decode(solve(t, example, func(c gwclient.Client) gwclient.Client { return c }))
	if err != nil {
		t.Fatal(err)
	}
	def := solve(t, example, func(c gwclient.Client) gwclient.Client { return Wrap(c, Options{Generation: "GEN"}) })
	got, err := graph.Decode(def)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, l := range strings.Split(got.String(), "\n") {
		if !strings.Contains(l, " id "+Prefix) {
			lines = append(lines, l)
		}
	}
	want := strings.Replace(plain.String(), "go build -a -ldflags", "go build -ldflags", 1)
	if text := strings.Join(lines, "\n"); text != want {
		t.Errorf("got:\n%s\nwant:\n%s", text, want)
	}
	graph.Walk(got, func(v *graph.Vertex) error {
		if op := v.Op.GetExec(); op != nil {
			if len(v.Source) == 0 || v.Meta.GetDescription()["llb.customname"] == "" {
				t.Errorf("%v: has lost its source line or its name", op.Meta.Args)
			}
			if slices.ContainsFunc(op.Mounts, func(m *pb.Mount) bool { return m.CacheOpt != nil }) && !v.Meta.Caps[string(pb.CapExecMountCache)] {
				t.Errorf("%v: does not say that it needs cache mounts", op.Meta.Args)
			}
		}
		return nil
	})
}

func TestUsersCannotNameOurCaches(t *testing.T) {
	g := &graph.Graph{Root: graph.Edge{Vertex: &graph.Vertex{Op: &pb.Op{Op: &pb.Op_Exec{Exec: &pb.ExecOp{
		Meta: &pb.Meta{Args: []string{"/plant"}, Cwd: "/"},
		Mounts: []*pb.Mount{
			{Input: -1, Dest: "/", Output: 0},
			{Input: -1, Dest: "/c", Output: -1, MountType: pb.MountType_CACHE, CacheOpt: &pb.CacheOpt{ID: "skiff-go:build"}},
		},
	}}}}}}
	def, err := graph.Encode(g)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{{}, {Faithful: true}} {
		out, err := Wrap(&recorder{}, o).(*client).rewrite(def)
		if err != nil {
			t.Fatal(err)
		}
		if got := describe(t, out); got != "\"/plant\"\n\t/c user:skiff-go:build\n" {
			t.Errorf("%+v: %s", o, got)
		}
	}
	text := "FROM golang\nRUN --mount=type=cache,id=skiff-go:build,target=/c true\n"
	got := describe(t, solve(t, text, func(c gwclient.Client) gwclient.Client { return Wrap(c, Options{}) }))
	if strings.Contains(got, " skiff-go:") {
		t.Errorf("through the frontend: %s", got)
	}
}

func TestHostileDefinitionIsAnError(t *testing.T) {
	c := Wrap(&recorder{}, Options{})
	_, err := c.Solve(t.Context(), gwclient.SolveRequest{Definition: &pb.Definition{Def: [][]byte{[]byte("no LLB")}}})
	if err == nil {
		t.Error("no error")
	}
}

func TestGeneration(t *testing.T) {
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	first, err := Generation(st)
	if err != nil || first == "" {
		t.Fatal(first, err)
	}
	if again, err := Generation(st); again != first || err != nil {
		t.Errorf("asked again: %q, %v; want %q", again, err, first)
	}
	if next, err := NewGeneration(st); next == first || err != nil {
		t.Errorf("drawn anew: %q, %v", next, err)
	}
}

func TestTrustedGo(t *testing.T) {
	for _, c := range []struct {
		line string
		want bool
	}{
		{"go build", true},
		{"go build -o main .", true},
		{"go build -a -v -trimpath -tags netgo,osusergo -o /out/x ./cmd/x", true},
		{"go build -ldflags=-s ./...", true},
		{"go mod download", true},
		{"go mod tidy", true},
		{"go list -m all", true},
		{"go vet ./...", true},
		{"go env", true},
		{"go env GOOS", true},
		{"go env -w GOFLAGS=-toolexec=x", false},
		{"go env --w GOFLAGS=-toolexec=x", false},
		{"go env -u GOFLAGS", false},
		{"go build -toolexec=evil .", false},
		{"go build --toolexec evil .", false},
		{"go build -compiler gccgo .", false},
		{"go build -overlay o.json .", false},
		{"go vet -vettool=evil ./...", false},
		{"go run ./gen", false},
		{"go generate ./...", false},
		{"go test ./...", false},
		{"go tool x", false},
		{"go get example.com/x", true},
		{"go get -toolexec=evil example.com/x", false},
		{"go mod vendor -o /usr/local/go", false},
		{"go build -o", false},
		{"/tmp/go build .", false},
		{"go", false},
		{"go build " + dynamic, false},
		{"go mod edit -go=1.20", true},
		{"go mod edit -go=1.20 /usr/local/go/src/go.mod", false},
		{"go mod tidy -modfile=/usr/local/go/src/go.mod", false},
		{"go build -modfile=/usr/local/go/src/go.mod", false},
		{"go build -modfile=../x.mod", false},
		{"go build -modfile=x.mod", true},
		{"go build -gcflags=-o=/root/.cache/go-build/ab/cd-d .", false},
		{"go build -gcflags=all=-N .", true},
		{"go build -gcflags=all=-importcfg=/src/x .", false},
		{"go build -asmflags=-o=/x .", false},
		{"go build -ldflags=-o=/x .", false},
		{"go build -ldflags=-cpuprofile=/x .", false},
	} {
		if got := trustedGo(strings.Fields(c.line)); got != c.want {
			t.Errorf("%s: %v, want %v", c.line, got, c.want)
		}
	}
	for value, want := range map[string]bool{
		"-s -w": true, "-X main.v=1.2 -s": true, `-linkmode external -extldflags "-static"`: true, "-extldflags=-static": true,
		"-extld=/tmp/evil": false, "-extld evil": false, `-extldflags "-fplugin=evil.so"`: false, "-extldflags -Wl,-plugin,x": false,
		"-X 'main.v=a b' -s": true, "all=-s -w": true, "-o /x": false, "-s -o=/x": false, "-X": false, "'-s": false, "-tmpdir=/x": false,
	} {
		if got := harmlessToolFlags("ldflags", value); got != want {
			t.Errorf("-ldflags %s: %v, want %v", value, got, want)
		}
	}
}

// TestConfinedStep: steps that run, or may run, something other than the toolchain and harmless commands, by whatever stands
// around go, are not confined.
func TestConfinedStep(t *testing.T) {
	sh := func(text string) []string { return []string{"/bin/sh", "-c", text} }
	for _, c := range []struct {
		args []string
		env  string
		want bool
	}{
		{sh("go build -o app ."), "", true},
		{sh("set -eux && cd cmd && go vet && go build -o app ."), "", true},
		{sh("export CGO_ENABLED=0 && go build"), "", true},
		{sh("go build -o a . && go build -o b ."), "", true},
		{sh("mkdir -p /out && go build -o /out/ ./... || exit 1"), "", true},
		{sh("if [ -d cmd ]; then cd cmd; fi; go build"), "", true},
		{sh("go build -ldflags \"-X main.date=$(date -u) -X main.rev=$(git rev-parse HEAD 2>/dev/null || echo none)\" ."), "", true},
		{sh("V=$(cat VERSION) && go build -ldflags=\"-X main.v=$V\" ."), "", true},
		{sh("go build -gcflags=\"${GOPROXY}\" -o app ."), "", false}, // may be the engine's
		{sh("go build -gcflags=\"${X}\" -o app ."), "", true},
		{sh("go build -ldflags=$(cat flags) ."), "", false},
		{sh("go build -gcflags=\"$(cat flags)\" ."), "", false},
		{sh("go build -ldflags \"$(/src/evil)\" ."), "", false},
		{sh("go build -ldflags \"$(cat x > y)\" ."), "", true},
		{sh("go build -ldflags \"$(cat x > $GOCACHE/y)\" ."), "", false},
		{sh("apk add --no-cache git && go build"), "", true},
		{sh("cp x $GOCACHE/y && go build"), "", false},
		{sh("go env && go build"), "", true},
		{sh("go env > f && go build"), "", false},
		{sh("go env GOOS GOMODCACHE > f && go build"), "", true},
		{sh("go env GOCACHE > f && go build"), "", false},
		{sh("go env | sort && go build"), "", false},
		{sh("go env GOPROXY > f && go build"), "", false}, // modules may be lent
		{sh("echo $GOPROXY > f && go build"), "", false},
		{sh("go build -ldflags \"-X main.c=$(go env GOCACHE)\""), "", false},
		{sh("go build -ldflags \"-X main.c=$GOCACHE\""), "", false},
		{sh("go build -ldflags \"-X main.c=$GOCACHE\""), "GOCACHE=/c", false},
		{sh("echo $GOCACHE && go build"), "", false},
		{sh("go build -x 2>&1"), "", true},
		{sh("go build -x 2> log"), "", false},
		{sh("go list -export -f '{{.Export}}' . > f"), "", false},
		{sh("export && go build"), "", false},
		{sh("set && go build"), "", false},
		{sh("cd /dev && ls > f && go build"), "", false},
		{sh("cp x /dev/skiff-go-*/y && go build"), "", false},
		{sh("cd /dev && cp x skiff-go-*/y && go build"), "", false},
		{sh("ln -s x y && go build"), "", false},
		{sh("go build & sleep 1"), "", false},
		{sh(". ./evil && go build"), "", false},
		{sh("eval go build"), "", false},
		{sh("go build | sh"), "", false},
		{sh("$0 evil"), "", false},
		{sh("export GOFLAGS=-toolexec=/src/evil && go build"), "", false},
		{sh("GOFLAGS=-toolexec=/src/evil go build"), "", false},
		{sh("readonly GOFLAGS=-toolexec=/src/evil && go build"), "", false},
		{sh("X=GOFLAGS && export $X=-toolexec=/src/evil && go build"), "", false},
		{sh("export $(cat env) && go build"), "", false},
		{[]string{"/bin/bash", "-c", "export GOFLAGS=-toolexec=/src/evil && go build"}, "", false},
		{sh(": ${GOFLAGS:=-toolexec=/src/evil} && export GOFLAGS && go build"), "", false},
		{sh(": $((GOFLAGS=1)) && go build"), "", false},
		{sh("set -k && go build GOFLAGS=-toolexec=/src/evil"), "", false},
		{sh("go() { /src/evil; } && go build"), "", false},
		{sh("alias go=/src/evil && go build"), "", false},
		{sh("go build -o $(/src/evil) ."), "", false},
		{sh("echo $(/src/evil) && go build"), "", false},
		{sh("echo `/src/evil` && go build"), "", false},
		{sh("cd /usr/local/go/src && go mod tidy"), "", false},
		{sh("cd / && cd usr/local && cd go/src && go mod tidy"), "", false},
		{sh("cd $X && go mod tidy"), "", false},
		{sh("go build > /root/.cache/x"), "", true},
		{sh("go build > /dev/shm/x"), "", false},
		{sh("go build | tee x"), "", false},
		{sh("./go build"), "", false},
		{[]string{"/src/sh", "-c", "go build"}, "", false},
		{[]string{"/bin/bash", "--rcfile", "/src/evil", "-ic", "go build"}, "", false},
		{[]string{"/bin/bash", "-eo", "pipefail", "-c", "go build"}, "", true},
		{[]string{"/bin/bash", "-kc", "go build GOFLAGS=-toolexec=/src/evil"}, "", false},
		{[]string{"go", "build"}, "", true},
		{[]string{"/src/go", "build"}, "", false},
		{sh("go build"), "GOFLAGS=-mod=mod -trimpath", true},
		{sh("go build"), "GOFLAGS='-toolexec=/src/evil'", false},
		{sh("go build"), "GOFLAGS=\"-toolexec=/src/evil\"", false},
		{sh("go build"), "GOFLAGS=\u00a0-toolexec=/src/evil", false},
		{sh("go build"), "GOFLAGS=-ldflags=-extld=/src/evil", false},
		{sh("go build"), "XDG_CONFIG_HOME=/src", false},
		{sh("go build"), "HOME=/src", false},
		{sh("go build"), "HOME=/root", true},
		{sh("go build"), "GOENV=/src/env", false},
		{sh("go build"), "GOBIN=/src/bin", true},
		{sh("go build"), "GOBIN=/usr/local/go/pkg/tool/linux_amd64", false},
		{sh("go build"), "HOME=/proc/self/cwd", false},
		{sh("go build"), "GOTOOLCHAIN=", false},
		{sh("go build"), "GOCACHEPROG=/src/evil", false},
		{sh("go build"), "PATH=/src:/usr/local/go/bin:/bin", false},
		{sh("go build"), "PATH=/usr/local/go/bin:/src/bin:/bin", false},
		{sh("go build"), "PATH=/go/bin:/usr/local/go/bin:/usr/bin:/bin", true},
		{sh("set -x && go build"), "PS4=$(/src/evil)", false},
		{sh("go build"), "BASH_ENV=/src/evil", false},
		{sh("go build"), "LD_PRELOAD=/src/evil.so", false},
		{sh("go build"), "CC=/src/evil", false},
		{sh("go build"), "CGO_CFLAGS=-fplugin=/src/evil.so", false},
		{sh("go build"), "GOROOT=/src/go", false},
		{sh("go build"), "GOTOOLCHAIN=go1.99.0", false},
		{sh("go build"), "GOPROXY=https://evil.example", true},
		{sh("go build"), "GONOSUMDB=*", true},
		{sh("go build"), "GOAUTH=git /src", false},
		{sh("go build"), "GOVCS=*:all", false},
		{sh("go build"), "VERSION=1.2.3", true},
		{sh("go build -tags $VERSION"), "VERSION=1.2.3", true},
		{sh("go build -tags $VERSION"), "", false},
		{sh("A=-v go build $A"), "A=-toolexec=/src/evil", false},
		{sh("go build $A && A=-v"), "A=-toolexec=/src/evil", false},
		{sh("cd nowhere && A=-o\ngo build $A -toolexec=/src/evil"), "", false},
		{sh("echo -toolexec=/src/evil && go build $_"), "", false},
		{sh("echo -toolexec=/src/evil && go build $_"), "_=x", false},
		{sh("go build *"), "", false}, // a file may be called -toolexec=…
		{sh("go build ./cmd/*"), "", true},
	} {
		s := &step{op: &pb.ExecOp{Meta: &pb.Meta{Args: c.args, Cwd: "/src"}}, env: map[string]string{"HOME": "/root"}}
		if name, value, ok := strings.Cut(c.env, "="); ok {
			s.env[name] = value
		}
		s.script = readScript(c.args, s.env)
		if why := s.notConfined(testBase); (why == "") != c.want {
			t.Errorf("%q with %s: confined %v, want %v (%s)", c.args, c.env, why == "", c.want, why)
		}
		for _, base := range []string{"docker-image://docker.io/library/golang:1.26-alpine@sha256:00", testBase + "?with=machine-git"} {
			if s.notConfined(base) == "" {
				t.Errorf("%q is confined on %s", c.args, base)
			}
		}
	}
}

func TestMayUseCgo(t *testing.T) {
	for text, want := range map[string]bool{
		"go build": true, "CGO_ENABLED=0 go build": false, "CGO_ENABLED=1 go build": true, "export CGO_ENABLED=0 && go build": false,
		"go vet && export CGO_ENABLED=0 && go build": true, "CGO_ENABLED=0 go vet && go build": true, "make CGO_ENABLED=0": true, "go mod download": false, "unknown": true,
		"CGO_ENABLED=0 go vet && CGO_ENABLED=0 go build": false, "if x; then export CGO_ENABLED=0; fi; go build": true,
		"CGO_ENABLED=$X go build": true,
	} {
		args := []string{"/bin/sh", "-c", text}
		s := &step{op: &pb.ExecOp{Meta: &pb.Meta{Args: args}}, env: map[string]string{}, script: readScript(args, nil)}
		if got := s.mayUseCgo(); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
		s.env["CGO_ENABLED"] = "0"
		if got := s.mayUseCgo(); got != strings.Contains(text, "=1") && got != strings.Contains(text, "$X") {
			t.Errorf("%s, with ENV CGO_ENABLED=0: %v", text, got)
		}
	}
}
