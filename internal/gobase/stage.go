package gobase

import (
	"maps"
	"slices"

	"github.com/moby/buildkit/solver/pb"

	"github.com/skiff-build/skiff/internal/graph"
)

// base is one golang source of a definition and what was found out about the stages on it.
type base struct {
	source  *graph.Vertex
	tag     Tag
	arch    string // GOARCH of the stage's platform
	release string // what the tag means
	newer   string // the line that go.mod asks for, where the tag's own Go is tried all the same; empty: none
	instead string // a newer release that is used in the place of the tag's own; empty: none

	insteadFor string   // why
	candidates []string // what to use where instead does not serve, the smallest first
	unmet      *Refusal // there is none

	refusals []*Refusal
	warnings []string // of what may differ under the policy builtin
	asked    []string // packages, for the note
	steps    []*graph.Vertex
	with     map[string]bool // commands on request
	gitSeen  bool            // a .git lies somewhere in a stage
	gitLent  bool            // a step needs a git that works
	goMods   []string        // what go.mod files of the context ask for
	copies   []copied        // of local sources, into any stage on it
	cross    bool            // this machine's toolchain compiles for arch
	native   *Refusal        // why it cannot; nil: nothing is known against it
}

// goRelease is the Go that runs in the stage.
func (b *base) goRelease() string {
	if b.instead != "" {
		return b.instead
	}
	return b.release
}

// tree is what is known of a root file system on the way from the golang image: what the steps so far did.
// A tree is never changed once a later step has its copy.
type tree struct {
	base      *base
	packages  map[string]bool  // asked of a package manager
	written   []string         // paths that steps wrote, absolute
	changed   []string         // those that commands wrote, which may be files that a copy brought
	built     []string         // programs, and folders of programs, that go build -o made
	defaults  []string         // folders where go build ran without -o
	installed map[string]bool  // names of programs by go install; "*" for any
	goEnv     map[string]value // by go env -w
	repos     []string         // folders that hold a .git
	copies    []copied         // of local sources
	modInit   bool             // go mod init ran
}

// copied is a copy of files of a local source into a tree.
type copied struct {
	local    *graph.Vertex
	from, to string // from is absolute within the source
	include  []string
	exclude  []string
}

func (t *tree) clone() *tree {
	c := *t
	c.packages, c.installed, c.goEnv = maps.Clone(t.packages), maps.Clone(t.installed), maps.Clone(t.goEnv)
	c.written, c.built, c.defaults = slices.Clone(t.written), slices.Clone(t.built), slices.Clone(t.defaults)
	c.changed = slices.Clone(t.changed)
	c.repos, c.copies = slices.Clone(t.repos), slices.Clone(t.copies)
	return &c
}

// take notes a copy of a local source.
func (t *tree) take(c copied) {
	t.copies = append(t.copies, c)
	t.base.copies = append(t.base.copies, c)
}

// trees follows root file systems through a graph: for each output of a vertex that stems from a golang
// source, its tree.
type trees map[graph.Edge]*tree

// of is the tree of an input; nil for what stems from elsewhere.
func (ts trees) of(e graph.Edge) *tree { return ts[e] }

// input is the nth input of a vertex; the zero Edge for pb.Empty.
func input(v *graph.Vertex, n int64) graph.Edge {
	if n < 0 || int(n) >= len(v.Inputs) {
		return graph.Edge{}
	}
	return v.Inputs[n]
}

// where is the line of the Dockerfile that a vertex comes from.
func where(v *graph.Vertex) string {
	for _, l := range v.Source {
		info := v.Info(l)
		if info == nil || len(l.Ranges) == 0 {
			continue
		}
		return info.Filename + ":" + itoa(int(l.Ranges[0].Start.Line))
	}
	return ""
}

// rootMount is the mount of an exec at /.
func rootMount(e *pb.ExecOp) *pb.Mount {
	for _, m := range e.Mounts {
		if m.Dest == "/" {
			return m
		}
	}
	return nil
}
