package goaware

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"

	"github.com/skiff-build/skiff/internal/graph"
)

// lineage is a source and one branch of what is made of it: steps that write into the file system of the one before.
// Two stages that begin alike share a lineage up to where they part. What one step leaves in a cache mount instead of
// its layer is missing to every other that reads the layer, so a lineage is decided on as a whole.
type lineage struct {
	base  string // the source's identifier; empty: scratch
	steps []*step
	reads []read   // by others, out of its layers
	files []string // directories or files that a copy wrote, absolute
	trees []string // destinations of copies out of other stages and images: what arrives below is not known
	ships bool     // some step of it that runs go is part of the result
}

// read is a path that another stage takes from a lineage. It may be a pattern.
type read string

// step is one RUN.
type step struct {
	v       *graph.Vertex
	op      *pb.ExecOp
	env     map[string]string
	script  script
	kind    kind // the most of its commands
	ships   bool
	sources []string // directories in which a C compiler may find what was copied
	around  string   // a digest of what C code may see: the base, and the steps before that are not go
}

// lineages sorts the graph's steps. Only those with a step that runs go, or may, are returned.
func lineages(g *graph.Graph) []*lineage {
	s := &sorter{ships: map[output]bool{}, of: map[output]*lineage{}}
	s.ship(g.Root)
	graph.Walk(g, func(v *graph.Vertex) error {
		switch op := v.Op.Op.(type) {
		case *pb.Op_Exec:
			s.exec(v, op.Exec)
		case *pb.Op_File:
			s.file(v, op.File)
		case *pb.Op_Merge:
			s.merge(v)
		case *pb.Op_Source:
		default:
			for _, in := range v.Inputs {
				s.read(in, "/")
			}
		}
		return nil
	})
	return s.all
}

// output is a state of a file system: output i of a vertex.
type output struct {
	v *graph.Vertex
	i int
}

type sorter struct {
	ships map[output]bool // states whose files are in the result
	of    map[output]*lineage
	all   []*lineage
}

// ship follows what the result is made of, from the top layer down.
func (s *sorter) ship(e graph.Edge) {
	o := output{e.Vertex, e.Index}
	if e.Vertex == nil || s.ships[o] {
		return
	}
	s.ships[o] = true
	switch op := e.Vertex.Op.Op.(type) {
	case *pb.Op_Exec:
		for _, m := range op.Exec.Mounts {
			if m.Output == int64(e.Index) && m.Input >= 0 {
				s.ship(e.Vertex.Inputs[m.Input])
			}
		}
	case *pb.Op_File:
		if in := fileBase(op.File, len(e.Vertex.Inputs), int64(e.Index)); in >= 0 {
			s.ship(e.Vertex.Inputs[in])
		}
	case *pb.Op_Source:
	default: // merge, diff: all of it
		for _, in := range e.Vertex.Inputs {
			s.ship(in)
		}
	}
}

// fileBase follows an output of a file operation through its actions to the input that it was made on; -1: scratch.
// An action's input counts the inputs of the operation first, then the actions' results in order.
func fileBase(op *pb.FileOp, inputs int, out int64) int64 {
	in := int64(-1)
	for _, a := range op.Actions {
		if a.Output == out {
			in = a.Input
		}
	}
	for in >= int64(inputs) {
		in = op.Actions[in-int64(inputs)].Input
	}
	return in
}

// exec enters a step. Its root file system goes on in the lineage; its other mounts read.
func (s *sorter) exec(v *graph.Vertex, op *pb.ExecOp) {
	st := &step{v: v, op: op, env: environment(op.Meta.Env)}
	st.env["HOME"] = home(st.env)
	for _, secret := range op.Secretenv {
		st.env[secret.Name] = dynamic
	}
	st.script = readScript(op.Meta.Args, st.env)
	st.kind = st.script.kind()
	for _, m := range op.Mounts {
		if m.Dest != "/" {
			if m.Input >= 0 {
				s.read(v.Inputs[m.Input], m.Selector)
			}
			continue
		}
		l := s.above(v, m.Input)
		out := output{v, int(m.Output)}
		st.around, st.sources = l.surroundings(), l.sources(op.Meta.Cwd)
		st.ships = m.Output >= 0 && s.ships[out]
		l.steps = append(l.steps, st)
		l.ships = l.ships || st.ships && st.kind >= callsGo
		s.of[out] = l
	}
}

// surroundings tell one system that C code is compiled on from another, as far as words can.
func (l *lineage) surroundings() string {
	h := sha256.New()
	fmt.Fprintf(h, "base %q\n", l.base)
	for _, s := range l.steps {
		if s.kind != callsGo {
			fmt.Fprintf(h, "step %q\n", s.op.Meta.Args)
		}
	}
	for _, p := range l.files {
		if systemPath(p) {
			fmt.Fprintf(h, "copy %q\n", p)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// sources are the directories in which a C compiler that runs at cwd may find what came from a context or another stage.
func (l *lineage) sources(cwd string) (dirs []string) {
	add := func(dir string) {
		if dir != "/" && !slices.ContainsFunc(dirs, func(d string) bool { return within(dir, d) }) {
			dirs = append(dirs, dir)
		}
	}
	top := path.Clean("/" + cwd)
	if !systemPath(top) {
		top = "/" + strings.SplitN(top, "/", 3)[1]
	}
	add(top)
	for _, p := range l.files {
		if path.Ext(p) != "" { // a file: what lies beside it counts, too
			p = path.Dir(p)
		}
		add(p)
	}
	return dirs
}

// file enters copies and their kin: each writes into one lineage, and a copy reads another.
func (s *sorter) file(v *graph.Vertex, op *pb.FileOp) {
	states := make([]output, len(op.Actions)) // of each action; inputs of actions count from len(v.Inputs)
	for i, a := range op.Actions {
		l := s.state(v, a.Input, states)
		states[i] = output{v, -1 - i}
		if a.Output >= 0 {
			states[i] = output{v, int(a.Output)}
		}
		if dest := destination(a); dest != "" && a.GetMkdir() == nil {
			l.files = append(l.files, absolute("/", dest))
		}
		if c := a.GetCopy(); c != nil && a.SecondaryInput >= 0 {
			if !s.copied(v, a.SecondaryInput, states, c) {
				l.trees = append(l.trees, absolute("/", c.Dest))
			}
		}
		s.of[states[i]] = l
	}
}

// merge goes on with the lineage of the lowest input, as COPY --link has it: the others are layers put on top.
func (s *sorter) merge(v *graph.Vertex) {
	l := s.above(v, 0)
	for i := range v.Inputs[1:] {
		if other := s.above(v, int64(i+1)); other != l {
			s.join(l, other)
		}
	}
	s.of[output{v, 0}] = l
}

// join makes other a part of l.
func (s *sorter) join(l, other *lineage) {
	if other.base != "" {
		l.base = "" // what a base brings along is no longer known
	}
	l.steps, l.reads = append(l.steps, other.steps...), append(l.reads, other.reads...)
	l.files, l.trees = append(l.files, other.files...), append(l.trees, other.trees...)
	l.ships = l.ships || other.ships
	for o, of := range s.of {
		if of == other {
			s.of[o] = l
		}
	}
	s.all = slices.DeleteFunc(s.all, func(a *lineage) bool { return a == other })
}

// copied notes what a copy reads. It says whether that is the build context, which holds no caches of the stage's go.
func (s *sorter) copied(v *graph.Vertex, input int64, states []output, c *pb.FileActionCopy) (context bool) {
	if input >= int64(len(v.Inputs)) {
		if l := s.of[states[input-int64(len(v.Inputs))]]; l != nil {
			l.reads = append(l.reads, read(c.Src))
		}
		return false
	}
	s.read(v.Inputs[input], c.Src)
	return strings.HasPrefix(v.Inputs[input].Vertex.Op.GetSource().GetIdentifier(), "local://")
}

func (s *sorter) read(e graph.Edge, p string) {
	if l := s.of[output{e.Vertex, e.Index}]; l != nil {
		l.reads = append(l.reads, read(p))
	}
}

// above finds the lineage that an input of v belongs to, and begins one on a source or scratch.
func (s *sorter) above(v *graph.Vertex, input int64) *lineage {
	if input < 0 {
		return s.begin("")
	}
	e := v.Inputs[input]
	if l := s.of[output{e.Vertex, e.Index}]; l != nil {
		return l
	}
	return s.begin(e.Vertex.Op.GetSource().GetIdentifier())
}

func (s *sorter) state(v *graph.Vertex, input int64, states []output) *lineage {
	if n := int64(len(v.Inputs)); input >= n {
		return s.of[states[input-n]]
	}
	return s.above(v, input)
}

func (s *sorter) begin(base string) *lineage {
	l := &lineage{base: base}
	s.all = append(s.all, l)
	return l
}

func destination(a *pb.FileAction) string {
	switch a := a.Action.(type) {
	case *pb.FileAction_Copy:
		return a.Copy.Dest
	case *pb.FileAction_Mkfile:
		return a.Mkfile.Path
	case *pb.FileAction_Mkdir:
		return a.Mkdir.Path
	case *pb.FileAction_Rm:
		return a.Rm.Path
	case *pb.FileAction_Symlink:
		return a.Symlink.Newpath
	}
	return ""
}

func environment(env []string) map[string]string {
	m := make(map[string]string, len(env))
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		m[name] = value
	}
	return m
}

// golang says whether a source is an image of golang, from whichever registry, or the built-in base.
func golang(base string) bool {
	name, _, _ := strings.Cut(strings.TrimPrefix(base, "docker-image://"), "@")
	name, _, _ = strings.Cut(path.Base(name), ":")
	return builtin(base) != "" || name == "golang"
}

// empty says whether a base has no modules in it: a golang image, or a plain distribution.
func empty(base string) bool {
	return golang(base) || strings.HasPrefix(base, "docker-image://docker.io/library/")
}

// kind is the most that any command of the script may do.
func (s script) kind() kind {
	if !s.parsed {
		return unknown
	}
	k := clean
	for _, c := range s.commands {
		k = max(k, look(c))
	}
	return k
}
