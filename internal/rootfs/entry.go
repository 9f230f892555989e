package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/skiff-build/skiff/internal/bounds"
)

// Entry is a member of a layer. Its Name has the form of [bounds.Name], however the layer spells it; so has the Linkname of a hard link.
type Entry struct {
	*tar.Header
	Sparse bool  // its content is not stored as one piece
	Offset int64 // from which byte of the tar on its content lies
}

// Bytes is the size of a regular file, else 0.
func (e Entry) Bytes() int64 {
	if e.Typeflag == tar.TypeReg {
		return e.Header.Size
	}
	return 0
}

// EachEntry calls fn for each member of a layer, an uncompressed tar, with its content. A member whose name
// would leave the root is an error. It reads r to its end, so that a digest over it is verified; but where r is an [io.Seeker], what
// fn does not read is passed over.
func EachEntry(ctx context.Context, r io.Reader, fn func(e Entry, content io.Reader) error) error {
	in := &counted{r: r}
	tr := tar.NewReader(in)
	if s, ok := r.(io.Seeker); ok {
		tr = tar.NewReader(countedSeeker{in, s})
	}
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read tar: %w", err)
		}
		if n >= bounds.MaxEntries {
			return fmt.Errorf("read tar: %w: it has more than %d entries", bounds.ErrLimit, bounds.MaxEntries)
		}
		if err := normalize(h); err != nil {
			return fmt.Errorf("read tar: %w", err)
		}
		sparse := isSparse(h)
		//lint:ignore SA1019 old tars have it
		if h.Typeflag == tar.TypeRegA || h.Typeflag == tar.TypeGNUSparse {
			h.Typeflag = tar.TypeReg
		}
		if err := fn(Entry{h, sparse, in.n}, tr); err != nil {
			return err
		}
	}
	_, err := io.Copy(io.Discard, r)
	return err
}

// counted counts what is read through it. A tar reader reads a header and no byte more before it returns it.
type counted struct {
	r io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// countedSeeker is counted for what can be passed over.
type countedSeeker struct {
	*counted
	s io.Seeker
}

func (c countedSeeker) Seek(offset int64, whence int) (int64, error) {
	n, err := c.s.Seek(offset, whence)
	if err == nil {
		c.n = n
	}
	return n, err
}

// skimmer reads a tar of which most is passed over: a few kilobytes at once, for a header, what stands before it and often what
// stands behind it come by one call.
type skimmer struct {
	r        io.ReaderAt
	at       int64 // of the next byte
	buf      []byte
	from, to int64 // what buf holds
}

func (s *skimmer) Read(p []byte) (int, error) {
	if len(p) >= cap(s.buf) {
		n, err := s.r.ReadAt(p, s.at)
		s.at += int64(n)
		if n > 0 {
			err = nil // it comes again with nothing
		}
		return n, err
	}
	if s.at < s.from || s.at >= s.to {
		n, err := s.r.ReadAt(s.buf, s.at)
		s.from, s.to = s.at, s.at+int64(n)
		if n == 0 {
			return 0, err
		}
	}
	n := copy(p, s.buf[s.at-s.from:s.to-s.from])
	s.at += int64(n)
	return n, nil
}

// Seek knows no end.
func (s *skimmer) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += s.at
	default:
		return 0, errors.New("seek from the end of a tar")
	}
	if offset < 0 {
		return 0, errors.New("seek before the beginning of a tar")
	}
	s.at = offset
	return offset, nil
}

// normalize brings the names of a header into the one form.
func normalize(h *tar.Header) (err error) {
	spelled := h.Name
	if h.Name, err = bounds.Name(spelled); err != nil {
		return fmt.Errorf("%.100q: %w", spelled, err)
	}
	switch h.Typeflag {
	case tar.TypeLink:
		target := h.Linkname
		if h.Linkname, err = bounds.Name(target); err != nil {
			return fmt.Errorf("%.100q: hard link to %.100q: %w", h.Name, target, err)
		}
	case tar.TypeSymlink:
		if len(h.Linkname) > bounds.MaxName {
			return fmt.Errorf("%.100q: %w: the target of the link has %d bytes, of %d at most", h.Name, bounds.ErrLimit, len(h.Linkname), bounds.MaxName)
		}
	}
	return nil
}

// isSparse reports the two forms of files with holes in tars of GNU's.
func isSparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}
