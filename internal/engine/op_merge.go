package engine

import (
	"context"
	"slices"

	"github.com/skiff-build/skiff/internal/store"
)

// evaluateMerge puts the layers of the inputs on top of each other. It makes no layer and needs no record.
func (n *node) evaluateMerge(ctx context.Context) ([]result, error) {
	// The keys of all that is below it first: see checkSources.
	if _, err := n.definitionKey(ctx); err != nil {
		return nil, n.failed(ctx, err)
	}
	inputs, err := n.evaluateInputs(ctx)
	if err != nil {
		return nil, err
	}
	var merged result
	for _, in := range n.v.Op.GetMerge().Inputs {
		if in.Input < 0 {
			continue
		}
		merged.Layers = append(merged.Layers, inputs[in.Input].Layers...)
		merged.GoBase = merged.GoBase || inputs[in.Input].GoBase
	}
	merged.Layers = lastOnly(merged.Layers)
	n.cached()
	return []result{merged}, nil
}

// lastOnly keeps of each layer its topmost place. One directory cannot be in an overlay twice; and what a layer hides or
// adds is all there again where it comes a second time, so the first does not show.
func lastOnly(chain []string) []string {
	kept := make([]string, 0, len(chain))
	for i, id := range chain {
		if id == emptyLayer || !slices.Contains(chain[i+1:], id) {
			kept = append(kept, id)
		}
	}
	return kept
}

func (n *node) mergeKey(ctx context.Context) (store.Key, error) {
	salt, err := n.e.salt(ctx)
	if err != nil {
		return store.Key{}, err
	}
	keys := make([]any, len(n.inputs))
	err = n.eachInput(ctx, func(ctx context.Context, i int, in edge) error {
		key, err := in.definitionKey(ctx)
		keys[i] = key
		return err
	})
	if err != nil {
		return store.Key{}, err
	}
	k := newKey("merge", salt)
	for _, in := range n.v.Op.GetMerge().Inputs {
		if in.Input >= 0 {
			k.line("input", keys[in.Input], n.inputs[in.Input].index)
		}
	}
	return k.sum(), nil
}
