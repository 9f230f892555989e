package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// Lock takes the lock of the given name, exclusive between processes and between goroutines, and waits for it
// until ctx ends. It is not reentrant. The lock ends with unlock, or with the process.
func (s *Store) Lock(ctx context.Context, name string) (unlock func(), err error) {
	free, err := s.lockHere(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("lock %q: %w", name, err)
	}
	sum := sha256.Sum256([]byte(name))
	path := s.path("locks", hex.EncodeToString(sum[:16]))
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		f, err := tryLock(path, true, false)
		if err == nil {
			return func() { f.Close(); free() }, nil
		}
		if !errors.Is(err, errWouldBlock) {
			free()
			return nil, fmt.Errorf("lock %q: %w", name, err)
		}
		select {
		case <-ctx.Done():
			free()
			return nil, fmt.Errorf("lock %q: wait for another skiff: %w", name, ctx.Err())
		case <-time.After(wait):
		}
	}
}

// lockHere takes name among the goroutines of this Store: they queue on a channel and need not poll.
func (s *Store) lockHere(ctx context.Context, name string) (free func(), err error) {
	for {
		s.mu.Lock()
		busy, ok := s.held[name]
		if !ok {
			done := make(chan struct{})
			s.held[name] = done
			s.mu.Unlock()
			return func() {
				s.mu.Lock()
				delete(s.held, name)
				s.mu.Unlock()
				close(done)
			}, nil
		}
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-busy:
		}
	}
}

// lockFile takes a lock of the store's own, held for moments only.
func (s *Store) lockFile(name string, exclusive bool) (unlock func(), err error) {
	f, err := tryLock(s.path("locks", name), exclusive, true)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return func() { f.Close() }, nil
}

// tryLock opens and flocks path. A file that was removed between the two (by Trim, or by somebody's rm) would
// be a lock that nobody else sees: then it starts again.
func tryLock(path string, exclusive, wait bool) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			if err := mkdirParent(path); err != nil {
				return nil, err
			}
			f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		}
		if err != nil {
			return nil, err
		}
		if err := flock(f, exclusive, wait); err != nil {
			f.Close()
			return nil, err
		}
		mine, err1 := f.Stat()
		there, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(mine, there) {
			return f, nil
		}
		f.Close()
	}
}
