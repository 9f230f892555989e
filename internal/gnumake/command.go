package gnumake

import (
	"slices"
	"strings"
)

// shellChars are characters for which a line needs a shell.
const shellChars = "#;\"*?[]&|<>(){}$`^~!"

// shellCommands are words that only a shell knows.
var shellCommands = map[string]bool{
	".": true, ":": true, "alias": true, "bg": true, "break": true, "case": true, "cd": true, "command": true, "continue": true,
	"eval": true, "exec": true, "exit": true, "export": true, "fc": true, "fg": true, "for": true, "getopts": true, "hash": true,
	"if": true, "jobs": true, "login": true, "logout": true, "read": true, "readonly": true, "return": true, "set": true,
	"shift": true, "test": true, "times": true, "trap": true, "type": true, "ulimit": true, "umask": true, "unalias": true,
	"unset": true, "wait": true, "while": true,
}

// argv is how a line is run: in words where it is plain and the shell is the default one, by the shell otherwise. None for an empty line.
func (k *maker) argv(line, shell, flags string) (argv []string, isShell bool) {
	line = strings.TrimLeft(line, spaces)
	if strings.Trim(line, spaces) == "" {
		return nil, false
	}
	if (shell == "/bin/sh" || shell == "") && (flags == "-c" || flags == "-ec") {
		if argv, ok := plainWords(line); ok {
			return argv, false
		}
	}
	if shell == "" {
		shell = "/bin/sh"
	}
	argv = append(argv, words(shell)...)
	argv = append(argv, words(flags)...)
	return append(argv, line), true
}

// plainWords splits a line that needs no shell.
func plainWords(line string) ([]string, bool) {
	var out []string
	var b strings.Builder
	in := false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '\'':
			end := strings.IndexByte(line[i+1:], '\'')
			if end < 0 {
				return nil, false
			}
			quoted := line[i+1 : i+1+end]
			if strings.Contains(quoted, "\\\n") {
				return nil, false
			}
			b.WriteString(quoted)
			in = true
			i += end + 1
		case strings.IndexByte(shellChars, c) >= 0:
			return nil, false
		case c == '=' && len(out) == 0:
			return nil, false
		case c == '\\' && i+1 < len(line):
			i++
			if line[i] == '\n' {
				if in {
					return nil, false
				}
				continue
			}
			b.WriteByte(line[i])
			in = true
		case c == '\\':
			return nil, false
		case c == '\n':
			return nil, false
		case isSpace(c):
			if in {
				out = append(out, b.String())
				if len(out) == 1 && shellCommands[out[0]] {
					return nil, false
				}
			}
			b.Reset()
			in = false
		default:
			b.WriteByte(c)
			in = true
		}
	}
	if in {
		out = append(out, b.String())
	}
	if len(out) == 0 {
		return nil, true // nothing but blanks and continued lines
	}
	if out[0] == "" || shellCommands[out[0]] {
		return nil, false
	}
	return out, true
}

// recipeEnv is the environment of the lines of a recipe.
func (k *maker) recipeEnv() []string {
	var env []string
	for name, v := range k.environ() {
		if name != "MAKELEVEL" {
			env = append(env, name+"="+k.valueOf(v))
		}
	}
	if k.global.vars["SHELL"].export != exportYes {
		if value, ok := k.env["SHELL"]; ok {
			env = append(env, "SHELL="+value)
		}
	}
	env = append(env, "MAKELEVEL="+itoa(k.level+1))
	slices.Sort(env)
	return env
}

// environ are the variables that go into the environment in the current scope. In 4.4 what is nearest counts, exported as the nearest
// one says that says anything; in 4.3 the nearest of those that are exported, private ones of other targets too.
func (k *maker) environ() map[string]*variable {
	found := map[string]*variable{}
	how := map[string]exporting{}
	parent := false
	for s := k.scope; s != nil; s = s.next {
		for name, v := range s.set.vars {
			_, have := found[name]
			switch {
			case k.newer() && parent && v.private:
			case k.newer() && have:
				if how[name] == exportDefault {
					how[name] = v.export
				}
			case k.newer():
				found[name], how[name] = v, v.export
			case have:
			default:
				export := v.export
				if g := k.global.vars[name]; g != nil && v.perTarget && export == exportDefault {
					export = g.export
				}
				if k.exported(v, export) {
					found[name], how[name] = v, export
				}
			}
		}
		parent = parent || s.inherits
	}
	for name, v := range found {
		if !k.exported(v, how[name]) {
			delete(found, name)
		}
	}
	return found
}

// shellEnv is the environment of $(shell …) in version 4.4, which has what is exported; a variable that is being expanded is as it was.
func (k *maker) shellEnv() []string {
	if k.shellEnvs > 0 && k.Judge != nil {
		return k.Env // a variable of many that call each other's environment up: what there is to judge is the same
	}
	k.shellEnvs++
	defer func() { k.shellEnvs-- }()
	env := append(slices.DeleteFunc(slices.Clone(k.Env), func(e string) bool { return strings.HasPrefix(e, "MAKELEVEL=") }),
		"MAKELEVEL="+itoa(k.level+1))
	for name, v := range k.environ() {
		if v.expanding == 0 && name != "MAKELEVEL" && name != "SHELL" && v.origin != fromEnv {
			env = slices.DeleteFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
			env = append(env, name+"="+k.valueOf(v))
		}
	}
	return env
}

// exported reports whether a variable that is exported as how says goes into the environment.
func (k *maker) exported(v *variable, how exporting) bool {
	switch how {
	case exportYes:
		return true
	case exportNo, exportNever:
		return false
	}
	if v.origin == fromDefault || v.origin == fromAutomatic {
		return false
	}
	if !k.exports && v.origin != fromCommand && v.origin != fromEnv && v.origin != fromEnvOverride {
		return false
	}
	for i := 0; i < len(v.name); i++ {
		c := v.name[i]
		if c != '_' && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(i > 0 && c >= '0' && c <= '9') {
			return false
		}
	}
	return true
}
