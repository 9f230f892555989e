package shell

import (
	"strconv"
	"strings"
)

// echo prints its arguments: dash's reads escapes always and -n alone, the others' take -n, -e and -E.
func echo(in *interp, args []string, _ bool) int {
	args = args[1:]
	newline, escapes := true, in.Variant == Dash
	if in.Variant == Dash {
		if len(args) > 0 && args[0] == "-n" {
			newline, args = false, args[1:]
		}
	} else {
		for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' && strings.Trim(args[0][1:], "neE") == "" {
			for _, f := range args[0][1:] {
				switch f {
				case 'n':
					newline = false
				case 'e':
					escapes = true
				case 'E':
					escapes = false
				}
			}
			args = args[1:]
		}
	}
	text := strings.Join(args, " ")
	if escapes {
		var stop bool
		text, stop = in.unescape(text, true)
		if stop {
			newline = false
		}
	}
	if newline {
		text += "\n"
	}
	return in.write("echo", text)
}

// simpleEscapes are those of all shells.
var simpleEscapes = map[byte]byte{
	'a': '\a', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v', '\\': '\\',
}

// unescape reads the escapes of echo, and of %b; stop says that \c ended the text.
// In the format of printf (arg is false) an octal number has no 0 before it.
func (in *interp) unescape(s string, arg bool) (text string, stop bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		c := s[i]
		if e, ok := simpleEscapes[c]; ok {
			b.WriteByte(e)
			continue
		}
		switch {
		case c == 'c' && arg:
			return b.String(), true
		case c == 'c':
			in.unserved(`\c`, "is not served here")
		case c >= '0' && c <= '7':
			most := 3
			if arg && c == '0' {
				most = 4
			}
			j := i
			for j < len(s) && j < i+most && s[j] >= '0' && s[j] <= '7' {
				j++
			}
			n, _ := strconv.ParseUint(s[i:j], 8, 16)
			b.WriteByte(byte(n))
			i = j - 1
		case c == 'e':
			b.WriteByte(0x1b)
		case c == 'E' && in.Variant == Bash:
			in.unserved(`\E`, "is not served")
		case c == 'x' && in.Variant != Dash:
			j := i + 1
			for j < len(s) && j < i+3 && strings.IndexByte("0123456789abcdefABCDEF", s[j]) >= 0 {
				j++
			}
			if j == i+1 {
				in.unserved(`\x`, "without digits is not served")
			}
			n, _ := strconv.ParseUint(s[i+1:j], 16, 8)
			b.WriteByte(byte(n))
			i = j - 1
		case (c == 'u' || c == 'U') && in.Variant == Bash, c == '"' || c == '\'' || c == '?':
			if in.Variant == Bash || !arg {
				in.unserved(`\`+string(c), "is not served")
			}
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte('\\')
			b.WriteByte(c)
		}
	}
	return b.String(), false
}

// directive is one part of printf's format: text, or a conversion.
type directive struct {
	text  string // already without escapes
	verb  byte   // 0 for text
	flags string
	width int
	prec  int // -1: none
}

// splitFormat takes a format apart. why says what is not served.
func splitFormat(s string) (parts []directive, why string) {
	for s != "" {
		n := strings.IndexByte(s, '%')
		if n < 0 {
			n = len(s)
		}
		if n > 0 {
			parts = append(parts, directive{text: s[:n]})
			s = s[n:]
			continue
		}
		if strings.HasPrefix(s, "%%") {
			parts = append(parts, directive{text: "%"})
			s = s[2:]
			continue
		}
		d := directive{prec: -1}
		i := 1
		for i < len(s) && strings.IndexByte("-0+ #", s[i]) >= 0 {
			i++
		}
		d.flags = s[1:i]
		number := func() int {
			j := i
			for i < len(s) && s[i] >= '0' && s[i] <= '9' {
				i++
			}
			n, err := strconv.Atoi(s[j:i])
			if err != nil && j < i || n > 10000 {
				why = "the width is not served"
			}
			return n
		}
		d.width = number()
		if i < len(s) && s[i] == '.' {
			i++
			d.prec = number()
		}
		if i == len(s) || strings.IndexByte("diouxXscb", s[i]) < 0 {
			return nil, "the conversion " + s[:min(i+1, len(s))] + " is not served"
		}
		d.verb = s[i]
		if strings.IndexByte("scb", d.verb) >= 0 && strings.Trim(d.flags, "-") != "" || strings.ContainsAny(d.flags, "+ #") || d.prec >= 0 && strings.IndexByte("diouxX", d.verb) >= 0 {
			return nil, "the conversion " + s[:i+1] + " is not served"
		}
		parts = append(parts, d)
		s = s[i+1:]
	}
	return parts, why
}

func checkPrintf(_ Variant, args []word) string {
	if len(args) > 0 && args[0].text == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return "a format is missing"
	}
	if !args[0].known {
		return ""
	}
	if strings.HasPrefix(args[0].text, "-") {
		return "a format that begins with - is not served"
	}
	_, why := splitFormat(args[0].text)
	return why
}

func printf(in *interp, args []string, _ bool) int {
	if why := checkPrintf(in.Variant, known(args[1:])); why != "" {
		in.unserved(strings.Join(args, " "), "%s", why)
	}
	args = args[1:]
	if args[0] == "--" {
		args = args[1:]
	}
	parts, _ := splitFormat(args[0])
	for i, p := range parts {
		if p.verb == 0 {
			parts[i].text, _ = in.unescape(p.text, false)
		}
	}
	args = args[1:]
	var out strings.Builder
	for {
		used := false
		for _, p := range parts {
			if p.verb == 0 {
				out.WriteString(p.text)
				continue
			}
			arg, given := "", len(args) > 0
			if given {
				arg, args, used = args[0], args[1:], true
			}
			if in.convert(&out, p, arg, given) {
				return in.write("printf", out.String())
			}
		}
		if !used || len(args) == 0 {
			return in.write("printf", out.String())
		}
	}
}

// convert writes one conversion; stop says that \c ended everything.
func (in *interp) convert(out *strings.Builder, d directive, arg string, given bool) (stop bool) {
	text := arg
	switch d.verb {
	case 's':
	case 'b':
		text, stop = in.unescape(arg, true)
	case 'c':
		if arg == "" {
			in.unserved("printf %c", "of nothing is not served")
		}
		in.onlyASCII(arg, "printf %c")
		text = arg[:1]
	default:
		var n int64
		if given {
			n = in.printfNumber(arg)
		} else if in.Variant == Ash {
			in.unserved("printf %"+string(d.verb), "without a number is not served")
		}
		switch d.verb {
		case 'd', 'i':
			text = strconv.FormatInt(n, 10)
		case 'u':
			text = strconv.FormatUint(uint64(n), 10)
		case 'o':
			text = strconv.FormatUint(uint64(n), 8)
		case 'x':
			text = strconv.FormatUint(uint64(n), 16)
		case 'X':
			text = strings.ToUpper(strconv.FormatUint(uint64(n), 16))
		}
		if strings.Contains(d.flags, "0") && !strings.Contains(d.flags, "-") {
			sign := ""
			if text[0] == '-' {
				sign, text = "-", text[1:]
			}
			text = sign + strings.Repeat("0", max(0, d.width-len(sign)-len(text))) + text
		}
	}
	if d.verb != 'c' && d.prec >= 0 && d.prec < len(text) {
		in.onlyASCII(text, "printf %."+strconv.Itoa(d.prec)+"s")
		text = text[:d.prec]
	}
	if d.width > 0 {
		in.onlyASCII(text, "printf %"+strconv.Itoa(d.width)+"s")
	}
	pad := strings.Repeat(" ", max(0, d.width-len(text)))
	if strings.Contains(d.flags, "-") {
		out.WriteString(text + pad)
	} else {
		out.WriteString(pad + text)
	}
	return stop
}

func (in *interp) printfNumber(s string) int64 {
	if len(s) == 2 && (s[0] == '"' || s[0] == '\'') && s[1] < 0x80 {
		return int64(s[1])
	}
	if s == "" || s[0] == ' ' || strings.TrimSpace(s) != s {
		in.unserved("printf: "+s, "is no number that is served")
	}
	return in.number(s)
}
