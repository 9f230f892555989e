package engine

import (
	"context"
	"fmt"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"github.com/skiff-build/skiff/internal/graph"
	"github.com/skiff-build/skiff/internal/store"
)

// settledSource is a source vertex after it was settled what it means: the key names the content for ever.
type settledSource struct {
	key  store.Key
	make func(ctx context.Context, n *node) ([]result, error)
}

// schemes of source identifiers (solver/llbsolver and source/types in BuildKit; gobase is our own).
const (
	schemeImage  = "docker-image"
	schemeLocal  = "local"
	schemeHTTP   = "http"
	schemeHTTPS  = "https"
	schemeGit    = "git"
	schemeOCI    = "oci-layout"
	schemeGoBase = "gobase"
)

func splitIdentifier(id string) (scheme, rest string) {
	scheme, rest, ok := strings.Cut(id, "://")
	if !ok {
		return "", id
	}
	return scheme, rest
}

func isLocal(v *graph.Vertex) bool {
	s, ok := v.Op.Op.(*pb.Op_Source)
	if !ok {
		return false
	}
	scheme, _ := splitIdentifier(s.Source.Identifier)
	return scheme == schemeLocal
}

// sourceKey is the definition key of a source.
func (n *node) sourceKey(ctx context.Context) (store.Key, error) {
	if n.isLocal() {
		return n.localKey(ctx)
	}
	s, err := n.settled(ctx)
	if err != nil {
		return store.Key{}, err
	}
	return s.key, nil
}

// settled finds out once what the source means.
func (n *node) settled(ctx context.Context) (*settledSource, error) {
	return n.source.do(ctx, func(ctx context.Context) (*settledSource, error) {
		s, err := n.settle(ctx)
		return s, n.failed(ctx, err)
	})
}

func (n *node) settle(ctx context.Context) (*settledSource, error) {
	op := n.v.Op.GetSource()
	switch scheme, _ := splitIdentifier(op.Identifier); scheme {
	case schemeImage:
		return n.settleImage(ctx, op)
	case schemeOCI:
		return n.settleOCI(ctx, op)
	case schemeHTTP, schemeHTTPS:
		return n.settleHTTP(ctx, op)
	case schemeGit:
		return n.settleGit(ctx, op)
	case schemeGoBase:
		return n.settleGoBase(ctx, op)
	}
	return nil, fmt.Errorf("source %s: not served by this engine", op.Identifier)
}

// evaluateSource makes the layers of a source, unless they are there.
func (n *node) evaluateSource(ctx context.Context) ([]result, error) {
	if n.isLocal() {
		return n.materialise(ctx)
	}
	s, err := n.settled(ctx)
	if err != nil {
		return nil, err
	}
	if outs, ok := n.e.lookup(s.key); ok { // a key names content: --no-cache has nothing to gain
		n.cached()
		return outs, nil
	}
	unlock, err := n.e.o.Store.Lock(ctx, "source "+s.key.String())
	if err != nil {
		return nil, err
	}
	defer unlock()
	if outs, ok := n.e.lookup(s.key); ok {
		n.cached()
		return outs, nil
	}
	n.started()
	outs, err := s.make(ctx, n)
	if err != nil {
		return nil, err
	}
	if err := n.e.save(s.key, outs); err != nil {
		return nil, err
	}
	n.completed()
	return outs, nil
}

// saltedKey starts the key of a source.
func (n *node) saltedKey(ctx context.Context, kind string) (*keyer, error) {
	salt, err := n.e.salt(ctx)
	if err != nil {
		return nil, err
	}
	return newKey(kind, salt), nil
}
