package doctor

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"github.com/skiff-build/skiff/internal/envlist"
)

// shellCommand is a command that a shell's text has run.
type shellCommand struct {
	args []string // its words as far as they are known; the first one is
	dir  string   // where it runs: "" where the text does not change that
}

// shellText is what can be told of a text for a shell.
type shellText struct {
	// commands are those that run each time the text does, up to one that may end it: what stands in a branch, or behind ||, is left
	// out, and so is what a variable names that the image does not set.
	commands []shellCommand
	// plain are the words of a text that is one command and nothing else, for which no shell is needed; nil for others.
	plain []string
}

// readShell reads a text as the shell of that name does, in the environment of the image. given are the words after it, of which "$@" is
// made; nil where they are not known.
func readShell(shell, text string, env, given []string) shellText {
	lang := syntax.LangPOSIX
	if path.Base(shell) == "bash" {
		lang = syntax.LangBash
	}
	file, err := syntax.NewParser(syntax.Variant(lang)).Parse(strings.NewReader(text), "")
	if err != nil {
		return shellText{}
	}
	r := shellReader{env: env, given: given, own: map[string]bool{}, set: map[string]bool{}}
	r.assigned(file)
	r.statements(file.Stmts)
	return shellText{commands: r.commands, plain: r.plain(file)}
}

// shellReader walks through a text.
type shellReader struct {
	env      []string
	given    []string
	own      map[string]bool // functions
	set      map[string]bool // variables that the text itself sets somewhere
	commands []shellCommand
	dir      string
	lost     bool // nothing that follows can be told
}

// assigned notes which variables the text sets, in whatever branch: their values are not the image's. So it is with the words that it
// is given, where it sets or shifts them.
func (r *shellReader) assigned(file *syntax.File) {
	syntax.Walk(file, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.Assign:
			if n.Name != nil {
				r.set[n.Name.Value] = true
			}
		case *syntax.WordIter:
			r.set[n.Name.Value] = true
		case *syntax.CallExpr:
			if len(n.Args) == 0 {
				break
			}
			switch name := n.Args[0].Lit(); name {
			case "shift":
				r.given = nil
			case "set":
				for _, w := range n.Args[1:] {
					if option := w.Lit(); option == "--" || !strings.HasPrefix(option, "-") && !strings.HasPrefix(option, "+") && option != "pipefail" {
						r.given = nil
					}
				}
			case "export", "readonly", "local", "read", "unset", "getopts":
				for _, w := range n.Args[1:] {
					variable, _, _ := strings.Cut(firstLit(w), "=")
					r.set[variable] = true
				}
			}
		}
		return true
	})
}

// firstLit is the literal text that a word begins with.
func firstLit(w *syntax.Word) string {
	if len(w.Parts) > 0 {
		if l, ok := w.Parts[0].(*syntax.Lit); ok {
			return l.Value
		}
	}
	return ""
}

// ends says that something in a part of the text may end it.
func ends(n syntax.Node) bool {
	found := false
	syntax.Walk(n, func(n syntax.Node) bool {
		if c, ok := n.(*syntax.CallExpr); ok && len(c.Args) > 0 && slices.Contains([]string{"exec", "exit", "return"}, c.Args[0].Lit()) {
			found = true
		}
		return !found
	})
	return found
}

func (r *shellReader) statements(all []*syntax.Stmt) {
	for _, s := range all {
		r.statement(s)
	}
}

func (r *shellReader) statement(s *syntax.Stmt) {
	if r.lost {
		return
	}
	switch c := s.Cmd.(type) {
	case *syntax.CallExpr:
		r.call(c)
	case *syntax.DeclClause:
		for _, a := range c.Args {
			r.lost = r.lost || a.Name != nil && a.Name.Value == "PATH"
		}
	case *syntax.BinaryCmd:
		r.statement(c.X)
		if c.Op != syntax.OrStmt {
			r.statement(c.Y)
		} else if ends(c.Y) && !failing(c.Y) {
			r.lost = true // what follows runs where it was the other way alone
		}
	case *syntax.Block:
		r.statements(c.Stmts)
	case *syntax.Subshell:
		inner := *r
		inner.statements(c.Stmts)
		r.commands = inner.commands
	case *syntax.IfClause:
		r.statements(c.Cond)
		r.lost = r.lost || ends(c)
	case *syntax.WhileClause:
		r.statements(c.Cond)
		r.lost = r.lost || ends(c)
	case *syntax.TimeClause:
		if c.Stmt != nil {
			r.statement(c.Stmt)
		}
	case *syntax.FuncDecl:
		r.own[c.Name.Value] = ends(c.Body)
	default: // a case, a loop
		r.lost = r.lost || s.Cmd != nil && ends(s.Cmd)
	}
}

// failing says that a statement is an exit with an error, and nothing else.
func failing(s *syntax.Stmt) bool {
	c, ok := s.Cmd.(*syntax.CallExpr)
	return ok && len(c.Args) == 2 && c.Args[0].Lit() == "exit" && c.Args[1].Lit() != "0"
}

// builtins are words that a shell answers itself, in dash, BusyBox's ash and bash.
var builtins = strings.Fields(`. : [ [[ alias bg break case cd chdir command continue declare echo eval exec exit export false fg getopts hash help jobs
	kill let local printf pwd read readonly return set shift source test time times trap true type typeset ulimit umask unalias unset wait`)

func (r *shellReader) call(c *syntax.CallExpr) {
	for _, a := range c.Assigns {
		r.lost = r.lost || a.Name != nil && a.Name.Value == "PATH"
	}
	args, known := r.words(c.Args)
	own, isOwn := false, false
	if len(args) > 0 {
		own, isOwn = r.own[args[0]]
	}
	for len(args) > 1 && (args[0] == "exec" || args[0] == "command") && !strings.HasPrefix(args[1], "-") {
		r.lost = r.lost || args[0] == "exec" // nothing follows
		args = args[1:]
	}
	switch {
	case len(c.Args) == 0:
	case isOwn:
		r.lost = r.lost || own
	case len(args) == 0:
	case args[0] == "cd":
		if len(args) != 2 || !known || !path.IsAbs(args[1]) {
			r.lost = true
			return
		}
		r.dir = args[1]
	case args[0] == "exec": // of words that are not known
		r.lost = len(c.Args) > 1
	case args[0] == "." || args[0] == "source" || args[0] == "eval" || args[0] == "exit" || args[0] == "return" || args[0] == "alias":
		r.lost = true
	case args[0] == "export" && slices.ContainsFunc(c.Args, func(w *syntax.Word) bool { return strings.HasPrefix(w.Lit(), "PATH") }):
		r.lost = true
	case slices.Contains(builtins, args[0]):
	default:
		r.commands = append(r.commands, shellCommand{args, r.dir})
	}
}

// words are the values of words up to the first that is not known.
func (r *shellReader) words(words []*syntax.Word) (values []string, all bool) {
	for _, w := range words {
		if r.given != nil && allGiven(w) {
			values = append(values, r.given...)
			continue
		}
		v, ok := r.value(w.Parts, true)
		if !ok {
			return values, false
		}
		values = append(values, v)
	}
	return values, true
}

// value is that of a word, if it is one word whose value the image decides on.
func (r *shellReader) value(parts []syntax.WordPart, bare bool) (string, bool) {
	var b strings.Builder
	for _, p := range parts {
		switch p := p.(type) {
		case *syntax.Lit:
			if bare && strings.ContainsAny(p.Value, `\*?[]{}~`) || strings.Contains(p.Value, `\`) {
				return "", false
			}
			b.WriteString(p.Value)
		case *syntax.SglQuoted:
			if p.Dollar {
				return "", false
			}
			b.WriteString(p.Value)
		case *syntax.DblQuoted:
			v, ok := r.value(p.Parts, false)
			if !ok || p.Dollar {
				return "", false
			}
			b.WriteString(v)
		case *syntax.ParamExp:
			v := ""
			if p.Param != nil && !r.set[p.Param.Value] {
				v = r.variable(p.Param.Value)
			}
			// Anything but a name may do more; an empty value, or one with spaces, is another number of words.
			if p.Exp != nil || p.Slice != nil || p.Repl != nil || p.Length || p.Excl || v == "" || bare && strings.ContainsAny(v, " \t\n*?[") {
				return "", false
			}
			b.WriteString(v)
		default:
			return "", false
		}
	}
	return b.String(), true
}

// allGiven says that a word is "$@".
func allGiven(w *syntax.Word) bool {
	if len(w.Parts) != 1 {
		return false
	}
	q, ok := w.Parts[0].(*syntax.DblQuoted)
	if !ok || len(q.Parts) != 1 {
		return false
	}
	p, ok := q.Parts[0].(*syntax.ParamExp)
	return ok && p.Param != nil && p.Param.Value == "@" && p.Exp == nil && p.Slice == nil && p.Repl == nil && !p.Length && !p.Excl
}

// variable is what the image sets a variable to, or one of the words that the text is given.
func (r *shellReader) variable(name string) string {
	if n, err := strconv.Atoi(name); err == nil {
		if n > 0 && n <= len(r.given) {
			return r.given[n-1]
		}
		return ""
	}
	return envlist.Get(r.env, name)
}

// plain are the words of a text that is one command whose words the image decides on.
func (r *shellReader) plain(f *syntax.File) []string {
	if len(f.Stmts) != 1 {
		return nil
	}
	s := f.Stmts[0]
	c, ok := s.Cmd.(*syntax.CallExpr)
	if !ok || s.Background || s.Negated || s.Coprocess || len(s.Redirs) > 0 || len(c.Assigns) > 0 {
		return nil
	}
	args, known := r.words(c.Args)
	if len(args) > 1 && args[0] == "exec" {
		args = args[1:]
	}
	if !known || len(args) == 0 || slices.Contains(builtins, args[0]) {
		return nil
	}
	return args
}
