package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/moby/buildkit/solver/pb"
	"github.com/skiff-build/skiff/internal/fileop"
	"github.com/skiff-build/skiff/internal/graph"
	"github.com/skiff-build/skiff/internal/inode"
	"github.com/skiff-build/skiff/internal/snapshot"
	"github.com/skiff-build/skiff/internal/store"
)

// actions is a file operation under way. Its values are numbered as in the operation: the inputs, then what each action
// gives. A value is open while the next action may go on writing to it, and a chain after that.
type actions struct {
	*job
	inputs  []treeReq
	list    []*pb.FileAction
	values  []fileValue
	readers []int // by value: how many actions read it, other than by writing on
}

// fileValue is a chain that stands on an input (-1: on nothing) or, while active is there, what is being written on it.
type fileValue struct {
	input  int
	layers []string // made here, on top of the input; "" is one that holds nothing
	active *snapshot.Active
}

func runActions(ctx context.Context, j *job, req fileReq) (resp fileResp, err error) {
	s := &actions{job: j, inputs: req.Inputs}
	for i := range req.Inputs {
		s.values = append(s.values, fileValue{input: i})
	}
	for _, dt := range req.Actions {
		a := &pb.FileAction{}
		if err := a.UnmarshalVT(dt); err != nil {
			return resp, err
		}
		s.list = append(s.list, a)
	}
	if req.Over != "" {
		return s.complete(ctx, req)
	}
	s.countReaders()
	resp.Outputs = make([]fileOutput, req.Outputs)
	for _, a := range s.list {
		v, err := s.apply(ctx, a)
		if err != nil {
			return resp, err
		}
		s.values = append(s.values, v)
		if a.Output >= 0 {
			if err := s.close(len(s.values) - 1); err != nil {
				return resp, err
			}
			v := s.values[len(s.values)-1]
			resp.Outputs[a.Output] = fileOutput{Input: v.input, Layers: v.layers}
		}
	}
	return resp, nil
}

// countReaders finds which values are needed as they are after the action that makes them.
func (s *actions) countReaders() {
	s.readers = make([]int, len(s.inputs)+len(s.list))
	for i, a := range s.list {
		for _, in := range append(ownerValues(a), int(a.SecondaryInput)) {
			if in >= 0 {
				s.readers[in]++
			}
		}
		if a.Output >= 0 {
			s.readers[len(s.inputs)+i]++
		}
	}
	seen := map[int64]bool{}
	for _, a := range s.list { // written on twice: each needs its own
		if a.Input >= 0 && seen[a.Input] {
			s.readers[a.Input]++
		}
		seen[a.Input] = true
	}
}

func ownerValues(a *pb.FileAction) []int {
	var list []int
	for _, u := range []*pb.UserOpt{graph.Owner(a).GetUser(), graph.Owner(a).GetGroup()} {
		if n := u.GetByName(); n != nil {
			list = append(list, int(n.Input))
		}
	}
	return list
}

// apply does one action and returns the value it gives.
func (s *actions) apply(ctx context.Context, a *pb.FileAction) (fileValue, error) {
	v, err := s.writable(ctx, int(a.Input))
	if err != nil {
		return v, err
	}
	return v, s.applyIn(ctx, v.active.Root(), a)
}

// applyIn does one action in a mounted directory.
func (s *actions) applyIn(ctx context.Context, root string, a *pb.FileAction) (err error) {
	var src, users inode.Tree
	if a.GetCopy() != nil && a.SecondaryInput >= 0 {
		if src, err = s.readable(ctx, int(a.SecondaryInput)); err != nil {
			return err
		}
	}
	if owners := ownerValues(a); len(owners) > 0 && owners[0] >= 0 {
		if users, err = s.readable(ctx, owners[0]); err != nil {
			return err
		}
	}
	return fileop.Apply(ctx, root, a, src, users)
}

// complete does the one action again over the layer that it made before.
func (s *actions) complete(ctx context.Context, req fileReq) (resp fileResp, err error) {
	if len(s.list) != 1 || req.Outputs != 1 || s.list[0].GetCopy() == nil {
		return resp, errors.New("only a copy can be completed")
	}
	a := s.list[0]
	v := fileValue{input: -1}
	if a.Input >= 0 {
		v = s.values[a.Input]
	}
	chain, err := s.chain(v)
	if err != nil {
		return resp, err
	}
	below, err := s.tree(ctx, treeReq{Chain: chain})
	if err != nil {
		return resp, err
	}
	active, err := s.prepare(ctx, append(slices.Clone(chain), req.Over))
	if err != nil {
		return resp, err
	}
	ok, err := fileop.Uncopy(active.Root(), a.GetCopy(), req.Gone, below)
	if !ok || err != nil {
		return fileResp{Refused: err == nil}, err
	}
	if err := s.applyIn(ctx, active.Root(), a); err != nil {
		return resp, err
	}
	id := store.NewID()
	empty, err := active.CommitOver(id)
	if empty {
		id = req.Over
	}
	return fileResp{Outputs: []fileOutput{{Input: v.input, Layers: []string{id}}}}, err
}

// writable opens a value for writing: the one that is open already, when nobody else needs it as it is.
func (s *actions) writable(ctx context.Context, i int) (v fileValue, err error) {
	v = fileValue{input: -1}
	if i >= 0 {
		v = s.values[i]
		if v.active != nil && s.readers[i] == 0 {
			s.values[i] = fileValue{input: -1}
			return v, nil
		}
		if err := s.close(i); err != nil {
			return v, err
		}
		v = s.values[i]
	}
	chain, err := s.chain(v)
	if err != nil {
		return v, err
	}
	v.layers = v.layers[:len(v.layers):len(v.layers)]
	v.active, err = s.prepare(ctx, chain)
	return v, err
}

// close makes a layer of what was written to a value.
func (s *actions) close(i int) error {
	v := &s.values[i]
	if v.active == nil {
		return nil
	}
	id, err := commit(v.active)
	if err != nil {
		return err
	}
	v.layers, v.active = append(v.layers, id), nil
	return nil
}

func (s *actions) chain(v fileValue) ([]string, error) {
	var chain []string
	if v.input >= 0 {
		if s.inputs[v.input].Local != nil {
			return nil, fmt.Errorf("input %d is a local directory, which nothing can be written on", v.input)
		}
		chain = append(chain, s.inputs[v.input].Chain...)
	}
	for _, id := range v.layers {
		if id != "" {
			chain = append(chain, id)
		}
	}
	return chain, nil
}

// readable opens a value for reading.
func (s *actions) readable(ctx context.Context, i int) (inode.Tree, error) {
	if err := s.close(i); err != nil {
		return nil, err
	}
	v := s.values[i]
	if v.input >= 0 && len(v.layers) == 0 {
		return s.tree(ctx, s.inputs[v.input])
	}
	chain, err := s.chain(v)
	if err != nil {
		return nil, err
	}
	return s.tree(ctx, treeReq{Chain: chain})
}
