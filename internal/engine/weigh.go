package engine

import (
	"context"

	gwclient "github.com/moby/buildkit/frontend/gateway/client"
)

// LeftBehind returns the bytes on the disk of the layers that a build needed and that are in none of its results, the
// references: stages that do not ship, with their bases. Each layer counts once, as far as this user can look into it. What an
// unchanged build did not need to look at is found by its definition key; a step whose result is not known any more
// weighs nothing.
func (e *Engine) LeftBehind(ctx context.Context, refs ...gwclient.Reference) (int64, error) {
	needed, ships := map[string]bool{}, map[string]bool{}
	seen := map[*node]bool{}
	for _, reference := range refs {
		r, ok := reference.(*ref)
		if !ok {
			continue
		}
		res, err := r.result(ctx)
		if err != nil {
			return 0, err
		}
		for _, id := range res.Layers {
			ships[id] = true
		}
		if err := r.edge.node.eachLayer(ctx, seen, needed); err != nil {
			return 0, err
		}
	}
	var sum int64
	for id := range needed {
		if !ships[id] {
			sum += e.o.Store.LayerSize(id)
		}
	}
	return sum, nil
}

func (n *node) eachLayer(ctx context.Context, seen map[*node]bool, layers map[string]bool) error {
	if seen[n] || n.isLocal() {
		return nil
	}
	seen[n] = true
	outs, ok := n.evaled.peek()
	if !ok {
		key, err := n.definitionKey(ctx)
		if err != nil {
			return err
		}
		outs, _ = n.e.lookup(key)
	}
	for _, o := range outs {
		for _, id := range realLayers(o.Layers) {
			layers[id] = true
		}
	}
	for _, in := range n.inputs {
		if err := in.node.eachLayer(ctx, seen, layers); err != nil {
			return err
		}
	}
	return nil
}
