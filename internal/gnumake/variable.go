package gnumake

import (
	"path"
	"slices"
	"strings"
)

// origin says where a variable came from; a greater one is not replaced by a lesser one.
type origin int

const (
	fromDefault origin = iota
	fromEnv
	fromFile
	fromEnvOverride
	fromCommand
	fromOverride
	fromAutomatic
)

var originNames = [...]string{"default", "environment", "file", "environment override", "command line", "override", "automatic"}

// exporting says whether a variable goes into the environment of recipes.
type exporting int

const (
	exportDefault exporting = iota // by its origin and its name
	exportYes
	exportNo
	exportNever // not even by export without names
)

// variable is one with its value, which is text to expand where the variable is recursive.
type variable struct {
	name, value string
	recursive   bool
	origin      origin
	export      exporting
	appends     bool // += of a target: the value follows the one of the next scope
	private     bool
	perTarget   bool
	expanding   int // how often it is being expanded
	callable    int // how often it may be, by $(call)
	loc         *Location
}

// varSet are variables by name.
type varSet struct{ vars map[string]*variable }

func newVarSet() *varSet { return &varSet{map[string]*variable{}} }

// scope is a chain of sets, the nearest first.
type scope struct {
	set      *varSet
	next     *scope
	inherits bool // next belongs to another target: private variables end here
}

// lookup finds a variable in the current scopes.
func (k *maker) lookup(name string) *variable {
	parent := false
	for s := k.scope; s != nil; s = s.next {
		if v := s.set.vars[name]; v != nil && !(parent && v.private) {
			return k.special(v)
		}
		parent = parent || s.inherits
	}
	return nil
}

// special fills in the variables whose value is made when they are asked for.
func (k *maker) special(v *variable) *variable {
	if v.name != ".VARIABLES" || v.origin != fromDefault {
		return v
	}
	names := make([]string, 0, len(k.global.vars))
	for name := range k.global.vars {
		names = append(names, name)
	}
	slices.Sort(names)
	v.value = strings.Join(names, " ")
	return v
}

// set defines a variable in a set, if nothing stronger has defined it. It returns the variable.
func (k *maker) set(in *varSet, name, value string, recursive bool, from origin) *variable {
	v := in.vars[name]
	if v == nil {
		v = &variable{name: name}
		in.vars[name] = v
	} else {
		if k.opts.envOverrides && v.origin == fromEnv {
			v.origin = fromEnvOverride
		}
		if from < v.origin {
			return v
		}
	}
	v.value, v.recursive, v.origin, v.loc = value, recursive, from, k.loc
	v.appends = false
	return v
}

// flavor is the kind of an assignment.
type flavor int

const (
	recursively flavor = iota
	simply
	posixly // :::= of 4.4
	conditionally
	appending
	byShell
)

// assignment is NAME OP VALUE, as read.
type assignment struct {
	name, value string
	flavor      flavor
}

// parseAssignment reads an assignment. ok is false where the text is none.
func parseAssignment(line string) (a assignment, ok bool) {
	line = trimBlanks(line)
	space := false
	for i := 0; i < len(line); {
		c := line[i]
		switch {
		case c == '$':
			end := skipReference(line, i)
			if space {
				return a, false
			}
			i = end
			continue
		case c == '#':
			return a, false
		case isBlank(c):
			space = true
			i++
			continue
		}
		op := 0
		switch c {
		case '=':
			a.flavor, op = recursively, 1
		case ':':
			switch rest := line[i:]; {
			case strings.HasPrefix(rest, ":="):
				a.flavor, op = simply, 2
			case strings.HasPrefix(rest, "::="):
				a.flavor, op = simply, 3
			case strings.HasPrefix(rest, ":::="):
				a.flavor, op = posixly, 4
			default:
				return a, false
			}
		case '+', '?', '!':
			if i+1 < len(line) && line[i+1] == '=' {
				a.flavor, op = map[byte]flavor{'+': appending, '?': conditionally, '!': byShell}[c], 2
			}
		}
		if op > 0 {
			a.name = trimBlanksRight(line[:i])
			a.value = trimBlanks(line[i+op:])
			return a, true
		}
		if space {
			return a, false
		}
		i++
	}
	return a, false
}

// skipReference is the index behind the reference that begins with the dollar sign at i.
func skipReference(s string, i int) int {
	if i+1 >= len(s) {
		return i + 1
	}
	open := s[i+1]
	var end byte
	switch open {
	case '(':
		end = ')'
	case '{':
		end = '}'
	default:
		return i + 2
	}
	depth := 1
	for i += 2; i < len(s); i++ {
		switch s[i] {
		case open:
			depth++
		case end:
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(s)
}

// assign does an assignment into a set. target is true for a variable of a target.
func (k *maker) assign(in *varSet, name string, a assignment, from origin, target bool) *variable {
	value, recursive, appends := a.value, true, false
	switch a.flavor {
	case simply:
		value, recursive = k.expand(value), false
	case posixly:
		if !k.newer() {
			k.unserved(nil, ":::= is not in make 4.3")
		}
		value = strings.ReplaceAll(k.expand(value), "$", "$$")
	case byShell:
		value = k.shell(k.expand(value))
	case conditionally:
		if v := k.lookup(name); v != nil {
			return v
		}
	case appending:
		var old *variable
		if target {
			old = in.vars[name]
		} else {
			old = k.lookup(name)
		}
		switch {
		case old == nil:
			appends = target
		default:
			if from < old.origin && !(k.opts.envOverrides && old.origin == fromEnv) {
				return old
			}
			recursive, appends = old.recursive, old.appends
			if !recursive {
				value = k.expand(value)
			}
			if old.value != "" {
				value = old.value + " " + value
			}
			k.count(len(value))
		}
	}
	v := k.set(in, name, value, recursive, from)
	if appends {
		v.appends = true
	}
	if in == k.global {
		k.assigned(v)
	}
	return v
}

// assigned does what setting a special variable does at once.
func (k *maker) assigned(v *variable) {
	switch v.name {
	case ".RECIPEPREFIX":
		k.prefixChar = '\t'
		if v.value != "" {
			k.prefixChar = v.value[0]
		}
	case "MAKEFLAGS":
		if k.newer() && (v.origin == fromFile || v.origin == fromOverride) { // 4.3 reads it when all is read
			k.flagsAssigned(v)
		}
	case "GUILE", ".EXTRA_PREREQS":
		k.unserved(v.loc, "%s is not served", v.name)
	case "VPATH", "GPATH":
		if trimBlanks(v.value) != "" {
			k.unserved(v.loc, "%s is not served", v.name)
		}
	}
}

// newer reports whether version 4.4 is meant.
func (k *maker) newer() bool { return strings.HasPrefix(k.version(), "4.4") }

func (k *maker) version() string {
	if k.Version == "" {
		return "4.3"
	}
	return k.Version
}

// initVariables defines what is there before the first Makefile.
func (k *maker) initVariables(restarts int) {
	def := func(name, value string, recursive bool, from origin) *variable {
		v := k.set(k.global, name, value, recursive, from)
		v.loc = nil
		return v
	}
	if !k.opts.noVariables {
		for _, line := range strings.Split(strings.TrimSpace(defaultVariables), "\n") {
			name, value, _ := strings.Cut(line, " = ")
			def(strings.TrimSuffix(name, " ="), value, true, fromDefault)
		}
	}
	def(".LIBPATTERNS", "lib%.so lib%.a", true, fromDefault)
	def(".VARIABLES", "", false, fromDefault)
	def(".INCLUDE_DIRS", k.includeDirs(), true, fromDefault)
	def(".SHELLFLAGS", "-c", false, fromDefault)
	def(".RECIPEPREFIX", "", false, fromDefault)
	def(".DEFAULT_GOAL", "", false, fromFile)
	def(".LOADED", "", false, fromDefault)
	features := "target-specific order-only second-expansion else-if shortest-stem undefine oneshell nocomment grouped-target " +
		"extra-prereqs archives jobserver output-sync check-symlink load"
	if k.newer() {
		features = "target-specific order-only second-expansion else-if shortest-stem undefine oneshell nocomment grouped-target " +
			"extra-prereqs notintermediate shell-export archives jobserver jobserver-fifo output-sync load"
	}
	def(".FEATURES", features, true, fromDefault)
	for _, c := range []string{"@", "%", "*", "<", "?", "^", "+"} {
		def(c+"D", "$(patsubst %/,%,$(dir $"+c+"))", true, fromAutomatic)
		def(c+"F", "$(notdir $"+c+")", true, fromAutomatic)
	}
	for name, value := range k.env {
		if name == "" || strings.ContainsAny(name, " \t") || name == "MAKEFLAGS" || name == "MAKE_RESTARTS" {
			continue
		}
		if name == "SHELL" || name == "MAKEFILES" { // SHELL is the shell of whoever calls, not of recipes
			v := def(name, value, true, fromEnv)
			if name == "SHELL" {
				delete(k.global.vars, name)
			} else {
				v.export = exportYes
			}
			continue
		}
		if name == "GNUMAKEFLAGS" { // MAKEFLAGS holds what stood there
			value = ""
		}
		v := def(name, value, true, fromEnv)
		v.export = exportYes
		if k.opts.envOverrides {
			v.origin = fromEnvOverride
		}
	}
	for _, name := range []string{"MAKEFILES", "GNUMAKEFLAGS"} {
		if k.global.vars[name] == nil {
			def(name, "", false, fromDefault)
		}
	}
	def("SHELL", "/bin/sh", true, fromDefault).export = exportNever
	def("CURDIR", k.cwd, false, fromFile)
	def("MAKE_VERSION", k.version(), false, fromDefault)
	def("MAKE_HOST", "x86_64-pc-linux-gnu", false, fromDefault)
	command := k.Name
	if command == "" {
		command = "make"
	}
	if strings.Contains(command, "/") && !path.IsAbs(command) {
		command = path.Join(k.Dir, command)
	}
	def("MAKE_COMMAND", command, false, fromDefault)
	def("MAKE", "$(MAKE_COMMAND)", true, fromDefault)
	def("MAKELEVEL", itoa(k.level), false, fromEnv)
	goals := def("MAKECMDGOALS", strings.Join(k.opts.goals, " "), false, fromAutomatic)
	if len(k.opts.goals) == 0 {
		delete(k.global.vars, goals.name)
	} else {
		goals.origin = fromDefault
	}
	if restarts > 0 {
		def("MAKE_RESTARTS", itoa(restarts), false, fromDefault).export = exportNever
	}
	def(".SHELLSTATUS", "", false, fromOverride)
	delete(k.global.vars, ".SHELLSTATUS")
	k.defineFlags(false)
	for _, text := range k.opts.overrides {
		a, ok := parseAssignment(text)
		if !ok {
			k.unserved(nil, "the assignment %s on the command line", text)
		}
		name := k.expand(a.name)
		if v := k.assign(k.global, name, a, fromCommand, false); v.origin == fromCommand {
			v.loc = nil
		}
	}
}
