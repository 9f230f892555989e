package busybox

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// sedAddress is a line's number, the last line, or a pattern.
type sedAddress struct {
	line int
	last bool
	re   *regexp.Regexp
}

// sedCommand is one command of a script.
type sedCommand struct {
	first, second *sedAddress
	not           bool
	name          byte
	text          string // of a, i, c; label of b, t, :
	re            *regexp.Regexp
	with          []sedPart // of s
	global, print bool
	nth           int
	from, to      string // of y
	jump          int    // of b, t, {: the command to go on with

	active bool // within its range
}

// sedPart is a part of a replacement: text, or the group of a number.
type sedPart struct {
	text  string
	group int // -1: text
}

// sedArgs are sed's arguments: [-n] [-E|-r] [-i[SUFFIX]] [-e SCRIPT]... [SCRIPT] [FILE]...
type sedArgs struct {
	quiet, extended, inPlace bool
	suffix                   string
	script                   string
	names                    []string
}

func parseSedArgs(args []string) (a sedArgs, err error) {
	var scripts []string
	given, options := false, true
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case !options || arg == "-" || !strings.HasPrefix(arg, "-"):
			a.names = append(a.names, arg)
			continue
		case arg == "--":
			options = false
			continue
		case arg == "--quiet" || arg == "--silent":
			a.quiet = true
			continue
		case arg == "--regexp-extended":
			a.extended = true
			continue
		case strings.HasPrefix(arg, "--expression="):
			scripts, given = append(scripts, arg[len("--expression="):]), true
			continue
		case arg == "--in-place":
			a.inPlace = true
			continue
		case strings.HasPrefix(arg, "--"):
			return a, fmt.Errorf("the option %s is not served", arg)
		}
	letters:
		for i := 1; i < len(arg); i++ {
			switch arg[i] {
			case 'n':
				a.quiet = true
			case 'E', 'r':
				a.extended = true
			case 'i':
				a.inPlace, a.suffix = true, arg[i+1:]
				break letters
			case 'e':
				text := arg[i+1:]
				if text == "" {
					if len(args) == 0 {
						return a, errors.New("-e without a script")
					}
					text, args = args[0], args[1:]
				}
				scripts, given = append(scripts, text), true
				break letters
			default:
				return a, fmt.Errorf("the option -%c is not served", arg[i])
			}
		}
	}
	if !given {
		if len(a.names) == 0 {
			return a, errors.New("without a script")
		}
		scripts, a.names = a.names[:1], a.names[1:]
	}
	if strings.ContainsAny(a.suffix, "*/") || a.inPlace && (len(a.names) == 0 || slices.Contains(a.names, "-")) {
		return a, errors.New("-i of this is not served")
	}
	a.script = strings.Join(scripts, "\n")
	return a, nil
}

func checkSed(v Variant, args []Value) string {
	texts, all := known(args)
	if !all {
		return ""
	}
	a, err := parseSedArgs(texts)
	var commands []*sedCommand
	if err == nil {
		commands, err = parseSed(a.script, a.extended)
	}
	if err == nil {
		err = sedUnserved(v, commands)
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// sedUnserved says what BusyBox's does in ways of its own: after the first match ^ matches again, an empty match is counted in another
// way, and a range of numbers begins at a line that n has passed over.
func sedUnserved(v Variant, commands []*sedCommand) error {
	if v != Alpine {
		return nil
	}
	passes := slices.ContainsFunc(commands, func(c *sedCommand) bool { return c.name == 'n' || c.name == 'N' })
	for _, c := range commands {
		if c.re != nil && (c.global || c.nth > 0) && strings.Contains(strings.ReplaceAll(c.re.String(), "[^", ""), "^") {
			return errors.New("^ in s with g or a number is not served")
		}
		if c.nth > 0 && c.re.MatchString("") {
			return errors.New("s with a number, of what may be empty, is not served")
		}
		if passes && c.second != nil && c.first.line > 0 {
			return errors.New("a range of lines beside n or N is not served")
		}
	}
	return nil
}

// sedParser reads a script.
type sedParser struct {
	s        string
	extended bool
	all      []*sedCommand
	open     []int // of {
}

func parseSed(script string, extended bool) ([]*sedCommand, error) {
	p := &sedParser{s: script, extended: extended}
	for {
		p.s = strings.TrimLeft(p.s, " \t\n;")
		if p.s == "" {
			break
		}
		if err := p.command(); err != nil {
			return nil, err
		}
	}
	if len(p.open) > 0 {
		return nil, errors.New("{ without }")
	}
	labels := map[string]int{}
	for i, c := range p.all {
		if c.name == ':' {
			labels[c.text] = i
		}
	}
	for _, c := range p.all {
		if c.name == 'b' || c.name == 't' {
			c.jump = len(p.all)
			if c.text != "" {
				at, ok := labels[c.text]
				if !ok {
					return nil, fmt.Errorf("the label %s is missing", c.text)
				}
				c.jump = at
			}
		}
	}
	return p.all, nil
}

func (p *sedParser) blanks() { p.s = strings.TrimLeft(p.s, " \t") }

func (p *sedParser) address() (*sedAddress, error) {
	switch {
	case p.s == "":
		return nil, nil
	case p.s[0] == '$':
		p.s = p.s[1:]
		return &sedAddress{last: true}, nil
	case p.s[0] >= '0' && p.s[0] <= '9':
		n := 0
		for n < len(p.s) && p.s[n] >= '0' && p.s[n] <= '9' {
			n++
		}
		line, err := strconv.Atoi(p.s[:n])
		p.s = p.s[n:]
		if err != nil || line < 1 || strings.HasPrefix(p.s, "~") {
			return nil, errors.New("the address is not served")
		}
		return &sedAddress{line: line}, nil
	case p.s[0] == '/':
		p.s = p.s[1:]
		text, err := p.delimited('/', true)
		if err != nil {
			return nil, err
		}
		fold := strings.HasPrefix(p.s, "I")
		p.s = strings.TrimPrefix(p.s, "I")
		if text == "" {
			return nil, errors.New("an empty expression is not served")
		}
		re, err := posixRegexp(text, p.extended, fold)
		return &sedAddress{re: re}, err
	case p.s[0] == '\\':
		return nil, errors.New("the address is not served")
	}
	return nil, nil
}

// delimited reads up to a delimiter. In an expression a set may hold it.
func (p *sedParser) delimited(end byte, expression bool) (string, error) {
	var out strings.Builder
	for i := 0; i < len(p.s); i++ {
		c := p.s[i]
		switch {
		case c == end:
			p.s = p.s[i+1:]
			return out.String(), nil
		case c == '\n' && expression:
			return "", errors.New("a newline in an expression is not served")
		case c == '\\' && i+1 < len(p.s):
			i++
			if p.s[i] != end {
				out.WriteByte('\\')
			} else if end != '/' && end != ',' && end != '#' && end != ':' && end != '@' && end != '%' && end != '!' && end != '_' {
				return "", errors.New("the delimiter is not served") // it may mean something to the expression
			}
			out.WriteByte(p.s[i])
		case c == '[' && expression:
			_, n, err := bracketToGo(p.s[i:])
			if err != nil {
				return "", err
			}
			out.WriteString(p.s[i : i+n])
			i += n - 1
		default:
			out.WriteByte(c)
		}
	}
	return "", errors.New("a delimiter is missing")
}

func (p *sedParser) command() error {
	c := &sedCommand{}
	var err error
	if c.first, err = p.address(); err != nil {
		return err
	}
	p.blanks()
	if c.first != nil && strings.HasPrefix(p.s, ",") {
		p.s = p.s[1:]
		p.blanks()
		if c.second, err = p.address(); err != nil {
			return err
		}
		if c.second == nil {
			return errors.New("the address is not served")
		}
		p.blanks()
	}
	if strings.HasPrefix(p.s, "!") {
		c.not, p.s = true, p.s[1:]
		p.blanks()
	}
	if p.s == "" {
		return errors.New("a command is missing")
	}
	c.name, p.s = p.s[0], p.s[1:]
	p.all = append(p.all, c)
	switch c.name {
	case '{':
		p.open = append(p.open, len(p.all)-1)
		return nil
	case '}':
		if c.first != nil || len(p.open) == 0 {
			return errors.New("an unexpected }")
		}
		at := p.open[len(p.open)-1]
		p.open = p.open[:len(p.open)-1]
		p.all[at].jump = len(p.all) - 1
	case 's':
		err = p.substitution(c)
	case 'y':
		err = p.transliteration(c)
	case 'a', 'i', 'c':
		return p.insertion(c)
	case ':', 'b', 't':
		p.blanks()
		n := strings.IndexAny(p.s, "\n;}")
		if n < 0 {
			n = len(p.s)
		}
		if n < len(p.s) && p.s[n] != '\n' && c.name == ':' && p.s[n] == '}' {
			return errors.New("the label is not served")
		}
		c.text, p.s = strings.TrimSpace(p.s[:n]), p.s[n:]
		if c.name == ':' && (c.text == "" || c.first != nil) {
			return errors.New("the label is not served")
		}
	case 'p', 'd', 'n', 'N', 'g', 'G', 'h', 'H', 'x', '=', 'P', 'D':
	case 'q':
		if c.second != nil {
			return errors.New("q takes one address")
		}
	default:
		return fmt.Errorf("the command %c is not served", c.name)
	}
	if err != nil {
		return err
	}
	p.blanks()
	if p.s != "" && strings.IndexByte("\n;}", p.s[0]) < 0 {
		return fmt.Errorf("what follows %c is not served", c.name)
	}
	return nil
}

func (p *sedParser) substitution(c *sedCommand) error {
	if p.s == "" {
		return errors.New("s is not complete")
	}
	end := p.s[0]
	if end == '\\' || end == '\n' || end == ';' || end >= 0x80 {
		return errors.New("the delimiter is not served")
	}
	p.s = p.s[1:]
	text, err := p.delimited(end, true)
	if err != nil {
		return err
	}
	with, err := p.delimitedReplacement(end)
	if err != nil {
		return err
	}
	fold := false
flags:
	for p.s != "" {
		switch f := p.s[0]; {
		case f == 'g':
			c.global = true
		case f == 'p':
			c.print = true
		case f == 'I' || f == 'i':
			fold = true
		case f >= '1' && f <= '9' && c.nth == 0:
			c.nth = int(f - '0')
			if len(p.s) > 1 && p.s[1] >= '0' && p.s[1] <= '9' {
				return errors.New("the number of s is not served")
			}
		case strings.IndexByte(" \t\n;}", f) >= 0:
			break flags
		default:
			return fmt.Errorf("the flag %c of s is not served", f)
		}
		p.s = p.s[1:]
	}
	if text == "" || c.global && c.nth > 0 {
		return errors.New("s of this is not served")
	}
	if c.re, err = posixRegexp(text, p.extended, fold); err != nil {
		return err
	}
	c.with = with
	for _, part := range with {
		if part.group > c.re.NumSubexp() {
			return fmt.Errorf(`\%d has no group`, part.group)
		}
	}
	return nil
}

// delimitedReplacement reads the second part of s.
func (p *sedParser) delimitedReplacement(end byte) ([]sedPart, error) {
	var parts []sedPart
	var text strings.Builder
	add := func(group int) {
		if text.Len() > 0 {
			parts = append(parts, sedPart{text.String(), -1})
			text.Reset()
		}
		if group >= 0 {
			parts = append(parts, sedPart{"", group})
		}
	}
	for i := 0; i < len(p.s); i++ {
		c := p.s[i]
		switch {
		case c == end:
			p.s = p.s[i+1:]
			add(-1)
			return parts, nil
		case c == '&':
			add(0)
		case c == '\n':
			return nil, errors.New("a newline in s is not served")
		case c == '\\' && i+1 < len(p.s):
			i++
			switch e := p.s[i]; {
			case e >= '1' && e <= '9':
				add(int(e - '0'))
			case e == 'n':
				text.WriteByte('\n')
			case e == 't':
				text.WriteByte('\t')
			case e == '\n' || e == end || strings.IndexByte(`&\/."'-|$^*[]`, e) >= 0:
				text.WriteByte(e)
			default:
				return nil, fmt.Errorf(`\%c is not served in s`, e)
			}
		default:
			text.WriteByte(c)
		}
	}
	return nil, errors.New("a delimiter is missing")
}

func (p *sedParser) transliteration(c *sedCommand) error {
	if p.s == "" || p.s[0] != '/' {
		return errors.New("the delimiter is not served")
	}
	p.s = p.s[1:]
	var err error
	if c.from, err = p.delimited('/', false); err == nil {
		c.to, err = p.delimited('/', false)
	}
	if err == nil && (len(c.from) != len(c.to) || strings.ContainsAny(c.from+c.to, "\\\n") || !ascii(c.from+c.to)) {
		err = errors.New("y of these sets is not served")
	}
	return err
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// insertion reads the text of a, i and c: after a backslash and a newline, or GNU's and BusyBox's on the same line.
func (p *sedParser) insertion(c *sedCommand) error {
	if c.name == 'c' && (c.second != nil || c.not) {
		return errors.New("c of a range is not served")
	}
	p.blanks()
	if strings.HasPrefix(p.s, "\\\n") {
		p.s = p.s[2:]
	} else if strings.HasPrefix(p.s, "\\") {
		p.s = p.s[1:]
	}
	text, rest, _ := strings.Cut(p.s, "\n")
	if text == "" || strings.ContainsAny(text, "\\") || strings.HasPrefix(text, " ") || strings.HasPrefix(text, "\t") || len(p.open) > 0 {
		return fmt.Errorf("the text of %c is not served", c.name)
	}
	c.text, p.s = text+"\n", rest
	return nil
}

// sedRun is one run over a list of inputs.
type sedRun struct {
	c        *call
	commands []*sedCommand
	quiet    bool
	out      io.Writer

	in      *bufio.Reader
	more    func() *bufio.Reader // the next input; nil: none
	number  int
	space   string // without its newline
	ended   bool   // the line has a newline
	hold    string
	after   []string
	quit    bool
	changed bool // for t
	cut     bool // the last line written had no newline
}

func sed(c *call) int {
	a, err := parseSedArgs(c.args[1:])
	if err != nil {
		return c.unserved("%v", err)
	}
	commands, err := parseSed(a.script, a.extended)
	if err == nil {
		err = sedUnserved(c.variant(), commands)
	}
	if err != nil {
		return c.unserved("%v", err)
	}
	if !a.inPlace {
		return c.sedStream(commands, a)
	}
	code := 0
	for _, name := range a.names {
		if err := c.sedFile(name, a); err != nil {
			code = c.fail(4, "can't read %s: %s", name, why(err))
			if c.variant() == Alpine {
				code = 1
			}
		}
	}
	return code
}

// sedFile edits a file in its place: it is written beside it and renamed, with the mode and the owner of the old one.
func (c *call) sedFile(name string, a sedArgs) error {
	commands, err := parseSed(a.script, a.extended)
	if err != nil {
		return err
	}
	path := c.abs(name)
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		c.unserved("-i of what is no regular file is not served")
	}
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(path), "sed*")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name()) // it has been renamed where all went well
	buffered := bufio.NewWriter(out)
	run := &sedRun{c: c, commands: commands, quiet: a.quiet, out: buffered, in: bufio.NewReader(in), more: func() *bufio.Reader { return nil }}
	if err := run.run(); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	if uid, gid, ok := ownerOf(info); ok {
		if err := os.Chown(out.Name(), uid, gid); err != nil {
			return err
		}
	}
	if err := out.Chmod(info.Mode()); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	if a.suffix != "" {
		if err := os.Rename(path, path+a.suffix); err != nil {
			return err
		}
	}
	return os.Rename(out.Name(), path)
}

func (c *call) sedStream(commands []*sedCommand, a sedArgs) int {
	names, code := a.names, 0
	if len(names) == 0 {
		names = []string{"-"}
	}
	run := &sedRun{c: c, commands: commands, quiet: a.quiet, out: c.stdout}
	run.more = func() *bufio.Reader {
		for len(names) > 0 {
			name := names[0]
			names = names[1:]
			r, err := c.open(name)
			if err == nil {
				return bufio.NewReaderSize(r, 4096)
			}
			code = c.fail(2, "can't read %s: %s", name, why(err))
			if c.variant() == Alpine {
				code = 1
			}
		}
		return nil
	}
	run.in = run.more()
	if run.in == nil {
		return code
	}
	if err := run.run(); err != nil {
		return c.unserved("%v", err)
	}
	return code
}

// read reads the next line into the pattern space; false at the end.
func (r *sedRun) read() (line string, ok bool, err error) {
	for r.in != nil {
		text, err := r.in.ReadString('\n')
		if text != "" {
			if err != nil && err != io.EOF {
				return "", false, err
			}
			line, r.ended = strings.CutSuffix(text, "\n")
			r.number++
			return line, true, nil
		}
		if err != io.EOF {
			return "", false, err
		}
		r.in = r.more()
	}
	return "", false, nil
}

// isLast reports whether no line follows.
func (r *sedRun) isLast() bool {
	for r.in != nil {
		if _, err := r.in.Peek(1); err == nil {
			return false
		}
		r.in = r.more()
	}
	return true
}

func (r *sedRun) write(text string, ended bool) {
	if r.cut { // a line without a newline is followed by more
		io.WriteString(r.out, "\n")
	}
	io.WriteString(r.out, text)
	if ended {
		io.WriteString(r.out, "\n")
	}
	r.cut = !ended
}

func (r *sedRun) flushAfter() {
	for _, text := range r.after {
		r.write(strings.TrimSuffix(text, "\n"), true)
	}
	r.after = nil
}

// endCycle prints what is printed at the end of a cycle.
func (r *sedRun) endCycle() {
	if !r.quiet {
		r.write(r.space, r.ended)
	}
	r.flushAfter()
}

func (r *sedRun) run() error {
	restart := false
	for !r.quit {
		if !restart {
			line, ok, err := r.read()
			if err != nil || !ok {
				return err
			}
			r.space = line
		}
		var err error
		if restart, err = r.cycle(); err != nil {
			return err
		}
	}
	return nil
}

// cycle runs the commands over the pattern space. restart says that the next cycle reads no line.
func (r *sedRun) cycle() (restart bool, err error) {
	r.changed = false
	for i := 0; i < len(r.commands); i++ {
		c := r.commands[i]
		if c.name == '}' || c.name == ':' {
			continue
		}
		if r.selects(c) == c.not {
			if c.name == '{' {
				i = c.jump
			}
			continue
		}
		switch c.name {
		case 's':
			r.substitute(c)
		case 'y':
			r.space = strings.Map(func(x rune) rune {
				if at := strings.IndexRune(c.from, x); at >= 0 {
					return rune(c.to[at])
				}
				return x
			}, r.space)
		case 'p':
			r.write(r.space, true)
		case 'P':
			first, _, _ := strings.Cut(r.space, "\n")
			r.write(first, true)
		case '=':
			r.write(strconv.Itoa(r.number), true)
		case 'd':
			r.flushAfter()
			return false, nil
		case 'D':
			_, rest, has := strings.Cut(r.space, "\n")
			if !has {
				r.flushAfter()
				return false, nil
			}
			r.space = rest
			r.flushAfter()
			return true, nil
		case 'a':
			r.after = append(r.after, c.text)
		case 'i':
			r.write(strings.TrimSuffix(c.text, "\n"), true)
		case 'c':
			r.write(strings.TrimSuffix(c.text, "\n"), true)
			r.flushAfter()
			return false, nil
		case 'g':
			r.space = r.hold
		case 'G':
			r.space += "\n" + r.hold
		case 'h':
			r.hold = r.space
		case 'H':
			r.hold += "\n" + r.space
		case 'x':
			r.space, r.hold = r.hold, r.space
		case 'n', 'N':
			if r.isLast() { // GNU prints the pattern space and ends, POSIX does not print it for N
				if c.name == 'N' && r.c.variant() == Alpine || !r.ended {
					r.c.unserved("%c at the last line is not served", c.name)
				}
				r.endCycle()
				r.quit = true
				return false, nil
			}
			if c.name == 'n' && !r.quiet {
				r.write(r.space, r.ended)
			}
			r.flushAfter()
			line, _, err := r.read()
			if err != nil {
				return false, err
			}
			if c.name == 'n' {
				r.space = line
			} else {
				r.space += "\n" + line
			}
		case 'q':
			r.endCycle()
			r.quit = true
			return false, nil
		case 'b':
			i = c.jump - 1
		case 't':
			if r.changed {
				r.changed = false
				i = c.jump - 1
			}
		}
		if len(r.space) > maxLine {
			return false, errors.New("the pattern space is too large")
		}
	}
	r.endCycle()
	return false, nil
}

func (r *sedRun) matches(a *sedAddress) bool {
	switch {
	case a.last:
		return r.isLast()
	case a.re != nil:
		return r.matchable() && a.re.MatchString(r.space)
	}
	return a.line == r.number
}

// matchable ends what holds text beyond ASCII: a dot is a byte to one sed and a character to the other.
func (r *sedRun) matchable() bool {
	if !ascii(r.space) {
		r.c.unserved("text beyond ASCII is not served")
	}
	return true
}

// selects reports whether the addresses of a command hold the line.
func (r *sedRun) selects(c *sedCommand) bool {
	switch {
	case c.first == nil:
		return true
	case c.second == nil:
		return r.matches(c.first)
	case c.active:
		if c.second.line > 0 {
			if r.number >= c.second.line {
				c.active = false
			}
			return r.number <= c.second.line
		}
		c.active = !r.matches(c.second)
		return true
	case !r.matches(c.first):
		return false
	}
	c.active = c.second.line == 0 || c.second.line > r.number
	if c.second.last && r.isLast() {
		c.active = false
	}
	return true
}

// substitute is s. An empty match right after another one does not count.
func (r *sedRun) substitute(c *sedCommand) {
	r.matchable()
	var out strings.Builder
	at, n, done := 0, 0, false
	for _, m := range c.re.FindAllStringSubmatchIndex(r.space, -1) {
		if n++; c.nth > 0 && n != c.nth || done {
			continue
		}
		out.WriteString(r.space[at:m[0]])
		for _, part := range c.with {
			if part.group < 0 {
				out.WriteString(part.text)
			} else if m[2*part.group] >= 0 {
				out.WriteString(r.space[m[2*part.group]:m[2*part.group+1]])
			}
		}
		at = m[1]
		r.changed = true
		done = !c.global
	}
	if at == 0 && out.Len() == 0 && !done && n == 0 {
		return
	}
	replaced := done || c.global && n > 0
	if !replaced {
		return
	}
	r.space = out.String() + r.space[at:]
	if c.print {
		r.write(r.space, true)
	}
}
