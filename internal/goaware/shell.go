package goaware

import (
	"io"
	"path"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"
)

// dynamic stands in an expanded word for what only the running shell knows.
const dynamic = "\x01"

// script is what a step runs, as far as its words tell.
type script struct {
	shell    bool   // the last argument is shell text; else the arguments are the command
	parsed   bool   // false: nothing is known
	plain    bool   // nothing but commands one after the other, by && and ends of lines
	odd      string // why what the commands are, or where their output goes, is not to be told; "": it is
	writes   bool   // output goes to a file, or into a pipe
	usual    bool   // the shell is one of the image, with options that run nothing else
	cgoOff   bool   // CGO_ENABLED=0 is exported before any command
	commands []command
	loose    []string          // words that belong to no command: redirections, lists of loops, values of variables
	assigned map[string]string // every variable that is set anywhere, exported or for one command
}

// command is one call. words[0] is the name; it is empty where only variables are set.
type command struct {
	words       []string
	redirect    bool  // has redirections
	cgoOff      bool  // CGO_ENABLED=0 stands before it
	unsure      bool  // the words may be others when it runs: they hold a variable that the script sets, or a pattern
	substituted bool  // it stands in $( ): what it prints becomes a word
	cut         *span // a -a that can be left out: bytes of shell text, or elements of the arguments
}

type span struct{ from, to int } // from is in, to is not

// readScript reads the arguments of an exec operation. env is the environment of the step.
func readScript(args []string, env map[string]string) script {
	text, lang, ok := shellText(args)
	if !ok {
		if len(args) == 0 {
			return script{}
		}
		c := command{words: args}
		if i := forceFlag(args); i > 0 {
			c.cut = &span{i, i + 1}
		}
		return script{parsed: true, plain: true, usual: true, commands: []command{c}}
	}
	s := script{shell: true, usual: usualShell(args), assigned: map[string]string{}}
	file, err := syntax.NewParser(syntax.Variant(lang)).Parse(strings.NewReader(text), "")
	if err != nil {
		return s
	}
	s.parsed, s.plain = true, plainStmts(file.Stmts)
	x := expander{env: env, assigned: s.assigned, inner: map[*syntax.CallExpr]bool{}}
	x.collect(file)
	syntax.Walk(file, func(n syntax.Node) bool {
		if why := x.odd(n); why != "" && s.odd == "" {
			s.odd = why
		}
		switch n := n.(type) {
		case *syntax.BinaryCmd:
			s.writes = s.writes || n.Op == syntax.Pipe || n.Op == syntax.PipeAll
		case *syntax.CmdSubst:
			syntax.Walk(n, func(n syntax.Node) bool {
				if call, ok := n.(*syntax.CallExpr); ok {
					x.inner[call] = true
				}
				return true
			})
		case *syntax.Stmt:
			x.redirect = len(n.Redirs) > 0
		case *syntax.CallExpr:
			c := x.call(n)
			s.cgoOff = s.cgoOff || c.exportsCgoOff() && !slices.ContainsFunc(s.commands, func(c command) bool { return look(c) >= callsGo })
			s.commands = append(s.commands, c)
		case *syntax.DeclClause:
			s.cgoOff = s.cgoOff || len(s.commands) == 0 && n.Variant.Value == "export" && x.disablesCgo(n.Args)
			s.commands = append(s.commands, command{words: append([]string{"export"}, x.declared(n)...)})
		case *syntax.Redirect:
			s.writes = s.writes || n.Op != syntax.DplIn && n.Op != syntax.DplOut && n.Op != syntax.RdrIn && n.Word.Lit() != "/dev/null"
			s.loose = append(s.loose, x.fields(n.Word)...)
		case *syntax.WordIter:
			s.loose = append(s.loose, x.fields(n.Items...)...)
		case *syntax.ArithmExp: // may set variables
			s.plain = false
		case *syntax.FuncDecl: // a function may be named go
			s.commands = append(s.commands, command{words: []string{dynamic}})
		}
		return true
	})
	for _, v := range s.assigned {
		s.loose = append(s.loose, v)
	}
	slices.Sort(s.loose)
	return s
}

// shellText finds the text in the arguments that Docker's SHELL and the shell form of RUN make: the path of a shell,
// options of which the last ends in c, and the text.
func shellText(args []string) (text string, lang syntax.LangVariant, ok bool) {
	if len(args) < 3 {
		return "", 0, false
	}
	switch path.Base(args[0]) {
	case "sh", "ash", "dash":
		lang = syntax.LangPOSIX
	case "bash":
		lang = syntax.LangBash
	default:
		return "", 0, false
	}
	option := args[len(args)-2]
	return args[len(args)-1], lang, strings.HasPrefix(option, "-") && strings.HasSuffix(option, "c")
}

// usualShell says whether the arguments start a shell of the image that reads nothing but the text: no startup file that
// an option names, no program that has but the name of a shell.
func usualShell(args []string) bool {
	dir, _ := path.Split(args[0])
	if !slices.Contains([]string{"", "/bin/", "/usr/bin/", "/usr/local/bin/"}, dir) {
		return false
	}
	for _, a := range args[1 : len(args)-1] {
		option, isOption := strings.CutPrefix(a, "-")
		if isOption && strings.Trim(option, "ceuxo") != "" || !isOption && !slices.Contains(words("pipefail errexit nounset xtrace"), a) {
			return false
		}
	}
	return true
}

// plainStmts says whether statements are simple commands, joined by && or by ends of lines, without redirection.
func plainStmts(stmts []*syntax.Stmt) bool {
	for _, s := range stmts {
		if s.Negated || s.Background || s.Coprocess || len(s.Redirs) > 0 {
			return false
		}
		switch c := s.Cmd.(type) {
		case *syntax.CallExpr, *syntax.DeclClause:
		case *syntax.BinaryCmd:
			if c.Op != syntax.AndStmt || !plainStmts([]*syntax.Stmt{c.X, c.Y}) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// expander expands words as the shell will, as far as that can be known.
type expander struct {
	env      map[string]string
	assigned map[string]string
	redirect bool                      // of the statement that is being read
	inner    map[*syntax.CallExpr]bool // calls that stand in $( )
}

// odd says of a part of a script why the step is more than commands and their words; "": it is not for this part.
func (x *expander) odd(n syntax.Node) string {
	switch n := n.(type) {
	case *syntax.Stmt:
		if n.Background || n.Coprocess {
			return "it leaves a command in the background"
		}
	case *syntax.FuncDecl:
		return "it has a function"
	case *syntax.ArithmExp, *syntax.ArithmCmd:
		return "it calculates"
	case *syntax.ProcSubst:
		return "it has a <( )"
	case *syntax.ParamExp:
		if n.Param != nil && slices.Contains(changed, n.Param.Value) {
			return "it reads $" + n.Param.Value
		}
	case *syntax.Redirect:
		if n.Op == syntax.DplOut || n.Op == syntax.DplIn || n.Op == syntax.Hdoc || n.Op == syntax.DashHdoc || n.Op == syntax.WordHdoc {
			return ""
		}
		if fields := x.fields(n.Word); !x.sure(n.Word) || len(fields) != 1 || strings.ContainsAny(fields[0], "*?[") || elsewhere(fields[0]) {
			return "where its output goes is known only when it runs"
		}
	}
	return ""
}

// collect reads the variables that the script sets. One that is set twice is dynamic.
func (x *expander) collect(file *syntax.File) {
	syntax.Walk(file, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.Assign:
			if n.Name == nil || n.Naked && n.Value == nil {
				break
			}
			value := dynamic
			if !n.Append && n.Array == nil {
				value = x.literal(n.Value)
			}
			x.assign(n.Name.Value, value, n)
		case *syntax.WordIter:
			x.assigned[n.Name.Value] = dynamic
		case *syntax.ParamExp: // ${NAME:=value}
			if n.Param != nil && n.Exp != nil && (n.Exp.Op == syntax.AssignUnset || n.Exp.Op == syntax.AssignUnsetOrNull) {
				x.assigned[n.Param.Value] = dynamic
			}
		case *syntax.CallExpr:
			x.declare(n)
		case *syntax.DeclClause:
			for _, w := range x.declared(n) {
				if variable, value, ok := strings.Cut(w, "="); ok {
					x.assign(variable, value, n)
				}
			}
		}
		return true
	})
}

// declared are the arguments of an export or the like whose names stand in no grammar: options, and words such as
// $NAME=value.
func (x *expander) declared(n *syntax.DeclClause) (words []string) {
	for _, a := range n.Args {
		if a.Name == nil && a.Value != nil {
			words = append(words, x.literal(a.Value))
		}
	}
	return words
}

// declare reads the commands that set variables by their arguments. The grammar of POSIX knows no others.
func (x *expander) declare(n *syntax.CallExpr) {
	if len(n.Args) < 2 {
		return
	}
	switch name := n.Args[0].Lit(); name {
	case "read":
		for _, a := range n.Args[1:] {
			x.assigned[a.Lit()] = dynamic
		}
	case "export", "readonly", "local", "declare", "typeset":
		for _, a := range n.Args[1:] {
			if variable, value, ok := strings.Cut(x.literal(a), "="); ok {
				x.assign(variable, value, a)
			}
		}
	}
}

// assign notes a value, which stands in n; a variable that gets two is dynamic.
func (x *expander) assign(name, value string, n syntax.Node) {
	if old, twice := x.assigned[name]; twice && old != value || !x.sure(n) {
		value = dynamic
	}
	x.assigned[name] = value
}

func (c command) exportsCgoOff() bool {
	return len(c.words) > 1 && c.words[0] == "export" && slices.Contains(c.words[1:], "CGO_ENABLED=0")
}

func (x *expander) call(n *syntax.CallExpr) command {
	c := command{redirect: x.redirect, cgoOff: x.disablesCgo(n.Assigns), substituted: x.inner[n]}
	// The words are expanded one by one: which of them became which field decides where a flag stands in the text.
	var from []*syntax.Word
	for i, w := range n.Args {
		fields := x.fields(w)
		if !x.sure(w) {
			// The value of -ldflags alone may be anything, as long as it is one word.
			if value := flagName(w.Lit()) == "ldflags" || i > 0 && flagName(n.Args[i-1].Lit()) == "ldflags" || beginsLdflags(w); value && quoted(w) && len(fields) == 1 {
				fields[0] += dynamic
			} else {
				c.unsure = true
			}
		}
		for _, f := range fields {
			c.words, from = append(c.words, f), append(from, w)
		}
	}
	if c.unsure && len(c.words) == 0 {
		c.words, from = []string{dynamic}, append(from, n.Args[0])
	}
	c.unsure = c.unsure || slices.ContainsFunc(c.words, func(w string) bool { // a file may have the name of a flag
		return strings.ContainsAny(w, "*?[") && !strings.HasPrefix(w, "./") && !strings.HasPrefix(w, "/")
	})
	if i := forceFlag(c.words); i > 0 && !c.unsure && from[i].Lit() == c.words[i] {
		c.cut = cutWord(n.Args, from[i])
	}
	return c
}

// beginsLdflags says whether a word is -ldflags=…, whatever follows.
func beginsLdflags(w *syntax.Word) bool {
	if len(w.Parts) == 0 {
		return false
	}
	lit, ok := w.Parts[0].(*syntax.Lit)
	return ok && flagName(lit.Value) == "ldflags" && strings.Contains(lit.Value, "=")
}

// quoted says whether all that a word expands is quoted, so that it stays one word.
func quoted(w *syntax.Word) bool {
	return !slices.ContainsFunc(w.Parts, func(p syntax.WordPart) bool {
		switch p := p.(type) {
		case *syntax.Lit, *syntax.SglQuoted:
			return false
		case *syntax.DblQuoted: // "$@" is several
			return slices.ContainsFunc(p.Parts, func(in syntax.WordPart) bool {
				e, ok := in.(*syntax.ParamExp)
				return ok && (e.Param == nil || e.Param.Value == "@" || e.Index != nil)
			})
		}
		return true
	})
}

func (x *expander) disablesCgo(assigns []*syntax.Assign) bool {
	return slices.ContainsFunc(assigns, func(a *syntax.Assign) bool {
		return a.Name != nil && a.Name.Value == "CGO_ENABLED" && a.Array == nil && !a.Append && x.literal(a.Value) == "0"
	})
}

// cutWord is the text of a word that is not the first, and the blanks on one side.
func cutWord(words []*syntax.Word, w *syntax.Word) *span {
	i := slices.Index(words, w)
	if i+1 < len(words) {
		return &span{int(w.Pos().Offset()), int(words[i+1].Pos().Offset())}
	}
	return &span{int(words[i-1].End().Offset()), int(w.End().Offset())}
}

func (x *expander) config() *expand.Config {
	return &expand.Config{
		Env: expand.FuncEnviron(func(name string) string {
			if v, ok := x.assigned[name]; ok {
				return v
			}
			return x.env[name]
		}),
		CmdSubst:  func(w io.Writer, _ *syntax.CmdSubst) error { _, err := io.WriteString(w, dynamic); return err },
		ProcSubst: func(*syntax.ProcSubst) (string, error) { return dynamic, nil },
	}
}

// setByShells are variables that have another value than the environment's, without an assignment.
var setByShells = words(`_ PWD OLDPWD RANDOM SRANDOM SECONDS LINENO UID EUID PPID SHLVL OPTIND OPTARG REPLY DIRSTACK GROUPS HISTCMD
	BASHPID BASH_COMMAND BASH_SUBSHELL EPOCHSECONDS EPOCHREALTIME`)

// setElsewhere says whether a variable may be set beside the environment of the operation: by the engine, for a step that is
// lent what is this machine's, or by what starts the shell.
func setElsewhere(name string) bool {
	if name == "" || strings.Trim(name, "0123456789@*#?-$!") == "" {
		return true // a parameter of the shell
	}
	if strings.HasPrefix(name, "GO") && !strings.Contains(name, "_") {
		return true
	}
	for _, prefix := range []string{"LD_", "SSL_", "GIT_", "BASH", "SKIFF", "LC_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return strings.Contains(strings.ToUpper(name), "PROXY") ||
		slices.Contains(words("HOME PATH HOSTNAME HOSTTYPE MACHTYPE OSTYPE TERM USER LOGNAME SHELL TMPDIR LANG TZ PS1 PS2 PS4 IFS MAIL COLUMNS LINES"), name)
}

// sure says whether a word, or several, surely become what [expander.fields] says. When a variable gets its value is not
// followed: one that stands before a command is not for that command's words, one after && comes to be perhaps.
func (x *expander) sure(n syntax.Node) bool {
	sure := true
	syntax.Walk(n, func(n syntax.Node) bool {
		switch n.(type) {
		case *syntax.CmdSubst, *syntax.ProcSubst, *syntax.ArithmExp:
			sure = false
		}
		if p, ok := n.(*syntax.ParamExp); ok && p.Param != nil {
			name := p.Param.Value
			before, known := x.env[name]
			after, set := x.assigned[name]
			// One that nobody sets is empty.
			sure = sure && (known || !setElsewhere(name)) && (!set || known && after == before) && !slices.Contains(setByShells, name) &&
				!strings.Contains(before, dynamic)
		}
		return sure
	})
	return sure
}

func (x *expander) fields(words ...*syntax.Word) []string {
	fields, err := expand.Fields(x.config(), words...)
	if err != nil {
		return []string{dynamic}
	}
	return fields
}

func (x *expander) literal(w *syntax.Word) string {
	if w == nil {
		return ""
	}
	s, err := expand.Literal(x.config(), w)
	if err != nil {
		return dynamic
	}
	return s
}
