package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/moby/buildkit/solver/pb"
	"github.com/skiff-build/skiff/internal/graph"
	"github.com/skiff-build/skiff/internal/localdir"
	"github.com/skiff-build/skiff/internal/store"
	"golang.org/x/sync/errgroup"
)

// node is a vertex of any number of graphs, evaluated at most once.
type node struct {
	e       *Engine
	v       *graph.Vertex
	inputs  []edge
	nocache bool     // look nothing up
	fresh   bool     // it, or something below it, is to run anew: what the definition gave last time does not count
	read    []string // the files that it read in a local directory; nil: any
	unsure  bool     // an input changed while it ran: the result is good for this build alone

	defKey   flight[store.Key]
	evaled   flight[[]result]
	confined flight[bool]
	source   flight[*settledSource] // of sources other than local ones
	local    flight[*localdir.Tree] // of local sources
	shown    vertexState
}

type edge struct {
	*node
	index int
}

func (n *node) isLocal() bool { return isLocal(n.v) }

// eachInput calls fn for all inputs at once and returns the first error, which ends the others' context.
func (n *node) eachInput(ctx context.Context, fn func(ctx context.Context, i int, in edge) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for i, in := range n.inputs {
		g.Go(func() error { return fn(ctx, i, in) })
	}
	return g.Wait()
}

// evaluate returns the results of the vertex. Errors carry the vertex and its source lines.
func (n *node) evaluate(ctx context.Context) ([]result, error) {
	return n.evaled.do(ctx, func(ctx context.Context) ([]result, error) {
		outs, err := mending(ctx, n.e, func() ([]result, error) { return n.evaluateOnce(ctx) })
		return outs, n.failed(ctx, err)
	})
}

func (n *node) evaluateOnce(ctx context.Context) ([]result, error) {
	if err := n.allowed(); err != nil {
		return nil, err
	}
	switch n.v.Op.Op.(type) {
	case *pb.Op_Source:
		return n.evaluateSource(ctx)
	case *pb.Op_Merge:
		return n.evaluateMerge(ctx)
	case *pb.Op_Exec, *pb.Op_File:
		return n.evaluateStep(ctx)
	}
	return nil, fmt.Errorf("%s operations are not served by this engine", n.v.Kind())
}

// evaluateStep looks the step up under both keys, and runs it when neither is known.
func (n *node) evaluateStep(ctx context.Context) ([]result, error) {
	def, err := n.definitionKey(ctx)
	if err != nil {
		return nil, err
	}
	if !n.fresh {
		if outs, ok := n.e.lookup(def); ok {
			n.cached()
			return outs, nil
		}
	}
	if n.v.Op.GetExec() != nil {
		if n.e.noSteps != nil && n.e.onlyFiles { // no step of such a state ever ran: its inputs would be made for nothing
			return nil, n.e.noSteps
		}
		n.e.expectStep(ctx)
	}
	inputs, err := n.evaluateInputs(ctx)
	if err != nil {
		return nil, err
	}
	key, err := n.contentKey(ctx, inputs)
	if err != nil {
		return nil, err
	}
	if !n.nocache {
		if outs, ok := n.e.lookup(key); ok {
			n.cached()
			return outs, n.e.save(def, outs)
		}
	}
	outs, err := n.runOnce(ctx, key, inputs)
	if err != nil {
		return nil, err
	}
	if n.unsure {
		return outs, nil
	}
	return outs, n.e.save(def, outs)
}

// evaluateInputs gives the result that each input names. A local source has none; it is read where it lies.
func (n *node) evaluateInputs(ctx context.Context) ([]result, error) {
	uses := inputUses(n.v)
	inputs := make([]result, len(n.inputs))
	err := n.eachInput(ctx, func(ctx context.Context, i int, in edge) error {
		if in.isLocal() && n.readsLocal(i, uses[i]) {
			_, err := in.scan(ctx)
			return in.failed(ctx, err)
		}
		outs, err := in.evaluate(ctx)
		if err != nil {
			return err
		}
		if in.index >= len(outs) {
			return fmt.Errorf("input %s has no output %d", in.v.Name(), in.index)
		}
		inputs[i] = outs[in.index]
		return nil
	})
	return inputs, err
}

// readsLocal tells whether the operation reads local input i where it lies. File operations do, of a source of a copy;
// mounts need layers.
func (n *node) readsLocal(i int, u use) bool {
	_, file := n.v.Op.Op.(*pb.Op_File)
	return file && !u.whole
}

// runOnce runs the step while no other process does the same. Who had to wait finds what the other made.
func (n *node) runOnce(ctx context.Context, key store.Key, inputs []result) ([]result, error) {
	unlock, err := n.e.o.Store.Lock(ctx, "step "+key.String())
	if err != nil {
		return nil, err
	}
	defer unlock()
	if !n.nocache {
		if outs, ok := n.e.lookup(key); ok {
			n.cached()
			return outs, nil
		}
	}
	outs, by, err := n.lookupInputs(ctx, inputs)
	if err != nil {
		return nil, err
	}
	if len(outs) > 0 {
		n.cached()
		return outs, n.e.save(key, outs)
	}
	release, err := acquire(ctx, n.e.steps)
	if err != nil {
		return nil, err
	}
	defer release()
	n.started()
	remember, err := n.explain(ctx, inputs, by)
	if err != nil {
		return nil, err
	}
	switch o := n.v.Op.Op.(type) {
	case *pb.Op_Exec:
		outs, err = n.runExec(ctx, o.Exec, inputs, by)
	case *pb.Op_File:
		outs, err = n.runFile(ctx, o.File, inputs)
	}
	if err != nil {
		return nil, err
	}
	if err := errors.Join(n.keep(key, outs), remember()); err != nil {
		return nil, err
	}
	n.completed()
	return outs, nil
}

// keep stores the results of a step under its content key, unless a file that it read in a local directory has changed
// since the key was made: nobody knows which of the two contents it got.
func (n *node) keep(key store.Key, outs []result) error {
	for _, in := range n.inputs {
		if t, ok := in.local.peek(); ok && len(t.Changed(n.read)) > 0 {
			n.unsure = true
			return nil
		}
	}
	return n.e.save(key, outs)
}
