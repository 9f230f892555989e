package goaware

import (
	"context"
	"fmt"
	"strings"
	"testing"

	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"

	"github.com/skiff-build/skiff/internal/graph"
)

// TestHints: what a step may be lent of the machine. Trusted steps on the built-in base alone get anything.
func TestHints(t *testing.T) {
	const before, after = "FROM golang:1.26-alpine AS builder\nWORKDIR /src\nCOPY . .\n", "\nFROM scratch\nCOPY --from=builder /src/app /\n"
	for _, c := range []struct {
		name, steps, base string
		off               []string
		want              string // of the last step
	}{
		{"build", "RUN go build -o app .", "gobase://1.26.8/alpine/amd64", nil, "cache=/root/.cache/go-build modules=yes release=1.26.8"},
		{"elsewhere", "ENV GOCACHE=/c\nRUN go build -o app .", "gobase://1.26.8/alpine/amd64", nil, "cache=/c modules=yes release=1.26.8"},
		{"no compiler runs", "RUN go mod download", "gobase://1.26.8/alpine/amd64", nil, "modules=yes release=1.26.8"},
		{"nothing is fetched", "RUN go version", "gobase://1.26.8/alpine/amd64", nil, "release=1.26.8"},
		{"Go without GOCACHEPROG", "RUN go build -o app .", "gobase://1.23.12/alpine/amd64", nil, "modules=yes release=1.23.12"},
		{"Go that knows no bar in GOPROXY", "RUN go mod download", "gobase://1.14.15/alpine/amd64", nil, "release=1.14.15"},
		{"what the step says of its Go", "ENV GOLANG_VERSION=1.25.0\nRUN go build -o app .", "gobase://1.23.12/alpine/amd64", nil, "modules=yes release=1.23.12"},
		{"the image", "RUN go build -o app .", "", nil, ""},
		{"one off", "RUN go build -o app .", "gobase://1.26.8/alpine/amd64", []string{UserCache}, "modules=yes release=1.26.8"},
		{"the other off", "RUN go build -o app .", "gobase://1.26.8/alpine/amd64", []string{UserModules}, "cache=/root/.cache/go-build release=1.26.8"},
		{"without gocache", "RUN go build -o app .", "gobase://1.26.8/alpine/amd64", []string{GoCache}, ""},
		{"go run", "RUN go run ./gen && go build -o app .", "gobase://1.26.8/alpine/amd64", nil, ""},
		{"after go run", "RUN go run ./gen\nRUN go build -o app .", "gobase://1.26.8/alpine/amd64", nil, "cache=/root/.cache/go-build modules=yes release=1.26.8"},
		{"with the machine's git", "RUN go build -o app .", "gobase://1.26.8/debian/amd64?with=machine-git", nil, ""},
		{"toolexec", "RUN go build -toolexec=x -o app .", "gobase://1.26.8/alpine/amd64", nil, ""},
		{"a program of its own", "ENV GOCACHEPROG=/src/evil\nRUN go build -o app .", "gobase://1.26.8/alpine/amd64", nil, ""},
		{"own mount", "RUN --mount=type=cache,target=/root/.cache go build -o app .", "gobase://1.26.8/alpine/amd64", nil, "modules=yes release=1.26.8"},
		{"a mount of settings", "RUN --mount=type=bind,target=/root go build -o app .", "gobase://1.26.8/alpine/amd64", nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			def := solve(t, before+c.steps+after, func(r gwclient.Client) gwclient.Client {
				return swap{Wrap(r, Options{Generation: "GEN", Off: c.off}), c.base}
			})
			g, err := graph.Decode(def)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			graph.Walk(g, func(v *graph.Vertex) error {
				if v.Op.GetExec() != nil {
					got = hints(v)
				}
				return nil
			})
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// swap puts another base in the place of golang images, as the built-in one does.
type swap struct {
	gwclient.Client
	base string
}

func (s swap) Solve(ctx context.Context, req gwclient.SolveRequest) (*gwclient.Result, error) {
	g, err := graph.Decode(req.Definition)
	if err != nil {
		return nil, err
	}
	graph.Walk(g, func(v *graph.Vertex) error {
		if src := v.Op.GetSource(); src != nil && s.base != "" && strings.HasPrefix(src.Identifier, "docker-image://") {
			src.Identifier, src.Attrs = s.base, nil
		}
		return nil
	})
	if req.Definition, err = graph.Encode(g); err != nil {
		return nil, err
	}
	return s.Client.Solve(ctx, req)
}

func hints(v *graph.Vertex) string {
	var list []string
	for _, name := range []string{HintCache, HintModules, HintRelease} {
		if value := v.Meta.GetDescription()[name]; value != "" {
			list = append(list, fmt.Sprintf("%s=%s", strings.TrimPrefix(name, hintPrefix), value))
		}
	}
	return strings.Join(list, " ")
}

// TestHintsFromElsewhereAreDropped: a definition cannot say itself what it may be lent.
func TestHintsFromElsewhereAreDropped(t *testing.T) {
	v := &graph.Vertex{
		Op: &pb.Op{Op: &pb.Op_Exec{Exec: &pb.ExecOp{
			Meta: &pb.Meta{Args: []string{"/plant"}, Cwd: "/"}, Mounts: []*pb.Mount{{Input: -1, Dest: "/", Output: 0}},
		}}},
		Meta: &pb.OpMetadata{Description: map[string]string{HintCache: "/etc", HintModules: "yes", "llb.customname": "plant"}},
	}
	def, err := graph.Encode(&graph.Graph{Root: graph.Edge{Vertex: v}})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{{}, {Faithful: true}} {
		out, err := Wrap(&recorder{}, o).(*client).rewrite(def)
		if err != nil {
			t.Fatal(err)
		}
		g, err := graph.Decode(out)
		if err != nil {
			t.Fatal(err)
		}
		if got := hints(g.Root.Vertex); got != "" || g.Root.Vertex.Name() != "plant" {
			t.Errorf("%+v: %q, name %q", o, got, g.Root.Vertex.Name())
		}
	}
}
