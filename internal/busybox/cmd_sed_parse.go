package busybox

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

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
