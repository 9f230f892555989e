package goaware

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tonistiigi/fsutil/types"

	"github.com/skiff-build/skiff/internal/dockerfile"
)

// golangEnv is the environment of the official golang image, of a version such as 1.26.8.
func golangEnv(version string) []string {
	return []string{
		"PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"GOLANG_VERSION=" + version, "GOTOOLCHAIN=local", "GOPATH=/go",
	}
}

// recorder is a gateway client that runs nothing: it serves the local directories that the frontend reads, answers for
// every image, and keeps the definitions that it is asked to solve.
type recorder struct {
	gwclient.Client
	Locals map[string]string // directory by name
	Solved []*pb.Definition
}

func (r *recorder) BuildOpts() gwclient.BuildOpts {
	return gwclient.BuildOpts{
		Opts:      map[string]string{},
		SessionID: "test",
		LLBCaps:   pb.Caps.CapSet(pb.Caps.All()),
		Caps:      gwpb.Caps.CapSet(gwpb.Caps.All()),
	}
}

func (r *recorder) Inputs(context.Context) (map[string]llb.State, error) { return nil, nil }

func (r *recorder) Warn(context.Context, digest.Digest, string, gwclient.WarnOpts) error { return nil }

// ResolveImageConfig answers for a golang image as the official one would, and for others with a search path alone.
func (r *recorder) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	img := ocispecs.Image{Platform: ocispecs.Platform{OS: "linux", Architecture: "amd64"}}
	img.RootFS = ocispecs.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromString(ref)}}
	if strings.Contains(ref, "golang") {
		img.Config.Env, img.Config.WorkingDir = golangEnv("1.26.8"), "/go"
	} else {
		img.Config.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	}
	config, err := json.Marshal(img)
	return ref, "", config, err
}

func (r *recorder) Solve(_ context.Context, req gwclient.SolveRequest) (*gwclient.Result, error) {
	res := gwclient.NewResult()
	if dir, ok, err := r.local(req.Definition); err != nil || ok {
		res.SetRef(dirRef(dir))
		return res, err
	}
	r.Solved = append(r.Solved, req.Definition)
	res.SetRef(dirRef(""))
	return res, nil
}

// local returns the directory that a definition of one local source names.
func (r *recorder) local(def *pb.Definition) (dir string, ok bool, err error) {
	if len(def.GetDef()) != 2 {
		return "", false, nil
	}
	var op pb.Op
	if err := op.UnmarshalVT(def.Def[0]); err != nil {
		return "", false, err
	}
	name, ok := strings.CutPrefix(op.GetSource().GetIdentifier(), "local://")
	if ok && r.Locals[name] == "" {
		return "", true, fmt.Errorf("no local directory %s", name)
	}
	return r.Locals[name], ok, nil
}

// dirRef is a result whose files are those of a directory.
type dirRef string

func (dirRef) ToState() (llb.State, error)    { return llb.Scratch(), nil }
func (dirRef) Evaluate(context.Context) error { return nil }

func (r dirRef) ReadFile(_ context.Context, req gwclient.ReadRequest) ([]byte, error) {
	return os.ReadFile(filepath.Join(string(r), req.Filename))
}

func (r dirRef) StatFile(_ context.Context, req gwclient.StatRequest) (*types.Stat, error) {
	st, err := os.Stat(filepath.Join(string(r), req.Path))
	if err != nil {
		return nil, err
	}
	return &types.Stat{Path: req.Path, Size: st.Size()}, nil
}

func (dirRef) ReadDir(context.Context, gwclient.ReadDirRequest) ([]*types.Stat, error) {
	return nil, nil
}

// solve runs BuildKit's frontend on a Dockerfile, through wrap, and returns the definition of the last thing that it
// wants solved: what the engine would build. The context is empty but for the Dockerfile.
func solve(t testing.TB, text string, wrap func(gwclient.Client) gwclient.Client) *pb.Definition {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	d, err := dockerfile.Open(dockerfile.Options{Context: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	r := &recorder{Locals: d.Locals()}
	if _, err := d.Build(t.Context(), wrap(r)); err != nil {
		t.Fatal(err)
	}
	if len(r.Solved) == 0 {
		t.Fatal("the frontend solved nothing")
	}
	return r.Solved[len(r.Solved)-1]
}
