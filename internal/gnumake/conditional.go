package gnumake

import "strings"

// conditional is an ifeq, ifneq, ifdef or ifndef whose endif has not come.
type conditional struct {
	active bool // its lines count
	done   bool // one of its branches was taken, or none may be
	last   bool // else without a condition has come
}

func isConditional(word string) bool {
	switch word {
	case "ifeq", "ifneq", "ifdef", "ifndef", "else", "endif":
		return true
	}
	return false
}

// ignoring reports whether lines are jumped over.
func (k *maker) ignoring() bool {
	for _, c := range k.conds {
		if !c.active {
			return true
		}
	}
	return false
}

// condition reads a line of a conditional. It reports false where the line is none after all.
func (k *maker) condition(word, rest string) bool {
	if a, ok := parseAssignment(word + " " + rest); ok && a.name == word || strings.HasPrefix(rest, ":") {
		return false
	}
	switch word {
	case "endif":
		if rest != "" {
			k.warn(k.loc, "extraneous text after 'endif' directive")
		}
		if len(k.conds) == 0 {
			k.fatal(k.loc, "extraneous 'endif'")
		}
		k.conds = k.conds[:len(k.conds)-1]
		return true
	case "else":
		k.elseLine(rest)
		return true
	}
	outer := k.ignoring()
	c := conditional{done: outer}
	k.conds = append(k.conds, c)
	if outer {
		return true
	}
	holds := k.holds(word, rest)
	k.conds[len(k.conds)-1] = conditional{active: holds, done: holds}
	return true
}

func (k *maker) elseLine(rest string) {
	if len(k.conds) == 0 {
		k.fatal(k.loc, "extraneous 'else'")
	}
	c := &k.conds[len(k.conds)-1]
	if c.last {
		k.fatal(k.loc, "only one 'else' per conditional")
	}
	word, more := firstWord(rest)
	if word == "" {
		c.last = true
		c.active = !c.done
		c.done = true
		return
	}
	if !isConditional(word) || word == "else" || word == "endif" {
		k.warn(k.loc, "extraneous text after 'else' directive")
		c.last = true
		c.active, c.done = !c.done, true
		return
	}
	if c.done {
		c.active = false
		return
	}
	c.active = true // so that the condition is expanded as a line that counts
	holds := k.holds(word, more)
	c = &k.conds[len(k.conds)-1]
	c.active, c.done = holds, holds
}

// holds evaluates a condition.
func (k *maker) holds(word, rest string) bool {
	if word == "ifdef" || word == "ifndef" {
		name := k.expand(rest)
		if strings.ContainsAny(strings.Trim(name, spaces), spaces) {
			k.fatal(k.loc, "invalid syntax in conditional")
		}
		v := k.lookup(strings.Trim(name, spaces))
		defined := v != nil && v.value != ""
		if defined && k.Judge != nil && !v.recursive {
			defined = k.truth(v.value)
		}
		return defined == (word == "ifdef")
	}
	a, b, ok := k.sides(rest)
	if !ok {
		k.fatal(k.loc, "invalid syntax in conditional")
	}
	return k.equal(a, b) == (word == "ifeq")
}

// equal compares; what is unknown is chosen.
func (k *maker) equal(a, b string) bool {
	if k.Judge.unknown(a) || k.Judge.unknown(b) {
		return k.Judge.choose()
	}
	return a == b
}

// sides takes (A,B), "A" "B" and 'A' 'B' apart, expanded.
func (k *maker) sides(s string) (a, b string, ok bool) {
	if s == "" {
		return "", "", false
	}
	switch s[0] {
	case '(':
		depth, comma := 0, -1
		for i := 1; i < len(s); i++ {
			if s[i] == '(' {
				depth++
			} else if s[i] == ')' {
				depth--
			} else if s[i] == ',' && depth <= 0 {
				comma = i
				break
			}
		}
		if comma < 0 {
			return "", "", false
		}
		left := trimBlanksRight(s[1:comma])
		right := trimBlanks(s[comma+1:])
		depth = 0
		for i := 0; i < len(right); i++ {
			if right[i] == '(' {
				depth++
			} else if right[i] == ')' {
				if depth--; depth < 0 {
					if trimBlanks(right[i+1:]) != "" {
						k.warn(k.loc, "extraneous text after '%s' directive", k.directive())
					}
					return k.expand(left), k.expand(right[:i]), true
				}
			}
		}
	case '"', '\'':
		left, more, found := strings.Cut(s[1:], s[:1])
		more = trimBlanks(more)
		if !found || more == "" || more[0] != '"' && more[0] != '\'' {
			return "", "", false
		}
		right, after, found := strings.Cut(more[1:], more[:1])
		if !found {
			return "", "", false
		}
		if trimBlanks(after) != "" {
			k.warn(k.loc, "extraneous text after '%s' directive", k.directive())
		}
		return k.expand(left), k.expand(right), true
	}
	return "", "", false
}

// directive is the word of the conditional that is read.
func (k *maker) directive() string {
	line := k.src.text[:k.src.pos]
	line = strings.TrimRight(line, "\n")
	line = trimBlanks(line[strings.LastIndexByte(line, '\n')+1:])
	word, rest := firstWord(line)
	if word == "else" {
		word, _ = firstWord(rest)
	}
	if at := strings.IndexAny(word, "(\"'"); at > 0 {
		word = word[:at]
	}
	return word
}
