package engine

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"

	"github.com/skiff-build/skiff/internal/graph"
	"github.com/skiff-build/skiff/internal/store"
)

// A third way to find the result of a step, beside its two keys, is by what it read. Where nothing but the go command and the base's
// shell can run in a step (it is confined), what it does follows from its words, its variables, and the files that it names to the
// kernel. A trace took those down when it ran (sandbox.Trace): which files, which directories, and which names that were not there.
// While all of them are in the files that it stands on now what they were then, running it again would write the same: the
// layer that it made is put on what it stands on now. So an edit of a file that it has not named runs nothing.
//
// The layer is right there, too: what it has of a directory or file below is among what is compared, and one that hides something
// is not used again.

// hintInputs is goaware's HintInputs: what the step does follows from what it reads.
const hintInputs = "skiff.go.inputs"

const kindInputs = store.KindInputs

// inputsRecord is what a step read when it last ran.
type inputsRecord struct {
	Layers []string          `json:"layers"` // what it made; none: it wrote nothing
	Chain  []string          `json:"chain"`  // what it stood on; may be gone
	Paths  map[string]bool   `json:"paths"`  // that it named; true: it opened them
	State  map[string]string `json:"state"`  // see stateOf
}

// inputsReq compares.
type inputsReq struct {
	Chain []string
	Was   inputsRecord
}

// inputsResp says what differs. Carry says that it differs in a way in which the step names the same files as before.
type inputsResp struct {
	Changed []string
	Carry   bool
}

// readInputs is what the child has to find out about a step that is to run.
type readInputs struct {
	Carry map[string]bool // the paths that it will name; nil: they are traced
}

// foundInputs are its answer. Why says that there is none.
type foundInputs struct {
	Paths map[string]bool
	State map[string]string
	Why   string
}

// byInputs is a step that may be found by what it read.
type byInputs struct {
	key     store.Key
	req     readInputs
	changed []string // of what it read when it last ran
}

// lookupInputs returns the outputs of the step when all that it read is what it was; else what is to be found out when it runs, nil for
// nothing.
func (n *node) lookupInputs(ctx context.Context, inputs []result) ([]result, *byInputs, error) {
	o := n.v.Op.GetExec()
	if o == nil || n.v.Meta.GetDescription()[hintInputs] == "" || !readsRootAlone(o) {
		return nil, nil, nil
	}
	root := inputs[mountAt(o, pb.RootMount).Input]
	env, err := n.stepEnv(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	if confined, err := n.confine(ctx, o, env, root); err != nil || !confined {
		return nil, nil, err
	}
	k, err := n.opKey(ctx, "inputs 1", true)
	if err != nil {
		return nil, nil, err
	}
	for _, m := range o.Mounts { // whose caches: two projects with the same words have read different files
		k.line("cache", m.CacheOpt.GetID())
	}
	for _, id := range root.Layers {
		if strings.HasPrefix(id, basePrefix) { // its toolchain is mounted, and is in no trace
			k.line("base", id)
		}
	}
	b := &byInputs{key: k.sum()}
	var was inputsRecord
	if n.nocache || n.e.o.Store.Get(kindInputs, b.key, &was) != nil || len(was.Paths) == 0 {
		return nil, b, nil
	}
	var resp inputsResp
	if err := n.e.call(ctx, methodInputs, inputsReq{Chain: realLayers(root.Layers), Was: was}, &resp, nil); err != nil {
		return nil, nil, err
	}
	if b.changed = resp.Changed; len(b.changed) > 0 {
		if resp.Carry {
			b.req.Carry = was.Paths
		}
		return nil, b, nil
	}
	made := ""
	if len(was.Layers) > 0 {
		if made = was.Layers[0]; !n.e.knows(made) {
			return nil, b, nil
		}
	}
	if n.e.o.Note != nil {
		n.e.o.Note("inputs: " + n.v.Name() + ": nothing that it reads has changed, so what it wrote before counts")
	}
	return []result{root.with(made)}, b, nil
}

// readsRootAlone says whether what the step reads and writes lies in its root, caches aside, which are in no key.
func readsRootAlone(o *pb.ExecOp) bool {
	if len(o.Secretenv) > 0 {
		return false
	}
	for _, m := range o.Mounts {
		switch {
		case m.Dest == pb.RootMount:
			if m.Input < 0 || graph.Output(m) != 0 || m.Readonly {
				return false
			}
		case m.MountType != pb.MountType_CACHE && m.MountType != pb.MountType_TMPFS || graph.Output(m) >= 0:
			return false
		}
	}
	return mountAt(o, pb.RootMount) != nil
}

// keepInputs remembers what a step has read and made.
func (n *node) keepInputs(b *byInputs, chain []string, found *foundInputs, made []string) error {
	if b == nil || found == nil || found.Why != "" || len(made) != 1 {
		return nil
	}
	rec := inputsRecord{Chain: realLayers(chain), Paths: found.Paths, State: found.State}
	if made[0] != "" {
		rec.Layers = made
	}
	return n.e.o.Store.Put(kindInputs, b.key, rec)
}

// changedState are the names whose state is another one, sorted, and the entries of the state themselves.
func changedState(was, now map[string]string) (names, entries []string) {
	for key := range maps.Keys(was) {
		if now[key] != was[key] {
			entries = append(entries, key)
		}
	}
	for key := range maps.Keys(now) {
		if _, ok := was[key]; !ok {
			entries = append(entries, key)
		}
	}
	slices.Sort(entries)
	for _, key := range entries {
		if name := "/" + key[len(stateContent):]; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, entries
}

// The entries of a state: a letter, a colon, and the name of a file without symbolic links on the way.
const (
	stateAttributes = "a:" // of the file itself; empty: there is none
	stateContent    = "c:" // a digest, of a regular file
	stateNames      = "n:" // a digest of the names and types of what is in a directory
)
