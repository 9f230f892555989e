package goaware

import (
	"path"
	"slices"
	"strings"
)

// plan decides what each step of the lineage gets, lowest first. Steps that get nothing are left out.
func (l *lineage) plan(modules bool) []plan {
	if !l.usesGo() || l.movesCaches() {
		return nil
	}
	modules = modules && l.sharesModules()
	looksAround := slices.ContainsFunc(l.steps, func(s *step) bool { return s.kind == unknown })
	var plans []plan
	for _, s := range l.steps {
		if s.ships || s.kind < callsGo || !s.asRoot() {
			continue
		}
		p := plan{step: s, release: builtin(l.base), cgo: builtin(l.base) == "" && s.mayUseCgo(), alone: looksAround, why: s.notConfined(l.base)}
		if dir := buildCache(s.env, s.op.Meta.Cwd); l.private(dir) && !s.mounts(dir) {
			p.build = dir
		}
		if modules {
			p.mod = moduleCache(s.env, s.op.Meta.Cwd)
		}
		if p.build != "" || p.mod != "" {
			plans = append(plans, p)
		}
	}
	return plans
}

// usesGo says whether the lineage is about Go: a step calls go, or a program that may stands in a golang image.
func (l *lineage) usesGo() bool {
	return slices.ContainsFunc(l.steps, func(s *step) bool {
		return s.callsGo() || s.kind == unknown && golang(l.base)
	})
}

// mayUseCgo says whether go may run a C compiler. What that gives depends on headers and libraries that are in no key of
// Go's cache (go help cache). The built-in base has none.
func (s *step) mayUseCgo() bool {
	set, isSet := s.script.assigned["CGO_ENABLED"]
	switch {
	case isSet && set != "0":
		return true
	case s.env["CGO_ENABLED"] == "0":
		return false
	case s.script.cgoOff && s.script.plain:
		return false
	}
	return slices.ContainsFunc(s.script.commands, func(c command) bool {
		compiles := look(c) == unknown || look(c) == callsGo && !(isGo(c.words[0]) && len(c.words) > 1 && slices.Contains(words("mod env version"), c.words[1]))
		return compiles && !c.cgoOff
	})
}

func (s *step) callsGo() bool {
	return slices.ContainsFunc(s.script.commands, func(c command) bool { return look(c) == callsGo })
}

// movesCaches says whether a script sets a variable that says where the caches are.
func (l *lineage) movesCaches() bool {
	return slices.ContainsFunc(l.steps, func(s *step) bool {
		return slices.ContainsFunc(movers, func(name string) bool { _, set := s.script.assigned[name]; return set }) ||
			slices.ContainsFunc(s.script.commands, func(c command) bool {
				return len(c.words) > 2 && isGo(c.words[0]) && c.words[1] == "env" && slices.ContainsFunc(c.words[2:], func(w string) bool {
					name, _, assigns := strings.Cut(w, "=")
					return assigns && slices.Contains(movers, name)
				})
			})
	})
}

// sharesModules says whether modules can lie in a cache mount instead of the layers: every step that may want them
// must get the mount, at one place, and nobody else may look there. A program that is not known (make, a script) may want
// them, too, and may look around there: it finds what its own Dockerfile has fetched, and nothing of other projects.
func (l *lineage) sharesModules() bool {
	if l.ships || !empty(l.base) {
		return false
	}
	place := ""
	for _, s := range l.steps {
		if s.kind < callsGo {
			continue
		}
		dir := moduleCache(s.env, s.op.Meta.Cwd)
		if dir == "" || place != "" && dir != place || !s.asRoot() || s.mounts(dir) {
			return false
		}
		place = dir
	}
	return l.private(place)
}

// private says whether dir is a place of the go command alone: no other stage reads there, no copy writes there, no
// other command of the lineage names it.
func (l *lineage) private(dir string) bool {
	if dir == "" {
		return false
	}
	for _, r := range l.reads {
		if overlap(absolute("/", string(r)), dir) {
			return false
		}
	}
	if slices.ContainsFunc(l.files, func(p string) bool { return within(p, dir) }) ||
		slices.ContainsFunc(l.trees, func(p string) bool { return within(dir, p) }) {
		return false
	}
	return !slices.ContainsFunc(l.steps, func(s *step) bool { return s.names(dir) })
}

// names says whether a command of the step, other than go itself, may touch dir.
func (s *step) names(dir string) bool {
	cwds := []string{s.op.Meta.Cwd}
	for _, c := range s.script.commands {
		if len(c.words) > 1 && c.words[0] == "cd" {
			cwds = append(cwds, absolute(s.op.Meta.Cwd, c.words[1]))
		}
	}
	if slices.ContainsFunc(s.script.loose, func(w string) bool { return names(w, cwds, dir, false) }) {
		return true
	}
	return slices.ContainsFunc(s.script.commands, func(c command) bool { return touches(c, cwds, dir) })
}

// mounts says whether the step has a mount of its own at dir, above or below it.
func (s *step) mounts(dir string) bool {
	for _, m := range s.op.Mounts {
		if dest := path.Clean(m.Dest); dest != "/" && overlap(dest, dir) {
			return true
		}
	}
	return false
}

// asRoot says whether the step runs with uid 0. The caches belong to it, so another user could not write them.
func (s *step) asRoot() bool {
	user, _, _ := strings.Cut(s.op.Meta.User, ":")
	return user == "" || user == "root" || user == "0"
}
