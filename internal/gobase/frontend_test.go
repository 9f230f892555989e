package gobase

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/builder"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	fstypes "github.com/tonistiigi/fsutil/types"

	"github.com/skiff-build/skiff/internal/gotoolchain"
	"github.com/skiff-build/skiff/internal/gotoolchain/gotoolchaintest"
	"github.com/skiff-build/skiff/internal/graph"
)

// frontendClient is the gateway client that a test runs BuildKit's own frontend against. Tests may import the
// frontend: what the decision reads is the LLB that it really makes.
type frontendClient struct {
	files    fstest.MapFS
	opts     map[string]string
	platform ocispecs.Platform

	mu     sync.Mutex
	solved []*graph.Graph
	asked  []string // images whose real config was asked for
	images map[string]string
}

func (c *frontendClient) BuildOpts() gwclient.BuildOpts {
	caps := pb.Caps.CapSet(pb.Caps.All())
	return gwclient.BuildOpts{
		Opts: maps.Clone(c.opts), SessionID: "test", LLBCaps: caps, Caps: gwpb.Caps.CapSet(gwpb.Caps.All()),
		Workers: []gwclient.WorkerInfo{{Platforms: []ocispecs.Platform{c.platform}}},
	}
}

func (c *frontendClient) Solve(_ context.Context, req gwclient.SolveRequest) (*gwclient.Result, error) {
	g, err := graph.Decode(req.Definition)
	if err != nil {
		return nil, err
	}
	res := gwclient.NewResult()
	if v := g.Root.Vertex; v != nil && strings.HasPrefix(v.Op.GetSource().GetIdentifier(), "local://") {
		res.SetRef(&fileRef{c.files})
		return res, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.solved = append(c.solved, g)
	res.SetRef(&fileRef{fstest.MapFS{}})
	return res, nil
}

func (c *frontendClient) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, ref)
	config, ok := c.images[familiar(ref)]
	if !ok {
		return "", "", nil, errors.New("no registry in reach")
	}
	return ref, digest.FromString(ref), []byte(config), nil
}

func (c *frontendClient) ResolveSourceMetadata(context.Context, *pb.SourceOp, sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	return nil, errors.New("not asked for in these tests")
}
func (c *frontendClient) Inputs(context.Context) (map[string]llb.State, error) { return nil, nil }
func (c *frontendClient) NewContainer(context.Context, gwclient.NewContainerRequest) (gwclient.Container, error) {
	return nil, errors.New("no containers")
}
func (c *frontendClient) Warn(context.Context, digest.Digest, string, gwclient.WarnOpts) error {
	return nil
}

// fileRef is a result that holds a file system.
type fileRef struct{ files fstest.MapFS }

func (r *fileRef) ToState() (llb.State, error)    { return llb.Scratch(), nil }
func (r *fileRef) Evaluate(context.Context) error { return nil }
func (r *fileRef) ReadFile(_ context.Context, req gwclient.ReadRequest) ([]byte, error) {
	return fs.ReadFile(r.files, strings.TrimPrefix(req.Filename, "/"))
}
func (r *fileRef) StatFile(_ context.Context, req gwclient.StatRequest) (*fstypes.Stat, error) {
	info, err := fs.Stat(r.files, strings.TrimPrefix(req.Path, "/"))
	if err != nil {
		return nil, err
	}
	return &fstypes.Stat{Path: req.Path, Size: info.Size(), Mode: uint32(info.Mode())}, nil
}
func (r *fileRef) ReadDir(context.Context, gwclient.ReadDirRequest) ([]*fstypes.Stat, error) {
	return nil, errors.New("not asked for in these tests")
}

// built is what came out of a build of a Dockerfile in a test.
type built struct {
	bases  []string // gobase:// identifiers in the final definition, sorted by appearance
	images []string // images that stayed
	notes  []string
	graph  *graph.Graph
	err    error
}

const alpineConfig = `{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/usr/bin:/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:0000000000000000000000000000000000000000000000000000000000000000"]}}`

// offlineTools are toolchains of a machine without a proxy that has asked for these tags before.
func offlineTools(t *testing.T, releases map[string]string) *gotoolchain.Toolchains {
	t.Helper()
	state := gotoolchaintest.NewState(t)
	for tag, release := range releases {
		if err := state.Save("gorelease", tag+" amd64", map[string]string{"release": release}); err != nil {
			t.Fatal(err)
		}
	}
	return gotoolchain.New(state, &gotoolchain.Env{GOPROXY: "off", GOSUMDB: "off", GOVERSION: "go1.26.8", GOROOT: "/nonexistent"}, nil)
}

var testReleases = map[string]string{
	"": "1.26.8", "1": "1.26.8", "1.26": "1.26.8", "1.26.8": "1.26.8", "1.13": "1.13.15", "1.19": "1.19.13", "1.21": "1.21.13",
	"1.24": "1.24.13",
}

// buildDockerfile runs the frontend over files, which hold a Dockerfile, with the base wrapped around it.
func buildDockerfile(t *testing.T, files fstest.MapFS, o Options, images map[string]string) built {
	t.Helper()
	return buildWith(t, files, o, images, nil)
}

// buildWith is buildDockerfile with more options of the frontend.
func buildWith(t *testing.T, files fstest.MapFS, o Options, images, opts map[string]string) built {
	t.Helper()
	if o.Tools == nil {
		o.Tools = offlineTools(t, testReleases)
	}
	out := built{}
	o.Note = func(s string) { out.notes = append(out.notes, s) }
	if o.Local == nil {
		o.Local = func(name string) (fs.FS, bool) { return files, name == "context" }
	}
	if images == nil {
		images = map[string]string{"alpine": alpineConfig, "alpine:latest": alpineConfig}
	}
	c := &frontendClient{files: files, images: images, platform: ocispecs.Platform{OS: "linux", Architecture: "amd64"},
		opts: map[string]string{"filename": "Dockerfile"}}
	maps.Copy(c.opts, opts)
	_, out.err = Wrap(builder.Build, o)(t.Context(), c)
	if out.err != nil || len(c.solved) == 0 {
		return out
	}
	out.graph = c.solved[len(c.solved)-1]
	err := graph.Walk(out.graph, func(v *graph.Vertex) error {
		id := v.Op.GetSource().GetIdentifier()
		switch {
		case strings.HasPrefix(id, Scheme):
			out.bases = append(out.bases, id)
		case strings.HasPrefix(id, "docker-image://"):
			out.images = append(out.images, familiar(strings.TrimPrefix(id, "docker-image://")))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// execs are the steps of a definition.
func execs(g *graph.Graph) []*graph.Vertex {
	var all []*graph.Vertex
	_ = graph.Walk(g, func(v *graph.Vertex) error {
		if v.Op.GetExec() != nil {
			all = append(all, v)
		}
		return nil
	})
	return all
}
