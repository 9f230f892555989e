package engine

import (
	"context"
	"fmt"

	"github.com/moby/buildkit/solver/pb"
	"google.golang.org/protobuf/proto"
)

// runFile has the child do the actions of a file operation. Actions on the same files, one after the other, write one
// layer, as BuildKit does it; a local source is read where it lies.
func (n *node) runFile(ctx context.Context, o *pb.FileOp, inputs []result) ([]result, error) {
	uses := inputUses(n.v)
	req := fileReq{Outputs: len(outputsOf(o))}
	for i, in := range n.inputs {
		if in.isLocal() && n.readsLocal(i, uses[i]) {
			sel, err := in.selection()
			if err != nil {
				return nil, err
			}
			req.Inputs = append(req.Inputs, treeReq{Local: &sel})
			continue
		}
		req.Inputs = append(req.Inputs, treeReq{Chain: realLayers(inputs[i].Layers)})
	}
	for _, a := range o.Actions {
		dt, err := proto.Marshal(a)
		if err != nil {
			return nil, fmt.Errorf("file operation: %w", err)
		}
		req.Actions = append(req.Actions, dt)
	}
	d, err := n.contextCopy(ctx, o, inputs)
	if err != nil {
		return nil, err
	}
	if d != nil {
		if outs, ok, err := n.complete(ctx, d, req, inputs); ok || err != nil {
			return outs, err
		}
	}
	var resp fileResp
	if err := n.e.call(ctx, methodFile, req, &resp, nil); err != nil {
		return nil, err
	}
	outs := n.fileResults(resp, inputs)
	if d != nil && len(d.tree.Changed(nil)) == 0 {
		return outs, n.e.remember(d, outs)
	}
	return outs, nil
}

// fileResults puts the layers that were made on what they stand on.
func (n *node) fileResults(resp fileResp, inputs []result) []result {
	outs := make([]result, len(resp.Outputs))
	for i, out := range resp.Outputs {
		base := result{}
		if out.Input >= 0 && out.Input < len(inputs) {
			base = inputs[out.Input]
		}
		for _, id := range out.Layers {
			base = base.with(id)
		}
		outs[i] = base
	}
	return outs
}

func outputsOf(o *pb.FileOp) map[int64]*pb.FileAction {
	outs := map[int64]*pb.FileAction{}
	for _, a := range o.Actions {
		if a.Output >= 0 {
			outs[a.Output] = a
		}
	}
	return outs
}
