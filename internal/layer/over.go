package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/skiff-build/skiff/internal/inode"
)

// Pieces takes a tar in pieces, in order: bytes, and what the tar of another layer has.
type Pieces interface {
	io.Writer
	// Before adds what that tar has up to the entry of that name, or up to where that would be, and drops the entry itself; with
	// all, what is below it, too.
	Before(name string, all bool) error
	// Rest adds what is left.
	Rest() error
}

// PackOver is [Pack] for a layer that completes another one: dir holds what differs. Whiteouts in dir take away what that layer has.
// The pieces are together, to the byte, the tar of a directory with all of it, if the other one's was made by Pack with the same
// options; [Below] puts them together. A tar that holds whiteouts, and an opaque directory, are errors. It returns the bytes of the
// regular files in dir.
func PackOver(ctx context.Context, w Pieces, dir string, o PackOptions) (files int64, err error) {
	return packDir(ctx, w, dir, w, o)
}

var errNotOver = errors.New("a layer that completes another one cannot hide directories")

// keepBefore takes over the entries that come before name, and drops that of name itself; with all, what is below it, too.
func (p *packer) keepBefore(name string, all bool) error {
	if err := p.flush(); err != nil {
		return err
	}
	return p.below.Before(name, all)
}

// keepRest takes over what is left.
func (p *packer) keepRest() error {
	if p.below == nil {
		return nil
	}
	if err := p.flush(); err != nil {
		return err
	}
	return p.below.Rest()
}

// flush hands on what was written: what is taken over comes behind it.
func (p *packer) flush() error {
	if err := p.tar.Flush(); err != nil {
		return err
	}
	return p.raw.Flush()
}

// Index says what entries a tar of [Pack] has, in order, so that a layer can be packed over it without its headers being read again.
// For each: twice the length of the name without a final slash, and one more for a regular file; the name; how many blocks of 512
// bytes it takes with its headers; of a regular file, its size. The numbers are varints.
type Index []byte

var errIndex = errors.New("broken index of a tar")

// ReadIndex reads the headers of a tar, and nothing else.
func ReadIndex(ctx context.Context, from io.ReaderAt, size int64) (x Index, err error) {
	section := io.NewSectionReader(from, 0, size)
	tr := tar.NewReader(section)
	last, end := "", int64(0)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return x, nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, fmt.Errorf("read tar: %w", err)
		}
		name := strings.TrimSuffix(h.Name, "/")
		if i := strings.LastIndexByte(name, '/'); strings.HasPrefix(name[i+1:], whiteoutPrefix) {
			return nil, fmt.Errorf("read tar: %s: %w", name, errNotOver)
		}
		if last != "" && inode.CompareNames([]byte(last), []byte(name)) >= 0 {
			return nil, fmt.Errorf("read tar: %s comes behind %s", name, last)
		}
		at, err := section.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		start := end
		last, end = name, at+(h.Size+511)/512*512
		kind := uint64(0)
		if h.Typeflag == tar.TypeReg {
			kind = 1
		}
		x = append(binary.AppendUvarint(x, uint64(len(name))<<1|kind), name...)
		x = binary.AppendUvarint(x, uint64(end-start)/512)
		if kind == 1 {
			x = binary.AppendUvarint(x, uint64(h.Size))
		}
	}
}

// Below is the tar that another one is put together over: it knows what [Pieces] mean.
type Below struct {
	Files int64 // bytes of the regular files that were kept
	keep  func(from, to int64) error

	rest       Index
	name       []byte // of the entry; nil before the first and after the last
	start, end int64  // where it begins, with its extended headers, and where the next one does
	size       int64  // its bytes, of a regular file
}

// Over begins with the tar of an index. keep is called with the ranges that are taken over.
func (x Index) Over(keep func(from, to int64) error) (*Below, error) {
	b := &Below{rest: x, keep: keep}
	return b, b.next()
}

func (b *Below) next() error {
	b.start, b.name = b.end, nil
	if len(b.rest) == 0 {
		return nil
	}
	head, n := binary.Uvarint(b.rest)
	rest := b.rest[max(n, 0):]
	if n <= 0 || head>>1 == 0 || head>>1 > uint64(len(rest)) {
		return errIndex
	}
	b.name, rest = rest[:head>>1], rest[head>>1:]
	blocks, n := binary.Uvarint(rest)
	if n <= 0 || blocks > 1<<50 {
		return errIndex
	}
	b.end, rest = b.start+int64(blocks)*512, rest[n:]
	b.size = 0
	if head&1 == 1 {
		size, n := binary.Uvarint(rest)
		if n <= 0 || size > blocks*512 {
			return errIndex
		}
		b.size, rest = int64(size), rest[n:]
	}
	b.rest = rest
	return nil
}

// Before is that of [Pieces].
func (b *Below) Before(name string, all bool) error {
	if err := b.take(func() bool { return inode.CompareNames(b.name, []byte(name)) < 0 }); err != nil {
		return err
	}
	for string(b.name) == name || all && bytes.HasPrefix(b.name, []byte(name+"/")) {
		if err := b.next(); err != nil {
			return err
		}
	}
	return nil
}

// Rest is that of [Pieces].
func (b *Below) Rest() error { return b.take(func() bool { return true }) }

// take keeps entries while more says so.
func (b *Below) take(more func() bool) error {
	from := b.start
	for b.name != nil && more() {
		b.Files += b.size
		if err := b.next(); err != nil {
			return err
		}
	}
	if from == b.start {
		return nil
	}
	return b.keep(from, b.start)
}
