package gobase

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"mvdan.cc/sh/v3/syntax"

	"github.com/skiff-build/skiff/internal/busybox"
	"github.com/skiff-build/skiff/internal/graph"
	"github.com/skiff-build/skiff/internal/shell"
)

// value is a variable's value as far as it is known before the step runs.
type value struct {
	text  string
	known bool
}

// step is one RUN while it is read: its commands in the order of the text, with what each changes for those
// that follow. Where a branch is not taken when it runs, the reading errs on the side of refusal.
type step struct {
	j     *judge
	v     *graph.Vertex
	t     *tree // changed by the commands
	env   map[string]value
	cwd   value
	funcs map[string]bool
	// exported are the variables that the commands which a shell starts get; with allExport (set -a) they get all.
	exported  map[string]bool
	allExport bool
	given     map[string]bool // the variables that the step begins with
	captured  bool            // what some command prints goes elsewhere than to the log
	depth     int             // of shells within shells
	// variant is the shell whose text is read; empty: none yet.
	variant shell.Variant
}

func newStep(j *judge, v *graph.Vertex, e *pb.ExecOp, t *tree) *step {
	s := &step{j: j, v: v, t: t, env: map[string]value{}, funcs: map[string]bool{}, exported: map[string]bool{}, given: map[string]bool{}}
	for _, kv := range e.Meta.Env {
		name, text, _ := strings.Cut(kv, "=")
		s.env[name], s.exported[name], s.given[name] = value{text, true}, true, true
		if t.base.cross {
			s.crossAssign(name, s.env[name])
		}
	}
	s.cwd = value{path.Join("/", e.Meta.Cwd), true}
	return s
}

// refuse gives the reason why this step is not served.
func (s *step) refuse(command, why string) {
	s.t.base.refuse(&Refusal{Where: where(s.v), Command: busybox.Shown(command), Why: why})
}

// mount looks at what a step has mounted beside its root.
func (s *step) mount(v *graph.Vertex, m *pb.Mount) {
	switch m.MountType {
	case pb.MountType_SSH:
		s.refuse("", "an ssh agent is mounted: modules are fetched with git and ssh, which the base has not")
	case pb.MountType_BIND:
		from := input(v, m.Input)
		if from.Vertex == nil || !strings.HasPrefix(from.Vertex.Op.GetSource().GetIdentifier(), "local://") {
			return
		}
		in := copied{local: from.Vertex, from: path.Join("/", m.Selector), to: path.Join("/", m.Dest)}
		s.t.take(in)
		if repo, ok := s.j.repository(in); ok {
			s.t.repos = append(s.t.repos, repo)
			s.t.base.gitSeen = true
		}
	}
}

// run reads the arguments of an exec: a shell with -c, or a command alone.
func (s *step) run(meta *pb.Meta) {
	words := make([]value, len(meta.Args))
	for i, a := range meta.Args {
		words[i] = value{a, true}
	}
	s.command(words, strings.Join(meta.Args, " "))
}

// maxShells bounds shells within shells.
const maxShells = 20

// script reads the text of a shell.
func (s *step) script(name, text string) {
	if s.depth++; s.depth > maxShells {
		s.refuse(text, "shells are nested too deep")
		return
	}
	outer := s.variant
	defer func() { s.depth--; s.variant = outer }()
	if s.variant = s.t.base.tag.Variant.Shell(name); name == "sh" && outer == shell.Bash { // of eval and trap
		s.variant = outer
	}
	script, err := shell.Parse(s.variant, text)
	var unserved *shell.UnservedError
	if errors.As(err, &unserved) {
		why := unserved.Why
		if unserved.Line > 1 {
			why += fmt.Sprintf(" (line %d of the script)", unserved.Line)
		}
		s.refuse(cmp.Or(unserved.Text, text), why)
		return
	}
	file := script.File()
	// Functions may be called before the line that declares them is reached.
	syntax.Walk(file, func(n syntax.Node) bool {
		if f, ok := n.(*syntax.FuncDecl); ok && f.Name != nil {
			s.funcs[f.Name.Value] = true
		}
		return true
	})
	s.walk(file)
}

// saved is what a subshell gives back at its end.
type saved struct {
	env      map[string]value
	exported map[string]bool
	cwd      value
}

// walk visits the commands of a script in the order of its text.
func (s *step) walk(file *syntax.File) {
	var open []syntax.Node
	var outer []saved
	parts := map[*syntax.Stmt]bool{} // of pipelines
	s.captured = s.captured || captures(file)
	isolated := func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.Subshell, *syntax.CmdSubst:
			return true
		case *syntax.Stmt:
			return n.Background || parts[n]
		}
		return false
	}
	syntax.Walk(file, func(n syntax.Node) bool {
		if n == nil {
			last := open[len(open)-1]
			open = open[:len(open)-1]
			if isolated(last) {
				o := outer[len(outer)-1]
				s.env, s.exported, s.cwd = o.env, o.exported, o.cwd
				outer = outer[:len(outer)-1]
			}
			return true
		}
		open = append(open, n)
		if b, ok := n.(*syntax.BinaryCmd); ok && b.Op == syntax.Pipe {
			parts[b.X], parts[b.Y] = true, true
		}
		if isolated(n) {
			outer = append(outer, saved{maps.Clone(s.env), maps.Clone(s.exported), s.cwd})
		}
		s.node(n)
		return true
	})
}

func (s *step) node(n syntax.Node) {
	if s.t.base.cross {
		s.crossNode(n)
	}
	switch n := n.(type) {
	case *syntax.CallExpr:
		s.call(n)
	case *syntax.WordIter:
		s.env[n.Name.Value] = value{}
	case *syntax.Redirect:
		if n.Word != nil && n.Op != syntax.RdrIn && n.Op != syntax.DplIn && n.Op != syntax.DplOut {
			if w := s.word(n.Word); w.known {
				s.wrote(w.text)
			}
		}
	}
}

func (s *step) assigned(a *syntax.Assign) value {
	if a.Array != nil || a.Append {
		return value{}
	}
	if a.Value == nil {
		return value{"", true}
	}
	return s.word(a.Value)
}

// call reads a simple command with its assignments.
func (s *step) call(c *syntax.CallExpr) {
	if len(c.Args) == 0 {
		for _, a := range c.Assigns {
			s.env[a.Name.Value] = s.assigned(a)
		}
		return
	}
	before, exported := maps.Clone(s.env), s.exported
	s.exported = maps.Clone(s.exported)
	for _, a := range c.Assigns {
		s.env[a.Name.Value], s.exported[a.Name.Value] = s.assigned(a), true
	}
	var words []value
	for _, w := range c.Args {
		words = append(words, s.fields(w)...)
	}
	var text strings.Builder
	syntax.NewPrinter().Print(&text, c) // into a Builder: no error
	s.command(words, text.String())
	if len(c.Assigns) == 0 {
		return // what the command exported stays
	}
	s.exported = exported
	for _, a := range c.Assigns { // they were for this command alone
		if old, ok := before[a.Name.Value]; ok {
			s.env[a.Name.Value] = old
		} else {
			delete(s.env, a.Name.Value)
		}
	}
}

// abs is a path of the step in its tree; empty where the working directory is not known.
func (s *step) abs(p string) string {
	if path.IsAbs(p) {
		return path.Clean(p)
	}
	if !s.cwd.known {
		return ""
	}
	return path.Join(s.cwd.text, p)
}

func (s *step) wrote(p string) {
	if p = s.abs(p); p != "" && p != "/" {
		s.t.written = append(s.t.written, p)
	}
}

// known returns the text of all words, and whether all are known.
func known(words []value) ([]string, bool) {
	all := true
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = w.text
		all = all && w.known
	}
	return texts, all
}
