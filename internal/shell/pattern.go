package shell

import (
	"os"
	"slices"
	"strings"
)

// matches reports whether all of s matches a pattern.
func (in *interp) matches(pattern []cell, s string) bool {
	p := make([]cell, 0, len(pattern))
	special := false
	for _, c := range pattern {
		if c.f&(isBreak|isNull) != 0 {
			continue
		}
		if c.f&isQuoted == 0 {
			switch c.b {
			case '\\':
				in.unserved(string(bytesOf(pattern)), "a backslash in a pattern that an expansion gave is not served")
			case '?', '[':
				special = true
			}
		}
		p = append(p, c)
	}
	if special {
		in.onlyASCII(s, string(bytesOf(pattern)))
	}
	return in.match(p, s)
}

// match matches byte by byte; p holds cells with bytes alone.
func (in *interp) match(p []cell, s string) bool {
	// Where a star stood, and what it has taken so far: only the last one needs to be tried again.
	star, taken := -1, 0
	i, j := 0, 0
	for j < len(s) {
		if i < len(p) {
			c := p[i]
			switch {
			case c.f&isQuoted != 0:
				if c.b == s[j] {
					i, j = i+1, j+1
					continue
				}
			case c.b == '*':
				star, taken = i, j
				i++
				continue
			case c.b == '?':
				i, j = i+1, j+1
				continue
			case c.b == '[':
				if n, ok, set := in.bracket(p[i:], s[j]); set {
					if ok {
						i, j = i+n, j+1
						continue
					}
					break
				}
				fallthrough
			default:
				if c.b == s[j] {
					i, j = i+1, j+1
					continue
				}
			}
		}
		if star < 0 {
			return false
		}
		taken++
		i, j = star+1, taken
	}
	for i < len(p) && p[i].f&isQuoted == 0 && p[i].b == '*' {
		i++
	}
	return i == len(p)
}

// bracket matches a byte with [set]: n are the cells of the set; set is false where there is none.
func (in *interp) bracket(p []cell, b byte) (n int, ok, set bool) {
	i := 1
	plain := func(i int, c byte) bool { return i < len(p) && p[i].f&isQuoted == 0 && p[i].b == c }
	negated := plain(i, '!') || in.Variant != Dash && plain(i, '^')
	if negated {
		i++
	}
	for first := true; i < len(p); first = false {
		if plain(i, ']') && !first {
			return i + 1, ok != negated, true
		}
		if plain(i, '[') && i+1 < len(p) && (p[i+1].b == ':' || p[i+1].b == '.' || p[i+1].b == '=') {
			end := strings.Index(string(bytesOf(p[i:])), ":]")
			if p[i+1].b != ':' || end < 0 {
				in.unserved(string(bytesOf(p)), "is not served in a pattern")
			}
			fn := classes[string(bytesOf(p[i+2:i+end]))]
			if fn == nil {
				in.unserved(string(bytesOf(p)), "is not served in a pattern")
			}
			ok = ok || fn(b)
			i += end + 2
			continue
		}
		low := p[i].b
		if i+2 < len(p) && plain(i+1, '-') && !plain(i+2, ']') {
			ok = ok || low <= b && b <= p[i+2].b
			i += 3
			continue
		}
		ok = ok || low == b
		i++
	}
	return 0, false, false
}

// classes are the character classes of ASCII.
var classes = map[string]func(byte) bool{
	"alpha": func(b byte) bool { return b|0x20 >= 'a' && b|0x20 <= 'z' },
	"digit": func(b byte) bool { return b >= '0' && b <= '9' },
	"alnum": func(b byte) bool { return b|0x20 >= 'a' && b|0x20 <= 'z' || b >= '0' && b <= '9' },
	"upper": func(b byte) bool { return b >= 'A' && b <= 'Z' },
	"lower": func(b byte) bool { return b >= 'a' && b <= 'z' },
	"space": func(b byte) bool { return b == ' ' || b >= '\t' && b <= '\r' },
	"blank": func(b byte) bool { return b == ' ' || b == '\t' },
	"punct": func(b byte) bool {
		return b > ' ' && b < 0x7f && !(b|0x20 >= 'a' && b|0x20 <= 'z' || b >= '0' && b <= '9')
	},
	"xdigit": func(b byte) bool { return b >= '0' && b <= '9' || b|0x20 >= 'a' && b|0x20 <= 'f' },
}

// glob is the names of the files that a field matches, sorted by bytes, or the field itself.
func (in *interp) glob(field []cell) []string {
	plain := string(bytesOf(field))
	special, backslash, bracket := false, false, false
	var cells []cell
	for _, c := range field {
		if c.f&(isBreak|isNull) != 0 {
			continue
		}
		cells = append(cells, c)
		if c.f&isQuoted == 0 {
			special = special || c.b == '*' || c.b == '?'
			bracket = bracket || c.b == '['
			special = special || bracket && c.b == ']'
			backslash = backslash || c.b == '\\'
		}
	}
	if !special || in.opts['f'] {
		return []string{plain}
	}
	if backslash {
		in.unserved(plain, "a backslash in a pattern that an expansion gave is not served")
	}
	var parts [][]cell // between slashes
	var seps []string
	var part []cell
	for i := 0; i < len(cells); i++ {
		if cells[i].b != '/' {
			part = append(part, cells[i])
			continue
		}
		sep := ""
		for ; i < len(cells) && cells[i].b == '/'; i++ {
			sep += "/"
		}
		i--
		parts, seps, part = append(parts, part), append(seps, sep), nil
	}
	parts, seps = append(parts, part), append(seps, "")
	found := in.globParts("", parts, seps)
	if len(found) == 0 {
		return []string{plain}
	}
	slices.Sort(found)
	return found
}

func (in *interp) globParts(prefix string, parts [][]cell, seps []string) []string {
	if len(parts) == 0 {
		return []string{prefix}
	}
	part, rest, sep := parts[0], parts[1:], seps[0]
	special := slices.ContainsFunc(part, func(c cell) bool { return c.f&isQuoted == 0 && strings.IndexByte("*?[", c.b) >= 0 })
	if !special {
		name := prefix + string(bytesOf(part))
		if name != "" || sep != "" {
			if _, err := os.Lstat(in.abs(name + sep)); err != nil {
				return nil
			}
		}
		return in.globParts(name+sep, rest, seps[1:])
	}
	dir := prefix
	if dir == "" {
		dir = "."
	}
	entries, err := os.ReadDir(in.abs(dir))
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if part[0].b == '.' {
		names = append(names, ".", "..")
	}
	var found []string
	for _, name := range names {
		if name[0] == '.' && part[0].b != '.' || !in.matches(part, name) {
			continue
		}
		if sep != "" {
			info, err := os.Stat(in.abs(prefix + name))
			if err != nil || !info.IsDir() {
				continue
			}
		}
		found = append(found, in.globParts(prefix+name+sep, rest, seps[1:])...)
	}
	return found
}
