package shell

import (
	"fmt"
	"os"
	"sync"

	"mvdan.cc/sh/v3/syntax"
)

// maxDeep bounds how deep functions and evals call each other.
const maxDeep = 500

// script runs all of a script. tested says that errors are looked at by who calls: set -e does not end the shell.
func (in *interp) script(s *Script, tested bool) int {
	return in.list(s.file.Stmts, tested)
}

// eval reads and runs text.
func (in *interp) eval(text string, tested bool) int {
	s, err := Parse(in.Variant, text)
	if err != nil {
		in.unserved(text, "%v", err)
	}
	defer in.enter("eval")()
	return in.script(s, tested)
}

// enter counts what runs within what runs.
func (in *interp) enter(what string) func() {
	if in.deep++; in.deep > maxDeep {
		in.unserved(what, "is nested too deep")
	}
	return func() { in.deep-- }
}

// list runs statements one after the other.
func (in *interp) list(stmts []*syntax.Stmt, tested bool) int {
	status := 0
	for _, s := range stmts {
		status = in.stmt(s, tested)
		if in.skip != skipNot {
			break
		}
	}
	return status
}

// stmt runs a statement and sets $?.
func (in *interp) stmt(s *syntax.Stmt, tested bool) int {
	if in.ctx.Err() != nil {
		in.status = 143
		panic(dieNow{})
	}
	in.line = s.Pos().Line()
	switch {
	case s.Background:
		in.background(s)
		in.status = 0
	case s.Negated:
		plain := *s
		plain.Negated = false
		status := in.stmt(&plain, true)
		switch {
		case in.skip == skipReturn && in.Variant == Dash: // ! return 2 returns 2 in dash, 0 in ash
		case in.skip == skipReturn && in.Variant == Bash:
			in.unserved("! return", "is not served")
		case status == 0:
			in.status = 1
		default:
			in.status = 0
		}
	default:
		in.status = in.redirected(s, tested)
	}
	return in.status
}

// exitOnError is set -e.
func (in *interp) exitOnError(status int, tested bool) int {
	in.status = status
	if status != 0 && !tested && in.opts['e'] {
		panic(exitNow{})
	}
	return status
}

func (in *interp) redirected(s *syntax.Stmt, tested bool) int {
	if c, ok := s.Cmd.(*syntax.CallExpr); ok || s.Cmd == nil {
		if c == nil {
			c = &syntax.CallExpr{}
		}
		return in.exitOnError(in.call(s, c, tested), tested)
	}
	if len(s.Redirs) == 0 {
		return in.command(s.Cmd, tested)
	}
	if sub, ok := s.Cmd.(*syntax.Subshell); ok && in.Variant != Bash { // its redirections are the subshell's
		child := in.clone()
		undo := func() {}
		status := child.guard(func() { // they hold for its EXIT trap, too
			applied, ok := child.redirect(s.Redirs)
			if !ok {
				child.status = 2
				panic(exitNow{})
			}
			undo = applied
			child.list(sub.Stmts, tested)
		})
		undo()
		child.fds.release()
		return in.exitOnError(in.checked(status), tested)
	}
	undo, ok := in.redirect(s.Redirs)
	if !ok {
		status := in.redirectStatus()
		if in.Variant == Bash {
			in.unserved("a redirection", "that fails, of more than one command")
		}
		if in.Variant != Ash { // ash goes on
			return in.exitOnError(status, tested)
		}
		return status
	}
	ended := false
	defer func() {
		undo()
		in.torn = in.torn || !ended
	}()
	status := in.command(s.Cmd, tested)
	ended = true
	return status
}

func (in *interp) command(cmd syntax.Command, tested bool) int {
	switch c := cmd.(type) {
	case *syntax.Block:
		return in.list(c.Stmts, tested)
	case *syntax.Subshell:
		child := in.clone()
		status := child.guard(func() { child.list(c.Stmts, tested) })
		child.fds.release()
		return in.exitOnError(in.checked(status), tested)
	case *syntax.BinaryCmd:
		return in.binary(c, tested)
	case *syntax.IfClause:
		return in.ifClause(c, tested)
	case *syntax.WhileClause:
		return in.while(c, tested)
	case *syntax.ForClause:
		return in.forClause(c, tested)
	case *syntax.CaseClause:
		return in.caseClause(c, tested)
	case *syntax.FuncDecl:
		in.funcs[c.Name.Value] = c.Body
		return 0
	}
	in.unserved(fmt.Sprintf("%T", cmd), "is not served")
	return 0
}

// checked hands on that a subshell met what is not served.
func (in *interp) checked(status int) int {
	if in.dead.Load() {
		panic(dieNow{})
	}
	return status
}

func (in *interp) binary(c *syntax.BinaryCmd, tested bool) int {
	switch c.Op {
	case syntax.Pipe:
		return in.exitOnError(in.pipeline(c, tested), tested)
	case syntax.AndStmt, syntax.OrStmt:
		status := in.stmt(c.X, true)
		if in.skip != skipNot || (status == 0) != (c.Op == syntax.AndStmt) {
			return status
		}
		return in.stmt(c.Y, tested)
	}
	in.unserved(c.Op.String(), "is not served")
	return 0
}

// pipeline runs every part in a subshell of its own, the last one too.
func (in *interp) pipeline(c *syntax.BinaryCmd, tested bool) int {
	parts := []*syntax.Stmt{c.Y}
	x := c.X
	for {
		b, ok := x.Cmd.(*syntax.BinaryCmd)
		if !ok || b.Op != syntax.Pipe || x.Negated || len(x.Redirs) > 0 {
			break
		}
		parts = append(parts, b.Y)
		x = b.X
	}
	parts = append(parts, x)
	n := len(parts)
	children := make([]*interp, n)
	for i := range children {
		children[i] = in.clone()
	}
	for i := range n - 1 {
		r, w, err := os.Pipe()
		if err != nil {
			in.unserved("|", "%v", err)
		}
		children[i].fds.put(1, newStream(nil, w, w))
		children[i+1].fds.put(0, newStream(r, nil, r))
	}
	statuses := make([]int, n)
	var all sync.WaitGroup
	for i, child := range children {
		part := parts[n-1-i]
		run := func() {
			statuses[i] = child.guard(func() { child.stmt(part, tested) })
			child.fds.release()
		}
		if i == n-1 {
			run()
			break
		}
		all.Go(run)
	}
	all.Wait()
	status := statuses[n-1]
	if in.pipe {
		for _, s := range statuses {
			if s != 0 {
				status = s
			}
		}
	}
	return in.checked(status)
}

func (in *interp) background(s *syntax.Stmt) {
	child := in.clone()
	child.fds.put(0, newStream(nil, nil, nil))
	j := &job{pid: 1<<22 + in.pids.Add(1), done: make(chan struct{})} // above what a kernel gives
	in.jobs, in.last = append(in.jobs, j), j
	plain := *s
	plain.Background = false
	go func() {
		defer close(j.done)
		j.status = child.guard(func() { child.stmt(&plain, false) })
		child.fds.release()
	}()
}

func (in *interp) ifClause(c *syntax.IfClause, tested bool) int {
	for ; c != nil; c = c.Else {
		if len(c.Cond) == 0 { // else
			return in.list(c.Then, tested)
		}
		status := in.list(c.Cond, true)
		if in.skip != skipNot {
			return status
		}
		if status == 0 {
			return in.list(c.Then, tested)
		}
	}
	return 0
}

// looped handles break and continue after the body of a loop; it reports whether the loop ends.
func (in *interp) looped() bool {
	switch in.skip {
	case skipNot:
		return false
	case skipReturn:
		return true
	}
	if in.levels--; in.levels > 0 {
		return true
	}
	ends := in.skip == skipBreak
	in.skip = skipNot
	return ends
}

func (in *interp) while(c *syntax.WhileClause, tested bool) int {
	in.loops++
	defer func() { in.loops-- }()
	status := 0
	for {
		cond := in.list(c.Cond, true)
		if in.skip != skipNot {
			if in.skip == skipReturn {
				return cond
			}
			if in.looped() {
				return status
			}
			continue
		}
		if (cond == 0) == c.Until {
			return status
		}
		status = in.list(c.Do, tested)
		if in.looped() {
			return status
		}
	}
}

func (in *interp) forClause(c *syntax.ForClause, tested bool) int {
	in.notTraced("for")
	iter := c.Loop.(*syntax.WordIter) // checked when it was read
	items := in.params
	if iter.InPos.IsValid() {
		items = in.fields(iter.Items)
	}
	in.loops++
	defer func() { in.loops-- }()
	status := 0
	for _, item := range items {
		in.set(iter.Name.Value, item)
		status = in.list(c.Do, tested)
		if in.looped() {
			break
		}
	}
	return status
}

func (in *interp) caseClause(c *syntax.CaseClause, tested bool) int {
	in.notTraced("case")
	in.subst = 0
	word := in.text(c.Word)
	for _, item := range c.Items {
		for _, p := range item.Patterns {
			if in.matches(in.pattern(p), word) {
				return in.list(item.Stmts, tested)
			}
		}
	}
	return 0
}

// notTraced ends the script where bash would show a command that the others do not.
func (in *interp) notTraced(what string) {
	if in.Variant == Bash && in.opts['x'] {
		in.unserved(what, "is not served while set -x is on in bash")
	}
}
