package gnumake

import "strings"

// file is a target or a prerequisite.
type file struct {
	name     string
	recipe   *recipe
	deps     []*dep
	stem     string
	also     []*file // made by the same recipe
	doubles  []*file // the rules of a double-colon target, of which this is the entry
	double   bool
	vars     *varSet // of the target; nil: none
	parent   *file   // which needed it first: its variables are seen
	isTarget bool
	phony    bool
	explicit bool // named in a Makefile
	precious, intermediate, secondary, ignores, quiet,
	triedImplicit, updating, updated, fromCommand bool
	started bool // lines of its recipe were run
	failed  bool
	asked   bool // -q: it would be made
	time    stamp
}

// dep is a prerequisite of a file.
type dep struct {
	name    string
	file    *file
	order   bool // order-only
	changed bool
	static  string // the stem of a static pattern, for a second expansion
	second  bool   // to be expanded once more
}

// recipe is the text of a rule's recipe.
type recipe struct {
	lines    []recipeLine
	unserved string // a built-in rule that is not had
}

// recipeLine is a logical line, with its backslashes and newlines.
type recipeLine struct {
	text string
	at   Location
}

// pendingRule is a rule whose recipe is being read.
type pendingRule struct {
	at        *Location
	names     []string
	deps      string
	pattern   string // of a static pattern rule
	double    bool
	grouped   bool
	hasRecipe bool
	recipe    recipe
}

// add takes a line of the recipe. Its number is that of the first line and of how many came before, as make counts.
func (r *pendingRule) add(text string, at *Location) {
	r.hasRecipe = true
	l := *at
	if len(r.recipe.lines) > 0 {
		l = r.recipe.lines[0].at
		l.Line += len(r.recipe.lines)
	}
	r.recipe.lines = append(r.recipe.lines, recipeLine{text, l})
}

// patternRule is a rule with a percent sign in its targets.
type patternRule struct {
	targets  []string
	deps     string
	recipe   *recipe
	terminal bool
	inUse    bool
	builtin  bool
	at       *Location
}

// patternVar is a variable of all targets that match a pattern.
type patternVar struct {
	pattern string
	a       assignment
	m       modified
	at      *Location
}

// table is what the Makefiles said.
type table struct {
	cancelled                         map[string]bool // pattern rules that a rule without a recipe takes away
	files                             map[string]*file
	order                             []*file
	patterns                          []*patternRule
	patternVars                       []patternVar
	second                            bool // .SECONDEXPANSION
	oneShell                          bool
	deleteOnErr                       bool
	allSecond                         bool // .SECONDARY without prerequisites
	allPrecious, allIgnore, allSilent bool
}

func newTable() table { return table{files: map[string]*file{}, cancelled: map[string]bool{}} }

// enter finds or makes the entry of a name.
func (k *maker) enter(name string) *file {
	f := k.files[name]
	if f == nil {
		f = &file{name: name}
		k.files[name] = f
		k.order = append(k.order, f)
	}
	return f
}

// ruleLine reads the line of a rule: targets, colon, prerequisites, semicolon, recipe.
func (k *maker) ruleLine(raw string) {
	k.recordRule()
	rest, command, hasCommand := raw, "", false
	if at, text, ok := firstOf(raw, ";#", true); ok {
		rest = text[:at]
		if text[at] == ';' {
			command, hasCommand = text[at+1:], true
		}
	} else {
		rest = text
	}
	rest = trimBlanks(collapse(rest))
	if rest == "" {
		if hasCommand {
			k.fatal(k.loc, "missing rule before recipe")
		}
		return
	}
	if rest[0] == ':' {
		k.noTarget = true
		return
	}
	// The words before the colon are expanded one by one until one holds a colon: what follows may be a variable of the target.
	var left, after string
	found := false
	for rest != "" && !found {
		n := 0
		for n < len(rest) && !isSpace(rest[n]) {
			switch {
			case rest[n] == '$':
				n = skipReference(rest, n)
				continue
			case rest[n] == '\\' && n+1 < len(rest):
				n += 2
				continue
			}
			if rest[n] == ':' {
				break
			}
			n++
		}
		n = min(n, len(rest))
		word := k.expand(rest[:n])
		rest = rest[n:]
		if !hasCommand {
			if at, text, ok := firstOf(word, ";", false); ok {
				word, command, hasCommand = text[:at], text[at+1:]+rest, true
				rest = ""
			}
		}
		if at, text, ok := firstOf(word, ":", false); ok {
			left += text[:at]
			after, found = text[at:]+rest, true
			break
		}
		left += word
		if strings.HasPrefix(rest, ":") {
			after, found = rest, true
			break
		}
		n = len(rest)
		rest = trimBlanks(rest)
		if n > len(rest) {
			left += " "
		}
	}
	if !found {
		if strings.Trim(left, spaces) == "" {
			return
		}
		if k.Judge.unknown(left) {
			k.Judge.refuse(k, "a line of the Makefile is known only when it runs")
		}
		if k.prefixChar == '\t' && strings.HasPrefix(raw, "        ") {
			k.fatal(k.loc, "missing separator (did you mean TAB instead of 8 spaces?)")
		}
		k.fatal(k.loc, "missing separator")
	}
	r := &pendingRule{at: k.loc}
	if after = after[1:]; strings.HasPrefix(after, ":") {
		r.double, after = true, after[1:]
	}
	if l := trimBlanksRight(left); strings.HasSuffix(l, "&") {
		r.grouped, left = true, l[:len(l)-1]
	}
	r.names = k.fileNames(left)
	if len(r.names) == 0 {
		k.noTarget = true
		return
	}
	k.noTarget = false
	if k.Judge.unknown(left) {
		k.Judge.refuse(k, "the name of a target is known only when it runs")
	}
	if m, ok := k.modifiers(trimBlanks(after)); ok && !m.define && !m.undefine {
		if hasCommand { // the semicolon is part of the value
			m.value = trimBlanks(m.value + ";" + command)
		}
		k.targetVar(r.names, m)
		return
	}
	deps := k.expand(after)
	if !hasCommand {
		if at, text, ok := firstOf(deps, ";", false); ok {
			deps, command, hasCommand = text[:at], text[at+1:], true
		} else {
			deps = text
		}
	}
	if at, text, ok := firstOf(deps, ":", false); ok {
		list := words(text[:at])
		switch {
		case len(list) == 0:
			k.fatal(k.loc, "missing target pattern")
		case len(list) > 1:
			k.fatal(k.loc, "multiple target patterns")
		}
		if _, _, _, ok := percent(list[0]); !ok {
			k.fatal(k.loc, "target pattern contains no '%%'")
		}
		r.pattern, deps = list[0], text[at+1:]
		if strings.Contains(deps, ":") && strings.HasPrefix(trimBlanks(deps), ":") {
			k.fatal(k.loc, "multiple target patterns")
		}
	}
	r.deps = strings.Trim(deps, spaces)
	if hasCommand {
		r.add(trimBlanks(command), k.loc)
	}
	k.rule = r
}

// fileNames splits a list of names and expands patterns of names.
func (k *maker) fileNames(text string) []string {
	var out []string
	for _, w := range words(text) {
		if at := strings.IndexByte(w, '('); at > 0 && strings.HasSuffix(w, ")") {
			k.unserved(nil, "%s: members of archives are not served", w)
		}
		if isGlob(w) || strings.HasPrefix(w, "~") {
			if found := k.glob(w); len(found) > 0 {
				for _, f := range found {
					out = append(out, cleanName(f))
				}
				continue
			}
		}
		if strings.IndexByte(w, '\\') >= 0 {
			w = strings.NewReplacer(`\:`, ":", `\#`, "#", `\*`, "*", `\?`, "?").Replace(w)
		}
		out = append(out, cleanName(w))
	}
	return out
}

// cleanName takes ./ off.
func cleanName(w string) string {
	for strings.HasPrefix(w, "./") && len(w) > 2 {
		w = strings.TrimLeft(w[2:], "/")
		if w == "" {
			return "./"
		}
	}
	return w
}

// targetVar defines a variable for targets or patterns.
func (k *maker) targetVar(names []string, m modified) {
	for _, name := range names {
		if _, _, _, ok := percent(name); ok {
			a := m.assignment
			a.name = strings.Trim(k.expand(a.name), spaces)
			if a.flavor == simply {
				a.value = strings.ReplaceAll(k.expand(a.value), "$", "$$")
			}
			k.patternVars = append(k.patternVars, patternVar{name, a, m, k.loc})
			continue
		}
		f := k.enter(name)
		f.explicit = true
		if f.vars == nil {
			f.vars = newVarSet()
		}
		k.within(&scope{set: f.vars, next: k.scope}, func() { k.targetAssign(f.vars, m.assignment, m) })
	}
}

func (k *maker) targetAssign(in *varSet, a assignment, m modified) {
	from := fromFile
	if m.override {
		from = fromOverride
	}
	name := strings.Trim(k.expand(a.name), spaces)
	if name == "" {
		k.fatal(k.loc, "empty variable name")
	}
	// A stronger variable of all is not replaced by one of a target.
	if g := k.global.vars[name]; g != nil && from < g.origin && g.origin != fromAutomatic && (g.origin == fromCommand || g.origin == fromOverride || g.origin == fromEnvOverride) {
		return
	}
	old := in.vars[name]
	v := k.assign(in, name, a, from, true)
	if in.vars[name] != v { // ?= and the variable is there
		return
	}
	if old == nil {
		v.perTarget = true
		if g := k.global.vars[name]; g != nil && v.export == exportDefault {
			v.export = g.export
		}
	}
	if m.export {
		v.export = exportYes
	}
	if m.private {
		v.private = true
	}
}

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
			if n == ".WAIT" && k.newer() {
				k.unserved(nil, ".WAIT is not served")
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

// finishReading does what the special targets say, and makes pattern rules of suffix rules.
func (k *maker) finishReading() {
	k.loc = nil
	for _, f := range append([]*file{}, k.order...) {
		k.secondExpansion(f)
		for _, d := range f.doubles {
			k.secondExpansion(d)
		}
	}
	each := func(name string, do func(f *file)) bool {
		f := k.files[name]
		if f == nil || !f.isTarget {
			return false
		}
		for _, d := range f.deps {
			do(d.file)
			for _, x := range d.file.doubles {
				do(x)
			}
		}
		return len(f.deps) == 0
	}
	k.allPrecious = each(".PRECIOUS", func(f *file) { f.precious = true })
	each(".PHONY", func(f *file) { f.phony, f.isTarget, f.time = true, true, missing })
	each(".INTERMEDIATE", func(f *file) { f.intermediate = true })
	k.allSecond = each(".SECONDARY", func(f *file) { f.intermediate, f.secondary = true, true })
	k.allIgnore = each(".IGNORE", func(f *file) { f.ignores = true })
	k.allSilent = each(".SILENT", func(f *file) { f.quiet = true })
	if f := k.files[".EXPORT_ALL_VARIABLES"]; f != nil && f.isTarget {
		k.exports = true
	}
	if f := k.files[".DELETE_ON_ERROR"]; f != nil && f.isTarget {
		k.deleteOnErr = true
	}
	k.suffixRules()
	k.defineFlags(true)
	for _, name := range k.opts.old {
		k.enter(cleanName(name)).updated = true
		k.enter(cleanName(name)).time = oldest
	}
	for _, name := range k.opts.fresh {
		k.enter(cleanName(name)).time = newest
	}
}

// secondExpansion expands prerequisites that were to be expanded when the rest of the Makefile is known.
func (k *maker) secondExpansion(f *file) {
	for i := 0; i < len(f.deps); i++ {
		d := f.deps[i]
		if !d.second {
			continue
		}
		stem := d.static
		var list []*dep
		k.within(k.fileScope(f), func() {
			in := k.scope.set
			k.autoVars(in, f, stem, f.deps[:i])
			list = k.depList(k.expand(d.name))
		})
		f.deps = append(f.deps[:i:i], append(list, f.deps[i+1:]...)...)
		i += len(list) - 1
	}
}
