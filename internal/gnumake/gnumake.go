// Package gnumake is GNU make's language and its work, as versions 4.3 and 4.4 have them: it reads Makefiles, finds out what must be
// remade, and hands the lines of recipes to a [Runner].
//
// A [Make] goes from a command line, an environment and a file system to output, an exit code and what the runner did. What the
// package does not have (Guile, loaded objects, archive members, VPATH, the implicit rules that need a compiler, and a few options)
// is an [UnservedError] with its line, before any recipe has run where the Makefile shows it. So a run is what GNU make's would be, or
// says that it is not. The tests hold that against the real make.
//
// The package knows nothing of who calls it. One goroutine at a time works on a Make's state; the others wait for what they run.
package gnumake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
)

// Make is one call of make.
type Make struct {
	Name    string // as it was called: what messages begin with, and the value of MAKE_COMMAND; empty: make
	Version string // "4.3" or "4.4.1"; empty: 4.3
	Args    []string
	Env     []string
	Dir     string // absolute, as the process sees it
	Files   Files
	Runner  Runner
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	// Judge makes a run that only finds out what may be called; nil: an ordinary run.
	Judge *Judge
}

// Job is a process that make starts.
type Job struct {
	Argv   []string // Argv[0] is looked up in the PATH of Env
	Shell  bool     // Argv is a shell with a line of text, not the line itself in words
	Text   string   // the line
	Output bool     // of $(shell …) or !=
	Where  Location // of the line
	Env    []string
	Dir    string
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
}

// Exit is how a process ended.
type Exit struct {
	Code   int
	Signal string // its name as strsignal has it, such as "Killed"; empty: it exited
}

// Runner runs the processes of a make. Jobs may come side by side.
type Runner interface {
	// Run waits for the end. An error that is fs.ErrNotExist or fs.ErrPermission says that the program could not be started; any other
	// one ends the run of make.
	Run(ctx context.Context, j *Job) (Exit, error)
}

// Location is a line of a Makefile.
type Location struct {
	File string
	Line int
}

func (l Location) String() string { return fmt.Sprintf("%s:%d", l.File, l.Line) }

// UnservedError is a Makefile or an option whose meaning this package does not have.
type UnservedError struct {
	Where Location // the zero value where there is none
	What  string
}

func (e *UnservedError) Error() string {
	if e.Where.File == "" {
		return e.What
	}
	return e.Where.String() + ": " + e.What
}

// Limits of what a Makefile may ask for. A real make goes on until memory ends.
const (
	maxDepth    = 2000      // of expansions and evals within each other
	maxIncludes = 100       // of Makefiles within each other
	maxText     = 64 << 20  // bytes of one expansion
	maxTotal    = 512 << 20 // bytes of all expansions of one read
	maxFile     = 64 << 20  // bytes of a Makefile
	maxRestarts = 20        // of reading again after a Makefile was remade
	maxLevel    = 100       // of makes within each other
)

// stop ends a run by panic: what had to be said was said.
type stop struct{ code int }

// broken ends a run by an error that is not make's own.
type broken struct{ err error }

// restart reads the Makefiles again, since one was remade.
type restart struct{}

// maker is a run.
type maker struct {
	*Make
	ctx    context.Context
	name   string // with the level, as in make[1]
	level  int
	opts   options
	stdout io.Writer
	stderr io.Writer
	cwd    string

	env       map[string]string // what the process was given
	global    *varSet
	scope     *scope    // in which variables are looked up
	exports   bool      // export without names, or .EXPORT_ALL_VARIABLES
	loc       *Location // of the line that is read or run
	varLoc    *Location // of the variable that is being expanded
	depth     int       // of expansions
	total     int       // bytes of expansions
	commands  map[string]*function
	listed    map[string][]fs.DirEntry // folders that were read
	shellEnvs int                      // of $(shell) that is being expanded for one

	reader
	table
	work
}

// Run runs make and returns its exit code. An error means that the run ended for another reason than make's own.
func (m *Make) Run(ctx context.Context) (code int, err error) {
	out, errs := locked(m.Stdout), locked(m.Stderr)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for n := 0; ; n++ {
		again := false
		code, again, err = m.once(ctx, out, errs, n)
		if err != nil {
			return 2, err
		}
		if !again {
			return code, ctx.Err()
		}
		if n == maxRestarts {
			return 2, &UnservedError{What: "the Makefiles are remade again and again"}
		}
	}
}

// once reads the Makefiles and makes the goals; again says that a Makefile has changed.
func (m *Make) once(ctx context.Context, out, errs io.Writer, restarts int) (code int, again bool, err error) {
	k := &maker{Make: m, ctx: ctx, stdout: out, stderr: errs, cwd: m.Dir, env: map[string]string{}, listed: map[string][]fs.DirEntry{}}
	defer func() {
		switch p := recover().(type) {
		case nil:
		case stop:
			code = p.code
			k.leaving()
		case restart:
			again = true
			k.leaving()
		case broken:
			err = p.err
		default:
			panic(p)
		}
	}()
	k.start(restarts)
	return k.build(), false, nil
}

// start takes the environment and the command line, and reads the Makefiles.
func (k *maker) start(restarts int) {
	for _, kv := range k.Env {
		if name, value, ok := strings.Cut(kv, "="); ok {
			k.env[name] = value
		}
	}
	fmt.Sscan(k.env["MAKELEVEL"], &k.level) // anything else than a number is level 0
	k.name = k.program()
	if k.level > 0 {
		k.name = fmt.Sprintf("%s[%d]", k.name, k.level)
	}
	if k.level > maxLevel {
		k.unserved(nil, "%d makes are within each other", k.level)
	}
	k.table = newTable()
	k.global = newVarSet()
	k.scope = &scope{set: k.global}
	k.commands = functions()
	k.decode()
	for _, dir := range k.opts.dirs {
		if !path.IsAbs(dir) {
			dir = path.Join(k.cwd, dir)
		}
		if info, err := k.Files.Stat(dir); err != nil || !info.IsDir() {
			why := "No such file or directory"
			if err == nil {
				why = "Not a directory"
			}
			if k.newer() {
				k.entering()
			}
			k.sayError("%s: *** %s: %s.  Stop.", k.name, k.opts.dirs[len(k.opts.dirs)-1], why)
			panic(stop{2})
		}
		k.cwd = path.Clean(dir)
	}
	k.entering()
	k.initVariables(restarts)
	k.readAll()
}

func (k *maker) program() string {
	if k.Name == "" {
		return "make"
	}
	return k.Name[strings.LastIndexByte(k.Name, '/')+1:]
}

// unserved ends the run. A nil location is the line that is read.
func (k *maker) unserved(at *Location, format string, args ...any) {
	if at == nil {
		at = k.loc
	}
	e := &UnservedError{What: fmt.Sprintf(format, args...)}
	if at != nil {
		e.Where = *at
	}
	panic(broken{e})
}

// lockedWriter is a writer for several goroutines.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// locked makes a writer safe for processes side by side. A file is, and must reach them as one.
func locked(w io.Writer) io.Writer {
	switch w := w.(type) {
	case nil:
		return io.Discard
	case *os.File, *lockedWriter:
		return w
	}
	return &lockedWriter{w: w}
}

// alive ends the run where its context has ended.
func (k *maker) alive() {
	if err := k.ctx.Err(); err != nil {
		panic(broken{errors.Join(errors.New("make was stopped"), err)})
	}
}
