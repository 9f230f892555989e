package engine

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/skiff-build/skiff/internal/snapshot"
)

// maxMends is how often something is tried again because layers that it used were damaged. Each time all that it named were looked
// at, so a second time is rare; without a bound a disk that is failing would keep a build for ever.
const maxMends = 4

// mending calls fn, and again where layers that fn used turned out to be damaged: they are dropped by then, and what fn evaluates
// anew makes them again.
func mending[T any](ctx context.Context, e *Engine, fn func() (T, error)) (T, error) {
	for i := 0; ; i++ {
		v, err := fn()
		var d *snapshot.Damaged
		if !errors.As(err, &d) || ctx.Err() != nil {
			return v, err
		}
		e.forgetLayers(d.Layers)
		_ = e.internalVertex("[internal] skiff's state is damaged: layer "+strings.Join(d.Layers, ", ")+" is made again",
			func(func(string)) error { return nil })
		if i == maxMends {
			return v, errors.New(err.Error()) // nobody else is to try it
		}
	}
}

// forgetLayers lets go of results that name a layer which was dropped. Their records are misses for the same reason.
func (e *Engine) forgetLayers(ids []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range e.nodes {
		outs, ok := n.evaled.peek()
		if ok && slices.ContainsFunc(outs, func(r result) bool {
			return slices.ContainsFunc(r.Layers, func(id string) bool { return slices.Contains(ids, id) })
		}) {
			n.evaled.forget()
		}
	}
}
