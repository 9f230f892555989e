package gnumake

import "strings"

// expand replaces the references and calls in a text.
func (k *maker) expand(s string) string {
	if strings.IndexByte(s, '$') < 0 {
		return s
	}
	if k.depth++; k.depth > maxDepth {
		k.depth = 0
		k.unserved(nil, "expansions are within each other too deep")
	}
	defer func() { k.depth-- }()
	var b strings.Builder
	for {
		at := strings.IndexByte(s, '$')
		if at < 0 {
			b.WriteString(s)
			break
		}
		b.WriteString(s[:at])
		s = s[at+1:]
		if s == "" {
			break
		}
		c := s[0]
		switch {
		case c == '$':
			b.WriteByte('$')
			s = s[1:]
		case c == '(' || c == '{':
			var out string
			out, s = k.reference(s)
			b.WriteString(out)
		case isSpace(c):
			b.WriteByte(c)
			s = s[1:]
		default:
			b.WriteString(k.expandVar(s[:1]))
			s = s[1:]
		}
		if b.Len() > maxText {
			k.unserved(nil, "an expansion has more than %d bytes", maxText)
		}
	}
	k.count(b.Len())
	return b.String()
}

// count bounds what all expansions make together.
func (k *maker) count(n int) {
	if k.total += n; k.total > maxTotal {
		k.unserved(nil, "the expansions have more than %d bytes", maxTotal)
	}
}

// reference expands what begins with a parenthesis or a brace, and gives what follows it.
func (k *maker) reference(s string) (out, rest string) {
	open, end := s[0], byte(')')
	if open == '{' {
		end = '}'
	}
	if out, rest, ok := k.call(s[1:], open, end); ok {
		return out, rest
	}
	body := s[1:]
	close := strings.IndexByte(body, end)
	if close < 0 {
		k.fatal(k.where(), "unterminated variable reference")
	}
	if strings.IndexByte(body[:close], '$') >= 0 {
		depth := 0
		close = len(body)
		for i := 0; i < len(body); i++ {
			if body[i] == open {
				depth++
			} else if body[i] == end {
				if depth--; depth < 0 {
					close = i
					break
				}
			}
		}
		if close == len(body) {
			k.fatal(k.where(), "unterminated variable reference")
		}
		return k.named(k.expand(body[:close])), body[close+1:]
	}
	return k.named(body[:close]), body[close+1:]
}

// named is the value of NAME or of NAME:A=B.
func (k *maker) named(name string) string {
	colon := strings.IndexByte(name, ':')
	if colon < 0 {
		return k.expandVar(name)
	}
	from, to, ok := strings.Cut(name[colon+1:], "=")
	if !ok {
		return k.expandVar(name)
	}
	value := k.expandVar(name[:colon])
	if value == "" {
		return ""
	}
	if k.Judge.unknown(value) {
		return Unknown
	}
	if _, _, _, isPattern := percent(from); isPattern {
		return patsubst(from, to, value)
	}
	list := words(value)
	for i, w := range list {
		if rest, ok := strings.CutSuffix(w, from); ok {
			list[i] = rest + to
		}
	}
	return joinWords(list)
}

// expandVar is the value of a variable.
func (k *maker) expandVar(name string) string {
	v := k.lookup(name)
	if v == nil {
		k.undefined(name)
		return ""
	}
	if v.value == "" && !v.appends {
		return ""
	}
	return k.valueOf(v)
}

// where is the line that errors of an expansion name: that of the variable that is being expanded.
func (k *maker) where() *Location {
	if k.varLoc != nil {
		return k.varLoc
	}
	return k.loc
}

// undefined warns of a variable that is not defined.
func (k *maker) undefined(name string) {
	if k.opts.warnUndefined && name != "MAKECMDGOALS" && name != "MAKE_RESTARTS" && name != "MAKE_TERMOUT" &&
		name != "MAKE_TERMERR" && name != "MAKEOVERRIDES" && name != ".DEFAULT" && name != "-*-command-variables-*-" && name != "-*-eval-flags-*-" {
		k.warn(k.loc, "warning: undefined variable '%s'", name)
	}
}

// valueOf expands a variable.
func (k *maker) valueOf(v *variable) string {
	if !v.recursive && !v.appends {
		return v.value
	}
	if v.expanding > 0 {
		if v.callable <= 0 {
			at := k.loc
			if v.loc != nil {
				at = v.loc
			}
			k.fatal(at, "Recursive variable '%s' references itself (eventually)", v.name)
		}
		v.callable--
	}
	at := k.varLoc
	if v.loc != nil {
		k.varLoc = v.loc
	}
	v.expanding++
	defer func() { v.expanding--; k.varLoc = at }()
	if v.appends {
		return k.appended(v)
	}
	return k.expand(v.value)
}

// appended is the value of a variable that a target adds to those of the scopes above.
func (k *maker) appended(v *variable) string {
	parent, found := false, false
	above := ""
	for s := k.scope; s != nil; s = s.next {
		if !found {
			found = s.set.vars[v.name] == v
			parent = parent || found && s.inherits
			continue
		}
		if o := s.set.vars[v.name]; o != nil && !(parent && o.private) {
			outer := k.scope
			k.scope = s
			if o.appends {
				above = k.appended(o)
			} else if o.recursive {
				above = k.valueOf(o)
			} else {
				above = o.value
			}
			k.scope = outer
			break
		}
		parent = parent || s.inherits
	}
	value := v.value
	if v.recursive {
		value = k.expand(value)
	}
	if above == "" {
		return value
	}
	return above + " " + value
}

// within works in other scopes.
func (k *maker) within(s *scope, fn func()) {
	outer := k.scope
	k.scope = s
	defer func() { k.scope = outer }()
	fn()
}
