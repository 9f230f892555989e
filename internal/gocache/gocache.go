// Package gocache lets the go command take compiled packages from a second build cache, which it only reads.
//
// A build cache on disk ([Dir]) is what cmd/go/internal/cache lays out: for an action (the digest of all that goes into a
// compilation) a small file that names an output, for an output (the sha256 of its content) the file itself. [Serve] is
// what the go command starts when GOCACHEPROG names it (Go 1.24 on; cmd/go/internal/cacheprog): it answers from one
// directory, fetches into that what a second one has, and keeps there what the go command makes. So the next go command
// finds all of it in the first directory and needs no program.
//
// What comes from the second directory counts only if its content has the digest that names it: a file cut short is a
// miss. Whether an action deserves the output that it names cannot be seen; whoever chooses a second directory answers
// for that. Nothing is ever written there, and no path leads out of a directory: names are digests.
package gocache

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ActionID is the digest of all that goes into an action, OutputID the sha256 of what came out.
type (
	ActionID [sha256.Size]byte
	OutputID [sha256.Size]byte
)

// Entry is what an action gave.
type Entry struct {
	Output OutputID
	Size   int64     // bytes
	Time   time.Time // when it was made
}

// Module is a version of a module in a module cache whose files were seen to agree: the zip, what was unpacked from it,
// and the checksum beside it.
type Module struct {
	Path, Version string
	Sum           string // h1: of the zip
	ModSum        string // h1: of go.mod, as go.sum has it
	Info          bool   // with the file that says when it was made
	Zip, Folder   Stamp  // of what was found to have the checksum; "": nothing was
}

// Stamp tells a file or folder from others that come to be at its name.
type Stamp string

// ErrMiss is what [Dir.Get] returns where there is nothing for an action, or nothing that can be read.
var ErrMiss = errors.New("not in the cache")

// Dir is a build cache on disk. It is safe for concurrent use, by other processes too.
type Dir string

// Get looks an action up. The output's file is there and has the size that the entry says.
func (d Dir) Get(a ActionID) (Entry, error) {
	f, err := os.Open(d.actionFile(a))
	if err != nil {
		return Entry{}, ErrMiss
	}
	defer f.Close()
	data := make([]byte, entrySize+1) // one more, to see whether there is more
	n, _ := io.ReadFull(f, data)      // a short file is the usual case
	e, err := parseEntry(a, data[:n])
	if err != nil {
		return Entry{}, err
	}
	info, err := os.Lstat(d.OutputFile(e.Output))
	if err != nil || !info.Mode().IsRegular() || info.Size() != e.Size {
		return Entry{}, ErrMiss
	}
	return e, nil
}

// OutputFile is where the content of an output lies.
func (d Dir) OutputFile(o OutputID) string { return d.file(o[:], "d") }

func (d Dir) actionFile(a ActionID) string { return d.file(a[:], "a") }

func (d Dir) file(id []byte, suffix string) string {
	name := hex.EncodeToString(id)
	return filepath.Join(string(d), name[:2], name+"-"+suffix)
}

// Put keeps the content that r gives, e.Size bytes, as the output of an action. Content that is not what e.Output says
// is an error, and leaves nothing. An output that is there already is not written again, and r is read all the same.
func (d Dir) Put(a ActionID, e Entry, r io.Reader) error {
	if err := d.putOutput(e, r); err != nil {
		return fmt.Errorf("build cache: output %x: %w", e.Output, err)
	}
	if err := d.place(d.actionFile(a), func(w io.Writer) error {
		_, err := w.Write(formatEntry(a, e))
		return err
	}); err != nil {
		return fmt.Errorf("build cache: action %x: %w", a, err)
	}
	return nil
}

// errDigest is content that is not what its name says.
var errDigest = errors.New("content does not have the digest that names it")

func (d Dir) putOutput(e Entry, r io.Reader) error {
	hash := sha256.New()
	copied := func(w io.Writer) error {
		n, err := io.Copy(io.MultiWriter(w, hash), io.LimitReader(r, e.Size+1))
		if err == nil && (n != e.Size || OutputID(hash.Sum(nil)) != e.Output) {
			err = errDigest
		}
		return err
	}
	name := d.OutputFile(e.Output)
	if info, err := os.Lstat(name); err == nil && info.Mode().IsRegular() && info.Size() == e.Size {
		return copied(io.Discard)
	}
	return d.place(name, copied)
}

// place makes a file appear with all its content. The go command, which may write the same file, writes the same bytes.
func (d Dir) place(name string, write func(io.Writer) error) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(name), "skiff-")
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			return err
		}
		tmp, err = os.CreateTemp(filepath.Dir(name), "skiff-")
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(tmp.Name())
		}
	}()
	err = write(tmp)
	if err == nil {
		err = tmp.Chmod(0o644)
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), name)
}

// entrySize is that of an action's file, in bytes (cmd/go/internal/cache/cache.go).
const entrySize = len("v1 ") + 2*sha256.Size + 1 + 2*sha256.Size + 1 + 20 + 1 + 20 + 1

func formatEntry(a ActionID, e Entry) []byte {
	return fmt.Appendf(nil, "v1 %x %x %20d %20d\n", a, e.Output, e.Size, e.Time.UnixNano())
}

// parseEntry reads what formatEntry writes, to the byte.
func parseEntry(a ActionID, data []byte) (Entry, error) {
	if len(data) != entrySize {
		return Entry{}, ErrMiss
	}
	fields := strings.Fields(string(data))
	if len(fields) != 5 || fields[1] != hex.EncodeToString(a[:]) {
		return Entry{}, ErrMiss
	}
	var e Entry
	out, err := hex.DecodeString(fields[2])
	if err != nil || copy(e.Output[:], out) != len(e.Output) || len(out) != len(e.Output) {
		return Entry{}, ErrMiss
	}
	nano, err := strconv.ParseInt(fields[4], 10, 64)
	if err != nil || nano < 0 {
		return Entry{}, ErrMiss
	}
	e.Time = time.Unix(0, nano)
	if e.Size, err = strconv.ParseInt(fields[3], 10, 64); err != nil || e.Size < 0 || string(formatEntry(a, e)) != string(data) {
		return Entry{}, ErrMiss
	}
	return e, nil
}
