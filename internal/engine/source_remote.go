package engine

import (
	"context"
	"fmt"
	"strings"

	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"github.com/skiff-build/skiff/internal/source"
)

// fetcher gets files by http and git, with what the build was given.
func (e *Engine) fetcher(log func(string)) *source.Fetcher {
	return &source.Fetcher{Store: e.o.Store, Secrets: e.o.Secrets, SSH: e.o.SSH, Log: log}
}

func (e *Engine) fetchHTTP(ctx context.Context, op *pb.SourceOp, log func(string)) (source.Result, error) {
	src, err := source.ParseHTTP(op.Identifier, op.Attrs)
	if err != nil {
		return source.Result{}, err
	}
	return e.fetcher(log).HTTP(ctx, src)
}

func (e *Engine) fetchGit(ctx context.Context, op *pb.SourceOp, log func(string)) (source.Result, error) {
	src, err := source.ParseGit(op.Identifier, op.Attrs)
	if err != nil {
		return source.Result{}, err
	}
	return e.fetcher(log).Git(ctx, src)
}

func (n *node) settleHTTP(ctx context.Context, op *pb.SourceOp) (*settledSource, error) {
	n.started()
	res, err := n.e.fetchHTTP(ctx, op, n.logLine)
	if err != nil {
		return nil, err
	}
	return n.remote(ctx, res)
}

func (n *node) settleGit(ctx context.Context, op *pb.SourceOp) (*settledSource, error) {
	n.started()
	res, err := n.e.fetchGit(ctx, op, n.logLine)
	if err != nil {
		return nil, err
	}
	return n.remote(ctx, res)
}

func (n *node) logLine(line string) { n.log(2, []byte(strings.TrimSuffix(line, "\n")+"\n")) }

// remote is a source whose files come as a tar.
func (n *node) remote(ctx context.Context, res source.Result) (*settledSource, error) {
	k, err := n.saltedKey(ctx, "remote")
	if err != nil {
		return nil, err
	}
	k.line("content", res.Key)
	id := k.sum().String()[:layerIDLength]
	return &settledSource{key: k.sum(), make: func(ctx context.Context, n *node) ([]result, error) {
		if err := n.unpackStream(ctx, res.Open, nil, id); err != nil {
			return nil, fmt.Errorf("%s: %w", n.v.Op.GetSource().Identifier, err)
		}
		return []result{{Layers: []string{id}}}, nil
	}}, nil
}

func (e *Engine) httpMetadata(ctx context.Context, op *pb.SourceOp) (*sourceresolver.MetaResponse, error) {
	res, err := e.fetchHTTP(ctx, op, nil)
	if err != nil {
		return nil, err
	}
	return &sourceresolver.MetaResponse{Op: op, HTTP: &sourceresolver.ResolveHTTPResponse{Digest: digest.Digest(res.Pin)}}, nil
}

func (e *Engine) gitMetadata(ctx context.Context, op *pb.SourceOp) (*sourceresolver.MetaResponse, error) {
	res, err := e.fetchGit(ctx, op, nil)
	if err != nil {
		return nil, err
	}
	return &sourceresolver.MetaResponse{Op: op, Git: &sourceresolver.ResolveGitResponse{Checksum: res.Pin, CommitChecksum: res.Pin}}, nil
}
