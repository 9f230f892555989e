package layer

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/skiff-build/skiff/internal/bounds"
)

// Compression is a way in which a stream is compressed.
type Compression string

// The compressions that [Decompress] knows.
const (
	None  Compression = "none"
	Gzip  Compression = "gzip"
	Bzip2 Compression = "bzip2"
	XZ    Compression = "xz"
	Zstd  Compression = "zstd"
)

// magics are the first bytes of compressed streams.
var magics = []struct {
	kind  Compression
	bytes string
}{
	{Gzip, "\x1f\x8b\x08"},     // RFC 1952, with deflate
	{Bzip2, "BZh"},             // then the level
	{XZ, "\xfd7zXZ\x00"},       // xz-file-format.txt, 2.1.1.1
	{Zstd, "\x28\xb5\x2f\xfd"}, // RFC 8878, 3.1.1
}

// zstdWindow is the most memory that a zstd stream may ask for, in bytes: what "zstd --long" takes.
const zstdWindow = 128 << 20

// Stream is a decompressed stream. The caller closes it; that does not close what it reads from.
type Stream struct {
	io.Reader
	Kind  Compression // how it was compressed
	close func() error
}

// Close releases the decompressor.
func (s *Stream) Close() error { return s.close() }

// Decompress returns what r holds, decompressed if its first bytes are those of gzip, bzip2, xz or zstd; else
// as it is. A stream that becomes more than its bytes allow ends with [bounds.ErrLimit]; how much memory it takes is bounded, too (xz
// may reserve 4 GB, but uses no more than comes out).
func Decompress(r io.Reader) (*Stream, error) {
	stored := bounds.NewMeter(r)
	b := bufio.NewReaderSize(stored, 256<<10)
	head, err := b.Peek(8)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	s := &Stream{Kind: kind(head), close: func() error { return nil }}
	if err := s.open(b); err != nil {
		return nil, fmt.Errorf("decompress %s: %w", s.Kind, err)
	}
	if s.Kind != None {
		s.Reader = bounds.Grow(stored, s.Reader)
	}
	return s, nil
}

func (s *Stream) open(r io.Reader) error {
	switch s.Kind {
	case Gzip:
		z, err := gzip.NewReader(r)
		if err != nil {
			return err
		}
		s.Reader, s.close = z, z.Close
	case Bzip2:
		s.Reader = bzip2.NewReader(r)
	case XZ:
		x, err := xz.NewReader(r)
		if err != nil {
			return err
		}
		s.Reader = x
	case Zstd:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return err
		}
		s.Reader, s.close = z, func() error { z.Close(); return nil }
	default:
		s.Reader = r
	}
	return nil
}

func kind(head []byte) Compression {
	for _, m := range magics {
		if bytes.HasPrefix(head, []byte(m.bytes)) {
			return m.kind
		}
	}
	return None
}

// IsArchive reports whether r begins, decompressed if need be, with the header of a tar entry: what ADD
// unpacks. It reads some of r. An empty archive is none.
func IsArchive(r io.Reader) bool {
	s, err := Decompress(r)
	if err != nil {
		return false
	}
	defer s.Close()
	_, err = tar.NewReader(s).Next()
	return err == nil
}
