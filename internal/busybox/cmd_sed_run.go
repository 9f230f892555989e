package busybox

import (
	"bufio"
	"errors"
	"io"
	"strconv"
	"strings"
)

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
