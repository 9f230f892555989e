package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const (
	// keepDraft is from how many bytes on a draft is kept when its writer gives up.
	keepDraft = 1 << 20
	// draftAge is how long Trim leaves a draft alone: it is to be continued, or it is rubbish.
	draftAge = 24 * time.Hour

	draftPrefix = "draft-"
)

// Draft is a blob on its way into the store. One that has a digest outlives a writer that gives up or is killed: the next one
// finds what is there already. Nothing in it is believed before Commit. One goroutine writes; others may read what it wrote.
type Draft struct {
	s      *Store
	want   v1.Hash // zero: any
	size   int64   // negative: any
	path   string
	unlock func()

	sum  hash.Hash
	n    int64
	bad  bool // a write failed: what is there is not worth keeping
	done bool // it is a blob, or closed

	mu sync.RWMutex // f is another file from Commit on
	f  *os.File
}

// OpenDraft opens what is there of the blob want, of size bytes, to be continued. It waits while somebody else has it open. The
// caller closes it.
func (s *Store) OpenDraft(ctx context.Context, want v1.Hash, size int64) (*Draft, error) {
	if _, err := s.blobPath(want); err != nil {
		return nil, fmt.Errorf("write %w", err)
	}
	unlock, err := s.Lock(ctx, "draft "+want.Hex)
	if err != nil {
		return nil, err
	}
	p := &Draft{s: s, want: want, size: size, path: s.path("tmp", draftPrefix+want.Hex), unlock: sync.OnceFunc(unlock), sum: sha256.New()}
	if p.f, err = openDraft(p.path); err == nil {
		p.n, err = copyAtMost(ctx, p.sum, p.f, size)
		if err == nil && p.n > size {
			err = p.Reset()
		}
		if err != nil {
			p.f.Close()
		}
	}
	if err != nil {
		unlock()
		return nil, fmt.Errorf("write blob %s: %w", want, err)
	}
	return p, nil
}

func openDraft(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err := mkdirParent(path); err != nil {
			return nil, err
		}
		f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	}
	return f, err
}

// NewDraft begins a blob of which nothing is known. It is gone if it is not committed.
func (s *Store) NewDraft() (*Draft, error) {
	f, err := s.createTemp("blob")
	if err != nil {
		return nil, fmt.Errorf("write blob: %w", err)
	}
	return &Draft{s: s, size: -1, path: f.Name(), unlock: func() {}, sum: sha256.New(), f: f}, nil
}

// Len is how many bytes are there.
func (p *Draft) Len() int64 { return p.n }

// Write appends. More than the size announced is a *[DigestError], and is not written.
func (p *Draft) Write(b []byte) (int, error) {
	if p.size >= 0 && p.n+int64(len(b)) > p.size {
		return 0, &DigestError{Want: p.want, WantSize: p.size, GotSize: p.size + 1}
	}
	n, err := p.f.Write(b)
	p.sum.Write(b[:n])
	p.n += int64(n)
	p.bad = p.bad || err != nil
	return n, err
}

// ReadAt reads what was written. It works beside Write, and after Commit.
func (p *Draft) ReadAt(b []byte, off int64) (int, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.f.ReadAt(b, off)
}

// Reset forgets what is there.
func (p *Draft) Reset() error {
	p.n = 0
	p.sum.Reset()
	if err := p.f.Truncate(0); err != nil {
		p.bad = true
		return err
	}
	_, err := p.f.Seek(0, io.SeekStart)
	return err
}

// Commit makes the draft a blob and returns its digest and size. Content that is not what was announced is a *[DigestError], and
// is forgotten.
func (p *Draft) Commit() (v1.Hash, int64, error) {
	got, err := announced(p.want, p.size, p.sum, p.n)
	if err != nil {
		return v1.Hash{}, 0, errors.Join(err, p.Reset())
	}
	path, err := p.s.blobPath(got)
	if err != nil {
		return v1.Hash{}, 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// Closed before the rename, as in writeBlob.
	err = p.f.Close()
	if err == nil {
		err = p.s.place(p.path, path)
	}
	if err != nil {
		p.bad = true
		return v1.Hash{}, 0, fmt.Errorf("write blob %s: %w", got, err)
	}
	p.done = true
	if p.f, err = os.Open(path); err != nil {
		return v1.Hash{}, 0, fmt.Errorf("write blob %s: %w", got, err)
	}
	return got, p.n, nil
}

// Close ends the writing. What is not committed stays if somebody can continue it, and it is worth that. A second Close does
// nothing.
func (p *Draft) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.f.Close()
	if !p.done && (p.bad || p.want == v1.Hash{} || p.n < keepDraft) {
		os.Remove(p.path)
	}
	p.done = true
	p.unlock()
	if errors.Is(err, os.ErrClosed) {
		return nil // by a Commit that failed
	}
	return err
}

// continues tells whether a file of tmp is a draft that somebody may still continue.
func continues(name, path string) bool {
	if !strings.HasPrefix(name, draftPrefix) {
		return false
	}
	i, err := os.Lstat(path)
	return err == nil && i.Mode().IsRegular() && younger(i.ModTime(), draftAge)
}
