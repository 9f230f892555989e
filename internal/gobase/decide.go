package gobase

import (
	"context"
	"fmt"
	"maps"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/solver/pb"

	"github.com/skiff-build/skiff/internal/graph"
)

func itoa(n int) string { return strconv.Itoa(n) }

// plan is the decision about one definition.
type plan struct {
	bases   []*base
	refused []*Refusal
	notes   []string
}

// judge walks a definition once, inputs first.
type judge struct {
	o     Options
	trees trees
	local map[string]localFiles
	bases map[*graph.Vertex]*base
}

// decide looks at all stages on golang images.
func (a *attempt) decide(ctx context.Context, g *graph.Graph, sources map[*graph.Vertex]Tag) (*plan, error) {
	p := &plan{}
	for v, tag := range sources {
		release, err := a.o.Tools.Resolve(ctx, tag.Wanted, toolArch(archOf(v)), false)
		if err != nil {
			return nil, err
		}
		p.bases = append(p.bases, &base{source: v, tag: tag, arch: archOf(v), release: release})
	}
	slices.SortFunc(p.bases, func(x, y *base) int { return strings.Compare(x.source.Digest.String(), y.source.Digest.String()) })
	// Which Go runs in a stage decides what is served; which go.mod a stage gets decides which Go runs. So the
	// first walk is for the copies alone.
	j := a.newJudge(p.bases)
	if err := j.walk(g); err != nil {
		return nil, err
	}
	for _, b := range p.bases {
		j.modules(ctx, b)
	}
	j, err := a.serve(g, p.bases)
	if err != nil {
		return nil, err
	}
	if t := j.trees.of(g.Root); t != nil {
		b := t.base
		b.refuse(&Refusal{Where: where(b.source), Why: "the stage is what ships (end with FROM scratch and COPY --from=STAGE of the program)"})
		slices.Reverse(b.refusals) // before all that its steps ask for
	}
	for _, b := range p.bases {
		b.settle(p)
	}
	return p, nil
}

// serve walks the definition until each newer Go serves its stage, or there is no other to take, and until it is known which stages
// are compiled across.
func (a *attempt) serve(g *graph.Graph, bases []*base) (*judge, error) {
	for {
		for _, b := range bases {
			*b = base{source: b.source, tag: b.tag, arch: b.arch, release: b.release, copies: b.copies, goMods: b.goMods,
				newer: b.newer, instead: b.instead, insteadFor: b.insteadFor, candidates: b.candidates, unmet: b.unmet, native: b.native}
			b.cross = b.foreign() && b.native == nil
			if b.unmet != nil {
				b.refuse(b.unmet)
			}
			arch := b.arch
			if b.cross {
				arch = toolArch(arch)
			}
			if why := libcRefusal(b.goRelease(), arch); why != "" {
				b.refuse(&Refusal{Where: where(b.source), Why: why})
			}
		}
		j := a.newJudge(bases)
		if err := j.walk(g); err != nil {
			return nil, err
		}
		again := false
		for _, b := range bases {
			if b.native != nil && b.cross {
				again = true
				continue
			}
			again = len(b.refusals) > 0 && b.unmet == nil && b.next() || again
		}
		if !again {
			return j, nil
		}
	}
}

func (a *attempt) newJudge(bases []*base) *judge {
	j := &judge{o: a.o, trees: trees{}, local: map[string]localFiles{}, bases: map[*graph.Vertex]*base{}}
	for _, b := range bases {
		b.with = map[string]bool{}
		j.bases[b.source] = b
	}
	return j
}

func (j *judge) walk(g *graph.Graph) error {
	return graph.Walk(g, func(v *graph.Vertex) error { j.vertex(v); return nil })
}

// refuse adds a reason against serving a base.
func (b *base) refuse(r *Refusal) {
	r.Ref, r.newer = b.tag.Ref, b.newer
	b.refusals = append(b.refusals, r)
}

// settle turns what was found about a base into refusals or notes.
func (b *base) settle(p *plan) {
	if len(b.refusals) > 0 {
		p.refused = append(p.refused, b.refusals[0])
		return
	}
	name := familiar(b.tag.Ref)
	line := fmt.Sprintf("%s: built-in Go %s in the place of the image", name, b.goRelease())
	if b.instead != "" {
		line = fmt.Sprintf("%s: warning: built-in Go %s is used, not the tag's %s: go.mod or a dependency asks for more, and %s", name, b.instead, b.release, b.insteadFor)
	}
	if b.cross {
		line += ", which compiles for " + b.platform()
	}
	if b.gitLent {
		line += "; git is this machine's"
		b.asked = slices.DeleteFunc(b.asked, func(name string) bool { return name == "git" })
	}
	if makeIn(slices.Collect(maps.Keys(b.with))) != "" {
		b.asked = slices.DeleteFunc(b.asked, func(name string) bool { return name == "make" })
	}
	slices.Sort(b.asked)
	if asked := slices.Compact(b.asked); len(asked) > 0 {
		line += "; " + strings.Join(asked, ", ") + " not installed: no step needs more than is built in"
	}
	p.notes = append(p.notes, line)
	if b.native != nil {
		p.notes = append(p.notes, fmt.Sprintf("%s: the stage needs programs of %s: %v", name, b.platform(), b.native))
	}
	for _, w := range b.warnings {
		p.notes = append(p.notes, name+": warning: "+w)
	}
}

// identity is the base that a source becomes.
func (b *base) identity() Identity {
	id := Identity{Release: b.goRelease(), Variant: b.tag.Variant, Arch: b.arch}
	if b.cross {
		id.Host = runtime.GOARCH
	}
	if b.tag.Variant == Debian {
		b.with["git"] = true
	}
	switch {
	case b.gitLent:
		delete(b.with, "git")
		b.with[machineGit] = true
	case b.gitSeen:
		// Go must not find a git that cannot read the repository: without one it leaves the stamp out in silence.
		delete(b.with, "git")
	}
	id.With = slices.Sorted(maps.Keys(b.with))
	return id
}

// apply rewrites the sources, and gives steps what the image's Go has by default and the base's would not.
func (p *plan) apply() {
	for _, b := range p.bases {
		src := b.source.Op.GetSource()
		src.Identifier, src.Attrs = b.identity().String(), nil
		b.rename()
		for _, step := range b.steps {
			b.setDefaults(step.Op.GetExec().Meta)
			if b.cross {
				step.Op.Platform = hostPlatform()
			}
			describe(step, HintRef, b.tag.Ref)
			if b.newer != "" {
				describe(step, HintNewer, b.newer)
			}
		}
	}
}

func (b *base) setDefaults(meta *pb.Meta) {
	var defaults []string
	if b.instead != "" {
		for i, e := range meta.Env {
			if strings.HasPrefix(e, "GOLANG_VERSION=") {
				meta.Env[i] = "GOLANG_VERSION=" + b.instead
			}
		}
		defaults = olderDefaults(b.release)
	}
	if len(b.warnings) > 0 && !atLeast(b.goRelease(), "1.20") {
		// Before 1.20 cgo is on without a C compiler, too: net would be linked against a libc that is not there.
		defaults = append(defaults, "CGO_ENABLED=0")
	}
	if b.cross {
		defaults = append(defaults, b.crossEnv()...)
	}
	for _, add := range defaults {
		name, _, _ := strings.Cut(add, "=")
		if !slices.ContainsFunc(meta.Env, func(e string) bool { return strings.HasPrefix(e, name+"=") }) {
			meta.Env = append(meta.Env, add)
		}
	}
}

// olderDefaults is what makes a new Go behave as one of the given release did: up to 1.15 go build changed
// go.mod and go.sum as needed (go.dev/doc/go1.16), and up to 1.17 there were no workspaces.
func olderDefaults(release string) []string {
	var env []string
	if !atLeast(release, "1.16") {
		env = append(env, "GOFLAGS=-mod=mod")
	}
	if !atLeast(release, "1.18") {
		env = append(env, "GOWORK=off")
	}
	return env
}

// rename says in the progress which base is used: "[builder 1/6] FROM golang:1.26-alpine (built-in Go 1.26.8)".
func (b *base) rename() {
	const key = "llb.customname"
	prefix := ""
	if i := strings.Index(b.source.Meta.GetDescription()[key], "FROM "); i >= 0 {
		prefix = b.source.Meta.GetDescription()[key][:i]
	}
	describe(b.source, key, fmt.Sprintf("%sFROM %s (built-in Go %s)", prefix, familiar(b.tag.Ref), b.goRelease()))
}

// describe sets a line of a vertex's description, which others may share.
func describe(v *graph.Vertex, key, value string) {
	if v.Meta == nil {
		v.Meta = &pb.OpMetadata{}
	}
	description := maps.Clone(v.Meta.Description)
	if description == nil {
		description = map[string]string{}
	}
	description[key] = value
	v.Meta.Description = description
}

// vertex finds the trees that a vertex gives, and what it asks of those that it reads.
func (j *judge) vertex(v *graph.Vertex) {
	switch op := v.Op.Op.(type) {
	case *pb.Op_Source:
		if b := j.bases[v]; b != nil {
			j.trees[graph.Edge{Vertex: v}] = &tree{
				base: b, packages: map[string]bool{}, installed: map[string]bool{}, goEnv: map[string]value{},
			}
		}
	case *pb.Op_Exec:
		j.exec(v, op.Exec)
	case *pb.Op_File:
		j.file(v, op.File)
	case *pb.Op_Merge:
		for i, in := range v.Inputs {
			t := j.trees.of(in)
			if t == nil {
				continue
			}
			if i > 0 {
				t.base.refuse(&Refusal{Where: where(v), Why: "the whole stage is merged into another"})
				continue
			}
			c := t.clone()
			for _, other := range v.Inputs[1:] {
				j.merged(c, other)
			}
			j.trees[graph.Edge{Vertex: v}] = c
		}
	default: // diff, build: nothing that the Dockerfile frontend makes
		for _, in := range v.Inputs {
			if t := j.trees.of(in); t != nil {
				t.base.refuse(&Refusal{Where: where(v), Why: "an operation that skiff does not know reads the stage"})
			}
		}
	}
}

// merged takes over what COPY --link put beside: copies onto scratch.
func (j *judge) merged(t *tree, e graph.Edge) {
	if e.Vertex == nil {
		return
	}
	if f := e.Vertex.Op.GetFile(); f != nil {
		for i := range f.Actions {
			j.action(e.Vertex, f, i, t)
		}
	}
}

func (j *judge) exec(v *graph.Vertex, e *pb.ExecOp) {
	root := rootMount(e)
	for _, m := range e.Mounts {
		if t := j.trees.of(input(v, m.Input)); t != nil && m != root {
			j.copyOut(v, t, path.Join("/", m.Selector))
		}
	}
	if root == nil {
		return
	}
	before := j.trees.of(input(v, root.Input))
	if before == nil {
		return
	}
	after := before.clone()
	b := after.base
	b.steps = append(b.steps, v)
	s := newStep(j, v, e, after)
	for _, m := range e.Mounts {
		if m != root {
			s.mount(v, m)
		}
	}
	s.run(e.Meta)
	if root.Output >= 0 {
		j.trees[graph.Edge{Vertex: v, Index: int(root.Output)}] = after
	}
}

// file follows the chain of actions of a file operation.
func (j *judge) file(v *graph.Vertex, f *pb.FileOp) {
	n := int64(len(v.Inputs))
	made := make([]*tree, len(f.Actions))
	for i, act := range f.Actions {
		var t *tree
		if act.Input >= n {
			if at := act.Input - n; at < int64(i) {
				t = made[at]
			}
		} else {
			t = j.trees.of(input(v, act.Input))
		}
		if t != nil {
			t = t.clone()
		}
		j.action(v, f, i, t)
		made[i] = t
		if act.Output >= 0 && t != nil {
			j.trees[graph.Edge{Vertex: v, Index: int(act.Output)}] = t
		}
	}
}

// action is one action of a file operation onto t, or onto what is no tree of ours when t is nil.
func (j *judge) action(v *graph.Vertex, f *pb.FileOp, i int, t *tree) {
	act := f.Actions[i]
	switch a := act.Action.(type) {
	case *pb.FileAction_Copy:
		from := input(v, act.SecondaryInput)
		if src := j.trees.of(from); src != nil {
			j.copyOut(v, src, a.Copy.Src)
		}
		if t != nil {
			j.copyIn(t, from, a.Copy)
		}
	case *pb.FileAction_Mkdir:
		t.wrote(a.Mkdir.Path)
	case *pb.FileAction_Mkfile:
		t.wrote(a.Mkfile.Path)
	case *pb.FileAction_Symlink:
		t.wrote(a.Symlink.Newpath)
	}
}

// wrote notes that a step wrote a path; on no tree it does nothing.
func (t *tree) wrote(p string) {
	if t != nil && p != "" {
		t.written = append(t.written, path.Join("/", p))
	}
}

// copyIn notes what a copy brings into a tree.
func (j *judge) copyIn(t *tree, from graph.Edge, c *pb.FileActionCopy) {
	t.wrote(c.Dest)
	if from.Vertex == nil {
		return
	}
	if src := j.trees.of(from); src != nil { // from another stage on golang
		for _, repo := range src.repos {
			if rest, ok := below(repo, c.Src); ok {
				t.repos = append(t.repos, path.Join("/", c.Dest, rest))
				t.base.gitSeen = true
			}
		}
		for _, p := range src.changed {
			if rest, ok := below(p, c.Src); ok {
				t.changed = append(t.changed, path.Join("/", c.Dest, rest))
			} else if _, ok := below(c.Src, p); ok {
				t.changed = append(t.changed, path.Join("/", c.Dest))
			}
		}
		for _, p := range src.copies {
			if rest, ok := below(p.to, c.Src); ok {
				p.to = path.Join("/", c.Dest, rest)
				t.take(p)
			}
		}
		return
	}
	source := from.Vertex.Op.GetSource()
	switch {
	case source == nil:
	case strings.HasPrefix(source.Identifier, "local://"):
		in := copied{local: from.Vertex, from: path.Join("/", c.Src), to: path.Join("/", c.Dest),
			include: c.IncludePatterns, exclude: c.ExcludePatterns}
		t.take(in)
		if repo, ok := j.repository(in); ok {
			t.repos = append(t.repos, repo)
			t.base.gitSeen = true
		}
	case strings.HasPrefix(source.Identifier, "git://") && source.Attrs[pb.AttrKeepGitDir] == "true":
		t.repos = append(t.repos, path.Join("/", c.Dest))
		t.base.gitSeen = true
	}
}

// below reports whether p is dir or below it, and gives the rest.
func below(p, dir string) (string, bool) {
	p, dir = path.Join("/", p), path.Join("/", dir)
	if p == dir || dir == "/" {
		return strings.TrimPrefix(strings.TrimPrefix(p, dir), "/"), true
	}
	return strings.CutPrefix(p, dir+"/")
}
