package shell

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// builtin is a command of the shell itself.
type builtin struct {
	run func(in *interp, args []string, tested bool) int
	// check says of arguments, of which only the known ones are given, why they are not served; nil: all are.
	check func(v Variant, args []word) string
	only  string // variants that have it; empty: all
}

// word is an argument before the script runs.
type word struct {
	text  string
	known bool
}

var builtins map[string]builtin

// unservedBuiltins are builtins of the shells that this package has not.
var unservedBuiltins = map[string]bool{
	"alias": true, "unalias": true, "bg": true, "fg": true, "jobs": true, "fc": true, "getopts": true, "hash": true, "kill": true,
	"times": true, "type": true, "ulimit": true, "history": true, "let": true, "[[": true, "declare": true, "typeset": true,
	"source": true, "builtin": true, "caller": true, "compgen": true, "complete": true, "compopt": true, "dirs": true, "disown": true,
	"enable": true, "help": true, "logout": true, "mapfile": true, "readarray": true, "popd": true, "pushd": true, "shopt": true,
	"suspend": true, "bind": true, "coproc": true, "select": true, "function": true, "time": true,
}

// onlyIn are words among unservedBuiltins that are commands like any others in the variants that are not named.
var onlyIn = map[string]string{
	"history": "ash bash", "let": "ash bash", "[[": "ash bash", "declare": "bash", "typeset": "bash", "source": "ash bash", "builtin": "bash",
	"caller": "bash", "compgen": "bash", "complete": "bash", "compopt": "bash", "dirs": "bash", "disown": "bash", "enable": "bash",
	"help": "ash bash", "logout": "bash", "mapfile": "bash", "readarray": "bash", "popd": "bash", "pushd": "bash", "shopt": "bash",
	"suspend": "bash", "bind": "bash", "coproc": "bash", "select": "bash", "function": "ash bash", "time": "bash", "fc": "dash bash",
}

// among reports whether a list, with blanks between, holds a variant.
func among(list string, v Variant) bool { return slices.Contains(strings.Fields(list), string(v)) }

// notServed reports whether a name is a builtin of a variant that this package has not.
func notServed(v Variant, name string) bool {
	if !unservedBuiltins[name] {
		return false
	}
	in, some := onlyIn[name]
	return !some || among(in, v)
}

func init() {
	builtins = map[string]builtin{
		":":        {run: func(*interp, []string, bool) int { return 0 }},
		"true":     {run: func(*interp, []string, bool) int { return 0 }},
		"false":    {run: func(*interp, []string, bool) int { return 1 }},
		".":        {run: dot},
		"break":    {run: breakLoop, check: checkCount},
		"continue": {run: breakLoop, check: checkCount},
		"cd":       {run: cd, check: checkCd},
		"chdir":    {run: cd, check: checkCd, only: "dash ash"},
		"command":  {run: runCommand, check: checkCommand},
		"echo":     {run: echo},
		"eval":     {run: evalArgs},
		"exec":     {run: execArgs, check: checkExec},
		"exit":     {run: exit, check: checkCount},
		"export":   {run: export, check: checkExport},
		"readonly": {run: export, check: checkExport},
		"local":    {run: local, check: checkExport},
		"printf":   {run: printf, check: checkPrintf},
		"pwd":      {run: pwd, check: checkPwd},
		"read":     {run: read, check: checkRead},
		"return":   {run: returnFrom, check: checkCount},
		"set":      {run: set, check: checkSet},
		"shift":    {run: shift, check: checkCount},
		"test":     {run: test},
		"[":        {run: test},
		"trap":     {run: trap, check: checkTrap},
		"umask":    {run: umask, check: checkUmask},
		"unset":    {run: unset, check: checkUnset},
		"wait":     {run: wait},
	}
}

func pid() int { return os.Getpid() }

// count reads the number that a builtin may be given.
func (in *interp) count(args []string, otherwise int) int {
	if len(args) < 2 {
		return otherwise
	}
	n, err := strconv.Atoi(args[1])
	if err != nil || n < 0 || len(args) > 2 {
		in.unserved(strings.Join(args, " "), "the number is not served")
	}
	return n
}

func checkCount(_ Variant, args []word) string {
	if len(args) > 1 {
		return "too many arguments"
	}
	if len(args) == 1 && args[0].known {
		if n, err := strconv.Atoi(args[0].text); err != nil || n < 0 {
			return "the number is not served"
		}
	}
	return ""
}

func exit(in *interp, args []string, _ bool) int {
	in.status = in.count(args, in.status) & 0xff
	panic(exitNow{})
}

func breakLoop(in *interp, args []string, _ bool) int {
	n := in.count(args, 1)
	if n == 0 {
		in.unserved(args[0]+" 0", "is not served")
	}
	if in.loops == 0 {
		if in.Variant == Bash {
			in.unserved(args[0], "outside of a loop")
		}
		return 0
	}
	in.skip = skipContinue
	if args[0] == "break" {
		in.skip = skipBreak
	}
	in.levels = min(n, in.loops)
	return 0
}

func returnFrom(in *interp, args []string, _ bool) int {
	in.status = in.count(args, in.status) & 0xff
	if in.funcs_ == 0 {
		if in.Variant == Bash {
			in.unserved("return", "outside of a function")
		}
		// dash and ash end the script.
	}
	in.skip = skipReturn
	return in.status
}

func shift(in *interp, args []string, _ bool) int {
	n := in.count(args, 1)
	if n > len(in.params) {
		switch in.Variant {
		case Dash:
			return in.wrong("shift", "can't shift that many")
		default:
			return 1
		}
	}
	in.params = in.params[n:]
	return 0
}

// dot reads a file into this shell.
func dot(in *interp, args []string, tested bool) int {
	if len(args) != 2 {
		in.unserved(strings.Join(args, " "), "is not served")
	}
	file := in.abs(args[1])
	if !strings.Contains(args[1], "/") {
		in.unserved(strings.Join(args, " "), "a file that PATH leads to is not served")
	}
	data, err := os.ReadFile(file)
	if err != nil {
		if in.Variant == Dash {
			return in.wrong(".", "cannot open %s: No such file", args[1])
		}
		if in.Variant == Ash {
			return in.wrong(".", "can't open '%s': %s", args[1], reason(err))
		}
		in.unserved(args[1], "%v", err)
	}
	status := in.eval(string(data), false)
	if in.skip == skipReturn {
		in.skip = skipNot
		status = in.status
	}
	return status
}

func evalArgs(in *interp, args []string, tested bool) int {
	text := strings.Join(args[1:], " ")
	if strings.TrimSpace(text) == "" {
		return 0
	}
	return in.eval(text, tested)
}

func execArgs(in *interp, args []string, _ bool) int {
	args = args[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return 0 // its redirections stay
	}
	path, status := in.lookup(args[0])
	if status != 0 {
		why := map[int]string{127: "not found", 126: "Permission denied"}[status]
		if in.Variant == Bash {
			why = "exec: " + args[0] + ": " + why
		} else {
			why = args[0] + ": " + why
		}
		in.complain("%s", why)
		in.status = status
		panic(exitNow{})
	}
	in.status = in.exec(path, args)
	panic(dieNow{}) // no traps: the shell is gone
}

func checkExec(_ Variant, args []word) string {
	if len(args) > 0 && args[0].known && strings.HasPrefix(args[0].text, "-") && args[0].text != "--" {
		return "the option is not served"
	}
	return ""
}

func runCommand(in *interp, args []string, tested bool) int {
	args = args[1:]
	if len(args) > 0 && args[0] == "-v" {
		return in.commandV(args[1:])
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) > 0 && strings.HasPrefix(args[0], "-") {
		in.unserved("command "+args[0], "is not served")
	}
	if len(args) == 0 {
		return 0
	}
	b, ok := builtins[args[0]]
	switch {
	case ok && special[args[0]] && args[0] != ":" && args[0] != "exec" && args[0] != "exit":
		in.unserved("command "+args[0], "is not served") // its errors do not end the shell then
	case ok && (b.only == "" || among(b.only, in.Variant)):
		return in.run(b, args, tested)
	case notServed(in.Variant, args[0]):
		in.unserved(args[0], "the builtin is not served")
	}
	in.builtin = "" // command is no part of errors
	return in.external(args)
}

func checkCommand(_ Variant, args []word) string {
	if len(args) > 0 && args[0].known && strings.HasPrefix(args[0].text, "-") && args[0].text != "-v" && args[0].text != "--" {
		return "the option is not served"
	}
	return ""
}

// commandV is command -v NAME.
func (in *interp) commandV(args []string) int {
	if len(args) == 0 {
		in.unserved("command -v", "without a name is not served")
	}
	name := args[0] // dash and ash look at no others
	if len(args) > 1 && in.Variant == Bash {
		in.unserved("command -v", "with more than one name is not served")
	}
	_, isBuiltin := builtins[name]
	switch {
	case isBuiltin && notOnly(in.Variant, name), notServed(in.Variant, name), in.funcs[name] != nil, keywords[name]:
		return in.write("command", name+"\n")
	}
	if in.Which != nil {
		path, ok, err := in.Which(name)
		switch {
		case err != nil:
			in.unserved("command -v "+name, "%v", err)
		case ok && path != "":
			return in.write("command", path+"\n")
		case ok:
			return in.notFound()
		}
	}
	path, status := in.lookup(name)
	if status != 0 {
		return in.notFound()
	}
	if in.Root != "" {
		path = strings.TrimPrefix(path, in.Root)
	}
	return in.write("command", path+"\n")
}

// keywords are the words of the grammar.
var keywords = map[string]bool{
	"if": true, "then": true, "else": true, "elif": true, "fi": true, "for": true, "in": true, "do": true, "done": true, "while": true, "until": true,
	"case": true, "esac": true, "{": true, "}": true, "!": true,
}

func notOnly(v Variant, name string) bool {
	only := builtins[name].only
	return only == "" || among(only, v)
}

func (in *interp) notFound() int {
	if in.Variant == Bash {
		return 1
	}
	return 127
}

func cd(in *interp, args []string, _ bool) int {
	args = args[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	to, show := "", false
	switch {
	case len(args) > 1:
		in.unserved("cd", "with more than one folder is not served")
	case len(args) == 0:
		home, set := in.get("HOME")
		if !set || home == "" {
			in.unserved("cd", "HOME is not set")
		}
		to = home
	case args[0] == "-":
		old, set := in.get("OLDPWD")
		if !set {
			in.unserved("cd -", "OLDPWD is not set")
		}
		to, show = old, true
	case strings.HasPrefix(args[0], "-"):
		in.unserved("cd "+args[0], "the option is not served")
	default:
		to = args[0]
	}
	if path, _ := in.get("CDPATH"); path != "" {
		in.unserved("cd", "CDPATH is not served")
	}
	if to == "" {
		in.unserved("cd ''", "is not served")
	}
	next := filepath.Join(in.dir, to)
	if filepath.IsAbs(to) {
		next = filepath.Clean(to)
	}
	if strings.Contains(to, "..") { // each name on the way has to be there
		if _, err := os.Stat(in.abs(to)); err != nil {
			return in.cannotCd(to, err)
		}
	}
	info, err := os.Stat(filepath.Join(in.Root, next))
	if err == nil && !info.IsDir() {
		err = syscall.ENOTDIR
	}
	if err == nil {
		err = mayExecute(filepath.Join(in.Root, next))
	}
	if err != nil {
		return in.cannotCd(to, err)
	}
	if in.vars["PWD"].readonly || in.vars["OLDPWD"].readonly {
		in.unserved("cd", "PWD is read only")
	}
	old := in.dir
	in.dir = next
	for _, v := range []struct{ name, value string }{{"OLDPWD", old}, {"PWD", next}} {
		in.set(v.name, v.value)
		if is := in.vars[v.name]; !is.exported {
			is.exported = true
			in.vars[v.name] = is
		}
	}
	if show {
		return in.write("cd", next+"\n")
	}
	return 0
}

func (in *interp) cannotCd(to string, err error) int {
	switch in.Variant {
	case Dash:
		in.complain("can't cd to %s", to)
	case Ash:
		in.complain("can't cd to %s: %s", to, reason(err))
	default:
		in.complain("cd: %s: %s", to, reason(err))
		return 1
	}
	return 2
}

func checkCd(_ Variant, args []word) string {
	if len(args) > 1 && args[0].text != "--" {
		return "with more than one folder is not served"
	}
	if len(args) > 0 && args[0].known && (args[0].text == "" || strings.HasPrefix(args[0].text, "-") && args[0].text != "-" && args[0].text != "--") {
		return "the option is not served"
	}
	return ""
}

func pwd(in *interp, args []string, _ bool) int {
	if len(args) > 1 {
		if args[1] != "-P" {
			in.unserved("pwd "+args[1], "is not served")
		}
		real, err := filepath.EvalSymlinks(filepath.Join(in.Root, in.dir))
		if err != nil {
			in.unserved("pwd -P", "%v", err)
		}
		return in.write("pwd", strings.TrimPrefix(real, in.Root)+"\n")
	}
	return in.write("pwd", in.dir+"\n")
}

func checkPwd(_ Variant, args []word) string {
	if len(args) > 0 && (len(args) > 1 || args[0].text != "-P") {
		return "the option is not served"
	}
	return ""
}

// export is export and readonly.
func export(in *interp, args []string, _ bool) int {
	names := args[1:]
	if len(names) > 0 && names[0] == "--" {
		names = names[1:]
	}
	if len(names) == 0 || strings.HasPrefix(names[0], "-") {
		in.unserved(strings.Join(args, " "), "is not served")
	}
	for _, a := range names {
		name, value, assigns := strings.Cut(a, "=")
		if !isName(name) {
			return in.wrong(args[0], "%s: bad variable name", name)
		}
		if assigns {
			in.set(name, value)
		}
		v := in.vars[name]
		if args[0] == "export" {
			v.exported = true
		} else {
			v.readonly = true
		}
		if v.made == 0 {
			v.made = in.made.Add(1)
		}
		in.vars[name] = v
	}
	return 0
}

func checkExport(v Variant, args []word) string {
	if len(args) == 0 || args[0].known && strings.HasPrefix(args[0].text, "-") && args[0].text != "--" {
		return "the list of variables, or the option, is not served"
	}
	return ""
}

func local(in *interp, args []string, _ bool) int {
	if in.funcs_ == 0 {
		if in.Variant == Bash {
			in.unserved("local", "outside of a function")
		}
		return in.wrong("local", "not in a function")
	}
	saved := in.locals[len(in.locals)-1]
	for _, a := range args[1:] {
		name, value, assigns := strings.Cut(a, "=")
		if !isName(name) || name == "IFS" || name == "PATH" {
			in.unserved("local "+a, "is not served")
		}
		v := in.vars[name]
		if v.readonly {
			in.isReadonly(name)
		}
		if _, ok := saved[name]; !ok {
			saved[name] = v
		}
		switch {
		case assigns:
			in.set(name, value)
		case in.Variant != Dash: // dash's keeps the value that it had
			v.value, v.set = "", false
			in.vars[name] = v
		}
	}
	return 0
}

func unset(in *interp, args []string, _ bool) int {
	names, function := args[1:], false
	for len(names) > 0 && strings.HasPrefix(names[0], "-") {
		switch names[0] {
		case "-f":
			function = true
		case "-v":
		default:
			in.unserved("unset "+names[0], "is not served")
		}
		names = names[1:]
	}
	for _, name := range names {
		if !isName(name) {
			in.unserved("unset "+name, "is not served")
		}
		if function {
			delete(in.funcs, name)
			continue
		}
		if in.vars[name].readonly {
			if in.Variant == Bash {
				in.unserved("unset "+name, "is read only")
			}
			return in.wrong("unset", "%s: is read only", name)
		}
		if in.Variant == Bash && !in.vars[name].set && in.funcs[name] != nil {
			in.unserved("unset "+name, "of a function without -f is not served")
		}
		if in.Variant == Bash && ofBash(name) {
			in.unserved("unset "+name, "the variable means something to the shell")
		}
		delete(in.vars, name)
	}
	return 0
}

func checkUnset(v Variant, args []word) string {
	for _, a := range args {
		if a.known && strings.HasPrefix(a.text, "-") && a.text != "-f" && a.text != "-v" {
			return "the option is not served"
		}
		if a.known && !strings.HasPrefix(a.text, "-") && !isName(a.text) {
			return "is no name"
		}
		if a.known && v == Bash && ofBash(a.text) {
			return "the variable means something to the shell"
		}
	}
	return ""
}

// longOptions are the names of set -o.
var longOptions = map[string]byte{"errexit": 'e', "noglob": 'f', "nounset": 'u', "xtrace": 'x', "allexport": 'a'}

func set(in *interp, args []string, _ bool) int {
	if why := checkSet(in.Variant, known(args[1:])); why != "" {
		in.unserved(strings.Join(args, " "), "%s", why)
	}
	rest := args[1:]
	for len(rest) > 0 {
		a := rest[0]
		if a == "--" {
			in.params = rest[1:]
			return 0
		}
		if len(a) < 2 || a[0] != '-' && a[0] != '+' {
			break
		}
		rest = rest[1:]
		for i := 1; i < len(a); i++ {
			if a[i] != 'o' {
				in.opts[a[i]] = a[0] == '-'
				continue
			}
			if rest[0] == "pipefail" {
				in.pipe = a[0] == '-'
				if in.Variant == Dash {
					return in.wrong("set", "Illegal option -o pipefail")
				}
			} else {
				in.opts[longOptions[rest[0]]] = a[0] == '-'
			}
			rest = rest[1:]
		}
	}
	if len(rest) > 0 {
		in.params = rest
	}
	return 0
}

func checkSet(v Variant, args []word) string {
	if len(args) == 0 {
		return "the list of variables is not served"
	}
	for len(args) > 0 {
		a := args[0].text
		if !args[0].known {
			return ""
		}
		if a == "--" {
			return ""
		}
		if a == "-" || a == "+" {
			return "is not served"
		}
		if a == "" || a[0] != '-' && a[0] != '+' {
			return ""
		}
		args = args[1:]
		for i := 1; i < len(a); i++ {
			if a[i] == 'o' {
				if len(args) == 0 {
					return "the list of options is not served"
				}
				if !args[0].known {
					return ""
				}
				if _, ok := longOptions[args[0].text]; !ok && args[0].text != "pipefail" {
					return "set -o " + args[0].text + " is not served"
				}
				args = args[1:]
				continue
			}
			if !strings.ContainsRune("efuxa", rune(a[i])) {
				return "set -" + a[i:i+1] + " is not served"
			}
		}
	}
	return ""
}

// known makes words of arguments.
func known(args []string) []word {
	words := make([]word, len(args))
	for i, a := range args {
		words[i] = word{a, true}
	}
	return words
}

// trapped are the conditions that a trap may be set for. Nothing sends the signals to a step of a build.
var trapped = map[string]string{
	"EXIT": "EXIT", "0": "EXIT", "INT": "INT", "2": "INT", "TERM": "TERM", "15": "TERM", "HUP": "HUP", "1": "HUP", "QUIT": "QUIT", "3": "QUIT",
}

func trap(in *interp, args []string, _ bool) int {
	if why := checkTrap(in.Variant, known(args[1:])); why != "" {
		in.unserved(strings.Join(args, " "), "%s", why)
	}
	rest := args[1:]
	if rest[0] == "--" {
		rest = rest[1:]
	}
	action := rest[0]
	if action == "-" {
		action = ""
	}
	for _, s := range rest[1:] {
		in.traps[trapped[s]] = action
	}
	return 0
}

func checkTrap(_ Variant, args []word) string {
	if len(args) > 0 && args[0].text == "--" {
		args = args[1:]
	}
	if len(args) < 2 {
		return "the list of traps is not served"
	}
	if args[0].known && args[0].text != "" {
		if _, err := strconv.Atoi(args[0].text); err == nil || args[0].text[0] == '-' && args[0].text != "-" {
			return "is not served"
		}
	}
	for _, a := range args[1:] {
		if _, ok := trapped[a.text]; !ok && a.known {
			return "a trap of " + a.text + " is not served"
		}
	}
	return ""
}

func umask(in *interp, args []string, _ bool) int {
	if why := checkUmask(in.Variant, known(args[1:])); why != "" {
		in.unserved(strings.Join(args, " "), "%s", why)
	}
	if in.sub && len(args) > 1 {
		in.unserved("umask", "is served in no subshell: it would hold for the whole script")
	}
	if len(args) == 1 {
		old := setUmask(0)
		setUmask(old)
		text := strconv.FormatInt(int64(old), 8)
		return in.write("umask", strings.Repeat("0", max(0, 4-len(text)))+text+"\n")
	}
	n, _ := strconv.ParseUint(args[1], 8, 16) // checked
	setUmask(int(n))
	return 0
}

func checkUmask(_ Variant, args []word) string {
	if len(args) > 1 {
		return "is not served"
	}
	if len(args) == 1 && args[0].known {
		if n, err := strconv.ParseUint(args[0].text, 8, 16); err != nil || n > 0o777 {
			return "only numbers are served"
		}
	}
	return ""
}

func wait(in *interp, args []string, _ bool) int {
	if len(args) == 1 {
		for _, j := range in.jobs {
			<-j.done
		}
		in.jobs = nil
		in.checked(0)
		return 0
	}
	status := 0
	for _, a := range args[1:] {
		found := false
		for _, j := range in.jobs {
			if strconv.FormatInt(j.pid, 10) == a {
				<-j.done
				status, found = j.status, true
			}
		}
		in.checked(0)
		if !found {
			in.unserved("wait "+a, "is no job of this shell")
		}
	}
	return status
}

// read reads a line into variables.
func read(in *interp, args []string, _ bool) int {
	if why := checkRead(in.Variant, known(args[1:])); why != "" {
		in.unserved(strings.Join(args, " "), "%s", why)
	}
	names, raw := args[1:], false
	if len(names) > 0 && names[0] == "-r" {
		names, raw = names[1:], true
	}
	if len(names) == 0 {
		names = []string{"REPLY"}
	}
	line, status := in.readLine(raw)
	x := cutLine(line, in.ifs(), len(names))
	for i, name := range names {
		in.set(name, x[i])
	}
	return status
}

func checkRead(v Variant, args []word) string {
	if len(args) > 0 && args[0].text == "-r" {
		args = args[1:]
	}
	if len(args) == 0 {
		return "without the name of a variable is not served"
	}
	for _, a := range args {
		if a.known && !isName(a.text) {
			return "the option is not served"
		}
	}
	return ""
}

func (in *interp) ifs() string {
	ifs, set := in.get("IFS")
	if !set {
		return " \t\n"
	}
	return ifs
}

// readLine reads bytes one by one: what follows the line is another command's.
func (in *interp) readLine(raw bool) (line []cell, status int) {
	r := in.fds.reader(0)
	buf := make([]byte, 1)
	next := func() (byte, bool) {
		if r == nil {
			return 0, false
		}
		_, err := io.ReadFull(r, buf)
		if err != nil && !errors.Is(err, io.EOF) {
			in.unserved("read", "%v", err)
		}
		return buf[0], err == nil
	}
	for {
		c, ok := next()
		switch {
		case !ok:
			return line, 1
		case c == '\n':
			return line, 0
		case c == 0:
			in.unserved("read", "a zero byte is not served")
		case c == '\\' && !raw:
			if c, ok = next(); !ok {
				return line, 1
			}
			if n := len(line); c != '\n' && in.Variant == Ash && (n == 0 || line[n-1].f&isSplit != 0 && strings.IndexByte(in.ifs(), line[n-1].b) >= 0) {
				in.unserved("read", "a backslash at the start of a word is not served: BusyBox joins the word with the next")
			}
			if c != '\n' {
				line = append(line, cell{c, isQuoted})
			}
		default:
			line = append(line, cell{c, isSplit})
		}
	}
}

// cutLine cuts a line for n variables: the last one gets the rest.
func cutLine(line []cell, ifs string, n int) []string {
	is := func(c cell) bool { return c.f&isSplit != 0 && strings.IndexByte(ifs, c.b) >= 0 }
	blank := func(c cell) bool { return is(c) && (c.b == ' ' || c.b == '\t' || c.b == '\n') }
	out := make([]string, n)
	i := 0
	blanks := func() {
		for i < len(line) && blank(line[i]) {
			i++
		}
	}
	blanks()
	for k := range n - 1 {
		start := i
		for i < len(line) && !is(line[i]) {
			i++
		}
		out[k] = string(bytesOf(line[start:i]))
		blanks()
		if i < len(line) && is(line[i]) && !blank(line[i]) {
			i++
			blanks()
		}
	}
	rest := line[i:]
	for len(rest) > 0 && blank(rest[len(rest)-1]) {
		rest = rest[:len(rest)-1]
	}
	// One field that a delimiter ends: the delimiter is not part of it.
	if len(rest) > 0 && is(rest[len(rest)-1]) {
		others := 0
		for _, c := range rest[:len(rest)-1] {
			if is(c) {
				others++
			}
		}
		if others == 0 {
			rest = rest[:len(rest)-1]
		}
	}
	out[n-1] = string(bytesOf(rest))
	return out
}
