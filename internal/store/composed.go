package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sort"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// A composed blob is one of which most lies in another blob: a file ROOT/composed/HEX holds the bytes that are its own, and says
// which parts of which blobs stand before, between and after them. It is read like any other, digest and all, and it keeps
// what it is made of. What it is made of are plain blobs, never composed ones.
//
// The file: its own bytes; for each part the digest of a blob (zeros: this file) and, little endian in 8 bytes each, where the
// part begins there and how long it is; the number of parts in 8 bytes; composedMagic.

// Part is a piece of a composed blob.
type Part struct {
	Blob   v1.Hash // where it lies; zero for bytes that are the composed blob's own
	Offset int64   // in Blob, or among the own bytes
	Size   int64   // bytes
}

const (
	composedMagic = "skiffcp1"
	partBytes     = sha256.Size + 16
	maxParts      = 4 << 20
)

var errBrokenParts = errors.New("broken list of parts")

func (s *Store) composedPath(h v1.Hash) string { return s.path("composed", h.Hex) }

// Parts returns what a composed blob is made of, in order. [ErrMiss]: there is none, or it is a blob of its own, or what it is
// made of is gone.
func (s *Store) Parts(h v1.Hash) ([]Part, error) {
	if _, err := s.blobPath(h); err != nil {
		return nil, err
	}
	f, err := os.Open(s.composedPath(h))
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", h, ErrMiss)
	}
	defer f.Close()
	parts, err := readParts(f)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w: %w", h, err, ErrMiss)
	}
	sizes := map[v1.Hash]int64{}
	for _, p := range parts {
		if p.Blob == (v1.Hash{}) {
			continue
		}
		size, ok := sizes[p.Blob]
		if !ok {
			if _, size, err = s.plainBlob(p.Blob); err != nil {
				return nil, fmt.Errorf("blob %s: %w", h, err)
			}
			sizes[p.Blob] = size
		}
		if p.Offset > size-p.Size {
			return nil, fmt.Errorf("blob %s: %w: %w", h, errBrokenParts, ErrMiss)
		}
	}
	return parts, nil
}

// readParts reads the list at the end of the file of a composed blob.
func readParts(f *os.File) ([]Part, error) {
	i, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var end [16]byte
	if i.Size() < int64(len(end)) {
		return nil, errBrokenParts
	}
	if _, err := f.ReadAt(end[:], i.Size()-int64(len(end))); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(end[:8])
	if string(end[8:]) != composedMagic || n > maxParts || int64(n)*partBytes > i.Size()-int64(len(end)) {
		return nil, errBrokenParts
	}
	own := i.Size() - int64(len(end)) - int64(n)*partBytes
	b := make([]byte, n*partBytes)
	if _, err := f.ReadAt(b, own); err != nil {
		return nil, err
	}
	parts := make([]Part, n)
	for i := range parts {
		p := &parts[i]
		if !bytes.Equal(b[:sha256.Size], make([]byte, sha256.Size)) {
			p.Blob = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(b[:sha256.Size])}
		}
		p.Offset, p.Size = int64(binary.LittleEndian.Uint64(b[sha256.Size:])), int64(binary.LittleEndian.Uint64(b[sha256.Size+8:]))
		if p.Offset < 0 || p.Size < 0 || p.Blob == (v1.Hash{}) && p.Offset > own-p.Size {
			return nil, errBrokenParts
		}
		b = b[partBytes:]
	}
	return parts, nil
}

// BlobSize returns the size of a blob in bytes, or [ErrMiss]. As with [Store.Blob], the content is not verified.
func (s *Store) BlobSize(h v1.Hash) (int64, error) {
	_, size, err := s.plainBlob(h)
	if !errors.Is(err, ErrMiss) {
		return size, err
	}
	parts, err := s.Parts(h)
	return sizeOf(parts), err
}

func sizeOf(parts []Part) (n int64) {
	for _, p := range parts {
		n += p.Size
	}
	return n
}

// BlobAt is a blob that is open for reading at any place, which verifies nothing.
type BlobAt interface {
	io.ReaderAt
	io.Closer
	Size() int64 // bytes
}

// OpenBlobAt opens a blob for reading at any place. [ErrMiss]: there is no such blob.
func (s *Store) OpenBlobAt(h v1.Hash) (BlobAt, error) {
	path, size, err := s.plainBlob(h)
	if err == nil {
		f, err := os.Open(path)
		if err == nil {
			return plainAt{f, size}, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("blob %s: %w", h, err)
		}
	}
	if err != nil && !errors.Is(err, ErrMiss) {
		return nil, err
	}
	return s.openComposed(h)
}

type plainAt struct {
	*os.File
	size int64
}

func (p plainAt) Size() int64 { return p.size }

func (s *Store) openComposed(h v1.Hash) (_ *composedAt, err error) {
	parts, err := s.Parts(h)
	if err != nil {
		return nil, err
	}
	c := &composedAt{parts: parts, files: map[v1.Hash]*os.File{}}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	for _, p := range parts {
		c.ends = append(c.ends, c.Size()+p.Size)
		if c.files[p.Blob] != nil {
			continue
		}
		path := s.composedPath(h)
		if p.Blob != (v1.Hash{}) {
			if path, err = s.blobPath(p.Blob); err != nil {
				return nil, err
			}
		}
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("blob %s: %w: %w", h, err, ErrMiss)
		}
		c.files[p.Blob] = f
	}
	return c, nil
}

// composedAt reads a composed blob.
type composedAt struct {
	parts []Part
	ends  []int64 // where each part ends
	files map[v1.Hash]*os.File
}

func (c *composedAt) Size() int64 {
	if len(c.ends) == 0 {
		return 0
	}
	return c.ends[len(c.ends)-1]
}

func (c *composedAt) ReadAt(b []byte, at int64) (n int, err error) {
	if at < 0 {
		return 0, errors.New("negative offset")
	}
	for i := sort.Search(len(c.ends), func(i int) bool { return c.ends[i] > at }); i < len(c.parts) && n < len(b); i++ {
		p := c.parts[i]
		in := at + int64(n) - (c.ends[i] - p.Size)
		k, err := c.files[p.Blob].ReadAt(b[n:n+int(min(int64(len(b)-n), p.Size-in))], p.Offset+in)
		n += k
		if err != nil && in+int64(k) < p.Size {
			return n, noEOF(err)
		}
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (c *composedAt) Close() error {
	var errs []error
	for _, f := range c.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// Compose begins a composed blob. It ends with [Composer.Commit] or [Composer.Abort].
func (s *Store) Compose(ctx context.Context) (*Composer, error) {
	f, err := s.createTemp("composed")
	if err != nil {
		return nil, fmt.Errorf("write blob: %w", err)
	}
	return &Composer{s: s, ctx: ctx, file: f, own: bufio.NewWriterSize(f, 64<<10), sum: sha256.New(), from: map[v1.Hash]BlobAt{}}, nil
}

// Composer writes a composed blob from its first byte to its last. It is not safe for concurrent use.
type Composer struct {
	s     *Store
	ctx   context.Context // of the call that it lives in
	file  *os.File
	own   *bufio.Writer
	parts []Part
	sum   hash.Hash
	size  int64 // of the blob so far
	mine  int64 // its own bytes
	from  map[v1.Hash]BlobAt
	buf   []byte

	head []byte  // all bytes so far, while they are few
	like v1.Hash // the blob that begins with all bytes so far, which are not in sum yet; zero: they are
}

// maxHead bounds what is held of the beginning of a blob, which then may go on as another one does: the first directories of a tar,
// or what stands before the first chunk of a compressed layer.
const maxHead = 16 << 10

// Write adds bytes that are the blob's own.
func (c *Composer) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if err := c.settle(); err != nil {
		return 0, err
	}
	if c.size+int64(len(b)) <= maxHead {
		c.head = append(c.head, b...)
	}
	n, err := c.own.Write(b)
	if err == nil {
		c.sum.Write(b)
		c.add(Part{Offset: c.mine, Size: int64(n)})
		c.mine += int64(n)
	}
	return n, err
}

// Keep adds size bytes of a blob of the store, from offset on. They are given to each of also. Without it, what begins as that blob
// does need not be read (see resume.go).
func (c *Composer) Keep(h v1.Hash, offset, size int64, also ...io.Writer) error {
	if c.from[h] == nil {
		f, err := c.s.OpenBlobAt(h)
		if err != nil {
			return err
		}
		c.from[h] = f
	}
	if offset < 0 || size < 0 || offset > c.from[h].Size()-size {
		return fmt.Errorf("blob %s: it has no %d bytes from %d on", h, size, offset)
	}
	switch {
	case c.goesOn(h, offset):
		c.like = h
		if len(also) == 0 {
			return c.note(h, offset, size)
		}
	default:
		if err := c.settle(); err != nil {
			return err
		}
		also = append(also, c.sum)
	}
	if err := c.note(h, offset, size); err != nil {
		return err
	}
	return c.read(h, offset, size, also...)
}

// goesOn tells whether the blob h begins with all bytes so far, and goes on with those at offset.
func (c *Composer) goesOn(h v1.Hash, offset int64) bool {
	if offset != c.size || c.like != (v1.Hash{}) || len(c.head) < int(c.size) {
		return offset == c.size && c.like == h
	}
	b := make([]byte, len(c.head))
	n, _ := c.from[h].ReadAt(b, 0)
	return bytes.Equal(b[:n], c.head)
}

// settle brings all bytes so far into sum.
func (c *Composer) settle() (err error) {
	h := c.like
	if h == (v1.Hash{}) {
		return nil
	}
	c.like, c.head = v1.Hash{}, nil
	sum, at := c.s.resume(h, c.size)
	if plain, ok := c.from[h].(plainAt); ok && at == 0 && c.size >= stateStride && plain.Size() >= statesFrom {
		c.sum, err = c.learn(h, plain)
		return err
	}
	c.sum = sum
	return c.read(h, at, c.size-at, sum)
}

// learn reads a blob for the states of its hash, which it keeps, and returns a sha256 of as many of its bytes as there are so far.
func (c *Composer) learn(h v1.Hash, f plainAt) (hash.Hash, error) {
	states := &resumable{Hash: sha256.New()}
	if err := c.read(h, 0, c.size, states); err != nil {
		return nil, err
	}
	here := stateOf(states)
	if err := c.read(h, c.size, f.Size()-c.size, states); err != nil {
		return nil, err
	}
	if got := hex.EncodeToString(states.Sum(nil)); got != h.Hex {
		return nil, removeDamaged(f.Name(), h, got, f.Size())
	}
	states.keep(c.s, h)
	sum := sha256.New()
	return sum, sum.(encoding.BinaryUnmarshaler).UnmarshalBinary(here)
}

// read gives bytes of a blob to each of to.
func (c *Composer) read(h v1.Hash, offset, size int64, to ...io.Writer) error {
	if c.buf == nil {
		c.buf = make([]byte, 256<<10)
	}
	for size > 0 {
		if err := c.ctx.Err(); err != nil {
			return context.Cause(c.ctx)
		}
		b := c.buf[:min(size, int64(len(c.buf)))]
		if n, err := c.from[h].ReadAt(b, offset); n < len(b) {
			return fmt.Errorf("blob %s: %w", h, noEOF(err))
		}
		for _, w := range to {
			if _, err := w.Write(b); err != nil {
				return err
			}
		}
		offset, size = offset+int64(len(b)), size-int64(len(b))
	}
	return nil
}

// note adds the parts of a range of a blob, which may be composed itself.
func (c *Composer) note(h v1.Hash, offset, size int64) error {
	of, ok := c.from[h].(*composedAt)
	if !ok {
		c.add(Part{h, offset, size})
		return nil
	}
	for i, p := range of.parts {
		start := of.ends[i] - p.Size
		from, to := max(start, offset), min(of.ends[i], offset+size)
		if from >= to {
			continue
		}
		if p.Blob != (v1.Hash{}) {
			c.add(Part{p.Blob, p.Offset + from - start, to - from})
			continue
		}
		n, err := io.Copy(c.own, io.NewSectionReader(of, from, to-from))
		if err != nil || n != to-from {
			return fmt.Errorf("blob %s: %w", h, errors.Join(err, io.ErrUnexpectedEOF))
		}
		c.add(Part{Offset: c.mine, Size: n})
		c.mine += n
	}
	return nil
}

func (c *Composer) add(p Part) {
	c.size += p.Size
	if n := len(c.parts); n > 0 {
		if last := &c.parts[n-1]; last.Blob == p.Blob && last.Offset+last.Size == p.Offset {
			last.Size += p.Size
			return
		}
	}
	c.parts = append(c.parts, p)
}

// Commit puts the blob into the store and returns its digest and size in bytes.
func (c *Composer) Commit() (v1.Hash, int64, error) {
	if err := c.settle(); err != nil {
		c.Abort()
		return v1.Hash{}, 0, fmt.Errorf("write blob: %w", err)
	}
	h := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(c.sum.Sum(nil))}
	if err := c.commit(h); err != nil {
		return v1.Hash{}, 0, fmt.Errorf("write blob: %w", err)
	}
	return h, c.size, nil
}

func (c *Composer) commit(h v1.Hash) error {
	defer c.Abort()
	if len(c.parts) > maxParts {
		return errors.New("it has too many parts")
	}
	if _, err := c.s.BlobSize(h); err == nil {
		return nil
	}
	var b []byte
	for _, p := range c.parts {
		sum := make([]byte, sha256.Size)
		if p.Blob != (v1.Hash{}) {
			if _, err := hex.Decode(sum, []byte(p.Blob.Hex)); err != nil {
				return err
			}
		}
		b = append(b, sum...)
		b = binary.LittleEndian.AppendUint64(b, uint64(p.Offset))
		b = binary.LittleEndian.AppendUint64(b, uint64(p.Size))
	}
	b = append(binary.LittleEndian.AppendUint64(b, uint64(len(c.parts))), composedMagic...)
	if _, err := c.own.Write(b); err != nil {
		return err
	}
	if err := c.own.Flush(); err != nil {
		return err
	}
	if err := c.file.Close(); err != nil {
		return err
	}
	return c.s.place(c.file.Name(), c.s.composedPath(h))
}

// Abort takes back what was written. After Commit it does nothing.
func (c *Composer) Abort() {
	c.file.Close()
	os.Remove(c.file.Name())
	for _, f := range c.from {
		f.Close()
	}
	c.from = nil
}
