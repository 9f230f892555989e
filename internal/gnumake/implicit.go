package gnumake

import (
	"slices"
	"strings"
)

// builtinSuffixes makes .SUFFIXES and the built-in pattern rules.
func (k *maker) builtinSuffixes() {
	f := k.enter(".SUFFIXES")
	f.isTarget = true
	if k.opts.noRules {
		k.set(k.global, "SUFFIXES", "", false, fromDefault)
		return
	}
	for _, s := range words(defaultSuffixes) {
		f.deps = append(f.deps, &dep{name: s, file: k.enter(s), builtin: true})
	}
	k.set(k.global, "SUFFIXES", defaultSuffixes, false, fromDefault)
}

// suffixRules makes pattern rules of the rules for targets like .c.o, and adds the built-in ones.
func (k *maker) suffixRules() {
	own := k.patterns
	k.patterns = nil
	var suffixes []string
	seen := map[string]bool{}
	for _, d := range k.files[".SUFFIXES"].deps {
		if !seen[d.name] {
			suffixes = append(suffixes, d.name)
		}
		seen[d.name] = true
	}
	add := func(target, source string, f *file) {
		if len(f.deps) > 0 || f.recipe == nil {
			return
		}
		k.patterns = append(k.patterns, &patternRule{targets: []string{"%" + target}, deps: "%" + source, recipe: f.recipe})
	}
	user := map[string]bool{}
	for _, from := range suffixes {
		if f := k.files[from]; f != nil && f.isTarget {
			add("", from, f)
			user[" "+from] = true
		}
		for _, to := range suffixes {
			if f := k.files[from+to]; f != nil && f.isTarget {
				add(to, from, f)
				user[to+" "+from] = true
			}
		}
	}
	builtin := func(target, source, what string, terminal bool) {
		for _, o := range own {
			if len(o.targets) == 1 && o.targets[0] == target && strings.Trim(o.deps, spaces) == source {
				return
			}
		}
		r := &recipe{unserved: "the built-in rule " + target + ": " + source + " is not served"}
		if what != "" {
			r = &recipe{lines: []recipeLine{{text: what, at: Location{"<builtin>", 0}}}}
		}
		if k.cancelled[target+":"+source] {
			return
		}
		k.patterns = append(k.patterns, &patternRule{targets: []string{target}, deps: source, recipe: r, terminal: terminal, builtin: true})
	}
	k.patterns = append(own, k.patterns...)
	if k.opts.noRules {
		return
	}
	for _, b := range builtinSources {
		for _, s := range words(b.sources) {
			if user[b.target+" "+s] || !seen[s] || b.target != "" && !seen[b.target] {
				continue
			}
			what := ""
			if s == ".sh" {
				what = scriptRecipe
			}
			builtin("%"+b.target, "%"+s, what, false)
		}
	}
	for _, p := range builtinPatterns {
		builtin(p.target, p.source, "", p.terminal)
	}
}

// candidate is a pattern rule that may make a file.
type candidate struct {
	r      *patternRule
	target string
	stem   string // without the folder
	dir    string
	length int
}

// implicit finds a pattern rule for a file and gives the file its prerequisites and recipe.
func (k *maker) implicit(f *file) bool {
	f.triedImplicit = true
	return k.search(f, 0)
}

func (k *maker) search(f *file, depth int) bool {
	if depth > 20 {
		return false
	}
	dir, base := "", f.name
	if at := strings.LastIndexByte(f.name, '/'); at >= 0 {
		dir, base = f.name[:at+1], f.name[at+1:]
	}
	var list []candidate
	specific := false
	for _, r := range k.patterns {
		if r.inUse || len(r.deps) > 0 && r.recipe == nil {
			continue
		}
		for _, t := range r.targets {
			pre, post, _, _ := percent(t)
			name, folder := f.name, ""
			if dir != "" && !strings.Contains(t, "/") {
				name, folder = base, dir
			}
			if len(name) <= len(pre)+len(post) || !strings.HasPrefix(name, pre) || !strings.HasSuffix(name, post) {
				continue
			}
			// A rule for any name does not make the sources of others, unless it is terminal.
			anyName := pre == "" && post == ""
			if anyName && depth > 0 && !r.terminal {
				continue
			}
			specific = specific || !anyName
			stem := name[len(pre) : len(name)-len(post)]
			list = append(list, candidate{r, t, stem, folder, len(stem)})
		}
	}
	if specific {
		list = slices.DeleteFunc(list, func(c candidate) bool {
			return c.target == "%" && !c.r.terminal
		})
	}
	slices.SortStableFunc(list, func(a, b candidate) int { return a.length - b.length })
	for _, how := range k.attempts() {
		for _, c := range list {
			if how.chained && c.r.terminal {
				continue
			}
			if k.try(f, c, how, depth) {
				return true
			}
		}
	}
	return false
}

// attempt says what counts as a prerequisite that can be had: what exists, and
type attempt struct {
	own     bool // what is a target, or another prerequisite of the same file
	chained bool // what an implicit rule makes
}

// attempts are the ways in which rules are tried one after the other. For 4.3 what any rule mentions can be had; for 4.4 only if
// there is no other way.
func (k *maker) attempts() []attempt {
	if k.newer() {
		return []attempt{{own: true}, {own: true, chained: true}, {}, {chained: true}}
	}
	return []attempt{{}, {chained: true}}
}

// mentioned reports whether a prerequisite of an implicit rule for f is one that make takes for one that can be had.
func (how attempt) mentioned(f, d *file) bool {
	if !how.own {
		return d.explicit || d.isTarget
	}
	return d.isTarget || slices.ContainsFunc(f.deps, func(x *dep) bool { return x.file == d })
}

// try takes a rule if all of its prerequisites exist or can be made.
func (k *maker) try(f *file, c candidate, how attempt, depth int) bool {
	c.r.inUse = true
	defer func() { c.r.inUse = false }()
	stem := c.dir + c.stem
	text := c.r.deps
	var deps []*dep
	if k.second && strings.Contains(text, "$") {
		var parts []string
		for _, w := range splitOutside(text) {
			if pre, post, _, ok := percent(w); ok {
				if c.dir != "" {
					pre = c.dir + pre
				}
				w = pre + "$*" + post
			}
			parts = append(parts, w)
		}
		k.within(k.fileScope(f), func() {
			k.autoVars(k.scope.set, f, c.stem, nil)
			text = k.expand(strings.Join(parts, " "))
		})
	} else {
		list := words(text)
		for i, w := range list {
			if pre, post, whole, ok := percent(w); ok {
				list[i] = c.dir + pre + c.stem + post
			} else {
				list[i] = whole
			}
		}
		text = strings.Join(list, " ")
	}
	normal, only, _ := strings.Cut(text, "|")
	for i, part := range []string{normal, only} {
		for _, n := range k.fileNames(part) {
			d := &dep{name: n, order: i == 1}
			old := k.files[n]
			switch {
			case old != nil && how.mentioned(f, old), k.exists(n):
			case how.chained:
				t := &file{name: n, intermediate: true}
				if old != nil {
					t = old
				}
				if !k.search(t, depth+1) {
					return false
				}
				t.triedImplicit = true
				if old == nil {
					t.intermediate = !k.lasts(t)
					k.files[n] = t
					k.order = append(k.order, t)
					k.chain = append(k.chain, t)
				}
			default:
				return false
			}
			deps = append(deps, d)
		}
	}
	for _, d := range deps {
		d.file = k.enter(d.name)
	}
	f.deps = append(deps, f.deps...)
	f.recipe, f.stem, f.byPattern = c.r.recipe, stem, true
	if p := k.files[c.target]; p != nil && p.precious {
		f.precious = true
	}
	if c.r.recipe == nil {
		f.recipe = &recipe{}
	}
	for _, t := range c.r.targets {
		if t == c.target {
			continue
		}
		pre, post, _, _ := percent(t)
		other := k.enter(c.dir + pre + c.stem + post)
		other.isTarget, other.recipe = true, f.recipe
		other.stem, other.byPeer = stem, true
		f.also = append(f.also, other)
	}
	return true
}

// lasts reports whether .NOTINTERMEDIATE names a file.
func (k *maker) lasts(f *file) bool {
	return f.lasting || k.allLasting || slices.ContainsFunc(k.lasting, func(pattern string) bool {
		pre, post, _, _ := percent(pattern)
		return len(f.name) >= len(pre)+len(post) && strings.HasPrefix(f.name, pre) && strings.HasSuffix(f.name, post)
	})
}

// splitOutside splits at blanks outside of references.
func splitOutside(s string) []string {
	var out []string
	from := -1
	for i := 0; i < len(s); {
		if isSpace(s[i]) {
			if from >= 0 {
				out = append(out, s[from:i])
			}
			from = -1
			i++
			continue
		}
		if from < 0 {
			from = i
		}
		if s[i] == '$' {
			i = skipReference(s, i)
		} else {
			i++
		}
	}
	if from >= 0 {
		out = append(out, s[from:])
	}
	return out
}
