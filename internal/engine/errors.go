package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/skiff-build/skiff/internal/sandbox"
)

// StepError is a step that ran and failed. Its text is BuildKit's own, which people search their logs for.
type StepError struct {
	Args []string
	Log  []string // the last lines that it printed, oldest first
	Err  *sandbox.ExitError

	Hints map[string]string // the description of its operation
}

func (e *StepError) Error() string {
	return fmt.Sprintf("process %q did not complete successfully: %v", strings.Join(e.Args, " "), e.Err)
}

func (e *StepError) Unwrap() error { return e.Err }

// UnservedError is a step in a built-in base that asked, while it ran, for what the base does not have. Nothing of it is kept.
type UnservedError struct {
	Why   string
	Hints map[string]string // the description of its operation
}

func (e *UnservedError) Error() string { return e.Why }

// failed tells the user that the vertex ended with err, and adds to err the vertex and the source lines that it stands
// for (errdefs.Sources gives them back). An error that came from an input has them already.
func (n *node) failed(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var v *errdefs.VertexError
	if errors.As(err, &v) {
		return err
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		n.shown.mu.Lock()
		running := n.shown.started != nil
		n.shown.mu.Unlock()
		if running {
			n.ended(false, context.Canceled)
		}
		return err // not the cause: whoever cancelled says why
	}
	n.ended(false, err)
	err = errdefs.WrapVertex(err, n.v.Digest)
	for _, l := range n.v.Source {
		if info := n.v.Info(l); info != nil {
			err = errdefs.WithSource(err, &errdefs.Source{Info: info, Ranges: cloneRanges(l.Ranges)})
		}
	}
	return err
}

func cloneRanges(rr []*pb.Range) []*pb.Range {
	out := make([]*pb.Range, len(rr))
	for i, r := range rr {
		out[i] = r.CloneVT()
	}
	return out
}
