package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/apicaps"
	capspb "github.com/moby/buildkit/util/apicaps/pb"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/skiff-build/skiff/internal/graph"
)

var _ gwclient.Client = (*Engine)(nil)

// refused are the capabilities of this BuildKit version that the engine does not have. All others it announces, and that of
// devices: without it the frontend leaves RUN --device out in silence, and with it allowedExec says no.
var refused = map[apicaps.CapID]bool{
	pb.CapBuildOpLLBFileName:        true,
	pb.CapDiffOp:                    true,
	pb.CapPassthroughOp:             true,
	pb.CapExecMetaCgroupParent:      true,
	pb.CapExecMetaLinuxResources:    true,
	pb.CapExecMetaNetworkProxy:      true,
	pb.CapExecCgroupsMounted:        true,
	pb.CapExecValidExitCode:         true,
	pb.CapRemoteCacheGHA:            true,
	pb.CapRemoteCacheS3:             true,
	pb.CapRemoteCacheAzBlob:         true,
	pb.CapMultipleExporters:         true,
	pb.CapSessionExporter:           true,
	pb.CapSourcePolicy:              true,
	pb.CapSourcePolicySession:       true,
	pb.CapGCFreeSpaceFilter:         true,
	pb.CapHistoryFilters:            true,
	pb.CapAttestations:              true,
	pb.CapSourceImageBlob:           true,
	pb.CapSourceImageLayerLimit:     true,
	pb.CapSourceImageChecksum:       true,
	pb.CapSourceLocalDiffer:         true,
	pb.CapSourceMetadataTransfer:    true,
	pb.CapSourceHTTPAuth:            true,
	pb.CapSourceHTTPHeader:          true,
	pb.CapSourceHTTPSignatureVerify: true,
	pb.CapSourceGitSignatureVerify:  true,
	pb.CapSourceGitMTime:            true,
	pb.CapSourceGitFetchByCommit:    true,
	pb.CapSourceGitBundle:           true,
	pb.CapSourceGitCheckoutBundle:   true,
}

// caps are what the engine runs.
func caps() apicaps.CapSet {
	var list []*capspb.APICap
	for _, c := range pb.Caps.All() {
		if !refused[apicaps.CapID(c.ID)] {
			list = append(list, c)
		}
	}
	return pb.Caps.CapSet(list)
}

// BuildOpts says what the engine can do. Opts is fresh each time.
func (e *Engine) BuildOpts() gwclient.BuildOpts {
	p := e.platform
	return gwclient.BuildOpts{
		Opts: map[string]string{}, SessionID: "skiff", Product: "skiff", LLBCaps: caps(),
		Workers: []gwclient.WorkerInfo{{ID: "skiff", Platforms: []ocispecs.Platform{p}}},
	}
}

// Inputs are what another frontend would hand over; there is none.
func (e *Engine) Inputs(context.Context) (map[string]llb.State, error) { return nil, nil }

// NewContainer is asked for by frontends that run programs of their own. Dockerfiles need none.
func (e *Engine) NewContainer(context.Context, gwclient.NewContainerRequest) (gwclient.Container, error) {
	return nil, errors.New("containers started by a frontend are not served by this engine")
}

// Warn passes a frontend's warning on.
func (e *Engine) Warn(_ context.Context, dgst digest.Digest, msg string, o gwclient.WarnOpts) error {
	e.warn(&client.VertexWarning{Vertex: dgst, Level: o.Level, Short: []byte(msg), Detail: o.Detail, URL: o.URL, SourceInfo: o.SourceInfo, Range: o.Range})
	return nil
}

// Solve takes a graph. Nothing is evaluated before the reference is asked to, unless the request says so. An empty
// definition gives a result without a reference, which is scratch.
func (e *Engine) Solve(ctx context.Context, req gwclient.SolveRequest) (*gwclient.Result, error) {
	if req.Frontend != "" {
		return nil, fmt.Errorf("frontend %s: only graphs are solved here", req.Frontend)
	}
	if len(req.SourcePolicies) > 0 {
		return nil, errors.New("source policies are not served by this engine")
	}
	g, err := graph.Decode(req.Definition)
	if err != nil {
		return nil, err
	}
	res := gwclient.NewResult()
	if g.Root.Vertex == nil {
		return res, nil
	}
	r := &ref{e: e, edge: edge{e.node(g.Root.Vertex), g.Root.Index}, def: req.Definition.CloneVT()}
	if req.Evaluate {
		if err := r.Evaluate(ctx); err != nil {
			return nil, err
		}
	}
	res.SetRef(r)
	return res, nil
}

// ResolveImageConfig returns the canonical name, the digest and the config of an image.
func (e *Engine) ResolveImageConfig(ctx context.Context, name string, o sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	return sourceresolver.NewImageMetaResolver(e).ResolveImageConfig(ctx, name, o)
}

// ResolveSourceMetadata says what a source is now: the config of an image, the commit of a git reference, the digest of
// what lies at a URL.
func (e *Engine) ResolveSourceMetadata(ctx context.Context, op *pb.SourceOp, o sourceresolver.Opt) (resp *sourceresolver.MetaResponse, err error) {
	if o.LogName == "" {
		return e.metadata(ctx, op, o)
	}
	err = e.internalVertex(o.LogName, func(func(string)) (err error) {
		resp, err = e.metadata(ctx, op, o)
		return err
	})
	return resp, err
}

func (e *Engine) metadata(ctx context.Context, op *pb.SourceOp, o sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	switch scheme, _ := splitIdentifier(op.GetIdentifier()); scheme {
	case schemeImage:
		return e.imageMetadata(ctx, op, o)
	case schemeOCI:
		return e.layoutMetadata(op, o)
	case schemeHTTP, schemeHTTPS:
		return e.httpMetadata(ctx, op)
	case schemeGit:
		return e.gitMetadata(ctx, op)
	}
	return &sourceresolver.MetaResponse{Op: op}, nil // nothing to say of it
}

func (e *Engine) imageMetadata(ctx context.Context, op *pb.SourceOp, o sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	if e.o.Images == nil {
		return nil, fmt.Errorf("image %s: this build has no images", op.Identifier)
	}
	_, name := splitIdentifier(op.Identifier)
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", name, err)
	}
	p := e.platform
	mode := ""
	if o.ImageOpt != nil {
		mode = o.ImageOpt.ResolveMode
		if o.ImageOpt.Platform != nil {
			p = *o.ImageOpt.Platform
		}
	}
	res, err := e.o.Images.Resolve(ctx, reference.TagNameOnly(ref).String(), &p, ResolveOpt{Pull: e.pull(mode)})
	if err != nil {
		return nil, err
	}
	return &sourceresolver.MetaResponse{Op: op, Image: &sourceresolver.ResolveImageResponse{Digest: res.Digest, Config: res.Config}}, nil
}

func (e *Engine) layoutMetadata(op *pb.SourceOp, o sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	_, name := splitIdentifier(op.Identifier)
	store := op.Attrs[pb.AttrOCILayoutStoreID]
	p := e.platform
	if l := o.OCILayoutOpt; l != nil {
		if l.Store.StoreID != "" {
			store = l.Store.StoreID
		}
		if l.Platform != nil {
			p = *l.Platform
		}
	}
	img, _, dgst, err := e.openLayout(name, store, &p)
	if err != nil {
		return nil, err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return nil, fmt.Errorf("oci layout %s: config: %w", name, err)
	}
	return &sourceresolver.MetaResponse{Op: op, Image: &sourceresolver.ResolveImageResponse{Digest: digest.Digest(dgst.String()), Config: config}}, nil
}

func unmarshal(raw []byte, v any) error { return json.Unmarshal(raw, v) }
