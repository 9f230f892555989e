package gnumake

import (
	"slices"
	"sort"
	"strings"
	"time"
)

// fileScope is where the variables of a recipe are looked up: those of the file, of patterns that it matches, of the files that
// need it, and of all.
func (k *maker) fileScope(f *file) *scope {
	base := &scope{set: k.global}
	if f.parent != nil {
		if f.parent != f {
			base = k.targetScope(f.parent, 0)
		}
	}
	return &scope{set: newVarSet(), next: k.ownScope(f, base)}
}

// targetScope is the scope of a file without the automatic variables.
func (k *maker) targetScope(f *file, depth int) *scope {
	base := &scope{set: k.global}
	if f.parent != nil && f.parent != f && depth < maxDepth {
		base = k.targetScope(f.parent, depth+1)
	}
	return k.ownScope(f, base)
}

func (k *maker) ownScope(f *file, base *scope) *scope {
	s := base
	inherits := true
	type match struct {
		v      patternVar
		length int
	}
	var found []match
	for _, v := range k.patternVars {
		pre, post, _, _ := percent(v.pattern)
		if len(f.name) > len(pre)+len(post)-1 && strings.HasPrefix(f.name, pre) && strings.HasSuffix(f.name, post) && len(f.name) >= len(pre)+len(post) {
			found = append(found, match{v, len(f.name) - len(pre) - len(post)})
		}
	}
	if len(found) > 0 {
		sort.SliceStable(found, func(i, j int) bool { return found[i].length > found[j].length })
		in := newVarSet()
		s = &scope{set: in, next: s, inherits: inherits}
		inherits = false
		at := k.loc
		k.within(s, func() {
			for _, m := range found {
				k.loc = m.v.at
				k.targetAssign(in, m.v.a, m.v.m)
			}
		})
		k.loc = at
	}
	in := f.vars
	if in == nil {
		in = newVarSet() // private variables end here in any case
	}
	return &scope{set: in, next: s, inherits: inherits}
}

// autoVars sets $@, $<, $^, $+, $?, $* and $|.
func (k *maker) autoVars(in *varSet, f *file, stem string, deps []*dep) {
	set := func(name, value string) {
		v := k.set(in, name, value, false, fromAutomatic)
		v.export = exportNo
	}
	if stem == "" {
		// A file with a known suffix has what stands before it as the stem.
		stem = f.stem
		if stem == "" {
			for _, d := range k.files[".SUFFIXES"].deps {
				if rest, ok := strings.CutSuffix(f.name, d.name); ok && rest != "" && len(d.name) > 0 {
					stem = rest
					break
				}
			}
		}
	}
	set("@", f.name)
	set("%", "")
	set("*", stem)
	first := ""
	var all, plus, changed, only []string
	seen := map[string]bool{}
	for _, d := range deps {
		if d.order {
			continue
		}
		if first == "" {
			first = d.name
		}
		plus = append(plus, d.name)
		if !seen[d.name] {
			seen[d.name] = true
			all = append(all, d.name)
		}
	}
	seenChanged := map[string]bool{}
	for _, d := range deps {
		switch {
		case d.order:
			if !seen[d.name] {
				seen[d.name] = true
				only = append(only, d.name)
			}
		case (d.changed || k.opts.always) && !seenChanged[d.name]:
			seenChanged[d.name] = true
			changed = append(changed, d.name)
		}
	}
	if d := k.files[".DEFAULT"]; d != nil && f.recipe != nil && f.recipe == d.recipe {
		first = f.name
	}
	set("<", first)
	set("^", strings.Join(all, " "))
	set("+", strings.Join(plus, " "))
	set("?", strings.Join(changed, " "))
	set("|", strings.Join(only, " "))
}

// isRecursive reports whether a line of a recipe calls make, by its text before it is expanded.
func isRecursive(text string) bool {
	return strings.Contains(text, "$(MAKE)") || strings.Contains(text, "${MAKE}") || strings.Contains(flagsOf(text), "+")
}

// flagsOf are the characters before a command.
func flagsOf(text string) string {
	n := 0
	for n < len(text) && strings.IndexByte(" \t@+-", text[n]) >= 0 {
		n++
	}
	return text[:n]
}

// onlyRecursive reports whether all lines of the recipe are run under -n.
func (f *file) onlyRecursive() bool {
	return f.recipe != nil && !slices.ContainsFunc(f.recipe.lines, func(l recipeLine) bool { return !isRecursive(l.text) })
}

// expanded is a line of a recipe that is to be run.
type expanded struct {
	text, flags string
	recursive   bool
	at          Location
}

// runRecipe expands the lines of a recipe and runs them.
func (k *maker) runRecipe(f *file) bool {
	if f.recipe.unserved != "" {
		k.unserved(&Location{}, "%s: %s", f.name, f.recipe.unserved)
	}
	at := k.loc
	defer func() { k.loc = at }()
	if k.opts.touch && !slices.ContainsFunc(f.recipe.lines, func(l recipeLine) bool { return isRecursive(l.text) }) {
		return k.touch(f)
	}
	s := k.fileScope(f)
	k.autoVars(s.set, f, "", f.deps)
	ok := true
	k.within(s, func() {
		var lines []expanded
		if k.oneShell {
			lines = k.oneLine(f)
		} else {
			for _, l := range f.recipe.lines {
				where := l.at
				k.loc = &where
				text := k.expand(joinRecipe(l.text, k.prefixChar))
				lines = append(lines, expanded{text, flagsOf(l.text), isRecursive(l.text), where})
			}
		}
		var env []string
		for _, l := range lines {
			where := l.at
			k.loc = &where
			if ok = k.runLine(f, l, &env); !ok {
				break
			}
		}
	})
	return ok
}

// oneLine is a recipe that one shell runs as a whole.
func (k *maker) oneLine(f *file) []expanded {
	if len(f.recipe.lines) == 0 {
		return nil
	}
	var parts []string
	recursive := false
	for i, l := range f.recipe.lines {
		text := l.text
		if i > 0 {
			text = strings.TrimLeft(text, " \t@+-")
		}
		recursive = recursive || isRecursive(l.text)
		parts = append(parts, text)
	}
	where := f.recipe.lines[0].at
	k.loc = &where
	text := k.expand(joinRecipe(strings.Join(parts, "\n"), k.prefixChar))
	return []expanded{{text, flagsOf(f.recipe.lines[0].text), recursive, where}}
}

// joinRecipe prepares the continued lines of a recipe: the character before a line that goes on goes away, and within references the
// lines are joined.
func joinRecipe(text string, prefix byte) string {
	if !strings.Contains(text, "\n") {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		if text[i] == '$' && i+1 < len(text) && (text[i+1] == '(' || text[i+1] == '{') {
			end := skipReference(text, i)
			b.WriteString(collapse(text[i:end]))
			i = end
			continue
		}
		b.WriteByte(text[i])
		if text[i] == '\n' && i > 0 && text[i-1] == '\\' && i+1 < len(text) && text[i+1] == prefix {
			i++
		}
		i++
	}
	return b.String()
}

// runLine runs what one line of a recipe became, which may be several lines.
func (k *maker) runLine(f *file, l expanded, env *[]string) bool {
	for rest := l.text; rest != ""; {
		line := rest
		if k.oneShell {
			rest = ""
		} else {
			end := lineEnd(rest)
			line, rest = rest[:end], strings.TrimPrefix(rest[end:], "\n")
		}
		flags := l.flags + flagsOf(line)
		command := strings.TrimLeft(line, " \t@+-")
		silent := strings.Contains(flags, "@") || k.opts.silent || f.quiet || k.allSilent
		ignore := strings.Contains(flags, "-") || k.opts.ignore || f.ignores || k.allIgnore
		recursive := l.recursive || strings.Contains(flags, "+")
		if strings.Trim(command, spaces) == "" {
			continue
		}
		argv, isShell := k.argv(command, k.expandVar("SHELL"), k.expandVar(".SHELLFLAGS"))
		if len(argv) == 0 {
			continue
		}
		if k.opts.question && !recursive {
			f.asked = true
			return false
		}
		if k.opts.dry || !silent {
			k.say("%s", command)
		}
		k.ran++
		f.started = true
		if k.opts.dry && !recursive {
			continue
		}
		if *env == nil {
			*env = k.recipeEnv()
		}
		j := &Job{Argv: argv, Shell: isShell, Text: command, Env: *env, Dir: k.cwd, Stdin: k.Stdin, Stdout: k.stdout, Stderr: k.stderr, Where: l.at}
		exit, err := k.Runner.Run(k.ctx, j)
		k.alive()
		code := k.started(argv[0], exit, err)
		if code == 0 && exit.Signal == "" {
			continue
		}
		what := "Error " + itoa(code)
		if exit.Signal != "" {
			what = exit.Signal
		}
		where := l.at.String()
		if l.at.Line == 0 {
			where = l.at.File
		}
		if ignore {
			if !k.opts.silent && !k.allSilent {
				k.sayError("%s: [%s: %s] %s (ignored)", k.name, where, f.name, what)
			}
			continue
		}
		f.failed = true
		switch r := k.wanted; {
		case r != nil && r.optional: // that it could not be made is no matter
		default:
			if r != nil {
				k.lost(r)
			}
			k.sayError("%s: *** [%s: %s] %s", k.name, where, f.name, what)
		}
		k.deleteTargets(f, exit.Signal != "")
		if k.wanted != nil && !k.wanted.optional && !k.opts.keepGoing {
			panic(stop{2})
		}
		return false
	}
	return true
}

// lineEnd is where the first line ends whose newline no backslash quotes.
func lineEnd(s string) int {
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			i++
		} else if s[i] == '\n' {
			return i
		}
	}
	return len(s)
}

// deleteTargets removes what a failed recipe may have half written.
func (k *maker) deleteTargets(f *file, signal bool) {
	if !k.deleteOnErr && !signal {
		return
	}
	for _, t := range append([]*file{f}, f.also...) {
		if t.phony || t.precious || k.allPrecious {
			continue
		}
		before := t.time
		t.time = unknown
		if now := k.stampOf(t); now == missing || now == before {
			continue
		}
		if info, err := k.Files.Stat(k.abs(t.name)); err != nil || !info.Mode().IsRegular() {
			continue
		}
		k.sayError("%s: *** Deleting file '%s'", k.name, t.name)
		if err := k.Files.Remove(k.abs(t.name)); err != nil {
			k.sayError("%s: *** unlink: %s: %s", k.name, t.name, reason(err))
		}
	}
}

// touch is -t.
func (k *maker) touch(f *file) bool {
	if f.phony || len(f.recipe.lines) == 0 {
		return true
	}
	if !k.opts.silent {
		k.say("touch %s", f.name)
	}
	k.ran++
	f.started = true
	if k.opts.dry {
		return true
	}
	if err := k.Files.Touch(k.abs(f.name), time.Now()); err != nil {
		k.sayError("%s: touch: %s: %s", k.name, f.name, reason(err))
		f.failed = true
		return false
	}
	return true
}
