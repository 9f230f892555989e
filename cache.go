package skiff

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/skiff-build/skiff/internal/engine"
)

// SaveCache writes the state to w as one file that [State.LoadCache] gives back, for a machine that starts with nothing, as those of
// CI systems do. With keep > 0 it is collected down to so many bytes before. What the rest can be made of again is left out.
func (s *State) SaveCache(ctx context.Context, w io.Writer, keep int64) error {
	if keep > 0 {
		freed, err := s.trim(ctx, keep)
		if err == nil && freed.Skipped {
			err = fmt.Errorf("another skiff is at work in %s: try again when it has ended", s.store.Root())
		}
		if err != nil {
			return fmt.Errorf("save cache: %w", err)
		}
	}
	if err := s.store.Sync(); err != nil { // records that are not on the disk do not count on another machine
		return fmt.Errorf("save cache: %w", err)
	}
	z, err := zstd.NewWriter(w)
	if err != nil {
		return fmt.Errorf("save cache: %w", err)
	}
	e, err := engine.New(engine.Options{Store: s.store})
	if err == nil {
		err = errors.Join(e.SaveState(ctx, z), e.Close())
	}
	if err = errors.Join(err, z.Close()); err != nil {
		return fmt.Errorf("save cache: %w", err)
	}
	return nil
}

// LoadCache gives back what [State.SaveCache] wrote. The state must be empty; it is to be closed afterwards.
func (s *State) LoadCache(ctx context.Context, r io.Reader) error {
	u, err := s.store.DiskUsage()
	if err == nil && u.RecordCount+u.LayerCount+u.BlobCount > 0 {
		err = fmt.Errorf("%s holds results already: choose an empty folder with --root or SKIFF_ROOT, or empty it with `skiff prune -a`", s.store.Root())
	}
	if err != nil {
		return fmt.Errorf("load cache: %w", err)
	}
	z, err := zstd.NewReader(r)
	if err != nil {
		return fmt.Errorf("load cache: %w", err)
	}
	defer z.Close()
	e, err := engine.New(engine.Options{Store: s.store})
	if err == nil {
		err = errors.Join(e.LoadState(ctx, z), e.Close())
	}
	if err != nil {
		return fmt.Errorf("load cache: %w", err)
	}
	return nil
}
