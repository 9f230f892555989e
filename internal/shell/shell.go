// Package shell runs shell text as the shells of the images that Go programs are built in do: Debian's dash 0.5.12, BusyBox's ash
// 1.3x, and bash as far as the two agree with it.
//
// Text goes through [Parse], which reads it with mvdan.cc/sh's parser as POSIX has it and refuses, with the line, every word whose
// meaning in that shell this package does not have. A [Script] then runs in a [Shell]. What only shows while it runs (a variable
// that holds an operator, a number too large) ends the run by [Shell.Unserved]. So a script gives the same output, files and exit
// code as the shell that is meant, or says that it does not: it never goes on in another way. The tests hold that against the real shells.
//
// Subshells, parts of pipelines and substitutions are goroutines with a copy of the variables; only what [Shell.Exec] starts are
// processes. The package knows nothing of who calls it.
package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"mvdan.cc/sh/v3/syntax"
)

// Variant is the shell that is meant.
type Variant string

// The variants.
const (
	Dash Variant = "dash"
	Ash  Variant = "ash"
	Bash Variant = "bash" // what is the same in POSIX shells alone
)

// UnservedError is shell text, or a value at run time, whose meaning this package does not have.
type UnservedError struct {
	Line uint   // of the text; 0 where it is not known
	Text string // the word or the command
	Why  string
}

func (e *UnservedError) Error() string {
	if e.Text == "" {
		return e.Why
	}
	return e.Text + ": " + e.Why
}

// Script is text that was read.
type Script struct {
	variant Variant
	file    *syntax.File
}

// File is the tree of the text. It must not be changed.
func (s *Script) File() *syntax.File { return s.file }

// Parse reads text. The error is an [*UnservedError].
func Parse(v Variant, text string) (*Script, error) {
	if strings.Contains(text, "\x00") {
		return nil, &UnservedError{Why: "the text holds a zero byte"}
	}
	file, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(strings.NewReader(text), "")
	if lang := (syntax.LangError{}); v != Dash && errors.As(err, &lang) {
		// ${x:1:2} and ${x/a/b}. What else the parser takes for bash's is refused by its node.
		if again, err2 := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(text), ""); err2 == nil && asPOSIX(again) {
			file, err = again, nil
		}
	}
	if err != nil {
		return nil, &UnservedError{Why: "the shell text cannot be read: " + err.Error()}
	}
	s := &Script{variant: v, file: file}
	return s, s.check()
}

// Command is what a script calls that is no part of the shell.
type Command struct {
	Args           []string // Args[0] as it was called
	Path           string   // of the file, as PATH led to it
	Env            []string
	Dir            string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Extra          map[int]any // descriptors above 2: readers and writers
}

// Shell is what a script runs in.
type Shell struct {
	Variant Variant
	Name    string   // $0; empty: the variant
	Params  []string // $1, …
	Options string   // single letters that are on from the start, of "aefnux"
	// Pipefail is set -o pipefail from the start.
	Pipefail       bool
	Env            []string
	Dir            string
	Stdin          io.Reader // nil: empty
	Stdout, Stderr io.Writer
	// Exec runs a command and returns its exit code. An error ends the script as what is not served does.
	Exec func(context.Context, *Command) (int, error)
	// Missing says why a command that is not found ends the script; nil, or a nil error, lets it be not found.
	Missing func(name string) error
	// Which says what command -v prints of a name that is no part of the shell: with ok false the shell looks in PATH itself.
	// An error means that it cannot be told.
	Which func(name string) (path string, ok bool, err error)
	// Root is put before Dir, and before absolute names of files; empty outside of tests.
	Root string
	// Unserved hears, once, why the script cannot go on. The shell ends by exit code 125.
	Unserved func(error)
}

// unservedCode is the exit code of what [Shell.Unserved] was told.
const unservedCode = 125

// Run runs a script and returns its exit code.
func (s *Shell) Run(ctx context.Context, script *Script) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all := &shared{Shell: s, ctx: ctx, stop: cancel}
	if all.Name == "" {
		all.Name = string(s.Variant)
	}
	in := newInterp(all)
	status := in.guard(func() { in.script(script, false) })
	in.fds.release()
	return status
}

// RunBuiltin runs one builtin with its arguments, as a process of its own does, and returns its exit code.
func (s *Shell) RunBuiltin(ctx context.Context, args []string) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in := newInterp(&shared{Shell: s, ctx: ctx, stop: cancel})
	status := in.guard(func() { in.status = in.invoke(args, true) })
	in.fds.release()
	return status
}

// IsBuiltin reports whether a name is a command of the shell itself.
func IsBuiltin(v Variant, name string) bool {
	_, ok := builtins[name]
	return ok && notOnly(v, name) || notServed(v, name)
}

// LookPath finds a command as the shell does, below root. status is 0, 126 or 127.
func LookPath(root, dir, path, name string) (file string, status int) {
	in := &interp{shared: &shared{Shell: &Shell{Root: root}}, dir: dir, vars: map[string]variable{"PATH": {value: path, set: true}}}
	return in.lookup(name)
}

// shared is what a shell and its subshells have in common.
type shared struct {
	*Shell
	ctx   context.Context
	stop  context.CancelFunc
	once  sync.Once
	dead  atomic.Bool // Unserved was called
	pids  atomic.Int64
	made  atomic.Int64 // variables
	mutex sync.Mutex   // of writers that are no files
}

// Panics that end a subshell.
type (
	exitNow struct{} // with the status that the interp has; traps run
	dieNow  struct{} // without traps, as by a signal
)

// unserved ends everything.
func (in *interp) unserved(text, format string, args ...any) {
	err := &UnservedError{Line: in.line, Text: text, Why: fmt.Sprintf(format, args...)}
	in.once.Do(func() {
		in.dead.Store(true)
		if in.Unserved != nil {
			in.Unserved(err)
		}
		in.stop()
	})
	in.status = unservedCode
	panic(dieNow{})
}

// guard runs fn, then the EXIT trap, and returns the exit code of the subshell.
func (in *interp) guard(fn func()) (status int) {
	killed := in.catch(fn)
	if !killed && !in.dead.Load() {
		if action := in.traps["EXIT"]; action != "" {
			in.traps = map[string]string{}
			status := in.status
			in.skip, in.loops = 0, 0
			in.catch(func() {
				if in.torn && in.Variant == Bash { // where they still hold depends on the kind of command
					in.unserved("trap", "on EXIT is not served in bash where the shell ends within a redirection")
				}
				in.eval(action, false)
				in.status = status
			})
		}
	}
	if in.dead.Load() {
		return unservedCode
	}
	return in.status
}

func (in *interp) catch(fn func()) (killed bool) {
	defer func() {
		switch p := recover().(type) {
		case nil, exitNow:
		case dieNow:
			killed = true
		default:
			panic(p)
		}
	}()
	fn()
	return false
}
