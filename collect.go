package skiff

import (
	"context"
	"errors"
	"time"

	"github.com/skiff-build/skiff/internal/engine"
	"github.com/skiff-build/skiff/internal/goaware"
	"github.com/skiff-build/skiff/internal/store"
)

const (
	// collectEvery is how often builds clean up by themselves below the limit: looking through a state of 10 GB takes some 100 ms.
	collectEvery = 10 * time.Minute
	// syncWait is how long a command waits for the disk at its end. What is not on the disk by then counts only until the
	// machine starts again, or until the next build has waited for it.
	syncWait = time.Second
)

// finish is what a build leaves to do when its user has the result: to bring the state to the disk, and to clean up.
func (s *State) finish() error {
	s.sync()
	s.mu.Lock()
	synced, keep := s.synced, s.keep
	s.synced = nil
	s.mu.Unlock()
	if synced == nil {
		return nil
	}
	var err error
	asked := keep > 0
	if !asked {
		keep = store.DefaultKeep(s.store.Root())
	}
	// A build that passes the limit is not to wait for the next one that is due.
	if asked || s.store.TrimDue(collectEvery) || s.store.RoughSize() > keep {
		_, err = s.trim(context.Background(), keep)
	}
	select {
	case serr := <-synced:
		if err == nil {
			err = serr
		}
	case <-time.After(syncWait):
	}
	return err
}

// sync begins to bring to the disk what builds have added, for [State.finish] to wait for. It takes some 20 ms, beside which the image is
// examined: the report, a record that comes later, is safe only after the next build. An archive is no part of the state: begun before
// it is written, this does not wait for its bytes, too.
func (s *State) sync() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.dirty {
		return
	}
	s.dirty = false
	before, synced := s.synced, make(chan error, 1)
	s.synced = synced
	go func() {
		var err error
		if before != nil {
			err = <-before
		}
		synced <- errors.Join(err, s.store.Sync())
	}()
}

// wrote notes that a build has added to the state, and down to how many bytes its user wants it kept; 0 is the usual.
func (s *State) wrote(keep int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirty, s.keep = true, keep
}

// trim cleans up down to keep bytes. Where Go's caches went, the module cache gets a new generation, so that steps which left
// their modules there run again.
func (s *State) trim(ctx context.Context, keep int64) (store.Freed, error) {
	e, err := engine.New(engine.Options{Store: s.store})
	if err != nil {
		return store.Freed{}, err
	}
	freed, err := e.Trim(ctx, keep)
	if cerr := e.Close(); err == nil {
		err = cerr
	}
	if freed.Modules > 0 {
		if _, gerr := goaware.NewGeneration(s.store); err == nil {
			err = gerr
		}
	}
	if freed.Layers > freed.Orphans { // a step that runs again may install another compiler
		if _, gerr := goaware.CgoGeneration(s.store, true); err == nil {
			err = gerr
		}
	}
	return freed, err
}
