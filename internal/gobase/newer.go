package gobase

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/skiff-build/skiff/internal/gotoolchain"
	"github.com/skiff-build/skiff/internal/graph"
	"github.com/skiff-build/skiff/internal/store"
)

// HintNewer in the description of a step's operation is the Go that the go.mod of the stage asks for, where the tag's own, which is
// older, runs the step all the same. A step that fails there may succeed with a newer one ([Newer.Try]).
const HintNewer = "skiff.golang.newer"

const kindNewer = store.KindGoNewer

// Newer is what is known of stages in which a tag's own Go has failed, and a newer one is used. A nil Newer knows nothing. Safe for
// concurrent use.
type Newer struct {
	// Project is whose stages they are: what one has needed says nothing of another's.
	Project string

	mu    sync.Mutex
	whys  map[string]string // by reference
	asked map[string]string // by reference: the name of the record
}

type newerRecord struct {
	Why string `json:"why"`
}

// why says why the tag's own Go is not to be used in a stage, from this build or an earlier one; empty where it is.
func (n *Newer) why(b *base, state gotoolchain.State) string {
	if n == nil {
		return ""
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	lines := slices.Clone(b.goMods)
	slices.Sort(lines)
	name := strings.Join(append([]string{n.Project, b.tag.Ref, b.release}, slices.Compact(lines)...), "\n")
	if n.asked == nil {
		n.asked = map[string]string{}
	}
	n.asked[b.tag.Ref] = name
	if why := n.whys[b.tag.Ref]; why != "" {
		return why
	}
	var rec newerRecord
	if state.Load(kindNewer, name, &rec) != nil {
		return ""
	}
	return rec.Why
}

// give up a tag's own Go; false where that was done before.
func (n *Newer) give(ref, why string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.whys[ref] != "" {
		return false
	}
	if n.whys == nil {
		n.whys = map[string]string{}
	}
	n.whys[ref] = why
	return true
}

// TryNewer notes in o that a step, whose description is hints, failed with the Go that the tag of its stage names. It reports whether
// the build is to be run again with o: go.mod asks for a newer one.
func (o *Options) TryNewer(where string, hints map[string]string) bool {
	ref, line := hints[HintRef], hints[HintNewer]
	if o.Newer == nil || ref == "" || line == "" || !o.Newer.give(ref, "a step failed with it ("+where+")") {
		return false
	}
	delete(o.Refused, ref)
	o.Note(fmt.Sprintf("%s: %s failed with the Go of the tag; go.mod or a dependency asks for Go %s: the stage starts again with that",
		familiar(ref), where, line))
	return true
}

// Remember keeps what was found out in a build that succeeded, so that the next one does not try what fails.
func (n *Newer) Remember(state gotoolchain.State) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for ref, why := range n.whys {
		if err := state.Save(kindNewer, n.asked[ref], newerRecord{why}); err != nil {
			return err
		}
	}
	return nil
}

// hintImages describes the steps that stand on an image in whose place the built-in base was refused, where a newer Go may be tried. It
// reports whether there were any.
func (a *attempt) hintImages(g *graph.Graph) bool {
	from := map[*graph.Vertex]*Refusal{}
	found := false
	// The walk's only error is a circle, and a decoded graph has none.
	_ = graph.Walk(g, func(v *graph.Vertex) error {
		if id, ok := strings.CutPrefix(v.Op.GetSource().GetIdentifier(), "docker-image://"); ok {
			name, _, _ := strings.Cut(id, "@") // the frontend adds the digest that the tag has
			for ref, r := range a.refused {
				if r.newer != "" && (sameReference(ref, id) || sameReference(ref, name)) {
					from[v] = r
				}
			}
			return nil
		}
		below := int64(-1)
		if e := v.Op.GetExec(); e != nil {
			if root := rootMount(e); root != nil {
				below = root.Input
			}
		} else if f := v.Op.GetFile(); f != nil && len(f.Actions) > 0 {
			below = f.Actions[0].Input
		} else if v.Op.GetMerge() != nil {
			below = 0
		}
		r := from[input(v, below).Vertex]
		if r == nil {
			return nil
		}
		from[v] = r
		if v.Op.GetExec() != nil {
			describe(v, HintRef, r.Ref)
			describe(v, HintNewer, r.newer)
			found = true
		}
		return nil
	})
	return found
}
