package shell

import (
	"bytes"
	"strconv"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// cell is one byte of a word that is being expanded.
type cell struct {
	b byte
	f uint8
}

const (
	isQuoted uint8 = 1 << iota // stands for itself in patterns
	isSplit                    // came from an expansion outside of quotes: IFS cuts it
	isBreak                    // no byte: fields end here
	isNull                     // no byte: quotes stood here, so the field exists
)

// expansion expands the parts of one word.
type expansion struct {
	in    *interp
	cells []cell
	// fields says that the word becomes any number of fields; without it $@ is one text.
	fields bool
	// pattern keeps what is quoted apart from what is not; nothing is cut.
	split bool // text outside of quotes is cut, too: the word of ${x:-word}
}

func (x *expansion) add(text string, flags uint8) {
	for i := range len(text) {
		x.cells = append(x.cells, cell{text[i], flags})
	}
}

// bytesOf is the text of cells.
func bytesOf(cells []cell) []byte {
	out := make([]byte, 0, len(cells))
	for _, c := range cells {
		if c.f&(isBreak|isNull) == 0 {
			out = append(out, c.b)
		}
	}
	return out
}

// arguments expands the words of a command.
func (in *interp) arguments(words []*syntax.Word) []string {
	if len(words) == 0 {
		return nil
	}
	var all []string
	declares := false
	for i, w := range words {
		if declares && assignmentWord(w) {
			all = append(all, in.assigned(w))
			continue
		}
		all = append(all, in.fields([]*syntax.Word{w})...)
		if i == 0 && len(all) == 1 {
			switch w.Lit() {
			case "export", "readonly", "local":
				declares = true
			}
		}
	}
	return all
}

// assignmentWord reports whether a word begins with NAME=.
func assignmentWord(w *syntax.Word) bool {
	lit, ok := w.Parts[0].(*syntax.Lit)
	if !ok {
		return false
	}
	name, _, ok := strings.Cut(lit.Value, "=")
	return ok && isName(name)
}

// fields expands words into fields: by IFS, then by the names of files.
func (in *interp) fields(words []*syntax.Word) []string {
	var out []string
	for _, w := range words {
		x := expansion{in: in, fields: true}
		x.word(w, false)
		for _, field := range in.cut(x.cells) {
			out = append(out, in.glob(field)...)
		}
	}
	return out
}

// text expands a word to one text.
func (in *interp) text(w *syntax.Word) string {
	x := expansion{in: in}
	x.word(w, false)
	return string(bytesOf(x.cells))
}

// assigned expands the value of an assignment, or a word that is one.
func (in *interp) assigned(w *syntax.Word) string {
	x := expansion{in: in}
	x.word(w, true)
	return string(bytesOf(x.cells))
}

// pattern expands a word to a pattern.
func (in *interp) pattern(w *syntax.Word) []cell {
	x := expansion{in: in}
	x.word(w, false)
	return x.cells
}

// word expands a word outside of quotes. In an assignment a tilde after a colon counts.
func (x *expansion) word(w *syntax.Word, assignment bool) {
	if w == nil {
		return
	}
	for i, p := range w.Parts {
		lit, ok := p.(*syntax.Lit)
		if !ok {
			x.part(p)
			continue
		}
		x.literal(lit.Value, i == 0, i+1 == len(w.Parts), assignment)
	}
}

// literal is text outside of quotes: a backslash quotes, a tilde at the start is a home directory.
func (x *expansion) literal(s string, first, last, assignment bool) {
	flags := uint8(0)
	if x.split {
		flags = isSplit
	}
	tilde := first
	equals := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			if i++; i < len(s) && s[i] != '\n' {
				x.cells = append(x.cells, cell{s[i], isQuoted})
			}
		case c == '~' && tilde:
			rest := s[i+1:]
			end := strings.IndexByte(rest, '/')
			if colon := strings.IndexByte(rest, ':'); assignment && colon >= 0 && (end < 0 || colon < end) {
				end = colon
			}
			if end < 0 {
				end = len(rest)
			}
			home, set := x.in.get("HOME")
			if end > 0 || end == len(rest) && !last || !set {
				x.in.unserved("~", "another home directory than $HOME is not served")
			}
			x.add(home, isQuoted)
		default:
			x.cells = append(x.cells, cell{c, flags})
			if assignment && (c == ':' || c == '=' && first && !equals) {
				equals = equals || c == '='
				tilde = true
				continue
			}
		}
		tilde = false
	}
}

// quoted expands what stands in double quotes, or in a here-document.
func (x *expansion) quoted(parts []syntax.WordPart, hereDoc bool) {
	for _, p := range parts {
		switch p := p.(type) {
		case *syntax.Lit:
			s := p.Value
			for i := 0; i < len(s); i++ {
				if s[i] == '\\' && i+1 < len(s) {
					switch next := s[i+1]; {
					case next == '\n':
						i++
						continue
					case next == '$' || next == '`' || next == '\\' || next == '"' && !hereDoc:
						i++
					}
				}
				x.cells = append(x.cells, cell{s[i], isQuoted})
			}
		case *syntax.SglQuoted: // within ${x:-'…'} in quotes: they stand for themselves
			x.add("'"+p.Value+"'", isQuoted)
		default:
			x.expand(p, true)
		}
	}
}

func (x *expansion) part(p syntax.WordPart) {
	switch p := p.(type) {
	case *syntax.SglQuoted:
		x.cells = append(x.cells, cell{0, isNull})
		x.add(p.Value, isQuoted)
	case *syntax.DblQuoted:
		before := len(x.cells)
		x.quoted(p.Parts, false)
		if !x.onlyNoParams(p.Parts) || len(x.cells) > before {
			x.cells = append(x.cells, cell{0, isNull})
		}
	default:
		x.expand(p, false)
	}
}

// onlyNoParams reports whether "$@" is all of the quotes and there are no parameters: then there is no field.
func (x *expansion) onlyNoParams(parts []syntax.WordPart) bool {
	if !x.fields || len(x.in.params) > 0 {
		return false
	}
	for _, p := range parts {
		if e, ok := p.(*syntax.ParamExp); ok && e.Param.Value == "@" {
			return true
		}
	}
	return false
}

// expand expands $x, $(…) and $((…)).
func (x *expansion) expand(p syntax.WordPart, quoted bool) {
	flags := isSplit
	if quoted {
		flags = isQuoted
	}
	switch p := p.(type) {
	case *syntax.ParamExp:
		x.param(p, quoted, flags)
	case *syntax.CmdSubst:
		x.add(x.in.substitute(p), flags)
	case *syntax.ArithmExp:
		x.add(strconv.FormatInt(x.in.arithmetic(p.X), 10), flags)
	default:
		x.in.unserved("", "%T is not served", p)
	}
}

// substitute runs a command substitution and returns its output without the last newlines.
func (in *interp) substitute(c *syntax.CmdSubst) string {
	var out bytes.Buffer
	child := in.clone()
	child.fds.put(1, newStream(nil, in.lock(&out), nil))
	if in.Variant != Dash {
		delete(child.opts, 'e') // BusyBox and bash; dash goes on with set -e
	}
	child.nested++
	line := in.line
	in.subst = child.guard(func() { child.list(c.Stmts, false) })
	child.fds.release()
	in.line = line
	in.checked(0)
	text := strings.ReplaceAll(out.String(), "\x00", "")
	return strings.TrimRight(text, "\n")
}

// special gives the value of a parameter that is no variable.
func (in *interp) special(name string) (value string, set, is bool) {
	switch name {
	case "#":
		return strconv.Itoa(len(in.params)), true, true
	case "?":
		return strconv.Itoa(in.status), true, true
	case "$":
		return strconv.Itoa(pid()), true, true
	case "!":
		if in.last == nil {
			return "", false, true
		}
		return strconv.FormatInt(in.last.pid, 10), true, true
	case "0":
		return in.Name, true, true
	case "-":
		in.unserved("$-", "is not served")
	case "PPID", "LINENO":
		if _, set := in.get(name); !set {
			in.unserved("$"+name, "is not served")
		}
	case "RANDOM", "HOSTNAME":
		if _, set := in.get(name); !set && in.Variant != Dash {
			in.unserved("$"+name, "is not served")
		}
	case "UID", "EUID", "SECONDS", "BASH", "BASH_VERSION", "BASHPID", "OSTYPE", "HOSTTYPE", "MACHTYPE", "EPOCHSECONDS", "PIPESTATUS", "FUNCNAME",
		"BASH_SOURCE", "SHELLOPTS", "GROUPS", "BASH_VERSINFO", "DIRSTACK", "EPOCHREALTIME", "SRANDOM", "SHLVL", "_":
		if _, set := in.get(name); !set && in.Variant == Bash || name == "_" {
			in.unserved("$"+name, "is not served")
		}
	}
	if name[0] >= '0' && name[0] <= '9' {
		n, err := strconv.Atoi(name)
		if err == nil && n >= 1 && n <= len(in.params) {
			return in.params[n-1], true, true
		}
		return "", false, true
	}
	return "", false, false
}

// param expands $x and ${x…}.
func (x *expansion) param(p *syntax.ParamExp, quoted bool, flags uint8) {
	in, name := x.in, p.Param.Value
	if name == "@" || name == "*" {
		if p.Length || p.Exp != nil {
			in.unserved("${"+name+"…}", "is not served")
		}
		x.params(name, quoted)
		return
	}
	value, set, is := in.special(name)
	if !is {
		value, set = in.get(name)
	}
	if p.Length {
		x.unset(p, set)
		in.onlyASCII(value, "${#"+name+"}")
		x.add(strconv.Itoa(len(value)), flags)
		return
	}
	if p.Slice != nil || p.Repl != nil {
		x.unset(p, set)
		in.onlyASCII(value, "${"+name+"…}")
		if p.Repl != nil {
			x.add(in.replaced(value, p.Repl), flags)
		} else {
			x.add(in.slice(value, p.Slice), flags)
		}
		return
	}
	if p.Exp == nil {
		x.unset(p, set)
		x.add(value, flags)
		return
	}
	word := func() {
		if p.Exp.Word == nil {
			return
		}
		if quoted {
			x.quoted(p.Exp.Word.Parts, false)
			return
		}
		old := x.split
		x.split = true
		x.word(p.Exp.Word, false)
		x.split = old
	}
	null := !set || value == ""
	switch op := p.Exp.Op; op {
	case syntax.DefaultUnset, syntax.DefaultUnsetOrNull:
		if !set || null && op == syntax.DefaultUnsetOrNull {
			word()
			return
		}
		x.add(value, flags)
	case syntax.AlternateUnset, syntax.AlternateUnsetOrNull:
		if set && !(null && op == syntax.AlternateUnsetOrNull) {
			word()
		}
	case syntax.AssignUnset, syntax.AssignUnsetOrNull:
		if !set || null && op == syntax.AssignUnsetOrNull {
			if is {
				in.fatal("%s: bad variable name", name)
			}
			value = x.sub(p.Exp.Word, quoted)
			in.set(name, value)
		}
		x.add(value, flags)
	case syntax.ErrorUnset, syntax.ErrorUnsetOrNull:
		if !set || null && op == syntax.ErrorUnsetOrNull {
			why := x.sub(p.Exp.Word, quoted)
			if why == "" {
				why = "parameter not set"
				if op == syntax.ErrorUnsetOrNull {
					why = "parameter not set or null"
				}
			}
			if in.Variant == Bash {
				in.complain("%s: %s", name, why)
				in.endUnset()
			}
			in.fatal("%s: %s", name, why)
		}
		x.add(value, flags)
	case syntax.RemSmallPrefix, syntax.RemLargePrefix, syntax.RemSmallSuffix, syntax.RemLargeSuffix:
		x.unset(p, set)
		var pattern []cell
		if p.Exp.Word != nil {
			pattern = in.pattern(p.Exp.Word)
		}
		x.add(in.trim(value, pattern, op), flags)
	default:
		in.unserved("${"+name+"…}", "is not served")
	}
}

// slice is ${x:from:count}.
func (in *interp) slice(value string, s *syntax.Slice) string {
	at := func(e syntax.ArithmExpr) int {
		n := in.arithmetic(e)
		if n < 0 {
			in.unserved("${…:…}", "a negative number is not served")
		}
		return int(min(n, int64(len(value))))
	}
	if s.Offset != nil {
		value = value[at(s.Offset):]
	}
	if s.Length != nil {
		value = value[:at(s.Length)]
	}
	return value
}

// replaced is ${x/text/other}.
func (in *interp) replaced(value string, r *syntax.Replace) string {
	n := 1
	if r.All {
		n = -1
	}
	with := ""
	if r.With != nil {
		with = in.text(r.With)
	}
	return strings.Replace(value, in.text(r.Orig), with, n)
}

// sub is the word of ${x:=word} as one text.
func (x *expansion) sub(w *syntax.Word, quoted bool) string {
	if w == nil {
		return ""
	}
	y := expansion{in: x.in}
	if quoted {
		y.quoted(w.Parts, false)
	} else {
		y.word(w, false)
	}
	return string(bytesOf(y.cells))
}

// unset is set -u.
func (x *expansion) unset(p *syntax.ParamExp, set bool) {
	if !set && x.in.opts['u'] {
		if x.in.Variant == Bash {
			x.in.complain("%s: unbound variable", p.Param.Value)
			x.in.endUnset()
		}
		x.in.fatal("%s: parameter not set", p.Param.Value)
	}
}

// endUnset ends bash for a variable that has to be set.
func (in *interp) endUnset() {
	in.status = 127
	if in.sub || in.opts['e'] {
		in.status = 1
	}
	panic(exitNow{})
}

// trim is ${x#pattern} and its kind.
func (in *interp) trim(value string, pattern []cell, op syntax.ParExpOperator) string {
	n := len(value)
	for i := range n + 1 {
		at := i
		if op == syntax.RemLargePrefix || op == syntax.RemSmallSuffix {
			at = n - i
		}
		if op == syntax.RemSmallPrefix || op == syntax.RemLargePrefix {
			if in.matches(pattern, value[:at]) {
				return value[at:]
			}
		} else if in.matches(pattern, value[at:]) {
			return value[:at]
		}
	}
	return value
}

// params expands $@ and $*.
func (x *expansion) params(name string, quoted bool) {
	in := x.in
	sep := " "
	if ifs, set := in.get("IFS"); set {
		sep = ifs[:min(1, len(ifs))]
	}
	flags := isSplit
	if quoted {
		flags = isQuoted
	}
	for i, p := range in.params {
		separate := x.fields && (name == "@" || !quoted)
		if i > 0 {
			if separate {
				x.cells = append(x.cells, cell{0, isBreak})
			} else {
				x.add(sep, flags)
			}
		}
		if quoted && separate {
			x.cells = append(x.cells, cell{0, isNull})
		}
		x.add(p, flags)
	}
}

// cut cuts cells into fields by IFS (POSIX 2.6.5).
func (in *interp) cut(cells []cell) [][]cell {
	ifs, set := in.get("IFS")
	if !set {
		ifs = " \t\n"
	}
	delimiter := func(c cell) (is, blank bool) {
		if c.f&isSplit == 0 || c.f&(isBreak|isNull) != 0 || strings.IndexByte(ifs, c.b) < 0 {
			return false, false
		}
		return true, c.b == ' ' || c.b == '\t' || c.b == '\n'
	}
	var fields [][]cell
	var field []cell
	has := false
	emit := func() {
		fields = append(fields, field)
		field, has = nil, false
	}
	for i := 0; i < len(cells); i++ {
		c := cells[i]
		if c.f&isBreak != 0 {
			if has {
				emit()
			}
			continue
		}
		is, blank := delimiter(c)
		if !is {
			field, has = append(field, c), true
			continue
		}
		if blank {
			for i+1 < len(cells) {
				if is, blank := delimiter(cells[i+1]); !is || !blank {
					break
				}
				i++
			}
			if !has {
				continue
			}
			if i+1 < len(cells) {
				if is, _ := delimiter(cells[i+1]); is { // a delimiter with blanks before it is one
					i++
				}
			}
		}
		emit()
		for i+1 < len(cells) {
			if is, blank := delimiter(cells[i+1]); !is || !blank {
				break
			}
			i++
		}
	}
	if has {
		emit()
	}
	return fields
}

// onlyASCII ends the script where characters and bytes differ: BusyBox on Alpine counts characters.
func (in *interp) onlyASCII(s, where string) {
	if in.Variant == Dash {
		return
	}
	for i := range len(s) {
		if s[i] >= 0x80 {
			in.unserved(where, "text beyond ASCII is not served here")
		}
	}
}
