package gobase

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"github.com/skiff-build/skiff/internal/busybox"
)

const (
	// maxScript bounds a script of the context in bytes.
	maxScript = 1 << 20
	// maxScripts bounds how many times scripts are read for one step.
	maxScripts = 1000
)

// readScript is the text of a file that a copy of a local source brought, and that no command has written to since. Otherwise why says
// what is not known about it.
func (s *step) readScript(full string) (text, why string) {
	if s.scripts++; s.scripts > maxScripts {
		return "", "scripts call each other too often"
	}
	for _, p := range s.t.changed {
		if _, in := below(full, p); in {
			return "", "an earlier step writes to the script"
		}
	}
	err := fs.ErrNotExist
	files := contextFiles{s: s}
	files.places(full, func(files fs.FS, at string) bool {
		info, statErr := fs.Stat(files, at)
		switch {
		case statErr != nil:
			return false
		case info.Size() > maxScript:
			err = fmt.Errorf("more than %d bytes", maxScript)
			return true
		}
		var data []byte
		data, err = fs.ReadFile(files, at)
		text = string(data)
		return true
	})
	if err != nil {
		return "", "the script " + full + " cannot be read: " + err.Error()
	}
	return text, ""
}

// contextScript judges the call of a script of the context by its path.
func (s *step) contextScript(called, full string, args []value, text string) {
	source, why := s.readScript(full)
	if why != "" {
		s.refuse(text, why)
		return
	}
	line, _, _ := strings.Cut(source, "\n")
	interpreter, ok := strings.CutPrefix(line, "#!")
	if !ok {
		s.refuse(text, "a script of the build context without #! may be anything")
		return
	}
	// The kernel gives the interpreter what follows it as one argument.
	interpreter, option, _ := strings.Cut(strings.TrimSpace(interpreter), " ")
	option = strings.TrimSpace(option)
	var options []string
	switch interpreter {
	case "/usr/bin/env":
		if list, is := strings.CutPrefix(option, "-S "); is {
			options = strings.Fields(list)
		} else {
			options = []string{option}
		}
		interpreter, options = "/bin/"+options[0], options[1:]
	case "/usr/bin/sh", "/usr/bin/bash":
		if s.t.base.tag.Variant == Debian { // where /bin is /usr/bin
			interpreter = strings.TrimPrefix(interpreter, "/usr")
		}
		fallthrough
	default:
		if option != "" {
			options = []string{option}
		}
	}
	name := strings.TrimPrefix(interpreter, "/bin/")
	if !busybox.IsShell(name) || strings.Contains(name, "/") {
		s.refuse(text, "the script asks for "+interpreter)
		return
	}
	if name == "bash" && !s.hasBash() {
		s.refuse(text, "the script asks for bash, which the image has not")
		return
	}
	var words []value
	for _, o := range options {
		words = append(words, value{o, true})
	}
	s.shell(name, append(append(words, value{called, true}), args...), text)
}

// hasBash reports whether the image has bash at this step.
func (s *step) hasBash() bool {
	return s.t.base.tag.Variant == Debian || s.t.packages["bash"] || s.t.packages["alpine-sdk"]
}

// shellScript judges a shell that runs a file: another process, with what is exported.
func (s *step) shellScript(name string, a busybox.ShellArgs, text string) {
	full := s.abs(a.File)
	if full == "" {
		s.refuse(text, "where the script is is known only when it runs")
		return
	}
	source, why := s.readScript(full)
	if why != "" {
		s.refuse(text, why)
		return
	}
	s.process(name, a, func() { s.within(full, func() { s.script(name, source) }) })
}

// sourced judges . FILE, whose commands are the shell's own.
func (s *step) sourced(args []value, text string) {
	switch {
	case len(args) != 1 || !args[0].known || !strings.Contains(args[0].text, "/"):
		s.refuse(text, "what the script does is not looked into")
		return
	case s.abs(args[0].text) == "":
		s.refuse(text, "where the script is is known only when it runs")
		return
	}
	full := s.abs(args[0].text)
	source, why := s.readScript(full)
	if why != "" {
		s.refuse(text, why)
		return
	}
	outer := s.left
	s.left = nil
	s.within(full, func() { s.script(".", source) })
	for _, f := range s.left { // by return, or by what ends a loop around
		s.flow = merge(s.flow, f)
	}
	s.left = outer
}

// within names the script in the refusals that do adds.
func (s *step) within(full string, do func()) {
	before := len(s.t.base.refusals)
	do()
	for _, r := range s.t.base.refusals[before:] {
		if !strings.Contains(r.Why, " (in /") {
			r.Why += " (in " + full + ")"
		}
	}
}

// shifts reports whether a script changes its parameters.
func shifts(file *syntax.File) bool {
	found := false
	syntax.Walk(file, func(n syntax.Node) bool {
		call, ok := n.(*syntax.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		switch call.Args[0].Lit() {
		case "shift":
			found = true
		case "set":
			for rest := call.Args[1:]; len(rest) > 0; rest = rest[1:] {
				option := rest[0].Lit()
				if option == "--" || !strings.HasPrefix(option, "-") && !strings.HasPrefix(option, "+") {
					found = true
				}
				if strings.HasSuffix(option, "o") && len(rest) > 1 { // set -euo pipefail
					rest = rest[1:]
				}
			}
		}
		return true
	})
	return found
}

// output is what $(…) gives, for what scripts do to find their own folder.
func (s *step) output(c *syntax.CmdSubst) value {
	if len(c.Stmts) != 1 || c.TempFile || c.ReplyVar {
		return value{}
	}
	cwd := s.cwd
	defer func() { s.cwd = cwd }()
	stmt := c.Stmts[0]
	if and, ok := stmt.Cmd.(*syntax.BinaryCmd); ok && and.Op == syntax.AndStmt && plain(stmt) {
		words := s.plainCall(and.X)
		if len(words) > 1 && words[0] == "cd" && words[1] == "--" {
			words = slices.Delete(words, 1, 2)
		}
		if len(words) != 2 || words[0] != "cd" {
			return value{}
		}
		s.chdir([]value{{words[1], true}})
		stmt = and.Y
	}
	words := s.plainCall(stmt)
	if len(words) > 1 && words[1] == "--" {
		words = slices.Delete(words, 1, 2)
	}
	switch {
	case len(words) == 1 && words[0] == "pwd", len(words) == 2 && words[0] == "pwd" && words[1] == "-P":
		return s.cwd
	case len(words) == 2 && words[0] == "dirname" && words[1] != "":
		return value{path.Dir(words[1]), true}
	case len(words) == 2 && words[0] == "basename" && words[1] != "":
		return value{path.Base(words[1]), true}
	}
	return value{}
}

// plain reports whether nothing but a redirection of errors or to /dev/null stands at a statement.
func plain(stmt *syntax.Stmt) bool {
	for _, r := range stmt.Redirs {
		if r.Word == nil || r.Word.Lit() != "/dev/null" && r.Word.Lit() != "2" && r.Word.Lit() != "1" {
			return false
		}
	}
	return !stmt.Negated && !stmt.Background
}

// plainCall are the words of a simple command, where all of them are known.
func (s *step) plainCall(stmt *syntax.Stmt) []string {
	call, ok := stmt.Cmd.(*syntax.CallExpr)
	if !ok || len(call.Assigns) > 0 || !plain(stmt) {
		return nil
	}
	var all []string
	for _, w := range call.Args {
		for _, v := range s.fields(w) {
			if !v.known {
				return nil
			}
			all = append(all, v.text)
		}
	}
	if len(all) > 0 && s.funcs[all[0]] {
		return nil
	}
	return all
}
