package gobase

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"github.com/skiff-build/skiff/internal/busybox"
	"github.com/skiff-build/skiff/internal/shell"
)

// flow is what a shell knows at one place of a script, as far as that can be told before it runs.
type flow struct {
	env map[string]value
	// exported are the variables that the commands which the shell starts get.
	exported map[string]certainty
	// allExport is set -a.
	allExport certainty
	// wild says that a variable which is not in env may have any value, and may be exported.
	wild  bool
	cwd   value
	funcs map[string]bool  // declared for certain
	goEnv map[string]value // go env -w, which outlives the shell
}

// certainty is whether something is so at a place that more than one way leads to.
type certainty uint8

const (
	never certainty = iota
	maybe
	surely
)

func either(a, b certainty) certainty {
	if a == b {
		return a
	}
	return maybe
}

func (f flow) clone() flow {
	f.env, f.exported, f.funcs, f.goEnv = maps.Clone(f.env), maps.Clone(f.exported), maps.Clone(f.funcs), maps.Clone(f.goEnv)
	return f
}

// merge is what is known where two ways meet: what they agree on.
func merge(a, b flow) flow {
	m := flow{env: map[string]value{}, exported: map[string]certainty{}, funcs: map[string]bool{}, goEnv: map[string]value{}, cwd: a.cwd,
		wild: a.wild || b.wild, allExport: either(a.allExport, b.allExport)}
	if a.cwd != b.cwd {
		m.cwd = value{}
	}
	both := func(to, one, other map[string]value) {
		for name, v := range one {
			if w, ok := other[name]; !ok || v != w {
				v = value{}
			}
			to[name] = v
		}
	}
	both(m.env, a.env, b.env)
	both(m.env, b.env, a.env)
	both(m.goEnv, a.goEnv, b.goEnv)
	both(m.goEnv, b.goEnv, a.goEnv)
	for _, exported := range []map[string]certainty{a.exported, b.exported} {
		for name := range exported {
			m.exported[name] = either(a.exported[name], b.exported[name])
		}
	}
	for name := range a.funcs {
		if b.funcs[name] {
			m.funcs[name] = true
		}
	}
	return m
}

// assign gives a variable a value.
func (s *step) assign(name string, v value) {
	s.env[name] = v
	if s.exported[name] == never || s.allExport == surely {
		s.exported[name] = max(s.exported[name], s.allExport)
	}
}

// forget is for a command that may have changed any variable.
func (s *step) forget() {
	s.wild = true
	for name := range s.env {
		s.env[name] = value{}
		s.exported[name] = maybe
	}
}

// isolated runs fn as a subshell does: what it changes but files does not stay.
func (s *step) isolated(fn func()) {
	outer, left := s.flow.clone(), s.left
	fn()
	outer.goEnv = s.goEnv
	s.flow, s.left = outer, left
}

// walk judges the commands of a script in the order in which they run. Where it has branches each is judged from what holds before it, and
// what follows from what all of them agree on.
func (s *step) walk(file *syntax.File) {
	s.captured = s.captured || captures(file)
	n := len(file.Stmts)
	if n == 0 || s.depth > 1 {
		s.list(file.Stmts)
		return
	}
	s.list(file.Stmts[:n-1])
	s.tried(file.Stmts[n-1]) // there is another step only where this one succeeds
}

func (s *step) list(stmts []*syntax.Stmt) {
	for _, stmt := range stmts {
		s.visit(stmt)
	}
}

func (s *step) visit(n syntax.Node) {
	syntax.Walk(n, func(n syntax.Node) bool {
		if n == nil {
			return true
		}
		s.node(n)
		return !s.branches(n)
	})
}

// branches judges what is within a node whose parts do not all run, or not in the same shell. It reports false for all others.
func (s *step) branches(n syntax.Node) bool {
	switch n := n.(type) {
	case *syntax.Stmt:
		if !n.Background {
			return false
		}
		s.isolated(func() {
			for _, r := range n.Redirs {
				s.visit(r)
			}
			if n.Cmd != nil {
				s.visit(n.Cmd)
			}
		})
	case *syntax.Subshell:
		s.isolated(func() { s.list(n.Stmts) })
	case *syntax.CmdSubst:
		s.isolated(func() { s.list(n.Stmts) })
	case *syntax.BinaryCmd:
		s.binary(n)
	case *syntax.IfClause:
		s.ifClause(n)
	case *syntax.WhileClause:
		s.loop(n.Do, func() { s.list(n.Cond) }, n.Cond)
	case *syntax.ForClause:
		s.visit(n.Loop)
		s.loop(n.Do, func() {}, nil)
	case *syntax.CaseClause:
		s.caseClause(n)
	case *syntax.FuncDecl:
		s.funcs[n.Name.Value] = true // its body is judged where it is called
	default:
		return false
	}
	return true
}

func (s *step) binary(n *syntax.BinaryCmd) {
	switch n.Op {
	case syntax.AndStmt:
		s.flow = s.chain(n)
	case syntax.OrStmt:
		failed := s.tried(n.X)
		success := s.flow
		s.flow = failed.clone()
		s.visit(n.Y)
		if !leaves([]*syntax.Stmt{n.Y}) {
			success = merge(success, s.flow)
		}
		s.flow = success
	default:
		s.isolated(func() { s.visit(n.X) })
		s.isolated(func() { s.visit(n.Y) })
	}
}

// chain judges a && b. What holds afterwards where all succeeded is left in s; the result is what holds in any case.
func (s *step) chain(n *syntax.BinaryCmd) flow {
	failed := s.tried(n.X)
	s.visit(n.Y)
	return merge(failed, s.flow)
}

// tried judges a statement whose success decides what runs next. What holds where it succeeded is left in s; the result is what holds
// in any case.
func (s *step) tried(stmt *syntax.Stmt) flow {
	if b, ok := stmt.Cmd.(*syntax.BinaryCmd); ok && b.Op == syntax.AndStmt && !stmt.Negated && !stmt.Background && len(stmt.Redirs) == 0 {
		return s.chain(b)
	}
	s.visit(stmt)
	return s.flow.clone()
}

// leaves reports whether a list ends by leaving what it stands in.
func leaves(list []*syntax.Stmt) bool {
	if len(list) == 0 {
		return false
	}
	last := list[len(list)-1]
	if last.Background || last.Negated {
		return false
	}
	switch c := last.Cmd.(type) {
	case *syntax.CallExpr:
		if len(c.Args) == 0 {
			return false
		}
		switch c.Args[0].Lit() {
		case "exit", "return", "break", "continue":
			return true
		}
	case *syntax.Block:
		return leaves(c.Stmts)
	}
	return false
}

func (s *step) ifClause(n *syntax.IfClause) {
	var failed flow
	for i, c := range n.Cond {
		if i+1 < len(n.Cond) {
			s.visit(c)
			continue
		}
		failed = s.tried(c)
	}
	s.list(n.Then)
	then := s.flow
	s.flow = failed
	switch {
	case n.Else == nil:
	case len(n.Else.Cond) == 0:
		s.list(n.Else.Then)
		if leaves(n.Else.Then) {
			s.flow = then
			return
		}
	default:
		s.ifClause(n.Else)
	}
	if !leaves(n.Then) {
		s.flow = merge(then, s.flow)
	}
}

func (s *step) caseClause(n *syntax.CaseClause) {
	s.visit(n.Word)
	before, all := s.flow, []flow{}
	matched := false
	for _, item := range n.Items {
		s.flow = before.clone()
		for _, p := range item.Patterns {
			s.visit(p)
			matched = matched || p.Lit() == "*"
		}
		s.list(item.Stmts)
		if !leaves(item.Stmts) {
			all = append(all, s.flow)
		}
	}
	if !matched || len(all) == 0 {
		all = append(all, before)
	}
	s.flow = all[0]
	for _, f := range all[1:] {
		s.flow = merge(s.flow, f)
	}
}

// loop judges a body that runs any number of times: it begins without what a round before may have changed.
func (s *step) loop(body []*syntax.Stmt, cond func(), condition []*syntax.Stmt) {
	for _, list := range [][]*syntax.Stmt{condition, body} {
		for _, stmt := range list {
			s.unsettle(stmt, map[string]bool{})
		}
	}
	outer := s.left
	s.left = nil
	cond()
	before := s.flow.clone()
	s.list(body)
	s.flow = merge(before, s.flow)
	for _, f := range s.left {
		s.flow = merge(s.flow, f)
	}
	s.left = outer
}

// unsettle forgets what a statement changes.
func (s *step) unsettle(n syntax.Node, called map[string]bool) {
	changed := func(name string, exports bool) {
		s.env[name] = value{}
		if exports || s.exported[name] == surely || s.allExport != never {
			s.exported[name] = maybe
		}
	}
	syntax.Walk(n, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.Subshell, *syntax.CmdSubst, *syntax.FuncDecl:
			return false
		case *syntax.CallExpr:
			if len(n.Args) == 0 {
				for _, a := range n.Assigns {
					changed(a.Name.Value, false)
				}
				return true
			}
			w := s.word(n.Args[0])
			if !w.known {
				s.forget()
				return true
			}
			switch name := w.text; name {
			case "cd", "chdir":
				s.cwd = value{}
			case "eval":
				s.forget()
				s.cwd = value{}
			case "set":
				s.allExport = maybe
			case "export", "readonly", "local", "unset", "read":
				for _, w := range n.Args[1:] {
					if name, _, _ := strings.Cut(literalStart(w), "="); isVariable(name) {
						changed(name, true)
					} else if !strings.HasPrefix(name, "-") {
						s.forget()
					}
				}
			default:
				if !called[name] {
					called[name] = true
					for _, body := range s.bodies[name] {
						s.unsettle(body, called)
					}
				}
			}
		case *syntax.WordIter:
			changed(n.Name.Value, false)
		case *syntax.ParamExp:
			if assigns(n) {
				changed(n.Param.Value, false)
			}
		}
		return true
	})
}

// literalStart is the text that a word begins with.
func literalStart(w *syntax.Word) string {
	parts := w.Parts
	if len(parts) > 0 {
		if q, ok := parts[0].(*syntax.DblQuoted); ok {
			parts = q.Parts
		}
	}
	if len(parts) > 0 {
		if lit, ok := parts[0].(*syntax.Lit); ok {
			return lit.Value
		}
	}
	return ""
}

func isVariable(name string) bool {
	for i := range len(name) {
		c := name[i]
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// assigns reports whether an expansion is ${name:=word}.
func assigns(p *syntax.ParamExp) bool {
	return p.Param != nil && p.Exp != nil && (p.Exp.Op == syntax.AssignUnset || p.Exp.Op == syntax.AssignUnsetOrNull)
}

// arithmetic forgets a variable that $((…)) changes.
func (s *step) arithmetic(n syntax.Node) {
	var x syntax.ArithmExpr
	switch n := n.(type) {
	case *syntax.BinaryArithm:
		if !slices.Contains([]syntax.BinAritOperator{syntax.Assgn, syntax.AddAssgn, syntax.SubAssgn, syntax.MulAssgn, syntax.QuoAssgn, syntax.RemAssgn,
			syntax.AndAssgn, syntax.OrAssgn, syntax.XorAssgn, syntax.ShlAssgn, syntax.ShrAssgn}, n.Op) {
			return
		}
		x = n.X
	case *syntax.UnaryArithm:
		if n.Op != syntax.Inc && n.Op != syntax.Dec {
			return
		}
		x = n.X
	}
	if w, ok := x.(*syntax.Word); ok && isVariable(w.Lit()) {
		s.assign(w.Lit(), value{})
		return
	}
	s.forget()
}

// maxCalls bounds the calls of functions that are looked at.
const maxCalls = 300

// function judges a call of a function, whose parameters are not looked at.
func (s *step) function(name, text string) {
	if s.calls++; s.calls > maxCalls || s.calling > maxShells {
		s.refuse(text, "functions are nested too deep")
		return
	}
	s.calling++
	outer, params := s.left, s.params
	before := s.flow
	s.params = nil
	var all []flow
	for _, body := range s.bodies[name] {
		s.flow, s.left = before.clone(), nil
		s.visit(body)
		s.flow = s.restored(body, before)
		all = append(all, s.flow)
		for _, f := range s.left {
			s.flow = f
			all = append(all, s.restored(body, before))
		}
	}
	s.flow = all[0]
	for _, f := range all[1:] {
		s.flow = merge(s.flow, f)
	}
	s.left, s.params = outer, params
	s.calling--
}

// restored gives back what a function had for itself.
func (s *step) restored(body syntax.Node, before flow) flow {
	syntax.Walk(body, func(n syntax.Node) bool {
		c, ok := n.(*syntax.CallExpr)
		if !ok || len(c.Args) == 0 || c.Args[0].Lit() != "local" {
			return true
		}
		for _, w := range c.Args[1:] {
			name, _, _ := strings.Cut(literalStart(w), "=")
			if v, ok := before.env[name]; ok {
				s.env[name] = v
			} else {
				delete(s.env, name)
			}
			s.exported[name] = before.exported[name]
		}
		return true
	})
	return s.flow
}

// setOptions judges set.
func (s *step) setOptions(args []value) {
	for i := 0; i < len(args); i++ {
		a := args[i]
		switch {
		case !a.known:
			s.allExport = maybe
			return
		case len(a.text) < 2 || a.text == "--" || a.text[0] != '-' && a.text[0] != '+':
			return
		}
		to := surely
		if a.text[0] == '+' {
			to = never
		}
		for _, letter := range a.text[1:] {
			switch letter {
			case 'a':
				s.allExport = to
			case 'o':
				if i++; i < len(args) && !args[i].known {
					s.allExport = maybe
				} else if i < len(args) && args[i].text == "allexport" {
					s.allExport = to
				}
			}
		}
	}
}

// unset judges unset, and read, whose names get what nobody knows.
func (s *step) unset(command string, args []value) {
	for _, a := range args {
		switch {
		case !a.known:
			s.forget()
		case a.text == "-f":
			return
		case strings.HasPrefix(a.text, "-"):
		case command == "read":
			s.assign(a.text, value{})
		case s.wild:
			s.env[a.text], s.exported[a.text] = value{"", true}, never
		default:
			delete(s.env, a.text)
			delete(s.exported, a.text)
		}
	}
}

// process judges another shell, which finds of the variables those that are exported.
func (s *step) process(name string, a busybox.ShellArgs, do func()) {
	variant, bodies, params, script := s.variant, s.bodies, s.params, s.scriptName
	s.isolated(func() {
		for name := range s.env {
			switch s.exported[name] {
			case never:
				delete(s.env, name)
			case maybe:
				s.env[name] = value{}
			}
		}
		s.allExport, s.funcs = never, map[string]bool{}
		if strings.Contains(a.Letters, "a") {
			s.allExport = surely
		}
		s.variant, s.bodies = "", map[string][]*syntax.Stmt{}
		s.params, s.scriptName = append([]string{}, a.Params...), cmp.Or(a.Name, name)
		do()
	})
	s.variant, s.bodies, s.params, s.scriptName = variant, bodies, params, script
}

// byShell are variables that a shell sets for itself; without a value in the environment what they hold is not known.
func byShell(v shell.Variant, name string) bool {
	switch name {
	case "HOME", "OLDPWD", "IFS", "PS1", "PS2", "PS4", "OPTIND", "PPID", "LINENO", "_", "SHLVL":
		return true
	case "HOSTNAME", "RANDOM", "UID", "EUID", "SECONDS", "OSTYPE", "HOSTTYPE", "MACHTYPE", "GROUPS", "SHELLOPTS":
		return v != shell.Dash
	}
	return strings.HasPrefix(name, "BASH") && v == shell.Bash
}
