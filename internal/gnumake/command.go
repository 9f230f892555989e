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
	found := map[string]*variable{}
	parent := false
	for s := k.scope; s != nil; s = s.next {
		for name, v := range s.set.vars {
			if old := found[name]; old == nil && !(parent && v.private) {
				if v.export == exportDefault && v.perTarget { // as the variable of all is
					if g := k.global.vars[name]; g != nil {
						c := *v
						c.export = g.export
						if g.origin == fromEnv || g.origin == fromCommand {
							c.export = exportYes
						}
						if k.exported(&c) {
							v.export = c.export
						}
					}
				}
				found[name] = v
			}
		}
		parent = parent || s.inherits
	}
	var env []string
	for name, v := range found {
		if !k.exported(v) || name == "MAKELEVEL" {
			continue
		}
		env = append(env, name+"="+k.valueOf(v))
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

// shellEnv is the environment of $(shell …) in version 4.4, which has what is exported; a variable that is being expanded is as it was.
func (k *maker) shellEnv() []string {
	env := append([]string{}, k.Env...)
	for name, v := range k.global.vars {
		if k.exported(v) && v.expanding == 0 && name != "MAKELEVEL" && v.origin != fromEnv {
			env = slices.DeleteFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
			env = append(env, name+"="+k.valueOf(v))
		}
	}
	return env
}

// exported reports whether a variable goes into the environment.
func (k *maker) exported(v *variable) bool {
	switch v.export {
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
