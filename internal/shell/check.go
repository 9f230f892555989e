package shell

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// checker looks through a tree for what is not served.
type checker struct {
	v     Variant
	err   *UnservedError
	stack []syntax.Node
}

// check returns the first thing that is not served, an [*UnservedError].
func (s *Script) check() error {
	c := &checker{v: s.variant}
	syntax.Walk(s.file, func(n syntax.Node) bool {
		if n == nil {
			c.stack = c.stack[:len(c.stack)-1]
			return true
		}
		if c.err == nil {
			c.node(n)
		}
		c.stack = append(c.stack, n)
		return true
	})
	if c.err != nil {
		return c.err
	}
	return nil
}

func (c *checker) refuse(n syntax.Node, text, format string, args ...any) {
	if c.err == nil {
		c.err = &UnservedError{Line: n.Pos().Line(), Text: text, Why: fmt.Sprintf(format, args...)}
	}
}

// shown is a node as it is printed in an error.
func shown(n syntax.Node) string {
	var b strings.Builder
	if syntax.NewPrinter().Print(&b, n) != nil {
		return ""
	}
	text := strings.Join(strings.Fields(b.String()), " ")
	if r := []rune(text); len(r) > 60 {
		text = string(r[:57]) + "…"
	}
	return text
}

func (c *checker) node(n syntax.Node) {
	switch n := n.(type) {
	case *syntax.File, *syntax.Comment, *syntax.Block, *syntax.WhileClause, *syntax.IfClause, *syntax.Lit,
		*syntax.ParenArithm, *syntax.WordIter:
	case *syntax.SglQuoted:
		if n.Dollar {
			c.refuse(n, "$'…'", "is not served")
		}
	case *syntax.Stmt:
		if n.Coprocess || n.Disown {
			c.refuse(n, shown(n), "is not served")
		}
		if call, ok := n.Cmd.(*syntax.CallExpr); ok && c.v == Bash && len(call.Args) == 0 && len(n.Redirs) > 0 {
			c.refuse(n, shown(n), "a redirection of assignments is not served in bash")
		}
	case *syntax.Subshell:
		if inner, ok := n.Stmts[0].Cmd.(*syntax.Subshell); ok && c.v != Dash && inner.Lparen.Offset() == n.Lparen.Offset()+1 {
			c.refuse(n, "((", "is not served")
		}
	case *syntax.CmdSubst:
		if n.TempFile || n.ReplyVar {
			c.refuse(n, "${ …}", "is not served")
		}
		if n.Backquotes && c.inQuotes() && strings.Contains(shown(&syntax.Word{Parts: []syntax.WordPart{n}}), `"`) {
			c.refuse(n, "`…`", "backquotes with quotes in quotes are not served")
		}
	case *syntax.Word:
		c.word(n)
	case *syntax.DblQuoted:
		if n.Dollar {
			c.refuse(n, `$"…"`, "is not served")
		}
	case *syntax.CallExpr:
		c.call(n)
	case *syntax.Assign:
		c.assign(n)
	case *syntax.Redirect:
		c.redirect(n)
	case *syntax.BinaryCmd:
		if n.Op == syntax.PipeAll {
			c.refuse(n, "|&", "is not served")
		}
		if n.Op == syntax.Pipe && (n.Y.Negated || n.X.Negated) {
			c.refuse(n, "!", "within a pipeline is not served")
		}
	case *syntax.ForClause:
		if iter, ok := n.Loop.(*syntax.WordIter); n.Select || n.Braces || !ok {
			c.refuse(n, "for ((…)), select", "is not served")
		} else if shellOwn[iter.Name.Value] {
			c.refuse(n, iter.Name.Value, "the variable means something to the shell")
		}
	case *syntax.CaseClause:
		if n.Braces {
			c.refuse(n, "case", "with braces is not served")
		}
	case *syntax.CaseItem:
		if n.Op != syntax.Break {
			c.refuse(n, n.Op.String(), "is not served")
		}
	case *syntax.FuncDecl:
		if _, is := builtins[n.Name.Value]; n.RsrvWord || !n.Parens || len(n.Names) > 0 || is || unservedBuiltins[n.Name.Value] || !isName(n.Name.Value) {
			c.refuse(n, n.Name.Value+"()", "a function of this name is not served")
		}
	case *syntax.ParamExp:
		c.param(n)
	case *syntax.ArithmExp:
		if n.Bracket || n.Unsigned {
			c.refuse(n, "$[…]", "is not served")
		}
	case *syntax.BinaryArithm:
		switch n.Op {
		case syntax.Pow, syntax.Comma, syntax.XorBool, syntax.AndBoolAssgn, syntax.OrBoolAssgn, syntax.XorBoolAssgn, syntax.PowAssgn:
			c.refuse(n, n.Op.String(), "is not served in $((…))")
		}
	case *syntax.UnaryArithm:
		if (n.Op == syntax.Inc || n.Op == syntax.Dec) && c.v == Dash {
			c.refuse(n, n.Op.String(), "dash has not in $((…))")
		}
	default:
		c.refuse(n, fmt.Sprintf("%T", n), "is not served")
	}
}

// inQuotes reports whether what is looked at stands in double quotes or a here-document.
func (c *checker) inQuotes() bool {
	for _, n := range slices.Backward(c.stack) {
		switch n.(type) {
		case *syntax.DblQuoted, *syntax.Redirect:
			return true
		case *syntax.CmdSubst, *syntax.CallExpr, *syntax.Stmt:
			return false
		}
	}
	return false
}

var braces = regexp.MustCompile(`(^|[^\\])\{.*(,|\.\.).*\}`)

func (c *checker) word(w *syntax.Word) {
	for i, p := range w.Parts {
		lit, ok := p.(*syntax.Lit)
		if !ok {
			continue
		}
		if i+1 < len(w.Parts) && strings.HasSuffix(lit.Value, "$") && !strings.HasSuffix(lit.Value, `\$`) && c.v != Dash {
			c.refuse(w, "$'…'", "is not served")
		}
		if c.v == Bash && strings.Contains(lit.Value, "{") && !c.inQuotes() && braces.MatchString(shown(w)) {
			c.refuse(w, shown(w), "braces are not served")
		}
		if strings.Contains(lit.Value, "[^") && c.v == Dash {
			c.refuse(w, "[^…]", "is no set of characters in dash")
		}
	}
}

// shellOwn are variables that mean something to one of the shells.
var shellOwn = map[string]bool{
	"LINENO": true, "OPTIND": true, "PPID": true, "RANDOM": true, "SECONDS": true, "BASH": true, "PIPESTATUS": true, "FUNCNAME": true, "BASHOPTS": true,
	"SHELLOPTS": true, "ENV": true, "CDPATH": true, "_": true, "POSIXLY_CORRECT": true, "BASH_ENV": true, "GLOBIGNORE": true,
}

// ofBash reports whether a variable means something to bash alone.
func ofBash(name string) bool {
	switch name {
	case "UID", "EUID", "PWD", "OLDPWD", "SHLVL", "HOSTNAME", "GROUPS", "DIRSTACK", "OSTYPE", "HOSTTYPE", "MACHTYPE", "EPOCHSECONDS", "EPOCHREALTIME", "SRANDOM":
		return true
	}
	return strings.HasPrefix(name, "BASH_") || name == "BASHPID"
}

func (c *checker) assign(a *syntax.Assign) {
	switch {
	case a.Append || a.Index != nil || a.Array != nil || a.Naked || a.Name == nil:
		c.refuse(a, shown(a), "is not served")
	case shellOwn[a.Name.Value], c.v == Bash && ofBash(a.Name.Value):
		c.refuse(a, a.Name.Value, "the variable means something to the shell")
	}
}

func (c *checker) redirect(r *syntax.Redirect) {
	switch r.Op {
	case syntax.RdrOut, syntax.AppOut, syntax.RdrIn, syntax.RdrInOut, syntax.RdrClob, syntax.Hdoc, syntax.DashHdoc:
	case syntax.DplIn, syntax.DplOut:
		if w := c.literal(r.Word); w.known && w.text != "-" && (len(w.text) != 1 || w.text[0] < '0' || w.text[0] > '9') {
			c.refuse(r, r.Op.String()+w.text, "is no descriptor")
		}
	default:
		c.refuse(r, r.Op.String(), "is not served")
	}
	if r.N != nil && (len(r.N.Value) != 1 || r.N.Value[0] < '0' || r.N.Value[0] > '9') {
		c.refuse(r, r.N.Value+r.Op.String(), "is no descriptor of one digit")
	}
	if r.Op != syntax.Hdoc && r.Op != syntax.DashHdoc {
		for _, p := range r.Word.Parts {
			if lit, ok := p.(*syntax.Lit); ok && strings.ContainsAny(lit.Value, "*?[") {
				c.refuse(r, shown(r.Word), "a pattern as the name of a file is not served")
			}
		}
	}
}

func (c *checker) param(p *syntax.ParamExp) {
	text := shown(&syntax.Word{Parts: []syntax.WordPart{p}})
	if p.Param == nil || p.Excl || p.Width || p.IsSet || p.Index != nil || p.Names != 0 || p.Flags != nil ||
		p.NestedParam != nil || len(p.Modifiers) > 0 || p.Length && (p.Exp != nil || p.Slice != nil || p.Repl != nil) {
		c.refuse(p, text, "is not served")
		return
	}
	name := p.Param.Value
	if !isName(name) && (p.Slice != nil || p.Repl != nil) || (name == "@" || name == "*") && (p.Length || p.Exp != nil) {
		c.refuse(p, text, "is not served")
	}
	if p.Slice != nil && !plainSlice(p.Slice) || p.Repl != nil && !plainReplace(p.Repl) {
		c.refuse(p, text, "is served with plain numbers and texts alone")
	}
	if p.Exp != nil && !posixExpansion[p.Exp.Op] {
		c.refuse(p, text, "is not served")
	}
	switch name {
	case "-", "LINENO", "PPID":
		c.refuse(p, text, "is not served")
	}
	if p.Exp == nil || p.Exp.Word == nil {
		return
	}
	trims := false
	switch p.Exp.Op {
	case syntax.RemSmallPrefix, syntax.RemLargePrefix, syntax.RemSmallSuffix, syntax.RemLargeSuffix:
		trims = true
	}
	if !c.inQuotes() {
		return
	}
	for _, q := range p.Exp.Word.Parts {
		switch q := q.(type) {
		case *syntax.DblQuoted, *syntax.SglQuoted:
			c.refuse(p, text, "quotes within ${…} within quotes are not served")
		case *syntax.Lit:
			if strings.Contains(q.Value, `\`) || trims && strings.Contains(q.Value, "~") {
				c.refuse(p, text, "a backslash within ${…} within quotes is not served")
			}
		}
	}
}

// posixExpansion are the operators of ${name…} that all three shells have.
var posixExpansion = map[syntax.ParExpOperator]bool{
	syntax.AlternateUnset: true, syntax.AlternateUnsetOrNull: true, syntax.DefaultUnset: true, syntax.DefaultUnsetOrNull: true,
	syntax.ErrorUnset: true, syntax.ErrorUnsetOrNull: true, syntax.AssignUnset: true, syntax.AssignUnsetOrNull: true,
	syntax.RemSmallSuffix: true, syntax.RemLargeSuffix: true, syntax.RemSmallPrefix: true, syntax.RemLargePrefix: true,
}

// plainSlice reports whether ${x:from:count} has numbers, which are not negative, or variables.
func plainSlice(s *syntax.Slice) bool {
	for _, e := range []syntax.ArithmExpr{s.Offset, s.Length} {
		w, ok := e.(*syntax.Word)
		if e == nil && s.Offset != nil {
			continue
		}
		if !ok || len(w.Parts) != 1 {
			return false
		}
		switch p := w.Parts[0].(type) {
		case *syntax.Lit:
			if strings.Trim(p.Value, "0123456789") != "" && !isName(p.Value) {
				return false
			}
		case *syntax.ParamExp:
			if !p.Short || !isName(p.Param.Value) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// plainReplace reports whether ${x/a/b} has texts in which no character means anything.
func plainReplace(r *syntax.Replace) bool {
	if r.Orig == nil || len(r.Orig.Parts) == 0 {
		return false
	}
	for i, w := range []*syntax.Word{r.Orig, r.With} {
		if w == nil {
			continue
		}
		for k, p := range w.Parts {
			lit, ok := p.(*syntax.Lit)
			if !ok || i == 0 && k == 0 && strings.ContainsAny(lit.Value[:1], "#%/") || !plainReplaced.MatchString(lit.Value) {
				return false
			}
		}
	}
	return true
}

var plainReplaced = regexp.MustCompile(`^[A-Za-z0-9_.,:+=@ -]*$`)

// asPOSIX makes commands of what the parser took for bash's declarations. It reports false where that cannot be.
func asPOSIX(file *syntax.File) bool {
	ok := true
	syntax.Walk(file, func(n syntax.Node) bool {
		s, is := n.(*syntax.Stmt)
		if !is {
			return ok
		}
		d, is := s.Cmd.(*syntax.DeclClause)
		if !is {
			return ok
		}
		call := &syntax.CallExpr{Args: []*syntax.Word{{Parts: []syntax.WordPart{d.Variant}}}}
		for _, a := range d.Args {
			switch {
			case a.Append || a.Index != nil || a.Array != nil || a.Name == nil && a.Value == nil:
				ok = false
			case a.Name == nil:
				call.Args = append(call.Args, a.Value)
			case a.Naked:
				call.Args = append(call.Args, &syntax.Word{Parts: []syntax.WordPart{a.Name}})
			default:
				w := &syntax.Word{Parts: []syntax.WordPart{&syntax.Lit{ValuePos: a.Name.ValuePos, ValueEnd: a.Name.ValueEnd, Value: a.Name.Value + "="}}}
				if a.Value != nil {
					if lit, is := a.Value.Parts[0].(*syntax.Lit); is { // as the parser has it: one literal
						w.Parts[0].(*syntax.Lit).Value += lit.Value
						w.Parts = append(w.Parts, a.Value.Parts[1:]...)
					} else {
						w.Parts = append(w.Parts, a.Value.Parts...)
					}
				}
				call.Args = append(call.Args, w)
			}
		}
		s.Cmd = call
		return ok
	})
	return ok
}

// literal is the text of a word in which there is nothing to expand.
func (c *checker) literal(w *syntax.Word) word {
	if w == nil {
		return word{}
	}
	var b strings.Builder
	for _, p := range w.Parts {
		switch p := p.(type) {
		case *syntax.SglQuoted:
			b.WriteString(p.Value)
		case *syntax.Lit:
			if strings.ContainsAny(p.Value, "*?[~") && p.Value != "[" && p.Value != "[[" {
				return word{}
			}
			x := expansion{}
			x.literal(p.Value, false, false, false)
			b.Write(bytesOf(x.cells))
		case *syntax.DblQuoted:
			for _, q := range p.Parts {
				if _, ok := q.(*syntax.Lit); !ok {
					return word{}
				}
			}
			x := expansion{}
			x.quoted(p.Parts, false)
			b.Write(bytesOf(x.cells))
		default:
			return word{}
		}
	}
	return word{b.String(), true}
}

// one reports whether a word becomes exactly one field.
func one(w *syntax.Word) bool {
	for _, p := range w.Parts {
		switch p := p.(type) {
		case *syntax.SglQuoted:
		case *syntax.Lit:
			if strings.ContainsAny(p.Value, "*?[") && p.Value != "[" && p.Value != "[[" {
				return false
			}
		case *syntax.DblQuoted:
			for _, q := range p.Parts {
				if e, ok := q.(*syntax.ParamExp); ok && e.Param != nil && e.Param.Value == "@" {
					return false
				}
			}
		default:
			return false
		}
	}
	return true
}

func (c *checker) call(e *syntax.CallExpr) {
	if len(e.Args) == 0 {
		return
	}
	name := c.literal(e.Args[0])
	if !name.known {
		return
	}
	if c.v == Bash {
		if len(e.Assigns) > 0 && special[name.text] {
			c.refuse(e, shown(e), "a variable before a special builtin is not served in bash")
		}
		for _, w := range e.Args {
			if text := shown(w); strings.Contains(text, "=~") || strings.Contains(text, ":~") {
				c.refuse(e, text, "a tilde within a word is not served in bash")
			}
		}
		if n, _, ok := strings.Cut(name.text, "+="); ok && isName(n) {
			c.refuse(e, shown(e), "is not served")
		}
	}
	if c.v == Bash && (name.text == "env" || name.text == "printenv") {
		all := []string{name.text}
		for _, w := range e.Args[1:] {
			a := c.literal(w)
			all = append(all, a.text)
			if !a.known { // it shows when it runs
				return
			}
		}
		if ListsEnvironment(all) {
			c.refuse(e, shown(e), "%s", bashEnvironment)
		}
	}
	var args []word
	for _, w := range e.Args[1:] {
		args = append(args, c.literal(w))
		if !one(w) {
			args[len(args)-1].known = false
			break // what follows may have another place
		}
	}
	c.builtin(e, name.text, args)
}

func (c *checker) builtin(e *syntax.CallExpr, name string, args []word) {
	if notServed(c.v, name) {
		c.refuse(e, shown(e), "the builtin %s is not served", name)
		return
	}
	b, ok := builtins[name]
	if !ok || b.only != "" && !among(b.only, c.v) {
		return
	}
	if b.check != nil {
		if why := b.check(c.v, args); why != "" {
			c.refuse(e, shown(e), "%s", why)
		}
	}
	text := ""
	switch {
	case name == "command" && len(args) > 0 && args[0].known && args[0].text != "-v":
		if args[0].text == "--" {
			args = args[1:]
		}
		if len(args) > 0 && args[0].known {
			if special[args[0].text] {
				c.refuse(e, shown(e), "command of a special builtin is not served")
			}
			c.builtin(e, args[0].text, args[1:])
		}
	case name == "trap" && len(args) > 1 && args[0].known:
		text = args[0].text
		if text == "-" {
			text = ""
		}
	case name == "eval":
		for _, a := range args {
			if !a.known {
				return
			}
			text += a.text + " "
		}
	case name == "local" || name == "export" || name == "readonly":
		for _, a := range args {
			n, _, assigns := strings.Cut(a.text, "=")
			if a.known && (shellOwn[n] || assigns && c.v == Bash && ofBash(n)) {
				c.refuse(e, n, "the variable means something to the shell")
			}
		}
	}
	if text != "" {
		if _, err := Parse(c.v, text); err != nil {
			c.refuse(e, shown(e), "%v", err)
		}
	}
}
