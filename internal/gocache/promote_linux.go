package gocache

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A step writes to a directory of its own, over caches that it only reads. [Begin] prepares that directory, and
// [Promotion.Build] takes out of it, entry by entry, what has the form of an entry: so whatever else a step left there, by
// whatever path, reaches no cache.

const (
	// ahead is how far in the future an action's time stands. The go command renews the time of what it uses where it is
	// older than an hour (cmd/go/internal/cache, mtimeInterval), and in an overlay each renewal copies the file. So it
	// does that once a day, for the small files of actions, and [Dir.Trim] knows when an entry was used last.
	ahead = 24 * time.Hour
	// outputAhead keeps the go command from renewing, and so copying, outputs. They go with the last action that names them.
	outputAhead = 10 * 365 * 24 * time.Hour
	// unused is how long an entry stays that nobody uses, as with the go command (trimLimit).
	unused = 5 * 24 * time.Hour
)

// Begin prepares an empty directory that a step is to write to, over other caches. Results of tests from before now do not
// count in it (go clean -testcache): a test may rest on files that are in no key. And the go command, which would only see
// files vanish there, does not trim.
func (d Dir) Begin(now time.Time) error {
	expire := os.WriteFile(filepath.Join(string(d), "testexpire.txt"), fmt.Appendf(nil, "%d\n", now.UnixNano()), 0o644)
	return errors.Join(expire, os.WriteFile(filepath.Join(string(d), "trim.txt"), fmt.Appendf(nil, "%d\n", now.Unix()), 0o644))
}

// Promotion is where the entries of a step go.
type Promotion struct {
	// Below are the caches that the step saw below its own: an entry that is in one of them is noted as used there.
	Below []Dir
	// To takes the entries.
	To Dir
	// Indexes says which entries of go's index of packages are kept, and where. Such an entry is named by places, times and
	// sizes of files, not by their content: all others are dropped. It is asked once, when the first is met; nil: none is.
	Indexes func() (map[ActionID]Dir, error)

	// Elsewhere says whether sources of the step may include files that lie outside of their packages, and so are in no key: then no
	// package with assembly is taken. It is asked once, when the first is met; nil: they do not.
	Elsewhere func() bool

	known map[ActionID]Dir
	now   time.Time
}

// magicIndex begins an index of packages (cmd/go/internal/modindex, indexVersion).
var magicIndex = []byte("go index v")

// Build takes what has the form of an entry out of a step's directory: a regular file named for an action, that says
// what an action's file says and names an output; and the output, a regular file of that size and digest. An entry that
// a cache has already stays as it is there. Nothing else is moved. from is left with the rest.
func (p *Promotion) Build(from Dir, now time.Time) error {
	p.now = now
	actions, err := from.actions()
	if err != nil {
		return fmt.Errorf("build cache: look through what a step wrote: %w", err)
	}
	var fresh []action
	for _, a := range actions {
		if !p.renew(a) {
			fresh = append(fresh, a)
		}
	}
	outputs := from.verify(fresh)
	p.dropAssembled(outputs)
	for _, a := range fresh {
		if err := p.take(from, a, outputs[a.entry.Output]); err != nil {
			return fmt.Errorf("build cache: action %x: %w", a.id, err)
		}
	}
	return nil
}

func (p *Promotion) dropAssembled(outputs map[OutputID]verified) {
	some := false
	for _, v := range outputs {
		some = some || v.assembled
	}
	if !some || p.Elsewhere == nil || !p.Elsewhere() {
		return
	}
	for out, v := range outputs {
		v.dropped = v.assembled
		outputs[out] = v
	}
}

type action struct {
	id    ActionID
	entry Entry
}

// actions reads all files of actions that are well formed.
func (d Dir) actions() (list []action, err error) {
	err = d.each("-a", func(id [sha256.Size]byte, file string) error {
		data, err := readRegular(file, entrySize+1)
		if err != nil {
			return nil // no such file as go makes
		}
		if e, err := parseEntry(id, data); err == nil {
			list = append(list, action{id, e})
		}
		return nil
	})
	return list, err
}

// each calls fn for every file with a name of the cache's own, of one kind.
func (d Dir) each(suffix string, fn func(id [sha256.Size]byte, file string) error) error {
	dirs, err := os.ReadDir(string(d))
	if err != nil {
		return err
	}
	for _, sub := range dirs {
		if !sub.IsDir() || len(sub.Name()) != 2 {
			continue
		}
		files, err := os.ReadDir(filepath.Join(string(d), sub.Name()))
		if err != nil {
			return err
		}
		for _, f := range files {
			name, ok := strings.CutSuffix(f.Name(), suffix)
			if !ok || !f.Type().IsRegular() || !strings.HasPrefix(name, sub.Name()) {
				continue
			}
			var id [sha256.Size]byte
			if b, err := hex.DecodeString(name); err != nil || len(b) != len(id) || hex.EncodeToString(b) != name {
				continue
			} else {
				copy(id[:], b)
			}
			if err := fn(id, filepath.Join(string(d), sub.Name(), f.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// readRegular reads at most n bytes of a regular file, following no link.
func readRegular(name string, n int) ([]byte, error) {
	f, err := openRegular(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, int64(n)))
}

// openRegular opens a regular file, following no link and waiting for no other end of a pipe.
func openRegular(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(err, &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")})
	}
	return f, nil
}

// renew notes that an entry was used, in the cache that has it.
func (p *Promotion) renew(a action) bool {
	for _, d := range p.Below {
		if e, err := d.Get(a.id); err == nil && e.Output == a.entry.Output {
			t := p.now.Add(ahead)
			_ = os.Chtimes(d.actionFile(a.id), t, t) // one that was trimmed meanwhile is made again
			return true
		}
	}
	return false
}

// verified is what is known of an output that a step wrote.
type verified struct {
	ok    bool // it is there, and its content has the digest that names it
	size  int64
	index bool
	// assembled: it is a package with assembly; dropped: so it is not taken.
	assembled, dropped bool
}

// verify reads the outputs that actions name, as many at a time as there are processors.
func (d Dir) verify(actions []action) map[OutputID]verified {
	found := map[OutputID]verified{}
	var wg sync.WaitGroup
	var mu sync.Mutex
	limit := make(chan struct{}, runtime.GOMAXPROCS(0))
	for _, a := range actions {
		out := a.entry.Output
		mu.Lock()
		_, seen := found[out]
		if !seen {
			found[out] = verified{}
		}
		mu.Unlock()
		if seen {
			continue
		}
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			v := d.verifyOutput(out)
			mu.Lock()
			found[out] = v
			mu.Unlock()
		})
	}
	wg.Wait()
	return found
}

func (d Dir) verifyOutput(out OutputID) (v verified) {
	f, err := openRegular(d.OutputFile(out))
	if err != nil {
		return v
	}
	defer f.Close()
	head := make([]byte, len(magicIndex))
	n, _ := io.ReadFull(f, head)
	h := sha256.New()
	h.Write(head[:n])
	rest, err := io.Copy(h, f)
	if err != nil {
		return v
	}
	v = verified{ok: OutputID(h.Sum(nil)) == out, size: int64(n) + rest, index: bytes.Equal(head[:n], magicIndex)}
	v.assembled = bytes.HasPrefix(head[:n], []byte(magicArchive)) && assembled(f)
	return v
}

// take moves an entry. An output that the step did not write itself is one of a cache below.
func (p *Promotion) take(from Dir, a action, out verified) error {
	if out.dropped {
		return nil
	}
	source := from
	if !out.ok || out.size != a.entry.Size {
		source = ""
		for _, d := range p.Below {
			if info, err := os.Lstat(d.OutputFile(a.entry.Output)); err == nil && info.Mode().IsRegular() && info.Size() == a.entry.Size {
				source = d
				out.index = d.verifyHead(a.entry.Output)
			}
		}
		if source == "" {
			return nil
		}
	}
	to := p.To
	if out.index {
		var err error
		if to, err = p.index(a.id); err != nil {
			return err
		}
	}
	if to == "" {
		return nil
	}
	if _, err := to.Get(a.id); err == nil {
		return nil // another one than this: who came first stays
	}
	if err := p.takeOutput(source, to, a.entry, source == from); err != nil {
		return err
	}
	if err := to.place(to.actionFile(a.id), func(w io.Writer) error {
		_, err := w.Write(formatEntry(a.id, a.entry))
		return err
	}); err != nil {
		return err
	}
	t := p.now.Add(ahead)
	return os.Chtimes(to.actionFile(a.id), t, t)
}

func (d Dir) verifyHead(out OutputID) (index bool) {
	head, err := readRegular(d.OutputFile(out), len(magicIndex))
	return err == nil && bytes.Equal(head, magicIndex)
}

// index is where an entry of the index of packages goes; "": nowhere.
func (p *Promotion) index(a ActionID) (Dir, error) {
	if p.known == nil && p.Indexes != nil {
		known, err := p.Indexes()
		if err != nil {
			return "", err
		}
		p.known = known
	}
	return p.known[a], nil
}

// takeOutput brings an output to a cache: by a rename where the step wrote it on the same file system, else by a copy,
// since a file that two caches share could be changed in both.
func (p *Promotion) takeOutput(source, to Dir, e Entry, own bool) error {
	name := to.OutputFile(e.Output)
	if info, err := os.Lstat(name); err == nil && info.Mode().IsRegular() && info.Size() == e.Size {
		return nil
	}
	file := source.OutputFile(e.Output)
	if own {
		if info, err := os.Lstat(file); err == nil && info.Size() == e.Size {
			err := renameInto(file, name, 0o644)
			if err == nil {
				t := p.now.Add(outputAhead)
				return os.Chtimes(name, t, t)
			}
			if !errors.Is(err, syscall.EXDEV) && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		// Taken for another action already, to another cache.
		if _, err := os.Lstat(file); errors.Is(err, fs.ErrNotExist) && p.To != to {
			file = p.To.OutputFile(e.Output)
		}
	}
	f, err := openRegular(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := to.putOutput(e, f); err != nil {
		return err
	}
	t := p.now.Add(outputAhead)
	return os.Chtimes(name, t, t)
}

// renameInto renames a file into a directory that may be missing.
func renameInto(file, name string, mode fs.FileMode) error {
	if err := os.Chmod(file, mode); err != nil {
		return err
	}
	err := os.Rename(file, name)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		err = os.Rename(file, name)
	}
	return err
}

// Trim removes entries that nobody used for five days, and outputs that no entry names; nobody may be using the cache.
// It does so once a day at most.
func (d Dir) Trim(now time.Time) error {
	stamp := filepath.Join(string(d), "trim.txt")
	if data, err := readRegular(stamp, 32); err == nil {
		if last, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil {
			if since := now.Sub(time.Unix(last, 0)); since >= 0 && since < 24*time.Hour {
				return nil
			}
		}
	}
	if err := d.trim(now); err != nil {
		return fmt.Errorf("trim build cache: %w", err)
	}
	return os.WriteFile(stamp, fmt.Appendf(nil, "%d\n", now.Unix()), 0o644)
}

func (d Dir) trim(now time.Time) error {
	named := map[OutputID]bool{}
	err := d.each("-a", func(id [sha256.Size]byte, file string) error {
		info, err := os.Lstat(file)
		if err != nil {
			return err
		}
		used := info.ModTime().Add(-ahead)
		e, err := d.Get(id)
		// A time far in the future is none that was set here.
		if err != nil || now.Sub(used) > unused || used.Sub(now) > ahead {
			return os.Remove(file)
		}
		named[e.Output] = true
		return nil
	})
	if err != nil {
		return err
	}
	return d.each("-d", func(id [sha256.Size]byte, file string) error {
		if named[id] {
			return nil
		}
		return os.Remove(file)
	})
}

// magicArchive begins a compiled package, which is an archive in the form of Unix (cmd/internal/archive).
const magicArchive = "!<arch>\n"

// assembled says whether a compiled package has members that the compiler did not make: the assembler did, or a C compiler.
// What they include from outside of their package's folder is in no key.
func assembled(f io.ReadSeeker) bool {
	const header = 60 // name 16, time 12, owner 6, group 6, mode 8, size 10, end 2
	pos := int64(len(magicArchive))
	var h [header]byte
	for {
		if _, err := f.Seek(pos, io.SeekStart); err != nil {
			return true
		}
		if n, err := io.ReadFull(f, h[:]); n == 0 && errors.Is(err, io.EOF) {
			return false
		} else if err != nil {
			return true
		}
		switch strings.TrimRight(string(h[:16]), " ") {
		case "__.PKGDEF", "_go_.o":
		default:
			return true
		}
		size, err := strconv.ParseInt(strings.TrimRight(string(h[48:58]), " "), 10, 64)
		if err != nil || size < 0 {
			return true
		}
		pos += header + size + size%2
	}
}

// IncludesElsewhere says whether a file of assembly, or a header, below one of the directories includes a file by a path: one
// that may lie outside of its package.
func IncludesElsewhere(dirs ...string) (found bool, err error) {
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return ignoreMissing(err)
			}
			if ext := filepath.Ext(p); d.Type().IsRegular() && (ext == ".s" || ext == ".h") {
				data, err := readRegular(p, maxSource)
				if err != nil {
					return err
				}
				if found = found || len(data) == maxSource || IncludesPath(data); found {
					return filepath.SkipAll
				}
			}
			return nil
		})
		if err != nil || found {
			return found, err
		}
	}
	return false, nil
}

// maxSource bounds a source file that is looked into, in bytes.
const maxSource = 16 << 20

// besideIt is the name, in an include of Go's assembler, of a file that is in the key of its package: no path, nothing that an escape
// hides (the assembler unquotes it), and an ending that the go command takes for a source.
var besideIt = regexp.MustCompile(`^"[^"/\\]+\.(h|hh|hpp|hxx|s|S|sx)"`)

// IncludesPath says whether a source of assembly includes a file that is in no key. Go's assembler knows names in quotes alone
// (cmd/asm/internal/lex, Input.include): what C includes in angle brackets is none of its.
func IncludesPath(source []byte) bool {
	for line := range bytes.Lines(source) {
		line, isDirective := bytes.CutPrefix(bytes.TrimSpace(line), []byte("#"))
		line, isInclude := bytes.CutPrefix(bytes.TrimSpace(line), []byte("include"))
		name := bytes.TrimSpace(line)
		if isDirective && isInclude && !bytes.HasPrefix(name, []byte("<")) && !besideIt.Match(name) {
			return true
		}
	}
	return false
}
