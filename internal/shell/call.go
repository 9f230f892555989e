package shell

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"mvdan.cc/sh/v3/syntax"
)

// special are POSIX's special builtins: their assignments stay, and an error in them ends the shell.
var special = map[string]bool{
	":": true, ".": true, "break": true, "continue": true, "eval": true, "exec": true, "exit": true, "export": true, "readonly": true,
	"return": true, "set": true, "shift": true, "times": true, "trap": true, "unset": true, "local": true,
}

// call runs a simple command with its redirections.
func (in *interp) call(s *syntax.Stmt, c *syntax.CallExpr, tested bool) int {
	in.subst = 0
	args := in.arguments(c.Args)
	in.line = s.Pos().Line()
	trace := in.fds
	if in.opts['x'] {
		trace = in.fds.clone()
		defer trace.release()
	}
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	undo, ok := in.redirect(s.Redirs)
	if !ok {
		status := in.redirectStatus()
		if special[name] && in.Variant != Bash {
			in.status = status
			panic(exitNow{})
		}
		return status
	}
	keep := false
	defer func() {
		if !keep {
			undo()
		}
		if p := recover(); p != nil {
			in.torn = in.torn || len(s.Redirs) > 0
			panic(p)
		}
	}()
	type assign struct{ name, value string }
	var assigns []assign
	isSpecial := special[name] && in.Variant != Bash
	lasting := name == "" || isSpecial
	saved := map[string]variable{}
	for _, a := range c.Assigns {
		value := ""
		if a.Value != nil {
			value = in.assigned(a.Value)
		}
		assigns = append(assigns, assign{a.Name.Value, value})
		if !lasting {
			if _, ok := saved[a.Name.Value]; !ok {
				saved[a.Name.Value] = in.vars[a.Name.Value]
			}
		}
		in.set(a.Name.Value, value)
		if !lasting {
			v := in.vars[a.Name.Value]
			v.exported = true
			in.vars[a.Name.Value] = v
		}
	}
	if in.opts['x'] && (len(args) > 0 || len(assigns) > 0) {
		var words []string
		for _, a := range assigns {
			words = append(words, a.name+"="+in.traceQuote(a.value))
		}
		for _, a := range in.tracedArgs(args) {
			words = append(words, in.traceQuote(a))
		}
		if w := trace.writer(2); w != nil {
			ps4, _ := in.get("PS4")
			lines := []string{strings.Join(words, " ")}
			if in.Variant == Bash { // it shows each assignment on a line, and how deep substitutions are nested
				ps4 = strings.Repeat(ps4[:min(1, len(ps4))], in.nested) + ps4
				n := len(assigns)
				lines = append([]string{}, words[:n]...)
				if len(words) > n {
					lines = append(lines, strings.Join(words[n:], " "))
				}
			}
			for _, line := range lines {
				io.WriteString(w, ps4+line+"\n")
			}
		}
	}
	if name == "" && len(args) == 0 {
		return in.subst
	}
	defer func() {
		for n, v := range saved {
			if v == (variable{}) {
				delete(in.vars, n)
			} else {
				in.vars[n] = v
			}
		}
	}()
	if name == "exec" && len(args) == 1 {
		keep = true
	}
	return in.invoke(args, tested)
}

// tracedArgs are the words of a command that set -x shows: ash has taken "command" away by then, but for a command -v.
func (in *interp) tracedArgs(args []string) []string {
	for in.Variant == Ash && len(args) > 1 && args[0] == "command" {
		rest := args[1:]
		if rest[0] == "--" {
			rest = rest[1:]
		}
		if len(rest) == 0 || strings.HasPrefix(rest[0], "-") {
			break
		}
		args = rest
	}
	return args
}

// invoke runs a command by its name: special builtins, functions, builtins, files.
func (in *interp) invoke(args []string, tested bool) int {
	name := args[0]
	b, isBuiltin := builtins[name]
	if isBuiltin && b.only != "" && !among(b.only, in.Variant) {
		isBuiltin = false
	}
	if isBuiltin && special[name] {
		return in.run(b, args, tested)
	}
	if body := in.funcs[name]; body != nil {
		return in.function(body, args, tested)
	}
	if isBuiltin {
		return in.run(b, args, tested)
	}
	if notServed(in.Variant, name) {
		in.unserved(name, "the builtin is not served")
	}
	return in.external(args)
}

// run runs a builtin, whose name is part of errors meanwhile.
func (in *interp) run(b builtin, args []string, tested bool) int {
	outer, line := in.builtin, in.called
	in.builtin, in.called = args[0], in.line
	defer func() { in.builtin, in.called = outer, line }()
	return b.run(in, args, tested)
}

func (in *interp) function(body *syntax.Stmt, args []string, tested bool) int {
	defer in.enter(args[0])()
	params, loops := in.params, in.loops
	in.params, in.loops = args[1:], 0
	in.funcs_++
	in.locals = append(in.locals, map[string]variable{})
	defer func() {
		last := in.locals[len(in.locals)-1]
		in.locals = in.locals[:len(in.locals)-1]
		for name, v := range last {
			if v == (variable{}) {
				delete(in.vars, name)
			} else {
				in.vars[name] = v
			}
		}
		in.params, in.loops = params, loops
		in.funcs_--
	}()
	status := in.stmt(body, tested)
	if in.skip == skipReturn {
		in.skip = skipNot
		status = in.status
	}
	return status
}

// abs is a name of a file as the process opens it.
func (in *interp) abs(name string) string {
	if filepath.IsAbs(name) {
		return filepath.Join(in.Root, name) + trailing(name)
	}
	if name == "" {
		return ""
	}
	return filepath.Join(in.Root, in.dir, name) + trailing(name)
}

// trailing keeps what asks that a link be followed and be a folder.
func trailing(name string) string {
	if strings.HasSuffix(name, "/") && strings.Trim(name, "/") != "" || strings.HasSuffix(name, "/.") {
		return "/."
	}
	return ""
}

// external runs a file.
func (in *interp) external(args []string) int {
	path, status := in.find(args[0])
	if status != 0 {
		return status
	}
	return in.exec(path, args)
}

// exec runs the file at path and returns its exit code.
func (in *interp) exec(path string, args []string) int {
	if in.Variant == Bash && ListsEnvironment(args) {
		in.unserved(args[0], "%s", bashEnvironment)
	}
	c := &Command{Args: args, Path: path, Env: in.environ(), Dir: filepath.Join(in.Root, in.dir), Extra: map[int]any{}}
	if r := in.fds.reader(0); r != nil {
		c.Stdin = r
	}
	c.Stdout, c.Stderr = in.fds.writer(1), in.fds.writer(2)
	for n, s := range in.fds {
		switch {
		case n < 3:
		case s.w != nil:
			c.Extra[n] = s.w
		case s.r != nil:
			c.Extra[n] = s.r
		}
	}
	code, err := in.Exec(in.ctx, c)
	if err != nil && in.ctx.Err() == nil {
		in.unserved(args[0], "%v", err)
	}
	return code
}

// find is the file that a command's name stands for; else the exit code, after a message.
func (in *interp) find(name string) (string, int) {
	path, status := in.lookup(name)
	if status == 127 && in.Missing != nil {
		if err := in.Missing(name); err != nil {
			in.unserved(name, "%v", err)
		}
	}
	switch status {
	case 127:
		why := "not found"
		path, _ := in.get("PATH")
		switch {
		case in.Variant == Bash && (strings.Contains(name, "/") || path == ""):
			why = "No such file or directory"
		case in.Variant == Bash:
			why = "command not found"
		case name == "":
			why = "Permission denied"
		}
		in.complain("%s: %s", name, why)
	case 126:
		why := "Permission denied"
		if info, err := os.Stat(path); in.Variant == Bash && err == nil && info.IsDir() {
			why = "Is a directory"
		}
		in.complain("%s: %s", name, why)
	}
	return path, status
}

func (in *interp) lookup(name string) (string, int) {
	if strings.Contains(name, "/") {
		return in.abs(name), executable(in.abs(name))
	}
	path, set := in.get("PATH")
	if !set && in.Variant == Ash {
		in.unserved(name, "without PATH is not served") // BusyBox takes a PATH of its own
	}
	status := 127
	for _, dir := range strings.Split(path, ":") {
		if name == "" {
			break
		}
		file := in.abs(filepath.Join(orDot(dir), name))
		switch executable(file) {
		case 0:
			return file, 0
		case 126:
			if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
				status = 126
			}
		}
	}
	return "", status
}

func orDot(dir string) string {
	if dir == "" {
		return "."
	}
	return dir
}

// executable is 0, 126 or 127.
func executable(file string) int {
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, os.ErrPermission):
		return 126
	case err != nil:
		return 127
	case info.IsDir():
		return 126
	case mayExecute(file) != nil:
		return 126
	}
	return 0
}

// complain prints an error as the shell does.
func (in *interp) complain(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if in.builtin != "" && in.Variant == Dash {
		text = in.builtin + ": " + text
	}
	if in.builtin != "" && in.Variant == Ash {
		text = fmt.Sprintf("%s: line %d: %s", in.builtin, max(1, in.called)-1, text) // BusyBox counts from 0
	}
	switch in.Variant {
	case Dash:
		text = fmt.Sprintf("%s: %d: %s\n", in.Name, in.line, text)
	case Bash:
		text = fmt.Sprintf("%s: line %d: %s\n", in.Name, in.line, text)
	default:
		text = fmt.Sprintf("%s: %s\n", in.Name, text)
	}
	if w := in.fds.writer(2); w != nil {
		io.WriteString(w, text)
	}
}

// fatal prints an error and ends the shell.
func (in *interp) fatal(format string, args ...any) {
	in.complain(format, args...)
	in.status = 2
	if in.Variant == Bash {
		in.status = 1
	}
	panic(exitNow{})
}

// wrong is the error of a builtin: of a special one it ends the shell.
func (in *interp) wrong(name, format string, args ...any) int {
	in.complain(format, args...)
	if special[name] && in.Variant != Bash {
		in.status = 2
		panic(exitNow{})
	}
	if in.Variant == Bash {
		return 1
	}
	return 2
}

// write writes for a builtin. Where nobody reads any more the subshell ends, as by SIGPIPE.
func (in *interp) write(name, text string) int {
	w := in.fds.writer(1)
	if text == "" && w != nil {
		return 0
	}
	err := error(syscall.EBADF)
	if w != nil {
		_, err = io.WriteString(w, text)
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, syscall.EPIPE):
		in.status = 128 + int(syscall.SIGPIPE)
		panic(dieNow{})
	}
	in.unserved(name, "write error: %v", err)
	return 1
}

// traceQuote is a word as set -x prints it.
func (in *interp) traceQuote(s string) string {
	plain := func(c byte) bool { return true }
	switch in.Variant {
	case Ash: // BusyBox, shell/ash.c: all but these characters are quoted
		plain = func(c byte) bool {
			return c >= '+' && c <= 'z' && !strings.ContainsRune(";<=>?`[\\", rune(c))
		}
	case Bash:
		if s == "" {
			return "''"
		}
		plain = func(c byte) bool {
			return c > ' ' && c < 0x7f && !strings.ContainsRune("!\"#$&'()*;<>?[\\]^`{|}~", rune(c))
		}
	}
	quoted := in.Variant == Ash && keywords[s]
	for i := range len(s) {
		quoted = quoted || !plain(s[i])
	}
	switch {
	case !quoted:
		return s
	case in.Variant == Bash:
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return singleQuote(s)
}

// singleQuote quotes as BusyBox does: quotes themselves stand in double quotes, after single ones in any case.
func singleQuote(s string) string {
	var b strings.Builder
	for {
		n := strings.IndexByte(s, '\'')
		if n < 0 {
			n = len(s)
		}
		b.WriteString("'" + s[:n] + "'")
		s = s[n:]
		quotes := len(s) - len(strings.TrimLeft(s, "'"))
		if quotes == 0 {
			return b.String()
		}
		b.WriteString(`"` + s[:quotes] + `"`)
		if s = s[quotes:]; s == "" {
			return b.String()
		}
	}
}

// bashEnvironment is why bash's list of its environment is not served: the order is that of a table of its own, and two variables of
// its own are in it, of which SHLVL depends on whether bash starts a process for the command or becomes it.
const bashEnvironment = "the order of the variables, SHLVL and _ are bash's own"

// ListsEnvironment reports whether a command shows variables as they come, or such as only bash has.
func ListsEnvironment(args []string) bool {
	switch filepath.Base(args[0]) {
	case "printenv":
		for _, a := range args[1:] {
			if a == "SHLVL" || a == "_" {
				return true
			}
		}
		return !slices.ContainsFunc(args[1:], func(a string) bool { return !strings.HasPrefix(a, "-") })
	case "env":
		for i := 1; i < len(args); i++ {
			a := args[i]
			switch {
			case a == "-u":
				i++
			case !strings.HasPrefix(a, "-") && !strings.Contains(a, "="):
				return false
			}
		}
		return true
	}
	return false
}
