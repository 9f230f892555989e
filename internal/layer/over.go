package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Pieces takes a tar in pieces, in order: bytes, and ranges of the tar of another layer.
type Pieces interface {
	io.Writer
	// Keep adds the bytes from and up to to of that tar.
	Keep(from, to int64) error
}

// PackOver is [Pack] for a layer that completes another one: dir holds what differs from the layer whose tar is below, size
// bytes long and made by Pack with the same options. Whiteouts in dir take away what that layer has. The pieces are together, to
// the byte, the tar of a directory with all of it; but of below nothing is read but the headers, and no file of it is opened.
// A tar that holds whiteouts, and an opaque directory, are errors. It returns what [Packed.Files] is.
func PackOver(ctx context.Context, w Pieces, dir string, below io.ReaderAt, size int64, o PackOptions) (files int64, err error) {
	t := &tarBelow{pieces: w}
	t.section = io.NewSectionReader(below, 0, size)
	t.tar = tar.NewReader(t.section)
	if err := t.next(); err != nil {
		return 0, fmt.Errorf("pack layer: %w", err)
	}
	return packDir(ctx, w, dir, t, o)
}

var errNotOver = errors.New("a layer that completes another one cannot hide directories")

// tarBelow goes through a tar of Pack, entry by entry.
type tarBelow struct {
	pieces  Pieces
	section *io.SectionReader
	tar     *tar.Reader

	name       string // of the entry, without a final slash; "" after the last
	start, end int64  // where it begins, with its extended headers, and where the next one does
	files      int64  // its bytes, of a regular file

	keepFrom, keepTo int64 // entries that are taken over, and not written yet
}

func (t *tarBelow) next() error {
	t.start = t.end
	h, err := t.tar.Next()
	if err == io.EOF {
		t.name = ""
		return nil
	}
	if err != nil {
		return err
	}
	at, err := t.section.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	t.name, t.files = strings.TrimSuffix(h.Name, "/"), 0
	if h.Typeflag == tar.TypeReg {
		t.files = h.Size
	}
	t.end = at + (h.Size+511)/512*512
	if i := strings.LastIndexByte(t.name, '/'); strings.HasPrefix(t.name[i+1:], whiteoutPrefix) {
		return fmt.Errorf("%s: %w", t.name, errNotOver)
	}
	return nil
}

// order makes names comparable as they follow each other in a tar: what a directory holds comes before its neighbours.
func order(name string) string { return strings.ReplaceAll(name, "/", "\x00") }

// keepBefore takes over the entries that come before name, and drops that of name itself; with all, what is below it, too.
func (p *packer) keepBefore(name string, all bool) error {
	t, at := p.below, order(name)
	for t.name != "" && order(t.name) < at {
		if err := p.keep(); err != nil {
			return err
		}
	}
	for t.name == name || all && strings.HasPrefix(t.name, name+"/") {
		if err := t.next(); err != nil {
			return err
		}
	}
	return p.writeKept() // before what is written now
}

// keepRest takes over what is left.
func (p *packer) keepRest() error {
	if p.below == nil {
		return nil
	}
	for p.below.name != "" {
		if err := p.keep(); err != nil {
			return err
		}
	}
	return p.writeKept()
}

// keep takes one entry over.
func (p *packer) keep() error {
	t := p.below
	if t.start != t.keepTo {
		if err := p.writeKept(); err != nil {
			return err
		}
		t.keepFrom = t.start
	}
	t.keepTo = t.end
	p.files += t.files
	return t.next()
}

// writeKept keeps the entries that were taken over, which lie side by side.
func (p *packer) writeKept() error {
	t := p.below
	if t.keepFrom == t.keepTo {
		return nil
	}
	if err := p.tar.Flush(); err != nil {
		return err
	}
	if err := p.raw.Flush(); err != nil {
		return err
	}
	err := t.pieces.Keep(t.keepFrom, t.keepTo)
	t.keepFrom = t.keepTo
	return err
}
