package goaware

import (
	"maps"
	"path"
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
	// HintWrites are the directories and files, absolute, a line each, in or as which the step leaves what is not in a
	// cache. Where a link leads from there into a cache, nothing of what the step writes may be kept in it.
	HintWrites = hintPrefix + "writes"

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

// writes are the paths of [HintWrites], of a trusted step.
func (s *step) writes() string {
	cwd := path.Clean("/" + s.op.Meta.Cwd)
	paths := []string{cwd}
	for _, c := range s.script.commands {
		dir := cwd
		for i, w := range c.words {
			name, value, inline := strings.Cut(strings.TrimPrefix(w, "-"), "=")
			if !inline && i+1 < len(c.words) {
				value = c.words[i+1]
			}
			switch {
			case i == 0 && w == "cd" && len(c.words) > 1:
				cwd = absolute(cwd, c.words[1])
				paths = append(paths, cwd)
			case i > 0 && name == "-C" || i > 0 && name == "C" && strings.HasPrefix(w, "-"):
				dir = absolute(cwd, value)
				paths = append(paths, dir)
			}
		}
		for i, w := range c.words {
			name, value, inline := strings.Cut(strings.TrimPrefix(w, "-"), "=")
			if !inline && i+1 < len(c.words) {
				value = c.words[i+1]
			}
			if strings.HasPrefix(w, "-") && (name == "o" || name == "-o" || name == "modfile" || name == "-modfile") {
				paths = append(paths, absolute(dir, value))
			}
		}
	}
	return strings.Join(paths, "\n")
}

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
