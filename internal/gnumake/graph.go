package gnumake

import (
	"math"
	"path"
	"slices"
	"strings"
)

// stamp is when a file was changed, in nanoseconds; the values below are not times.
type stamp int64

const (
	unknown stamp = 0
	missing stamp = 1
	oldest  stamp = 2
	newest  stamp = math.MaxInt64
)

// work is what the making of goals keeps.
type work struct {
	wanted   *readFile // the Makefile that is being made
	chain    []*file   // intermediate files of implicit rules
	remaking bool      // Makefiles are what is made
	ran      int       // lines run or printed
}

// stampOf is when a file was changed.
func (k *maker) stampOf(f *file) stamp {
	if f.time == unknown {
		f.time = missing
		if info, err := k.Files.Stat(k.abs(f.name)); err == nil && (info.IsDir() || !strings.HasSuffix(f.name, "/")) {
			f.time = stamp(info.ModTime().UnixNano())
		}
	}
	return f.time
}

// build remakes the Makefiles, then makes the goals.
func (k *maker) build() int {
	if k.remakeMakefiles() {
		panic(restart{})
	}
	k.defineFlags(true)
	goals := k.opts.goals
	if len(goals) == 0 {
		v := k.global.vars[".DEFAULT_GOAL"]
		value := v.value
		if v.recursive {
			value = k.expand(value)
		}
		if list := words(value); len(list) > 1 {
			k.fatal(nil, ".DEFAULT_GOAL contains more than one target")
		} else if len(list) == 1 {
			goals = []string{cleanName(list[0])}
		}
	}
	if len(goals) == 0 {
		if len(k.makefiles) == 0 {
			k.fatal(nil, "No targets specified and no makefile found")
		}
		k.fatal(nil, "No targets")
	}
	code := 0
	var list []*file
	for _, g := range goals {
		list = append(list, k.enter(cleanName(g)))
	}
	for _, f := range list {
		before := k.ran
		f.fromCommand = true
		ok := k.update(f, nil)
		switch {
		case !ok:
			code = 2
			if f.asked && !f.failed {
				code = 1
			}
			if !k.opts.keepGoing {
				k.removeIntermediates()
				return code
			}
		case k.ran == before && !k.opts.silent && !k.opts.question:
			if f.phony || (f.recipe == nil || f.byPeer) && !slices.ContainsFunc(f.doubles, func(d *file) bool { return d.recipe != nil }) {
				k.say("%s: Nothing to be done for '%s'.", k.name, f.name)
			} else {
				k.say("%s: '%s' is up to date.", k.name, f.name)
			}
		}
	}
	k.removeIntermediates()
	k.leaving()
	return code
}

// remakeMakefiles makes those Makefiles that have rules, in 4.3 the last one read first, and reports whether one has changed.
func (k *maker) remakeMakefiles() bool {
	outer := k.opts
	k.opts.dry, k.opts.question, k.opts.touch, k.opts.always = false, false, false, false
	k.remaking = true
	changed, failed := false, false
	seen := map[string]bool{}
	order := slices.Clone(k.makefiles)
	if !k.newer() {
		slices.Reverse(order)
	}
	for _, r := range order {
		f := k.enter(cleanName(r.name))
		if seen[f.name] {
			continue
		}
		seen[f.name] = true
		ok := r.found
		// A Makefile that is always made would be made for ever.
		if !f.phony && f.recipe == nil && !k.opts.noRules {
			_, _ = k.list(path.Dir(k.abs(f.name))) // in which built-in rules look for what it may be made of
		}
		if !f.phony && !slices.ContainsFunc(f.doubles, func(d *file) bool { return len(d.deps) == 0 && d.recipe != nil }) {
			before, ran := k.stampOf(f), k.ran
			ok = k.updateMakefile(f, r)
			if k.ran > ran && k.Judge != nil {
				k.Judge.refuse(k, "the Makefile "+r.name+" is made by a rule")
			}
			if k.ran > ran && ok {
				f.time = unknown
				changed = changed || k.stampOf(f) != before
			}
		}
		if ok || r.optional {
			continue
		}
		failed = true
		if outer.keepGoing {
			k.unserved(r.at, "make -k with the Makefile %s that cannot be made", r.name)
		}
		if r.found {
			k.sayError("%s: Failed to remake makefile '%s'.", k.prefix(r.at), r.name)
		} else if f.recipe == nil {
			k.lost(r)
			k.sayError("%s: *** No rule to make target '%s'.  Stop.", k.name, r.name)
		}
		if !outer.keepGoing {
			break
		}
	}
	k.opts, k.remaking = outer, false
	if failed {
		panic(stop{2})
	}
	return changed
}

// lost says of a Makefile that could not be read and cannot be made why it could not be read.
func (k *maker) lost(r *readFile) {
	if !r.found && r.problem != "" {
		k.sayError("%s: %s: %s", k.prefix(r.at), r.name, r.problem)
	}
	r.problem = ""
}

// updateMakefile makes a Makefile. That there is no rule for one is no error here.
func (k *maker) updateMakefile(f *file, r *readFile) bool {
	k.wanted = r
	defer func() { k.wanted = nil }()
	if f.recipe == nil && len(f.doubles) == 0 && !f.triedImplicit {
		k.implicit(f)
	}
	if f.recipe == nil && len(f.doubles) == 0 && len(f.deps) == 0 {
		f.triedImplicit = true
		if !r.found {
			f.failed = true
		}
		f.updated = r.found
		return r.found
	}
	return k.update(f, nil)
}

// update brings a file up to date; parent is what needs it. It reports false where it failed.
func (k *maker) update(f *file, parent *file) bool {
	k.alive()
	if k.depth++; k.depth > maxDepth {
		k.unserved(nil, "prerequisites are within each other too deep")
	}
	defer func() { k.depth-- }()
	if len(f.doubles) == 0 {
		return k.updateOne(f, parent)
	}
	if f.updated {
		return !f.failed
	}
	ok := true
	for _, d := range f.doubles {
		d.phony, d.vars, d.precious = f.phony, f.vars, f.precious
		if d.phony {
			d.time = missing
		} else {
			d.time = unknown
		}
		if !k.updateOne(d, parent) {
			f.failed, f.asked, ok = true, f.asked || d.asked, false
			if d.asked && !d.failed {
				f.failed = false
			}
			if !k.opts.keepGoing {
				break
			}
		}
		f.time = d.time
	}
	f.updated = true
	return ok
}

func (k *maker) updateOne(f *file, parent *file) bool {
	if f.updated {
		return !f.failed && !f.asked
	}
	f.updating = true
	defer func() { f.updating = false }()
	if f.parent == nil {
		f.parent = parent
	}
	if k.newer() {
		k.secondExpansion(f)
	}
	before := k.stampOf(f)
	if k.newer() { // of targets that are made together, the oldest counts
		for _, other := range f.also {
			before = min(before, k.stampOf(other))
		}
	}
	nothing := before == missing
	must := nothing
	if f.recipe == nil && !f.phony && !f.triedImplicit {
		k.implicit(f)
	}
	k.useDefault(f)
	failed := false
	drop := func(d *dep) bool {
		if !d.file.updating && !slices.ContainsFunc(d.file.doubles, func(x *file) bool { return x.updating }) {
			return false
		}
		k.sayError("%s: Circular %s <- %s dependency dropped.", k.name, f.name, d.file.name)
		return true
	}
	var deps []*dep
	for _, d := range f.deps {
		if drop(d) {
			continue
		}
		deps = append(deps, d)
		was := k.stampOf(d.file)
		need, ok := k.check(d.file, f, before)
		if !ok {
			failed = true
			if !k.opts.keepGoing {
				break
			}
		}
		if !d.order {
			must = must || need
		}
		now := k.stampOf(d.file)
		d.changed = now != was || now == missing
	}
	if !failed || k.opts.keepGoing {
		f.deps = deps
		if must || k.opts.always {
			for _, d := range f.deps {
				if !d.file.intermediate {
					continue
				}
				was := k.stampOf(d.file)
				if d.file.parent == nil {
					d.file.parent = f
				}
				if !k.update(d.file, f) {
					failed = true
					if !k.opts.keepGoing {
						break
					}
				}
				now := k.stampOf(d.file)
				d.changed = d.changed || now != was || now == missing
			}
		}
	}
	if failed {
		f.updated, f.failed = true, true
		real := false
		for _, d := range f.deps {
			if d.file.asked && !d.file.failed {
				f.asked = true
			}
			real = real || d.file.failed && d.file != f
		}
		if f.asked && !real {
			f.failed = false
		}
		if parent == nil && k.opts.keepGoing && !k.opts.question && !k.opts.dry && f.failed && !k.remaking {
			k.sayError("%s: Target '%s' not remade because of errors.", k.name, f.name)
		}
		return false
	}
	anyChanged := false
	for _, d := range f.deps {
		now := k.stampOf(d.file)
		if !d.order {
			if now == missing {
				must = true
			}
			anyChanged = anyChanged || d.changed
		}
		d.changed = d.changed || nothing || now > before
		if d.order {
			d.changed = false
		}
	}
	switch {
	case f.double && len(f.deps) == 0:
		must = true
	case !nothing && f.isTarget && !anyChanged && f.recipe == nil:
		must = false
	case !must && f.recipe != nil && k.opts.always:
		must = true
	}
	if !must {
		f.updated = true
		return true
	}
	return k.remake(f)
}

// check updates a prerequisite and reports whether the file that needs it, of the time this, must be remade. An intermediate file that
// is missing is looked through: what it would be made of counts.
func (k *maker) check(f, parent *file, this stamp) (must, ok bool) {
	if f.updated || !f.intermediate || f.phony {
		ok = k.update(f, parent)
		now := k.stampOf(f)
		return now == missing || now > this, ok
	}
	f.updating = true
	defer func() { f.updating = false }()
	if f.parent == nil {
		f.parent = parent
	}
	if k.newer() {
		k.secondExpansion(f)
	}
	if f.recipe == nil && !f.triedImplicit {
		k.implicit(f)
	}
	k.useDefault(f)
	if now := k.stampOf(f); now != missing && now > this {
		return true, true
	}
	ok = true
	deps := f.deps
	f.deps = nil
	for i, d := range deps {
		if d.file.updating {
			k.sayError("%s: Circular %s <- %s dependency dropped.", k.name, f.name, d.file.name)
			continue
		}
		f.deps = append(f.deps, d)
		need, fine := k.check(d.file, f, this)
		if !fine {
			ok = false
			if !k.opts.keepGoing {
				f.deps = append(f.deps, deps[i+1:]...)
				break
			}
		}
		must = must || need && !d.order
	}
	return must, ok
}

// useDefault gives a file without a rule the recipe of .DEFAULT.
func (k *maker) useDefault(f *file) {
	if f.recipe != nil || f.isTarget || len(f.doubles) > 0 {
		return
	}
	if d := k.files[".DEFAULT"]; d != nil && d.recipe != nil {
		f.recipe = d.recipe
	}
}

// remake runs the recipe of a file.
func (k *maker) remake(f *file) bool {
	f.updated = true
	if f.recipe == nil {
		if f.phony || f.isTarget {
			return true
		}
		f.failed = true
		if k.remaking && f.parent == nil {
			return false
		}
		if f.parent != nil {
			k.complain("No rule to make target '%s', needed by '%s'", f.name, f.parent.name)
		} else {
			k.complain("No rule to make target '%s'", f.name)
		}
		return false
	}
	for _, other := range f.also {
		other.before = k.stampOf(other)
	}
	f.before = k.stampOf(f)
	ok := k.runRecipe(f)
	if f.started && !f.phony {
		f.time = unknown
		if (k.opts.dry || k.opts.question || k.opts.touch) && !f.onlyRecursive() {
			f.time = newest
		}
	}
	k.peers(f)
	for _, other := range f.also {
		if other == f {
			continue
		}
		other.updated, other.failed, other.started = true, f.failed, f.started
		if f.started && !other.phony {
			other.time = unknown
			if f.time == newest {
				other.time = newest
			}
		}
	}
	return ok
}

// peers warns of targets of a pattern rule that its recipe did not make, as 4.4 does.
func (k *maker) peers(f *file) {
	if !k.newer() || !f.byPattern || !f.started {
		return
	}
	if now := k.stampOf(f); now == newest || now <= f.before {
		return
	}
	for _, other := range f.also {
		if other.time = unknown; k.stampOf(other) == other.before {
			k.warn(&f.recipe.lines[0].at, "warning: pattern recipe did not update peer target '%s'.", other.name)
		}
	}
}

// complain is an error that ends the run, unless -k goes on.
func (k *maker) complain(format string, args ...any) {
	if r := k.wanted; r != nil {
		if r.optional {
			return
		}
		k.lost(r)
	}
	end := ".  Stop."
	if k.opts.keepGoing {
		end = "."
	}
	k.sayError("%s: *** "+format+"%s", append(append([]any{k.name}, args...), end)...)
	if !k.opts.keepGoing {
		k.removeIntermediates()
		panic(stop{2})
	}
}

// removeIntermediates deletes what implicit rules made on their way.
func (k *maker) removeIntermediates() {
	var names []string
	for _, f := range k.order {
		if !f.intermediate || !f.started || f.precious || f.secondary || f.explicit && !k.declared(f) || k.allSecond || f.fromCommand || f.failed {
			continue
		}
		if !k.opts.dry {
			if !k.exists(f.name) {
				continue
			}
			if err := k.Files.Remove(k.abs(f.name)); err != nil {
				continue
			}
		}
		names = append(names, f.name)
		f.started = false
	}
	if len(names) > 0 && !k.opts.silent {
		k.say("rm %s", strings.Join(names, " "))
	}
}

// declared reports whether .INTERMEDIATE names a file.
func (k *maker) declared(f *file) bool {
	d := k.files[".INTERMEDIATE"]
	return d != nil && slices.ContainsFunc(d.deps, func(d *dep) bool { return d.file == f })
}
