package goaware

import (
	"maps"
	"strings"

	"github.com/moby/buildkit/solver/pb"

	"github.com/skiff-build/skiff/internal/graph"
)

// Hints say what a step may be lent of this machine while it runs. They stand in the description of its operation,
// which is no part of a digest, and with that of no key.
const (
	// HintRelease is the Go in the step, as 1.26.8: of the built-in base, so it is what it says.
	HintRelease = hintPrefix + "release"
	// HintCache is where the build cache that all projects share is mounted: the machine's may fill it.
	HintCache = hintPrefix + "cache"
	// HintModules says, by any value, that modules may be taken from the machine.
	HintModules = hintPrefix + "modules"
	// HintGo says of a step that, by its words, it runs the go command and what its shell is, and names all commands that it
	// calls, a blank between. An engine that can confine it to that lets it write the caches that all projects share.
	HintGo = hintPrefix + "only"

	// HintInputs says of such a step, by any value, that what it writes follows from what it reads: it asks nobody else, and no clock.
	HintInputs = hintPrefix + "inputs"

	// HintC are directories of a step that may use cgo, absolute, a line each: the headers and libraries in them, which no key of
	// Go's cache knows, tell the step's build cache from others.
	HintC = hintPrefix + "c"

	hintPrefix = "skiff.go."
)

// builtin is the Go of a built-in base; "" for any other.
func builtin(base string) string {
	rest, ok := strings.CutPrefix(base, "gobase://")
	if !ok {
		return ""
	}
	release, _, _ := strings.Cut(rest, "/")
	return release
}

// lendsGit says whether a built-in base gives its steps the git of the machine.
func lendsGit(base string) bool { return strings.Contains(base, "machine-git") }

func (p plan) hint(name, value string) {
	if p.v.Meta == nil {
		p.v.Meta = &pb.OpMetadata{}
	}
	d := maps.Clone(p.v.Meta.Description)
	if d == nil {
		d = map[string]string{}
	}
	d[name] = value
	p.v.Meta.Description = d
}

// dropHints takes away what came in with a definition: only this package says what a step may be lent.
func dropHints(g *graph.Graph) (changed bool) {
	// The walk's only error is a circle, and a decoded graph has none.
	_ = graph.Walk(g, func(v *graph.Vertex) error {
		for name := range v.Meta.GetDescription() {
			if strings.HasPrefix(name, hintPrefix) {
				d := maps.Clone(v.Meta.Description)
				maps.DeleteFunc(d, func(name, _ string) bool { return strings.HasPrefix(name, hintPrefix) })
				v.Meta.Description, changed = d, true
				break
			}
		}
		return nil
	})
	return changed
}
