package engine

import (
	"cmp"
	"context"
	"fmt"

	"github.com/moby/buildkit/solver/pb"
)

// settleGoBase: the layers of a built-in base are named by what they hold.
func (n *node) settleGoBase(ctx context.Context, op *pb.SourceOp) (*settledSource, error) {
	if n.e.o.Bases == nil {
		return nil, fmt.Errorf("base %s: this build has no built-in bases", op.Identifier)
	}
	layers, err := n.e.o.Bases.Layers(ctx, op.Identifier)
	if err != nil {
		return nil, fmt.Errorf("base %s: %w", op.Identifier, err)
	}
	k, err := n.saltedKey(ctx, "gobase")
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(layers))
	for i, l := range layers {
		k.line("layer", l.ID)
		ids[i] = k.sum().String()[:layerIDLength]
	}
	return &settledSource{key: k.sum(), make: func(ctx context.Context, n *node) ([]result, error) {
		for i, l := range layers {
			t := n.task("unpack " + cmp.Or(l.Name, l.ID))
			err := n.unpackStream(ctx, l.Open, ids[:i], ids[i])
			t.done(err)
			if err != nil {
				return nil, fmt.Errorf("base %s: unpack layer %s: %w", op.Identifier, l.ID, err)
			}
		}
		return []result{{Layers: ids, GoBase: true}}, nil
	}}, nil
}
