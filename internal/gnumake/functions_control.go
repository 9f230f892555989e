package gnumake

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
)

// controlFunctions are those that decide, define, run and speak.
func controlFunctions() []function {
	return []function{
		{name: "if", min: 2, max: 3, lazy: true, run: func(k *maker, a []string) string {
			if k.truth(k.expand(strings.Trim(a[0], spaces))) {
				return k.expand(a[1])
			}
			if len(a) > 2 {
				return k.expand(a[2])
			}
			return ""
		}},
		{name: "or", min: 1, lazy: true, run: func(k *maker, a []string) string {
			for _, arg := range a {
				if v := k.expand(strings.Trim(arg, spaces)); k.truth(v) {
					return v
				}
			}
			return ""
		}},
		{name: "and", min: 1, lazy: true, run: func(k *maker, a []string) string {
			v := ""
			for _, arg := range a {
				if v = k.expand(strings.Trim(arg, spaces)); !k.truth(v) {
					return ""
				}
			}
			return v
		}},
		{name: "foreach", min: 3, max: 3, lazy: true, run: foreach},
		{name: "let", min: 3, max: 3, lazy: true, run: let},
		{name: "call", min: 1, run: callFunction},
		{name: "value", max: 1, run: func(k *maker, a []string) string {
			if v := k.lookup(a[0]); v != nil {
				return v.value
			}
			return ""
		}},
		{name: "eval", max: 1, run: func(k *maker, a []string) string {
			k.evalText(a[0])
			return ""
		}},
		{name: "origin", max: 1, run: func(k *maker, a []string) string {
			if v := k.lookup(a[0]); v != nil {
				return originNames[v.origin]
			}
			return "undefined"
		}},
		{name: "flavor", max: 1, run: func(k *maker, a []string) string {
			switch v := k.lookup(a[0]); {
			case v == nil:
				return "undefined"
			case v.recursive:
				return "recursive"
			}
			return "simple"
		}},
		{name: "shell", max: 1, run: func(k *maker, a []string) string { return k.shell(a[0]) }},
		{name: "error", max: 1, run: func(k *maker, a []string) string {
			k.fatal(k.loc, "%s", a[0])
			return ""
		}},
		{name: "warning", max: 1, run: func(k *maker, a []string) string {
			k.warn(k.loc, "%s", a[0])
			return ""
		}},
		{name: "info", max: 1, run: func(k *maker, a []string) string {
			k.say("%s", a[0])
			return ""
		}},
		{name: "guile", run: func(k *maker, _ []string) string {
			k.unserved(nil, "guile is not served")
			return ""
		}},
	}
}

// truth reports whether a condition holds: it is not empty.
func (k *maker) truth(s string) bool {
	if k.Judge.unknown(s) {
		if strings.Trim(strings.ReplaceAll(s, Unknown, ""), spaces) != "" {
			return true
		}
		return k.Judge.choose()
	}
	return s != ""
}

// local defines variables for the time of fn.
func (k *maker) local(fn func(in *varSet)) {
	in := newVarSet()
	k.within(&scope{set: in, next: k.scope}, func() { fn(in) })
}

func foreach(k *maker, a []string) string {
	name, list := k.expand(strings.Trim(a[0], spaces)), words(k.expand(a[1]))
	if strings.ContainsAny(name, spaces) {
		k.unserved(nil, "foreach over the name %q", name)
	}
	var out []string
	total := 0
	k.local(func(in *varSet) {
		for _, w := range list {
			k.alive()
			k.set(in, name, w, false, fromAutomatic)
			text := k.expand(a[2])
			if total += len(text) + 1; total > maxText {
				k.unserved(nil, "foreach gives more than %d bytes", maxText)
			}
			out = append(out, text)
		}
	})
	return strings.Join(out, " ")
}

// let is the function of make 4.4: names take the words of a list, the last one the rest.
func let(k *maker, a []string) string {
	names, list := words(k.expand(a[0])), trimBlanks(k.expand(a[1]))
	out := ""
	k.local(func(in *varSet) {
		for i, name := range names {
			value := list
			if i < len(names)-1 {
				at := strings.IndexAny(list, spaces)
				if at < 0 {
					at = len(list)
				}
				value, list = list[:at], trimBlanks(list[at:])
			} else {
				value = trimBlanksRight(value)
			}
			k.set(in, name, value, false, fromAutomatic)
		}
		out = k.expand(a[2])
	})
	return out
}

// callFunction expands a variable with $(1), $(2), … as its arguments, or calls a function by its name.
func callFunction(k *maker, a []string) string {
	name := strings.Trim(a[0], spaces)
	if name == "" {
		return ""
	}
	if f := k.commands[name]; f != nil {
		args := a[1:]
		if f.max > 0 && len(args) > f.max {
			joined := strings.Join(args[f.max-1:], ",")
			args = append(append([]string{}, args[:f.max-1]...), joined)
		}
		if len(args) < f.min {
			k.fatal(k.where(), "insufficient number of arguments (%d) to function '%s'", len(args), f.name)
		}
		if len(args) == 0 {
			args = []string{""}
		}
		return f.run(k, args)
	}
	v := k.lookup(name)
	if v == nil {
		k.undefined(name)
		return ""
	}
	out := ""
	k.local(func(in *varSet) {
		a[0] = name
		last := 0
		for i, arg := range a {
			k.set(in, itoa(i), arg, false, fromAutomatic)
			last = i
		}
		// An inner call does not see the arguments of the outer one.
		for i := last + 1; ; i++ {
			if v := k.lookup(itoa(i)); v == nil || v.origin != fromAutomatic {
				break
			}
			k.set(in, itoa(i), "", false, fromAutomatic)
		}
		v.callable += maxDepth
		before := v.callable
		if v.recursive || v.appends {
			out = k.valueOf(v)
		} else {
			out = k.expand("$(" + name + ")")
		}
		v.callable = min(before, v.callable) - maxDepth
		if v.callable < 0 {
			v.callable = 0
		}
	})
	return out
}

// shell runs a line and gives its output as one line.
func (k *maker) shell(text string) string {
	k.alive()
	if k.Judge != nil {
		return k.Judge.shell(k, text)
	}
	argv, isShell := k.argv(trimBlanks(text), k.expandVar("SHELL"), k.expandVar(".SHELLFLAGS"))
	status, out := 0, bytes.Buffer{}
	if len(argv) > 0 {
		env := k.Env
		if k.newer() {
			env = k.shellEnv()
		}
		j := &Job{Argv: argv, Shell: isShell, Text: text, Output: true, Env: env, Dir: k.cwd, Stdin: k.Stdin, Stdout: &bounded{k: k, b: &out}, Stderr: k.stderr}
		if k.loc != nil {
			j.Where = *k.loc
		}
		exit, err := k.Runner.Run(k.ctx, j)
		if out.Len() > maxText {
			k.unserved(nil, "$(shell) gives more than %d bytes", maxText)
		}
		status = k.started(argv[0], exit, err)
		if exit.Signal != "" {
			status = exit.Code
		}
	}
	k.set(k.global, ".SHELLSTATUS", itoa(status), false, fromOverride)
	k.count(out.Len())
	s := strings.TrimRight(out.String(), "\n")
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\n", " ")
}

// started is the code of a process; where it could not be started the message was printed and the code is 127.
func (k *maker) started(program string, exit Exit, err error) int {
	switch {
	case err == nil:
		return exit.Code
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		k.sayError("%s: %s: %s", k.name, program, reason(err))
		return 127
	}
	panic(broken{err})
}

// reason is an error of the system in the system's words.
func reason(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "No such file or directory"
	case errors.Is(err, fs.ErrPermission):
		return "Permission denied"
	}
	text := err.Error()
	return text[strings.LastIndex(text, ": ")+1:]
}

// bounded is a buffer that takes a bounded number of bytes and no more.
type bounded struct {
	k *maker
	b *bytes.Buffer
}

func (w *bounded) Write(p []byte) (int, error) {
	if w.b.Len() > maxText {
		return 0, errors.New("too much output")
	}
	return w.b.Write(p)
}
