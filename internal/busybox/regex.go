package busybox

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// posixRegexp compiles a regular expression of POSIX, basic or extended, with GNU's \| \+ \? in basic ones. What grep and sed of an
// image would read in another way is an error.
func posixRegexp(p string, extended, fold bool) (*regexp.Regexp, error) {
	text, err := posixToGo(p, extended)
	if err != nil {
		return nil, fmt.Errorf("the expression %s: %w", p, err)
	}
	flags := "(?s)"
	if fold {
		flags = "(?si)"
	}
	re, err := regexp.Compile(flags + text)
	if err != nil {
		return nil, fmt.Errorf("the expression %s is not served", p)
	}
	re.Longest() // of alternatives POSIX takes the longest
	return re, nil
}

// plainEscapes are characters that a backslash makes plain in every dialect.
const plainEscapes = `.[]*^$/\-"&%@!#,:;=_~`

func posixToGo(p string, extended bool) (string, error) {
	var out strings.Builder
	start := true // of the expression, a group or an alternative
	for i := 0; i < len(p); i++ {
		c := p[i]
		was := start
		start = false
		switch {
		case c >= 0x80:
			return "", errors.New("text beyond ASCII is not served")
		case c == '\\':
			i++
			if i == len(p) {
				return "", errors.New("a backslash ends it")
			}
			switch e := p[i]; {
			case strings.IndexByte("(){}|+?", e) >= 0:
				if extended {
					out.WriteString(`\` + string(e))
					continue
				}
				if was && (e == '+' || e == '?' || e == '{') {
					return "", errors.New("a repetition of nothing")
				}
				out.WriteByte(e)
				start = e == '(' || e == '|'
			case e == 'n':
				out.WriteString(`\n`)
			case strings.IndexByte(plainEscapes, e) >= 0:
				out.WriteString(regexp.QuoteMeta(string(e)))
			default:
				return "", fmt.Errorf(`the escape \%c is not served`, e)
			}
		case c == '[':
			set, n, err := bracketToGo(p[i:])
			if err != nil {
				return "", err
			}
			out.WriteString(set)
			i += n - 1
		case extended:
			if was && strings.IndexByte("*+?{", c) >= 0 {
				return "", errors.New("a repetition of nothing")
			}
			out.WriteByte(c)
			start = c == '(' || c == '|' || c == '^'
		case c == '*' && was:
			out.WriteString(`\*`)
		case c == '^' && !was, c == '$' && i+1 < len(p) && !strings.HasPrefix(p[i+1:], `\)`) && !strings.HasPrefix(p[i+1:], `\|`),
			strings.IndexByte("(){}|+?", c) >= 0:
			out.WriteString(`\` + string(c))
		default:
			out.WriteByte(c)
			start = c == '^'
		}
	}
	return out.String(), nil
}

// bracketToGo turns a set at the start of p into Go's syntax; n is its length.
func bracketToGo(p string) (set string, n int, err error) {
	var out strings.Builder
	out.WriteByte('[')
	i := 1
	if i < len(p) && p[i] == '^' {
		out.WriteByte('^')
		i++
	}
	for first := true; i < len(p); first = false {
		c := p[i]
		switch {
		case c == ']' && !first:
			return out.String() + "]", i + 1, nil
		case c >= 0x80:
			return "", 0, errors.New("text beyond ASCII is not served")
		case c == '[' && i+1 < len(p) && p[i+1] == ':':
			end := strings.Index(p[i:], ":]")
			if end < 0 || trClasses[p[i+2:i+end]] == "" && p[i+2:i+end] != "xdigit" {
				return "", 0, errors.New("a class of characters is not served")
			}
			out.WriteString(p[i : i+end+2])
			i += end + 2
			continue
		case c == '[' && i+1 < len(p) && (p[i+1] == '.' || p[i+1] == '='):
			return "", 0, errors.New("a class of characters is not served")
		case c == '\\' && i+1 < len(p) && p[i+1] == 'n': // GNU's sed reads a newline, POSIX has two characters
			return "", 0, errors.New(`\n in a set is not served`)
		case strings.IndexByte(`\[]^&~`, c) >= 0:
			out.WriteByte('\\')
		}
		out.WriteByte(c)
		i++
	}
	return "", 0, errors.New("a set does not end")
}
