package shell

import (
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"mvdan.cc/sh/v3/syntax"
)

// redirect applies redirections. undo gives back the descriptors that were there.
func (in *interp) redirect(redirs []*syntax.Redirect) (undo func(), ok bool) {
	if len(redirs) == 0 {
		return func() {}, true
	}
	before := in.fds
	in.fds = before.clone()
	done := false
	undo = func() {
		if !done {
			done = true
			in.fds.release()
			in.fds = before
		}
	}
	for _, r := range redirs {
		complete := false
		func() {
			defer func() {
				if complete {
					return
				}
				undo()
				if p := recover(); p != (exitNow{}) {
					panic(p)
				}
				if in.Variant == Bash {
					in.unserved("a redirection", "whose word is an error")
				}
				ok = false // an error within the word is one of the redirection
			}()
			ok = in.redirectOne(r)
			complete = true
		}()
		if !ok {
			undo()
			return nil, false
		}
	}
	return undo, true
}

// redirectStatus is the exit code of a command whose redirection fails.
func (in *interp) redirectStatus() int {
	if in.Variant == Dash {
		return 2
	}
	return 1
}

func (in *interp) redirectOne(r *syntax.Redirect) bool {
	n := 1
	if r.Op == syntax.RdrIn || r.Op == syntax.RdrInOut || r.Op == syntax.DplIn || r.Op == syntax.Hdoc || r.Op == syntax.DashHdoc {
		n = 0
	}
	if r.N != nil {
		n, _ = strconv.Atoi(r.N.Value) // one digit: it was checked
	}
	switch r.Op {
	case syntax.Hdoc, syntax.DashHdoc:
		in.fds.put(n, in.hereDoc(in.hereText(r)))
		return true
	case syntax.DplIn, syntax.DplOut:
		return in.duplicate(n, in.text(r.Word))
	}
	name := in.text(r.Word)
	if in.Variant == Bash {
		if f := in.fields([]*syntax.Word{r.Word}); len(f) != 1 || f[0] != name {
			in.unserved(name, "as the name of a file is not served")
		}
	}
	how := os.O_RDONLY
	switch r.Op {
	case syntax.RdrOut, syntax.RdrClob:
		how = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	case syntax.AppOut:
		how = os.O_WRONLY | os.O_CREATE | os.O_APPEND
	case syntax.RdrInOut:
		how = os.O_RDWR | os.O_CREATE
	}
	if fd, is := standardName(name); is {
		return in.openStandard(n, fd, how)
	}
	f, err := os.OpenFile(in.abs(name), how, 0o666)
	if name == "" {
		err = syscall.ENOENT
	}
	if err != nil {
		in.cannotOpen(name, how, err)
		return false
	}
	in.fds.put(n, newStream(f, f, f))
	return true
}

// standardName recognizes names of descriptors: a subshell has others than the process.
func standardName(name string) (int, bool) {
	switch name {
	case "/dev/stdin":
		return 0, true
	case "/dev/stdout":
		return 1, true
	case "/dev/stderr":
		return 2, true
	}
	for _, dir := range []string{"/dev/fd/", "/proc/self/fd/"} {
		if digits, ok := strings.CutPrefix(name, dir); ok {
			if n, err := strconv.Atoi(digits); err == nil {
				return n, true
			}
		}
	}
	return 0, false
}

// openStandard opens what a descriptor has. Of a regular file that would be a second position in it.
func (in *interp) openStandard(n, fd, how int) bool {
	s := in.fds[fd]
	if s == nil {
		in.cannotOpen("/dev/fd/"+strconv.Itoa(fd), how, syscall.ENOENT)
		return false
	}
	for _, end := range []any{s.r, s.w} {
		if f, ok := end.(*os.File); ok {
			if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
				in.unserved("/dev/fd/"+strconv.Itoa(fd), "a file is opened a second time")
			}
		}
	}
	s.uses.Add(1)
	in.fds.put(n, s)
	return true
}

func (in *interp) cannotOpen(name string, how int, err error) {
	create := how&os.O_CREATE != 0
	why := reason(err)
	missing := errors.Is(err, os.ErrNotExist)
	switch {
	case in.Variant == Dash && create:
		if missing {
			why = "Directory nonexistent"
		}
		in.complain("cannot create %s: %s", name, why)
	case in.Variant == Dash:
		if missing {
			why = "No such file"
		}
		in.complain("cannot open %s: %s", name, why)
	case in.Variant == Ash && create:
		if missing {
			why = "nonexistent directory"
		}
		in.complain("can't create %s: %s", name, why)
	case in.Variant == Ash:
		if missing {
			why = "no such file"
		}
		in.complain("can't open %s: %s", name, why)
	default:
		in.complain("%s: %s", name, why)
	}
}

// reason is the text of an error of the system as C has it.
func reason(err error) string {
	var no syscall.Errno
	if !errors.As(err, &no) {
		return err.Error()
	}
	text := no.Error()
	return strings.ToUpper(text[:1]) + text[1:]
}

// duplicate is N>&word.
func (in *interp) duplicate(n int, word string) bool {
	if word == "-" {
		in.fds.put(n, nil)
		return true
	}
	fd, err := strconv.Atoi(word)
	if err != nil || len(word) != 1 {
		in.unserved(word, "is no descriptor")
	}
	s := in.fds[fd]
	if s == nil {
		in.complain("%s: Bad file descriptor", word)
		return false
	}
	if fd != n {
		s.uses.Add(1)
		in.fds.put(n, s)
	}
	return true
}

// hereText is the text of a here-document.
func (in *interp) hereText(r *syntax.Redirect) string {
	if r.Hdoc == nil {
		return ""
	}
	quoted := false
	for _, p := range r.Word.Parts {
		lit, ok := p.(*syntax.Lit)
		quoted = quoted || !ok || strings.Contains(lit.Value, `\`)
	}
	word := r.Hdoc
	if r.Op == syntax.DashHdoc {
		word = withoutTabs(word)
	}
	if quoted {
		var b strings.Builder
		for _, p := range word.Parts {
			b.WriteString(p.(*syntax.Lit).Value) // nothing is expanded in it
		}
		return b.String()
	}
	x := expansion{in: in}
	x.quoted(word.Parts, true)
	return string(bytesOf(x.cells))
}

// withoutTabs takes the tabs at the beginnings of lines away.
func withoutTabs(w *syntax.Word) *syntax.Word {
	out := &syntax.Word{}
	start := true
	for _, p := range w.Parts {
		lit, ok := p.(*syntax.Lit)
		if !ok {
			out.Parts = append(out.Parts, p)
			start = false
			continue
		}
		var b strings.Builder
		for i := range len(lit.Value) {
			c := lit.Value[i]
			if start && c == '\t' {
				continue
			}
			start = c == '\n'
			b.WriteByte(c)
		}
		out.Parts = append(out.Parts, &syntax.Lit{Value: b.String()})
	}
	return out
}

// hereDoc is a descriptor that text is read from.
func (in *interp) hereDoc(text string) *stream {
	r, w, err := os.Pipe()
	if err != nil {
		in.unserved("<<", "%v", err)
	}
	go func() {
		defer w.Close()
		_, _ = io.WriteString(w, text) // who does not read all of it may
	}()
	return newStream(r, nil, r)
}

// locked is a writer that goroutines share.
type locked struct {
	mutex *sync.Mutex
	w     io.Writer
}

func (l locked) Write(p []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.w.Write(p)
}

// lock makes a writer fit to be shared. A file is.
func (in *interp) lock(w io.Writer) io.Writer {
	switch w.(type) {
	case nil, *os.File:
		return w
	}
	return locked{&in.mutex, w}
}
