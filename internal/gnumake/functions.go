package gnumake

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// function is one of make's functions. The arguments are expanded first, unless lazy is set.
type function struct {
	name     string
	min, max int // of arguments; max 0: any number
	lazy     bool
	pure     bool // what is made of its arguments alone: of an unknown one, an unknown text
	run      func(k *maker, args []string) string
}

// functions are all by name.
func functions() map[string]*function {
	all := map[string]*function{}
	for _, list := range [][]function{textFunctions(), nameFunctions(), controlFunctions()} {
		for _, f := range list {
			all[f.name] = &f
		}
	}
	return all
}

// call expands a call of a function, whose text begins behind the opening parenthesis. ok is false where it is none.
func (k *maker) call(s string, open, end byte) (out, rest string, ok bool) {
	n := 0
	for n < len(s) && (s[n] >= 'a' && s[n] <= 'z' || s[n] == '-') {
		n++
	}
	if n == 0 || n < len(s) && !isSpace(s[n]) || n == len(s) {
		return "", "", false
	}
	f := k.commands[s[:n]]
	if f == nil || (f.name == "let" || f.name == "intcmp") && !k.newer() {
		return "", "", false
	}
	depth, stop := 0, -1
	for i := n; i < len(s); i++ {
		if s[i] == open {
			depth++
		} else if s[i] == end {
			if depth--; depth < 0 {
				stop = i
				break
			}
		}
	}
	if stop < 0 {
		k.fatal(k.where(), "unterminated call to function '%s': missing '%c'", f.name, end)
	}
	args := splitArgs(trimBlanks(s[n:stop]), open, end, f.max)
	if len(args) < f.min {
		k.fatal(k.where(), "insufficient number of arguments (%d) to function '%s'", len(args), f.name)
	}
	if !f.lazy {
		for i := range args {
			args[i] = k.expand(args[i])
		}
		if f.pure && slices.ContainsFunc(args, k.Judge.unknown) {
			return Unknown, s[stop+1:], true
		}
	}
	return f.run(k, args), s[stop+1:], true
}

// splitArgs splits at commas outside of parentheses of the kind, into at most most arguments.
func splitArgs(s string, open, end byte, most int) []string {
	var args []string
	depth, from := 0, 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == open:
			depth++
		case s[i] == end:
			depth--
		case s[i] == ',' && depth == 0 && (most == 0 || len(args) < most-1):
			args = append(args, s[from:i])
			from = i + 1
		}
	}
	return append(args, s[from:])
}

func textFunctions() []function {
	pure := func(name string, low, high int, run func(k *maker, a []string) string) function {
		return function{name: name, min: low, max: high, pure: true, run: run}
	}
	return []function{
		pure("subst", 3, 3, func(k *maker, a []string) string {
			if a[0] == "" {
				return a[2] + a[1]
			}
			if n := strings.Count(a[2], a[0]); len(a[2])+n*len(a[1]) > maxText {
				k.unserved(nil, "subst gives more than %d bytes", maxText)
			}
			return strings.ReplaceAll(a[2], a[0], a[1])
		}),
		pure("patsubst", 3, 3, func(k *maker, a []string) string { return patsubst(a[0], a[1], a[2]) }),
		pure("strip", 0, 1, func(_ *maker, a []string) string { return strings.Join(words(a[0]), " ") }),
		pure("findstring", 2, 2, func(_ *maker, a []string) string {
			if strings.Contains(a[1], a[0]) {
				return a[0]
			}
			return ""
		}),
		pure("filter", 2, 2, func(_ *maker, a []string) string { return filter(a[0], a[1], true) }),
		pure("filter-out", 2, 2, func(_ *maker, a []string) string { return filter(a[0], a[1], false) }),
		pure("sort", 0, 1, func(_ *maker, a []string) string {
			list := words(a[0])
			slices.Sort(list)
			return strings.Join(slices.Compact(list), " ")
		}),
		pure("word", 2, 2, func(k *maker, a []string) string {
			n := k.number(a[0], "first", "word")
			if n < 1 {
				k.fatal(k.where(), "first argument to 'word' function must be greater than 0")
			}
			if list := words(a[1]); n <= len(list) {
				return list[n-1]
			}
			return ""
		}),
		pure("wordlist", 3, 3, wordlist),
		pure("words", 0, 1, func(_ *maker, a []string) string { return itoa(len(words(a[0]))) }),
		pure("firstword", 0, 1, func(_ *maker, a []string) string {
			if list := words(a[0]); len(list) > 0 {
				return list[0]
			}
			return ""
		}),
		pure("lastword", 0, 1, func(_ *maker, a []string) string {
			if list := words(a[0]); len(list) > 0 {
				return list[len(list)-1]
			}
			return ""
		}),
		pure("join", 2, 2, func(_ *maker, a []string) string {
			x, y := words(a[0]), words(a[1])
			var out []string
			for i := range max(len(x), len(y)) {
				w := ""
				if i < len(x) {
					w = x[i]
				}
				if i < len(y) {
					w += y[i]
				}
				out = append(out, w)
			}
			return strings.Join(out, " ")
		}),
		{name: "intcmp", min: 2, max: 5, lazy: true, run: intcmp},
	}
}

func wordlist(k *maker, a []string) string {
	from, to := k.number(a[0], "first", "wordlist"), k.number(a[1], "second", "wordlist")
	if from < 1 {
		k.fatal(k.where(), "invalid first argument to 'wordlist' function: '%d'", from)
	}
	if to < 0 {
		k.fatal(k.where(), "invalid second argument to 'wordlist' function: '%d'", to)
	}
	list := words(a[2])
	if from > len(list) || to < from {
		return ""
	}
	return strings.Join(list[from-1:min(to, len(list))], " ")
}

// number reads an argument that counts.
func (k *maker) number(s, which, function string) int {
	t := strings.Trim(s, spaces)
	digits := t
	if k.newer() {
		if strings.HasPrefix(t, "+") || strings.HasPrefix(t, "-") {
			digits = t[1:]
		}
	}
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		if k.newer() && t == "" {
			k.fatal(k.where(), "invalid %s argument to '%s' function: empty value", which, function)
		}
		what := "non-numeric"
		if k.newer() {
			what = "invalid"
		}
		k.fatal(k.where(), "%s %s argument to '%s' function: '%s'", what, which, function, s)
	}
	n, err := strconv.Atoi(t)
	if err != nil {
		k.unserved(nil, "the number %s", t)
	}
	return n
}

// filter keeps, or takes away, the words that match one of the patterns.
func filter(patterns, text string, keep bool) string {
	type pattern struct {
		pre, post string
	}
	var list []pattern
	exact := map[string]bool{}
	for _, p := range words(patterns) {
		pre, post, whole, ok := percent(p)
		if ok {
			list = append(list, pattern{pre, post})
		} else {
			exact[whole] = true
		}
	}
	var out []string
	for _, w := range words(text) {
		hit := exact[w] || slices.ContainsFunc(list, func(p pattern) bool {
			return len(w) >= len(p.pre)+len(p.post) && strings.HasPrefix(w, p.pre) && strings.HasSuffix(w, p.post)
		})
		if hit == keep {
			out = append(out, w)
		}
	}
	return strings.Join(out, " ")
}

// integer is a number of any length as intcmp reads it.
type integer struct {
	sign   int // 0: the number is zero
	digits string
}

// compare is less than zero, zero or more, as make 4.4.1 has it: of two negative numbers the longer one is the greater.
func (x integer) compare(y integer) int {
	return cmp.Or(x.sign-y.sign, len(x.digits)-len(y.digits), strings.Compare(x.digits, y.digits))
}

func (x integer) String() string {
	switch {
	case x.sign == 0:
		return "0"
	case x.sign < 0:
		return "-" + x.digits
	}
	return x.digits
}

// intcmp is the function of make 4.4: $(intcmp LEFT,RIGHT[,LESS[,EQUAL[,GREATER]]]).
func intcmp(k *maker, a []string) string {
	read := func(s, which string) integer {
		s = k.expand(s)
		t := strings.Trim(s, spaces)
		n := integer{1, t}
		if strings.HasPrefix(t, "-") || strings.HasPrefix(t, "+") {
			n.digits = t[1:]
			if t[0] == '-' {
				n.sign = -1
			}
		}
		switch {
		case t == "":
			k.fatal(k.where(), "non-numeric %s argument to 'intcmp' function: empty value", which)
		case n.digits == "" || strings.Trim(n.digits, "0123456789") != "":
			k.fatal(k.where(), "non-numeric %s argument to 'intcmp' function: '%s'", which, s)
		}
		if n.digits = strings.TrimLeft(n.digits, "0"); n.digits == "" {
			n.sign = 0
		}
		return n
	}
	x, y := read(a[0], "first"), read(a[1], "second")
	order := x.compare(y)
	pick := 2
	switch {
	case len(a) == 2 && order == 0:
		return x.String()
	case order == 0:
		pick = 3
	case order > 0:
		pick = 4
		if len(a) == 4 {
			pick = 3
		}
	}
	if pick < len(a) {
		return k.expand(a[pick])
	}
	return ""
}
