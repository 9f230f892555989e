package gobuild

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// An input is a file or folder that the go command looked at, or for which it looked in vain. What was remembered of it and what
// it is now decide whether go has to be asked again:
//
//   - the same stamp, of a file that had settled when it was read: nothing has changed;
//   - another stamp and the same digest: it was touched, or came back;
//   - a source with another digest and the same header: its package is compiled again, but everything that go list said stands;
//   - anything else: go list is asked again.
type input struct {
	path string
	kind inputKind
	state
}

type inputKind byte

const (
	// fixed is a file or folder of the standard library or the module cache, which nobody changes: the stamp says it all.
	fixed inputKind = iota
	// tool is a file of the toolchain, by its stamp as well. Every program depends on it.
	tool
	// setting is a file whose content decides on everything: go.mod, go.sum, go.work, the file of go env -w.
	setting
	// source is a file that goes into a package: compiled, or embedded.
	source
	// aside is a file of a package's folder that is not compiled, as a test is not: its header decides that.
	aside
	// folder is the names of a folder that can make a difference to packages: see [counts].
	folder
	// tree is all names of a folder, of files that are embedded.
	tree
)

// state is what an input is at one moment. Digest and header are zero where they are not needed or there is no such file.
type state struct {
	stamp   stamp
	settled bool     // a write after the digest was taken would show in the stamp
	digest  [32]byte // of the content of a file, of the names in a folder
	header  [32]byte // of what decides on imports, embedded files and whether a Go file counts at all
}

// look is the state of an input now.
func (in *input) look() (state, error) {
	var s state
	fi, err := in.stat()
	if errors.Is(err, fs.ErrNotExist) {
		return state{settled: true}, nil
	}
	if err != nil {
		return s, err
	}
	now := time.Now()
	s.stamp = stampOf(fi)
	s.settled = s.stamp.settled(now)
	return s, in.read(&s, fi)
}

func (in *input) stat() (fs.FileInfo, error) { return os.Stat(in.path) }

// read fills in digest and header. A file of the toolchain that was written just now is read, too: it has nothing else to be
// known by.
func (in *input) read(s *state, fi fs.FileInfo) (err error) {
	switch {
	case in.kind <= tool && s.settled:
		return nil
	case fi.IsDir():
		s.digest, err = namesOf(in.path, in.kind == tree)
		return err
	case !fi.Mode().IsRegular():
		return nil // the stamp has its kind
	}
	content, err := os.ReadFile(in.path)
	if err != nil {
		return err
	}
	s.digest = sha256.Sum256(content)
	if in.kind == source || in.kind == aside {
		s.header = headerOf(in.path, content)
	}
	return nil
}

// verdict is how an input compares with what is remembered of it.
type verdict int

const (
	same    verdict = iota
	touched         // the stamp alone is another, or it had not settled
	edited          // a source with the same header
	changed         // go list has to be asked again
)

// compare looks at the input again. The state returned is the one to be remembered from now on.
func (in *input) compare() (verdict, state) {
	fi, err := in.stat()
	absent := errors.Is(err, fs.ErrNotExist)
	if err != nil && !absent {
		return changed, state{}
	}
	now := time.Now()
	var s state
	if !absent {
		s.stamp = stampOf(fi)
	}
	if s.stamp == in.stamp && in.settled {
		return same, in.state
	}
	if absent || in.stamp.absent() || in.kind <= tool && in.digest == [32]byte{} {
		return changed, s
	}
	s.settled = s.stamp.settled(now)
	kind := *in
	if in.kind <= tool { // it had not settled, so its content is known
		kind.kind = setting
	}
	if kind.read(&s, fi) != nil || s.stamp.mode != in.stamp.mode {
		return changed, s
	}
	switch {
	case s.digest == in.digest:
		return touched, s
	case s.header != in.header || s.header == [32]byte{}:
	case in.kind == source:
		return edited, s
	case in.kind == aside:
		return touched, s
	}
	return changed, s
}

// headerOf is a digest of the part of a Go file that go list reads: up to the end of its imports, and the lines that may say
// what it embeds. Zero is a file of which any change counts: one that is no Go file, or cannot be parsed so far.
func headerOf(path string, content []byte) [32]byte {
	if !strings.HasSuffix(path, ".go") {
		if isEmbedded(path) {
			return [32]byte{1}
		}
		return [32]byte{}
	}
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, path, content, parser.ImportsOnly)
	if err != nil {
		return [32]byte{}
	}
	end := f.Name.End()
	for _, d := range f.Decls {
		end = max(end, d.End())
	}
	at := fset.PositionFor(end, false).Offset
	h := sha256.New()
	h.Write(content[:at])
	for line := range bytes.Lines(content[at:]) {
		if bytes.Contains(line, []byte("go:embed")) {
			h.Write(line)
		}
	}
	return [32]byte(h.Sum(nil))
}

// isEmbedded tells whether a source is no file that go list reads the head of: what is not Go and not of its extensions is
// there because it is embedded.
func isEmbedded(path string) bool { return !counts(path[strings.LastIndexAny(path, `/\`)+1:]) }

// extensions are those of files that go/build looks at (go/build, matchFile and the switch in Import).
var extensions = strings.Fields(".go .c .cc .cpp .cxx .m .h .hh .hpp .hxx .f .F .for .f90 .s .S .sx .swig .swigcxx .syso")

// counts tells whether a file of this name can make a difference to the package in its folder.
func counts(name string) bool {
	if name == "go.mod" || name == "default.pgo" {
		return true
	}
	if strings.HasPrefix(name, "_") || strings.HasPrefix(name, ".") {
		return false
	}
	i := strings.LastIndexByte(name, '.')
	return i >= 0 && slices.Contains(extensions, name[i:])
}

// namesOf is a digest of the names in a folder, with what they name: all of them, or those that count for packages.
func namesOf(dir string, all bool) ([32]byte, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return [32]byte{}, err
	}
	h := sha256.New()
	for _, e := range entries {
		// A link may lead to a folder or a Go file: it is named as a link.
		if all || counts(e.Name()) || walked(e) {
			h.Write([]byte(e.Name()))
			h.Write([]byte{0, byte(e.Type() >> 24), byte(e.Type() >> 16), '\n'})
		}
	}
	return [32]byte(h.Sum(nil)), nil
}

// walked tells whether a pattern with ... looks into a folder.
func walked(e fs.DirEntry) bool {
	name := e.Name()
	return e.IsDir() && !strings.HasPrefix(name, ".") && !strings.HasPrefix(name, "_") && name != "testdata"
}

// eachOf calls f for each of n things, on all processors. It returns when all calls have.
func eachOf(n int, f func(i int)) {
	const chunk = 64 // of some microseconds each
	var wg sync.WaitGroup
	next := make(chan int, n/chunk+1)
	for from := 0; from < n; from += chunk {
		next <- from
	}
	close(next)
	for range min(runtime.GOMAXPROCS(0), n/chunk+1) {
		wg.Go(func() {
			for from := range next {
				for i := from; i < min(from+chunk, n); i++ {
					f(i)
				}
			}
		})
	}
	wg.Wait()
}
