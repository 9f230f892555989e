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
// that follow. What depends on a branch that may not be taken is not known where the branches meet.
type step struct {
	j *judge
	v *graph.Vertex
	t *tree // changed by the commands
	flow
	bodies   map[string][]*syntax.Stmt // of the functions that are declared somewhere
	left     []flow                    // what holds where a function, or a loop, was left before its end
	given    map[string]bool           // the variables that the step begins with
	captured bool                      // what some command prints goes elsewhere than to the log
	depth    int                       // of shells within shells
	calls    int                       // of functions
	calling  int                       // functions within functions
	scripts  int                       // how many scripts were read
	// params are the parameters of the script that is read, nil where they are not known; scriptName is its $0.
	params     []string
	scriptName string
	// variant is the shell whose text is read; empty: none yet.
	variant shell.Variant
	bash    bool // some text was bash's
}

func newStep(j *judge, v *graph.Vertex, e *pb.ExecOp, t *tree) *step {
	s := &step{j: j, v: v, t: t, bodies: map[string][]*syntax.Stmt{}, given: map[string]bool{},
		flow: flow{env: map[string]value{}, funcs: map[string]bool{}, exported: map[string]certainty{}, goEnv: maps.Clone(t.goEnv)}}
	for _, kv := range e.Meta.Env {
		name, text, _ := strings.Cut(kv, "=")
		s.env[name], s.exported[name], s.given[name] = value{text, true}, surely, true
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
	s.t.goEnv = s.goEnv
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
	s.bash = s.bash || s.variant == shell.Bash
	file := script.File()
	// Functions may be called before the line that declares them is reached.
	syntax.Walk(file, func(n syntax.Node) bool {
		if f, ok := n.(*syntax.FuncDecl); ok && f.Name != nil {
			s.bodies[f.Name.Value] = append(s.bodies[f.Name.Value], f.Body)
		}
		return true
	})
	if shifts(file) {
		params := s.params
		s.params = nil
		defer func() { s.params = params }()
	}
	s.walk(file)
}

func (s *step) node(n syntax.Node) {
	if s.t.base.cross {
		s.crossNode(n)
	}
	switch n := n.(type) {
	case *syntax.CallExpr:
		s.call(n)
	case *syntax.WordIter:
		s.assign(n.Name.Value, value{})
	case *syntax.ParamExp:
		if assigns(n) {
			s.assign(n.Param.Value, s.param(n))
		}
		if s.bash && n.Param != nil && (n.Param.Value == "SHLVL" || n.Param.Value == "_") {
			s.refuse("$"+n.Param.Value, "the variable is bash's own")
		}
	case *syntax.BinaryArithm, *syntax.UnaryArithm:
		s.arithmetic(n)
	case *syntax.Redirect:
		if n.Word != nil && n.Op != syntax.RdrIn && n.Op != syntax.DplIn && n.Op != syntax.DplOut {
			if w := s.word(n.Word); w.known {
				s.wrote(w.text)
				s.changed(w.text)
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
			s.assign(a.Name.Value, s.assigned(a))
		}
		return
	}
	before := s.flow.clone()
	for _, a := range c.Assigns {
		s.env[a.Name.Value], s.exported[a.Name.Value] = s.assigned(a), surely
	}
	var words []value
	for _, w := range c.Args {
		fields := s.fields(w)
		if name, _, ok := strings.Cut(literalStart(w), "="); ok && len(fields) == 1 && !fields[0].known && isVariable(name) {
			fields[0].text = name + "=" // what is exported is known, if not its value
		}
		words = append(words, fields...)
	}
	var text strings.Builder
	syntax.NewPrinter().Print(&text, c) // into a Builder: no error
	s.command(words, text.String())
	for _, a := range c.Assigns { // they were for this command alone
		name := a.Name.Value
		if old, ok := before.env[name]; ok {
			s.env[name] = old
		} else {
			delete(s.env, name)
		}
		s.exported[name] = before.exported[name]
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

// changed notes that a command may change the content of a file, or of a folder's files.
func (s *step) changed(p string) {
	if p = s.abs(p); p != "" && p != "/dev/null" {
		s.t.changed = append(s.t.changed, p)
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
