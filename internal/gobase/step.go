package gobase

import (
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"mvdan.cc/sh/v3/syntax"

	"github.com/skiff-build/skiff/internal/graph"
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
	depth int // of shells within shells
}

func newStep(j *judge, v *graph.Vertex, e *pb.ExecOp, t *tree) *step {
	s := &step{j: j, v: v, t: t, env: map[string]value{}, funcs: map[string]bool{}}
	for _, kv := range e.Meta.Env {
		name, text, _ := strings.Cut(kv, "=")
		s.env[name] = value{text, true}
	}
	s.cwd = value{path.Join("/", e.Meta.Cwd), true}
	return s
}

// refuse gives the reason why this step is not served.
func (s *step) refuse(command, why string) {
	s.t.base.refuse(&Refusal{Where: where(s.v), Command: shownCommand(command), Why: why})
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
func (s *step) script(shell, text string) {
	if s.depth++; s.depth > maxShells {
		s.refuse(text, "shells are nested too deep")
		return
	}
	defer func() { s.depth-- }()
	file, err := parseFor(shell, text, "")
	if err != nil {
		s.refuse(text, "the shell text cannot be read: "+strings.TrimPrefix(err.Error(), ":"))
		return
	}
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
	env map[string]value
	cwd value
}

// walk visits the commands of a script in the order of its text.
func (s *step) walk(file *syntax.File) {
	var open []syntax.Node
	var outer []saved
	isolated := func(n syntax.Node) bool {
		switch n.(type) {
		case *syntax.Subshell, *syntax.CmdSubst, *syntax.ProcSubst:
			return true
		}
		return false
	}
	syntax.Walk(file, func(n syntax.Node) bool {
		if n == nil {
			last := open[len(open)-1]
			open = open[:len(open)-1]
			if isolated(last) {
				s.env, s.cwd = outer[len(outer)-1].env, outer[len(outer)-1].cwd
				outer = outer[:len(outer)-1]
			}
			return true
		}
		open = append(open, n)
		if isolated(n) {
			outer = append(outer, saved{maps.Clone(s.env), s.cwd})
		}
		s.node(n)
		return true
	})
}

func (s *step) node(n syntax.Node) {
	switch n := n.(type) {
	case *syntax.CallExpr:
		s.call(n)
	case *syntax.DeclClause: // export, local, readonly, declare
		for _, a := range n.Args {
			if a.Name != nil && !a.Naked {
				s.env[a.Name.Value] = s.assigned(a)
			}
		}
	case *syntax.WordIter:
		s.env[n.Name.Value] = value{}
	case *syntax.Redirect:
		if n.Word != nil && n.Op != syntax.RdrIn && n.Op != syntax.DplIn && n.Op != syntax.DplOut {
			if w := s.word(n.Word); w.known {
				s.wrote(w.text)
			}
		}
	case *syntax.CoprocClause:
		s.refuse("coproc", "not served")
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
	before := maps.Clone(s.env)
	for _, a := range c.Assigns {
		s.env[a.Name.Value] = s.assigned(a)
	}
	var words []value
	for _, w := range c.Args {
		words = append(words, s.fields(w)...)
	}
	var text strings.Builder
	syntax.NewPrinter().Print(&text, c) // into a Builder: no error
	s.command(words, text.String())
	if len(c.Assigns) == 0 {
		return
	}
	for _, a := range c.Assigns { // they were for this command alone
		if old, ok := before[a.Name.Value]; ok {
			s.env[a.Name.Value] = old
		} else {
			delete(s.env, a.Name.Value)
		}
	}
}

// fields are the words that a word becomes: an unquoted variable alone is cut at its blanks.
func (s *step) fields(w *syntax.Word) []value {
	v := s.word(w)
	if len(w.Parts) == 1 && v.known {
		if _, bare := w.Parts[0].(*syntax.ParamExp); bare {
			var all []value
			for _, f := range strings.Fields(v.text) {
				all = append(all, value{f, true})
			}
			return all
		}
	}
	return []value{v}
}

// word is the value of a word; one with a substitution is not known.
func (s *step) word(w *syntax.Word) value {
	var out strings.Builder
	for _, p := range w.Parts {
		v := s.part(p)
		if !v.known {
			return value{}
		}
		out.WriteString(v.text)
	}
	return value{out.String(), true}
}

func (s *step) part(p syntax.WordPart) value {
	switch p := p.(type) {
	case *syntax.Lit:
		return value{unescape(p.Value), true}
	case *syntax.SglQuoted:
		return value{p.Value, !p.Dollar || !strings.Contains(p.Value, `\`)}
	case *syntax.DblQuoted:
		var out strings.Builder
		for _, q := range p.Parts {
			v := s.part(q)
			if !v.known {
				return value{}
			}
			out.WriteString(v.text)
		}
		return value{out.String(), true}
	case *syntax.ParamExp:
		return s.param(p)
	}
	return value{}
}

// unescape drops the backslashes of unquoted text.
func unescape(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
			if s[i] == '\n' {
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

func (s *step) param(p *syntax.ParamExp) value {
	if p.Param == nil || p.Excl || p.Length || p.Width || p.Index != nil || p.Slice != nil || p.Repl != nil {
		return value{}
	}
	name := p.Param.Value
	if name == "" || !(name[0] == '_' || name[0] >= 'A' && name[0] <= 'Z' || name[0] >= 'a' && name[0] <= 'z') {
		return value{} // $1, $@, $?
	}
	v, set := s.env[name]
	if !set {
		v = value{"", true}
	}
	if p.Exp == nil || !v.known {
		return v
	}
	otherwise := func() value {
		if p.Exp.Word == nil {
			return value{"", true}
		}
		return s.word(p.Exp.Word)
	}
	switch p.Exp.Op {
	case syntax.DefaultUnsetOrNull, syntax.AssignUnsetOrNull:
		if v.text == "" {
			return otherwise()
		}
		return v
	case syntax.DefaultUnset, syntax.AssignUnset:
		if !set {
			return otherwise()
		}
		return v
	case syntax.AlternateUnsetOrNull:
		if v.text != "" {
			return otherwise()
		}
		return value{"", true}
	}
	return value{}
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

// builtins are the shell's own commands that need no more looking at.
var builtins = []string{
	":", "true", "false", "exit", "set", "shift", "unset", "echo", "printf", "break", "continue", "pwd", "wait",
	"type", "hash", "return", "read", "getopts", "shopt", "alias", "unalias", "trap", "[", "test", "export",
	"readonly", "local", "times", "dirs", "help", "declare", "typeset", "let", "readarray", "mapfile", "[[",
}

// command judges one command; text is how it is shown.
func (s *step) command(words []value, text string) {
	if len(words) == 0 {
		return
	}
	if !words[0].known {
		s.refuse(text, "what it calls is known only when it runs")
		return
	}
	name := words[0].text
	if s.funcs[name] {
		return
	}
	if strings.Contains(name, "/") {
		base, ok := s.program(name, text)
		if !ok {
			return
		}
		if base == "" {
			return
		}
		name = base
	}
	args := words[1:]
	switch {
	case name == "export" || name == "readonly" || name == "local":
		s.export(args)
	case slices.Contains(builtins, name):
	case name == "cd" || name == "pushd":
		s.chdir(args)
	case name == "popd":
		s.cwd = value{}
	case name == "go":
		s.goCommand(args, text)
	case name == "gofmt":
	case name == "apk" || name == "apt-get" || name == "apt":
		s.packages(name, args, text)
	case name == "git":
		s.git(args, text)
	case name == "sh" || name == "ash" || name == "bash" || name == "dash":
		s.shell(name, args, text)
	case slices.Contains([]string{"exec", "command", "builtin", "time", "nohup", "env", "xargs", "nice", "eval"}, name):
		s.wrapper(name, args, text)
	case name == "." || name == "source":
		s.refuse(text, "what the script does is not looked into")
	case s.t.installed[name]:
	default:
		s.applet(name, args, text)
	}
}

func (s *step) export(args []value) {
	for _, a := range args {
		if name, text, ok := strings.Cut(a.text, "="); ok {
			s.env[name] = value{text, a.known}
		}
	}
}

func (s *step) chdir(args []value) {
	switch {
	case len(args) == 0:
		s.cwd = s.env["HOME"]
		if s.cwd.text == "" {
			s.cwd = value{"/root", true}
		}
	case !args[0].known || args[0].text == "-":
		s.cwd = value{}
	default:
		s.cwd = value{s.abs(args[0].text), s.abs(args[0].text) != ""}
	}
}

// applet judges a command that is none of the special ones: one of the base's own with options that it
// knows, a program that the stage installed, or one to refuse.
func (s *step) applet(name string, args []value, text string) {
	cmd, ok := commands()[name]
	if !ok {
		if s.t.installed["*"] && !strings.Contains(name, ".") && !foreignTools[name] {
			return // go install ./... may have made it
		}
		s.refuse(text, name+" is not in the built-in base")
		return
	}
	texts, all := known(args)
	if !cmd.raw && all {
		opt, err := parseOptions(cmd, texts)
		if err != nil {
			s.refuse(text, "the base's small "+name+": "+err.Error())
			return
		}
		texts = opt.args
	}
	if name == "find" {
		s.find(args, text)
	}
	// Operands of what may write files; a name too many does no harm.
	for i, a := range texts {
		if a != "" && !strings.HasPrefix(a, "-") && (i < len(args) && args[i].known || all) {
			s.wrote(a)
		}
	}
}

// find judges what -exec runs.
func (s *step) find(args []value, text string) {
	for i, a := range args {
		if a.text == "-exec" || a.text == "-execdir" || a.text == "-ok" {
			if a.text != "-exec" {
				s.refuse(text, "the base's small find has no "+a.text)
			}
			s.command(args[i+1:], text)
		}
	}
}

// foreignTools are commands that an image or its packages bring and go install does not.
var foreignTools = map[string]bool{
	"make": true, "gcc": true, "g++": true, "cc": true, "clang": true, "curl": true, "wget": true, "upx": true, "protoc": true,
	"tar": true, "unzip": true, "zip": true, "gzip": true, "strip": true, "file": true, "openssl": true, "setcap": true, "sed": true,
	"awk": true, "jq": true, "node": true, "npm": true, "yarn": true, "python": true, "python3": true, "pip": true, "perl": true,
	"patch": true, "diff": true, "hg": true, "svn": true, "bzr": true, "ssh": true, "ssh-keyscan": true, "ssh-keygen": true, "xz": true,
	"bzip2": true, "ldd": true, "ld": true, "ar": true, "nm": true, "objcopy": true, "readelf": true, "rsync": true, "su": true,
	"sudo": true, "chroot": true, "mount": true, "umount": true, "kill": true, "ps": true, "cmake": true, "ninja": true, "pkg-config": true,
	"umask": true, "ulimit": true, "dpkg": true, "gpg": true, "bc": true, "expr": true, "od": true, "hexdump": true, "xxd": true, "apk-tools": true,
	"docker": true, "java": true, "ruby": true, "cargo": true, "rustc": true, "busybox": true, "crontab": true, "chpasswd": true, "passwd": true,
}
