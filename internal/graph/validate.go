package graph

import (
	"errors"
	"fmt"

	"github.com/moby/buildkit/solver/pb"
)

// validate checks that an operation is whole and that the inputs it speaks of are there.
func validate(op *pb.Op) error {
	n := int64(len(op.Inputs))
	switch o := op.Op.(type) {
	case *pb.Op_Source:
		return validateSource(o.Source, n)
	case *pb.Op_Exec:
		return validateExec(o.Exec, n)
	case *pb.Op_File:
		return validateFile(o.File, n)
	case *pb.Op_Merge:
		return validateMerge(o.Merge, n)
	case *pb.Op_Build, *pb.Op_Diff, *pb.Op_Passthrough:
		return nil // known by name; who runs the graph says that it does not run them
	}
	return errors.New("no operation that is known")
}

func validateSource(o *pb.SourceOp, inputs int64) error {
	if o == nil || o.Identifier == "" {
		return errors.New("source without identifier")
	}
	if inputs != 0 {
		return errors.New("source with inputs")
	}
	return nil
}

func validateExec(o *pb.ExecOp, inputs int64) error {
	if o == nil || o.Meta == nil || len(o.Meta.Args) == 0 {
		return errors.New("exec without arguments")
	}
	root, outs := false, map[int64]bool{}
	for _, m := range o.Mounts {
		if m == nil || m.Dest == "" {
			return errors.New("mount without destination")
		}
		if m.Input < -1 || m.Input >= inputs {
			return fmt.Errorf("mount %s: input %d of %d", m.Dest, m.Input, inputs)
		}
		if out := Output(m); out >= 0 {
			if outs[out] {
				return fmt.Errorf("mount %s: output %d is given twice", m.Dest, out)
			}
			outs[out] = true
		}
		if m.Dest == pb.RootMount {
			if root || m.MountType != pb.MountType_BIND {
				return errors.New("the root has to be one bind mount")
			}
			root = true
		}
	}
	if !root {
		return errors.New("exec without a root")
	}
	return dense(outs)
}

// Output is the number of the output that a mount gives; -1: none. Only bind and cache mounts have one: what the llb
// package writes into the others is a zero that means nothing.
func Output(m *pb.Mount) int64 {
	if m.MountType != pb.MountType_BIND && m.MountType != pb.MountType_CACHE {
		return -1
	}
	return max(m.Output, -1)
}

func dense(outs map[int64]bool) error {
	for i := range int64(len(outs)) {
		if !outs[i] {
			return fmt.Errorf("output %d is missing", i)
		}
	}
	return nil
}

// validateFile checks the numbers of a file operation: 0 to inputs-1 are inputs, above that are the results of
// earlier actions, -1 is nothing.
func validateFile(o *pb.FileOp, inputs int64) error {
	if o == nil || len(o.Actions) == 0 {
		return errors.New("file operation without actions")
	}
	outs := map[int64]bool{}
	for i, a := range o.Actions {
		limit := inputs + int64(i) // BuildKit lets an action name a later one; nothing makes that
		if a == nil || a.Action == nil {
			return fmt.Errorf("file action %d is empty", i)
		}
		for _, in := range append([]int64{a.Input, a.SecondaryInput}, ownerInputs(a)...) {
			if in < -1 || in >= limit {
				return fmt.Errorf("file action %d: input %d of %d", i, in, limit)
			}
		}
		if a.Output < -1 || a.Output >= 0 && outs[a.Output] {
			return fmt.Errorf("file action %d: output %d", i, a.Output)
		}
		if a.Output >= 0 {
			outs[a.Output] = true
		}
	}
	if len(outs) == 0 {
		return errors.New("file operation without output")
	}
	return dense(outs)
}

// Owner is the owner that a file action asks for; nil: none.
func Owner(a *pb.FileAction) *pb.ChownOpt {
	switch {
	case a.GetCopy() != nil:
		return a.GetCopy().Owner
	case a.GetMkfile() != nil:
		return a.GetMkfile().Owner
	case a.GetMkdir() != nil:
		return a.GetMkdir().Owner
	case a.GetSymlink() != nil:
		return a.GetSymlink().Owner
	}
	return nil
}

func ownerInputs(a *pb.FileAction) []int64 {
	var ins []int64
	for _, u := range []*pb.UserOpt{Owner(a).GetUser(), Owner(a).GetGroup()} {
		if n := u.GetByName(); n != nil {
			ins = append(ins, n.Input)
		}
	}
	return ins
}

func validateMerge(o *pb.MergeOp, inputs int64) error {
	if o == nil || len(o.Inputs) == 0 {
		return errors.New("merge of nothing")
	}
	for _, in := range o.Inputs {
		if in == nil || in.Input < -1 || in.Input >= inputs {
			return errors.New("merge of an input that is not there")
		}
	}
	return nil
}

// outputs is the number of outputs that an operation has.
func outputs(op *pb.Op) int {
	n := 0
	switch o := op.Op.(type) {
	case *pb.Op_Exec:
		for _, m := range o.Exec.Mounts {
			n = max(n, int(Output(m))+1)
		}
	case *pb.Op_File:
		for _, a := range o.File.Actions {
			n = max(n, int(a.Output)+1)
		}
	case *pb.Op_Passthrough:
		n = len(o.Passthrough.GetOutputs())
	case nil:
	default:
		n = 1
	}
	return n
}
