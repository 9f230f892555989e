package engine

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/client/llb"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/skiff-build/skiff/internal/sandbox"
	"github.com/skiff-build/skiff/internal/skifftest"
)

// bases gives one base of one layer.
type bases struct{ layer v1.Layer }

func (s bases) Layers(_ context.Context, identifier string) ([]BaseLayer, error) {
	if identifier != "gobase://1.2.3" {
		return nil, errors.New("no such base")
	}
	return []BaseLayer{{ID: "one", Open: func(context.Context) (io.ReadCloser, error) { return s.layer.Uncompressed() }}}, nil
}

// Steps in a built-in base run this program, and get of the machine what is no part of a key.
func TestGoBase(t *testing.T) {
	b := newBench(t)
	bin, err := tool()
	if err != nil {
		t.Fatal(err)
	}
	machine := filepath.Join(t.TempDir(), "machine")
	if err := os.WriteFile(machine, []byte("trusted"), 0o644); err != nil {
		t.Fatal(err)
	}
	proxy := "http://one"
	b.options = func(o *Options) {
		o.Bases = bases{skifftest.Layer(t, skifftest.Entry{Name: "bin/sh", Mode: 0o755, Body: string(bin)})}
		o.StepEnv = func(context.Context, StepInfo) (StepExtras, error) {
			return StepExtras{Env: []string{"GOPROXY=" + proxy, "SET=machine"}, Files: map[string]string{"/ca.pem": machine}}, nil
		}
	}
	st := sourceState("gobase://1.2.3").Run(run("env GOPROXY SET ; cat /ca.pem ; stat "+sandbox.SelfPath), llb.AddEnv("SET", "own")).
		Run(run("ls /usr/libexec")).Root()
	out := b.must(st)
	out.wants(t, "GOPROXY=http://one true", "SET=own true", "/ca.pem: trusted", "/usr/libexec: skiff skiff-unserved")
	if last := out.layers[len(out.layers)-1]; last.DiffID != emptyDiffID {
		t.Error("a mount left something in the layer")
	}
	proxy = "http://two"
	if again := b.must(st); again.child {
		t.Errorf("another proxy made the steps run again:\n%s", again.text())
	}
	if out := b.build(sourceState("gobase://9")); out.err == nil || !strings.Contains(out.err.Error(), "no such base") {
		t.Errorf("got %v", out.err)
	}
}

// sourceState is a source of any scheme.
func sourceState(identifier string) llb.State {
	return llb.NewState(llb.NewSource(identifier, nil, llb.Constraints{}).Output())
}

func TestUnknownSources(t *testing.T) {
	b := newBench(t)
	for _, id := range []string{"s3://x", "nothing"} {
		if out := b.build(sourceState(id)); out.err == nil || !strings.Contains(out.err.Error(), "not served") {
			t.Errorf("%s: got %v", id, out.err)
		}
	}
	if out := b.build(llb.Local("other")); out.err == nil || !strings.Contains(out.err.Error(), `local source "other"`) {
		t.Errorf("got %v", out.err)
	}
	if out := b.build(llb.Diff(b.base(), b.base().File(llb.Mkdir("/x", 0o755)))); out.err == nil || !strings.Contains(out.err.Error(), "diff") {
		t.Errorf("got %v", out.err)
	}
}

func TestHTTPSource(t *testing.T) {
	b := newBench(t)
	srv := newFileServer(t, "content")
	out := b.must(llb.Scratch().File(llb.Copy(llb.HTTP(srv+"/dir/name.txt"), "name.txt", "/f")), "/f")
	if out.files["/f"] != "content" {
		t.Errorf("got %q", out.files)
	}
}

func newFileServer(t *testing.T, content string) string {
	t.Helper()
	srv := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, content) }))
	return srv
}

func TestSolveRefuses(t *testing.T) {
	b := newBench(t)
	e := b.engine(nil)
	defer e.Close()
	if _, err := e.Solve(t.Context(), gwclient.SolveRequest{Frontend: "gateway.v0"}); err == nil {
		t.Error("a frontend was served")
	}
	if _, err := e.NewContainer(t.Context(), gwclient.NewContainerRequest{}); err == nil {
		t.Error("a container was started")
	}
	res, err := e.Solve(t.Context(), gwclient.SolveRequest{Definition: &pb.Definition{}})
	if err != nil || res.Ref != nil {
		t.Errorf("scratch: %v %v", res, err)
	}
	if layers, err := e.Layers(t.Context(), nil, LayerOptions{}); err != nil || len(layers) != 0 {
		t.Errorf("scratch has layers: %v %v", layers, err)
	}
	caps := e.BuildOpts().LLBCaps
	if caps.Supports(pb.CapMergeOp) != nil || caps.Supports(pb.CapDiffOp) == nil || caps.Supports(pb.CapExecMountCache) != nil {
		t.Error("the capabilities are not what is served")
	}
}
