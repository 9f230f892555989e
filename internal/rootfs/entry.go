package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// Entry is a member of a layer.
type Entry struct {
	*tar.Header
	Clean  string // its name, relative to the root: "." is the root itself
	Sparse bool   // its content is not stored as one piece
	Offset int64  // from which byte of the tar on its content lies
}

// Bytes is the size of a regular file, else 0.
func (e Entry) Bytes() int64 {
	if e.Typeflag == tar.TypeReg {
		return e.Header.Size
	}
	return 0
}

// maxEntries bounds the members of a layer or archive: the largest images known have some 500,000 files.
const maxEntries = 5_000_000

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
		if n > maxEntries {
			return errors.New("read tar: more than 5,000,000 files")
		}
		name, err := CleanName(h.Name)
		if err != nil {
			return fmt.Errorf("read tar: %w", err)
		}
		sparse := isSparse(h)
		if h.Typeflag == tar.TypeRegA || h.Typeflag == tar.TypeGNUSparse { //nolint:staticcheck // old tars have it
			h.Typeflag = tar.TypeReg
		}
		if err := fn(Entry{h, name, sparse, in.n}, tr); err != nil {
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

// CleanName makes a member's name relative to the root. As tar and Docker do, an absolute one counts from the
// root; one that climbs above it is refused.
func CleanName(name string) (string, error) {
	if len(name) > 4096 || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("%.100q is no name for a file", name)
	}
	clean := path.Clean(strings.TrimLeft(name, "/"))
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", fmt.Errorf("%q leads outside the image", name)
	}
	return clean, nil
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
