package gnumake

import "strings"

// recordRule takes over the rule that was read.
func (k *maker) recordRule() {
	r := k.rule
	k.rule = nil
	if r == nil {
		return
	}
	at := k.loc
	k.loc = r.at
	defer func() { k.loc = at }()
	for _, n := range r.names {
		switch n {
		case ".SECONDEXPANSION":
			k.second = true
		case ".ONESHELL":
			k.oneShell = true
		case ".WAIT":
			if k.newer() {
				k.unserved(r.at, ".WAIT as a target is not served")
			}
		case ".POSIX", ".LOW_RESOLUTION_TIME":
			k.unserved(r.at, "%s is not served", n)
		case ".SUFFIXES":
			if r.deps == "" {
				k.enter(n).deps = nil
			}
		}
	}
	patterns := 0
	for _, n := range r.names {
		if _, _, _, ok := percent(n); ok {
			patterns++
		}
	}
	var rec *recipe
	if r.hasRecipe {
		rec = &recipe{}
		*rec = r.recipe
	}
	if r.pattern == "" && patterns > 0 {
		if patterns < len(r.names) {
			k.fatal(r.at, "mixed implicit and normal rules")
		}
		k.addPattern(&patternRule{targets: r.names, deps: r.deps, recipe: rec, terminal: r.double, at: r.at})
		return
	}
	var group []*file
	for i, name := range r.names {
		f := k.recordTarget(r, name, rec)
		if f == nil {
			continue
		}
		if r.grouped {
			group = append(group, f)
		}
		if i == 0 || k.global.vars[".DEFAULT_GOAL"].value == "" {
			k.defaultGoal(name)
		}
	}
	if r.grouped && rec != nil {
		for _, f := range group {
			f.also = group
		}
	}
}

// defaultGoal remembers the first target that may be the goal.
func (k *maker) defaultGoal(name string) {
	v := k.global.vars[".DEFAULT_GOAL"]
	if v.value != "" || v.origin > fromFile || strings.HasPrefix(name, ".") && !strings.Contains(name, "/") {
		return
	}
	v.value = name
}

// recordTarget takes over a rule for one target.
func (k *maker) recordTarget(r *pendingRule, name string, rec *recipe) *file {
	stem := ""
	if r.pattern != "" {
		pre, post, _, _ := percent(r.pattern)
		if len(name) < len(pre)+len(post) || !strings.HasPrefix(name, pre) || !strings.HasSuffix(name, post) {
			k.warn(r.at, "target '%s' doesn't match the target pattern", name)
			return nil
		}
		stem = name[len(pre) : len(name)-len(post)]
	}
	entry := k.enter(name)
	entry.explicit = true
	f := entry
	if r.double {
		if entry.isTarget && !entry.double {
			k.fatal(r.at, "target file '%s' has both : and :: entries", name)
		}
		entry.double = true
		f = &file{name: name, double: true}
		entry.doubles = append(entry.doubles, f)
	} else if entry.double && entry.isTarget {
		k.fatal(r.at, "target file '%s' has both : and :: entries", name)
	}
	entry.isTarget, f.isTarget = true, true
	deps := k.parseDeps(r, name, stem)
	if rec != nil && f.recipe != nil && name != ".DEFAULT" {
		now := r.at
		if len(rec.lines) > 0 {
			now = &rec.lines[0].at
		}
		k.warn(now, "warning: overriding recipe for target '%s'", name)
		old := r.at
		if len(f.recipe.lines) > 0 {
			l := f.recipe.lines[0].at
			old = &l
		}
		k.warn(old, "warning: ignoring old recipe for target '%s'", name)
	}
	if rec != nil {
		f.recipe = rec
		f.deps = append(deps, f.deps...)
	} else {
		f.deps = append(f.deps, deps...)
	}
	if stem != "" {
		f.stem = stem
	}
	return f
}

// parseDeps makes the prerequisites of a rule's text.
func (k *maker) parseDeps(r *pendingRule, name, stem string) []*dep {
	if r.deps == "" {
		return nil
	}
	if k.second && strings.Contains(r.deps, "$") {
		d := &dep{name: r.deps, second: true}
		if r.pattern != "" {
			d.static = stem
			d.name = stemInto(r.deps, "$*")
		}
		return []*dep{d}
	}
	text := r.deps
	if r.pattern != "" {
		text = stemInto(text, stem)
	}
	return k.depList(text)
}

// stemInto puts a stem in the place of the first percent sign of each word.
func stemInto(text, stem string) string {
	list := words(text)
	for i, w := range list {
		if pre, post, whole, ok := percent(w); ok {
			list[i] = pre + stem + post
		} else {
			list[i] = whole
		}
	}
	return strings.Join(list, " ")
}

// depList makes prerequisites of expanded text.
func (k *maker) depList(text string) []*dep {
	if k.Judge.unknown(text) {
		k.Judge.refuse(k, "a prerequisite is known only when it runs")
	}
	var out []*dep
	normal, only, _ := strings.Cut(text, "|")
	add := func(text string, order bool) {
		for _, n := range k.fileNames(text) {
			if n == ".WAIT" && k.newer() { // recipes run one after the other
				continue
			}
			if strings.HasPrefix(n, "-l") {
				k.unserved(nil, "%s: libraries as prerequisites are not served", n)
			}
			f := k.enter(n)
			f.explicit = true
			out = append(out, &dep{name: n, file: f, order: order})
		}
	}
	add(normal, false)
	add(only, true)
	return out
}

// addPattern adds a pattern rule. One with the same targets and prerequisites takes the place of the old one, or takes it away.
func (k *maker) addPattern(r *patternRule) {
	same := func(o *patternRule) bool {
		return strings.Join(words(o.deps), " ") == strings.Join(words(r.deps), " ") && strings.Join(o.targets, " ") == strings.Join(r.targets, " ")
	}
	kept := k.patterns[:0:0]
	for _, o := range k.patterns {
		if !same(o) {
			kept = append(kept, o)
		}
	}
	k.patterns = kept
	if r.recipe == nil && r.deps != "" {
		for _, t := range r.targets {
			k.cancelled[t+":"+strings.Join(words(r.deps), " ")] = true
		}
		return
	}
	k.patterns = append(k.patterns, r)
}
