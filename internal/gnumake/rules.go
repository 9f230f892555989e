package gnumake

import "strings"

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
	if m, ok := k.modifiers(trimBlanks(after), true); ok && !m.define && !m.undefine {
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
	}
	if m.export {
		v.export = exportYes
	}
	if m.unexport {
		v.export = exportNo
	}
	if m.private {
		v.private = true
	}
}
