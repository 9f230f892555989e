package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// DigestError says that a blob is not what its descriptor announced: its digest, or its size.
type DigestError struct {
	Want, Got         v1.Hash
	WantSize, GotSize int64 // -1: not known. GotSize is WantSize+1 where the content was longer
}

func (e *DigestError) Error() string {
	if e.WantSize >= 0 && e.GotSize > e.WantSize {
		return fmt.Sprintf("content is longer than the %d bytes announced", e.WantSize)
	}
	if e.WantSize >= 0 && e.GotSize != e.WantSize {
		return fmt.Sprintf("content ends after %d of the %d bytes announced", e.GotSize, e.WantSize)
	}
	return fmt.Sprintf("content has the digest %s, announced was %s", e.Got, e.Want)
}

func (s *Store) blobPath(h v1.Hash) (string, error) {
	if h.Algorithm != "sha256" || len(h.Hex) != 64 {
		return "", fmt.Errorf("blob %s: only sha256 digests are supported", h)
	}
	if _, err := hex.DecodeString(h.Hex); err != nil {
		return "", fmt.Errorf("blob %s: not a digest", h)
	}
	return s.path("oci", "blobs", "sha256", h.Hex), nil
}

// Blob returns the path and the size in bytes of a blob, or [ErrMiss]. The content is not verified: use
// [Store.OpenBlob] where it leaves the machine or is trusted. A composed blob is written out for it: where the path
// does not matter there is [Store.BlobSize].
func (s *Store) Blob(h v1.Hash) (path string, size int64, err error) {
	path, size, err = s.plainBlob(h)
	if !errors.Is(err, ErrMiss) {
		return path, size, err
	}
	r, miss := s.openComposed(h)
	if miss != nil {
		return "", 0, err
	}
	defer r.Close()
	if _, _, err := s.writeBlob(context.Background(), io.NewSectionReader(r, 0, r.Size()), h, r.Size()); err != nil {
		return "", 0, fmt.Errorf("write blob %s: %w", h, err)
	}
	return s.plainBlob(h)
}

// plainBlob is Blob for those that are files of their own.
func (s *Store) plainBlob(h v1.Hash) (path string, size int64, err error) {
	path, err = s.blobPath(h)
	if err != nil {
		return "", 0, err
	}
	i, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) && s.restore(h) {
		i, err = os.Lstat(path)
	}
	if err != nil || !i.Mode().IsRegular() {
		return "", 0, fmt.Errorf("blob %s: %w", h, ErrMiss)
	}
	return path, i.Size(), nil
}

// OpenBlob opens a blob for reading to its end: in the place of [io.EOF] comes a *[DigestError] when the
// content was not the blob's, which is then removed from the store, so that it can be fetched or made again.
// [ErrMiss]: there is no such blob. The caller closes it.
func (s *Store) OpenBlob(h v1.Hash) (io.ReadCloser, error) {
	if _, err := os.Lstat(s.recordPath(kindSpare, blobKey(h))); err == nil {
		if b, err := s.readSmall(h); err == nil {
			return io.NopCloser(bytes.NewReader(b)), nil
		}
	}
	at, err := s.OpenBlobAt(h)
	if errors.Is(err, ErrMiss) && s.remake != nil {
		if rerr := s.remake(h); rerr != nil {
			return nil, fmt.Errorf("blob %s is gone from skiff's state: build, pull or load again what it belongs to: %w: %w", h, rerr, ErrMiss)
		}
		at, err = s.OpenBlobAt(h)
	}
	if err != nil {
		return nil, err
	}
	b := &blobReader{s: s, from: at, want: h, path: s.composedPath(h), sum: sha256.New()}
	if plain, ok := at.(plainAt); ok {
		b.r, b.path = plain.File, plain.Name()
	} else {
		b.r = io.NewSectionReader(at, 0, at.Size())
	}
	return b, nil
}

// Remake has [Store.OpenBlob] call again for a blob that is gone: it makes the blob anew from what else the store has, or says why it
// cannot. It is set before the store is used.
func (s *Store) Remake(again func(h v1.Hash) error) { s.remake = again }

type blobReader struct {
	s    *Store
	r    io.Reader // of from
	from BlobAt
	want v1.Hash
	path string // of the file that goes when it is damaged
	sum  hash.Hash
	n    int64
	err  error // sticky, once the end was reached
}

func (b *blobReader) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.r.Read(p)
	b.sum.Write(p[:n])
	b.n += int64(n)
	if err == io.EOF {
		if got := hex.EncodeToString(b.sum.Sum(nil)); got != b.want.Hex {
			err = removeDamaged(b.path, b.want, got, b.n)
			b.s.checkParts(b.from)
		}
	}
	b.err = err
	return n, err
}

func (b *blobReader) Close() error { return b.from.Close() }

// removeDamaged removes the file of a blob whose n bytes have another digest, and tells of it.
func removeDamaged(path string, h v1.Hash, got string, n int64) error {
	os.Remove(path)
	return fmt.Errorf("blob %s in skiff's state was damaged, and is removed now: build or pull again: %w", h,
		&DigestError{Want: h, Got: v1.Hash{Algorithm: "sha256", Hex: got}, WantSize: -1, GotSize: n})
}

// VerifyBlob reads a blob to its end. Errors are those of [Store.OpenBlob] and of reading: one that is damaged is removed.
func (s *Store) VerifyBlob(h v1.Hash) error {
	r, err := s.OpenBlob(h)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

// checkParts reads what a damaged blob is made of. What is damaged there is removed, else the blob would be made of it again.
func (s *Store) checkParts(of BlobAt) {
	c, ok := of.(*composedAt)
	if !ok {
		return
	}
	for h := range c.files {
		_ = s.VerifyBlob(h) // what is damaged is removed
	}
}

// WriteBlob stores what r yields, and returns its digest and size in bytes. want is the digest announced (zero:
// any), size the length announced (negative: any). Content that differs is a *[DigestError] and leaves nothing
// behind; never more than size bytes are written. A blob that is there already is not read from r again.
func (s *Store) WriteBlob(ctx context.Context, r io.Reader, want v1.Hash, size int64) (v1.Hash, int64, error) {
	named := want != v1.Hash{}
	if named {
		if _, err := s.blobPath(want); err != nil {
			return v1.Hash{}, 0, fmt.Errorf("write %w", err)
		}
		if n, err := s.BlobSize(want); err == nil && (size < 0 || n == size) {
			return want, n, nil
		}
	}
	h, n, err := s.writeBlob(ctx, r, want, size)
	if err != nil {
		if named {
			return v1.Hash{}, 0, fmt.Errorf("write blob %s: %w", want, err)
		}
		return v1.Hash{}, 0, fmt.Errorf("write blob: %w", err)
	}
	return h, n, nil
}

// MakeBlob stores what write writes, and returns its digest and size in bytes. Where write fails nothing stays.
func (s *Store) MakeBlob(ctx context.Context, write func(io.Writer) error) (v1.Hash, int64, error) {
	h, n, err := s.makeBlob(v1.Hash{}, -1, func(w io.Writer) (int64, error) {
		counted := &ctxWriter{ctx: ctx, w: w}
		buffered := bufio.NewWriterSize(counted, copyBuffer)
		if err := write(buffered); err != nil {
			return 0, err
		}
		err := buffered.Flush()
		return counted.n, err
	})
	if err != nil {
		return v1.Hash{}, 0, fmt.Errorf("write blob: %w", err)
	}
	return h, n, nil
}

// ctxWriter writes until its context ends, and counts.
type ctxWriter struct {
	ctx context.Context
	w   io.Writer
	n   int64
}

func (w *ctxWriter) Write(p []byte) (int, error) {
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	n, err := w.w.Write(p)
	w.n += int64(n)
	return n, err
}

func (s *Store) writeBlob(ctx context.Context, r io.Reader, want v1.Hash, size int64) (v1.Hash, int64, error) {
	return s.makeBlob(want, size, func(w io.Writer) (int64, error) { return copyAtMost(ctx, w, r, size) })
}

// makeBlob stores what write writes, which tells how many bytes that were.
func (s *Store) makeBlob(want v1.Hash, size int64, write func(io.Writer) (int64, error)) (h v1.Hash, n int64, err error) {
	h, err = s.fillBlob(func(f *os.File) (_ v1.Hash, err error) {
		sum := sha256.New()
		if n, err = write(io.MultiWriter(f, sum)); err != nil {
			return v1.Hash{}, err
		}
		return announced(want, size, sum, n)
	})
	return h, n, err
}

// FillBlob stores what fill writes into a file, for another process to be given that file: fill's word for the digest counts. Where
// it fails nothing stays.
func (s *Store) FillBlob(fill func(f *os.File) (v1.Hash, error)) (v1.Hash, error) {
	var failed error
	h, err := s.fillBlob(func(f *os.File) (h v1.Hash, err error) {
		h, failed = fill(f)
		return h, failed
	})
	if err != nil && failed == nil {
		err = fmt.Errorf("write blob: %w", err)
	}
	return h, err
}

func (s *Store) fillBlob(fill func(f *os.File) (v1.Hash, error)) (h v1.Hash, err error) {
	f, err := s.createTemp("blob")
	if err != nil {
		return v1.Hash{}, err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if h, err = fill(f); err != nil {
		return v1.Hash{}, err
	}
	return h, s.placeBlob(f, h)
}

// placeBlob puts a file that holds a blob where it belongs.
func (s *Store) placeBlob(f *os.File, h v1.Hash) error {
	path, err := s.blobPath(h)
	if err != nil {
		return err
	}
	// Closed before the rename: an error of a late write shows here, and Windows renames no open file.
	if err := f.Close(); err != nil {
		return err
	}
	if err := s.place(f.Name(), path); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made[h] = true
	return nil
}

// Made tells that the digest of a blob was made while this Store wrote it: whoever reads it soon after need not verify it.
func (s *Store) Made(h v1.Hash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.made[h]
}

// announced returns the digest of n bytes, of which sum was made, or a *[DigestError] where they are not what was announced.
func announced(want v1.Hash, size int64, sum hash.Hash, n int64) (v1.Hash, error) {
	got := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}
	if size >= 0 && n != size || want != (v1.Hash{}) && got != want {
		return v1.Hash{}, &DigestError{Want: want, Got: got, WantSize: size, GotSize: n}
	}
	return got, nil
}

// copyBuffer is how many bytes are written at once.
const copyBuffer = 128 << 10

// copyAtMost copies r to w until its end. With size >= 0 it writes at most size bytes, and reports size+1
// where r has more.
func copyAtMost(ctx context.Context, w io.Writer, r io.Reader, size int64) (int64, error) {
	buf := make([]byte, copyBuffer)
	var n int64
	for {
		if err := ctx.Err(); err != nil {
			return n, context.Cause(ctx)
		}
		k, rerr := r.Read(buf)
		if size >= 0 && n+int64(k) > size {
			return size + 1, nil
		}
		if _, err := w.Write(buf[:k]); err != nil {
			return n, err
		}
		n += int64(k)
		if rerr == io.EOF {
			return n, nil
		}
		if rerr != nil {
			return n, rerr
		}
	}
}
