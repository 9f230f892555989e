package shell

import (
	"cmp"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"mvdan.cc/sh/v3/syntax"
)

// variable is a shell variable. One that is only exported has no value.
type variable struct {
	value              string
	set                bool
	exported, readonly bool
	made               int64 // orders variables by when they came to be; below 0: with the shell
}

// interp is a shell or a subshell.
type interp struct {
	*shared
	vars   map[string]variable
	funcs  map[string]*syntax.Stmt
	params []string
	dir    string
	opts   map[byte]bool // e, f, n, u, x, a
	pipe   bool          // pipefail
	traps  map[string]string
	fds    descriptors
	jobs   []*job
	last   *job // $!

	status  int // $?
	subst   int // of the last command substitution
	line    uint
	loops   int // that enclose what runs, within the function
	skip    skipping
	levels  int // of break and continue
	funcs_  int // functions that are being called
	locals  []map[string]variable
	sub     bool   // a subshell
	deep    int    // functions and evals
	builtin string // that runs
	called  uint   // the line of the builtin
	nested  int    // substitutions
	torn    bool   // the script ended within a command that has redirections
}

// skipping is what makes commands be passed over.
type skipping int

const (
	skipNot skipping = iota
	skipBreak
	skipContinue
	skipReturn
)

// job is a list that runs in the background.
type job struct {
	pid    int64
	done   chan struct{}
	status int
}

func newInterp(all *shared) *interp {
	in := &interp{shared: all, vars: map[string]variable{}, funcs: map[string]*syntax.Stmt{}, params: all.Params, dir: all.Dir,
		opts: map[byte]bool{}, pipe: all.Pipefail, traps: map[string]string{}, fds: descriptors{}}
	for _, kv := range all.Env {
		name, value, ok := strings.Cut(kv, "=")
		if ok && isName(name) {
			made := in.vars[name].made
			switch {
			case ofShell[name]:
				made = -1
			case made == 0:
				made = all.made.Add(1)
			}
			in.vars[name] = variable{value: value, set: true, exported: true, made: made}
		}
	}
	for _, kv := range []string{"IFS= \t\n", "PS1=$ ", "PS2=> ", "PS4=+ ", "OPTIND=1"} {
		name, value, _ := strings.Cut(kv, "=")
		old := in.vars[name]
		if name == "IFS" || !old.set {
			in.vars[name] = variable{value: value, set: true}
		}
	}
	pwd := in.vars["PWD"] // all three shells export it, whoever started them
	in.vars["PWD"] = variable{value: in.dir, set: true, exported: true, made: cmp.Or(pwd.made, all.made.Add(1))}
	if in.Variant == Ash {
		n, _ := strconv.Atoi(in.vars["SHLVL"].value) // none, or no number: 0
		in.vars["SHLVL"] = variable{value: strconv.Itoa(n + 1), set: true, exported: true, made: cmp.Or(in.vars["SHLVL"].made, all.made.Add(1))}
	}
	for i := range len(all.Options) {
		in.opts[all.Options[i]] = true
	}
	in.fds[0] = newStream(all.Stdin, nil, nil)
	in.fds[1] = newStream(nil, in.lock(all.Stdout), nil)
	in.fds[2] = newStream(nil, in.lock(all.Stderr), nil)
	return in
}

// clone is a subshell of in. Its descriptors are its own to release.
func (in *interp) clone() *interp {
	c := *in
	c.vars, c.funcs, c.opts = maps.Clone(in.vars), maps.Clone(in.funcs), maps.Clone(in.opts)
	c.locals = nil
	for _, l := range in.locals {
		c.locals = append(c.locals, maps.Clone(l))
	}
	c.traps, c.params, c.fds = map[string]string{}, slices.Clone(in.params), in.fds.clone()
	c.jobs, c.sub = nil, true
	return &c
}

func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || i > 0 && c >= '0' && c <= '9' {
			continue
		}
		return false
	}
	return s != ""
}

// get is the value of a variable, and whether it is set.
func (in *interp) get(name string) (string, bool) {
	v := in.vars[name]
	return v.value, v.set
}

// set gives a variable a value.
func (in *interp) set(name, value string) {
	v := in.vars[name]
	if v.readonly {
		in.isReadonly(name)
	}
	if v.made == 0 {
		v.made = in.made.Add(1)
	}
	v.value, v.set = value, true
	v.exported = v.exported || in.opts['a']
	in.vars[name] = v
}

// isReadonly ends the shell.
func (in *interp) isReadonly(name string) {
	if in.Variant == Bash {
		in.unserved(name, "is read only")
	}
	in.fatal("%s: is read only", name)
}

// ofShell are variables that dash and ash have from the start: they stand before others.
var ofShell = map[string]bool{"ATTY": true, "IFS": true, "MAIL": true, "MAILPATH": true, "PATH": true, "PS1": true, "PS2": true, "PS4": true,
	"OPTIND": true, "LINENO": true, "TERM": true, "HISTSIZE": true}

// environ are the exported variables, in the order of the shell's table. That of dash and ash has 39 places, and a variable's is
// given by a sum over its name (hashvar in dash's var.c and BusyBox's ash.c); those of one place stand as they came.
func (in *interp) environ() []string {
	var names []string
	for name, v := range in.vars {
		if v.exported && v.set {
			names = append(names, name)
		}
	}
	place := func(name string) int {
		sum := int(name[0]) << 4
		for i := range len(name) {
			sum += int(name[i])
		}
		return sum % 39
	}
	slices.SortFunc(names, func(a, b string) int {
		if in.Variant == Bash {
			return strings.Compare(a, b)
		}
		return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(in.vars[a].made, in.vars[b].made), strings.Compare(a, b))
	})
	env := make([]string, len(names))
	for i, name := range names {
		env[i] = name + "=" + in.vars[name].value
	}
	return env
}

// stream is an open file; descriptors share it.
type stream struct {
	r    io.Reader
	w    io.Writer
	c    io.Closer
	uses atomic.Int32
}

func newStream(r io.Reader, w io.Writer, c io.Closer) *stream {
	s := &stream{r: r, w: w, c: c}
	s.uses.Store(1)
	return s
}

// descriptors are the open files of a shell by number.
type descriptors map[int]*stream

func (d descriptors) clone() descriptors {
	c := descriptors{}
	for n, s := range d {
		s.uses.Add(1)
		c[n] = s
	}
	return c
}

// put replaces a descriptor; a nil stream closes it.
func (d descriptors) put(n int, s *stream) {
	if old := d[n]; old != nil {
		old.release()
	}
	delete(d, n)
	if s != nil {
		d[n] = s
	}
}

func (d descriptors) release() {
	for n, s := range d {
		s.release()
		delete(d, n)
	}
}

func (s *stream) release() {
	if s.uses.Add(-1) == 0 && s.c != nil {
		s.c.Close() // of a pipe or a file that was written to without an error
	}
}

func (d descriptors) reader(n int) io.Reader {
	if s := d[n]; s != nil && s.r != nil {
		return s.r
	}
	return nil
}

func (d descriptors) writer(n int) io.Writer {
	if s := d[n]; s != nil && s.w != nil {
		return s.w
	}
	return nil
}
