package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// VerifyRecords reads all records. Those that are damaged, or of an older skiff, are removed: they are misses for everybody. told is
// called for each. It returns how many there are in all.
func (s *Store) VerifyRecords(ctx context.Context, told func(kind Kind, k Key)) (n int, err error) {
	var list []Kind
	if err := eachEntry(s.path("records"), func(e fs.DirEntry) { list = append(list, Kind(e.Name())) }); err != nil {
		return 0, fmt.Errorf("verify records: %w", err)
	}
	for _, kind := range list {
		err := s.eachFile(kind, func(k Key, path string) error {
			n++
			if _, _, err := s.readRecord(kind, k); err != nil {
				told(kind, k)
				if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
			}
			return ctx.Err()
		})
		if err != nil {
			return n, fmt.Errorf("verify records: %w", err)
		}
	}
	return n, nil
}

// VerifyBlobs reads all blobs to their ends. One that is damaged is removed, and made again where that is possible; told is called for
// it, with what stands against making it again. It returns how many there are in all.
func (s *Store) VerifyBlobs(ctx context.Context, told func(h v1.Hash, gone error)) (n int, err error) {
	seen := map[v1.Hash]bool{}
	for _, dir := range []string{s.path("oci", "blobs", "sha256"), s.path("composed")} {
		var list []v1.Hash
		if err := eachEntry(dir, func(e fs.DirEntry) { list = append(list, v1.Hash{Algorithm: "sha256", Hex: e.Name()}) }); err != nil {
			return n, fmt.Errorf("verify blobs: %w", err)
		}
		for _, h := range list {
			path, err := s.blobPath(h)
			if err != nil || seen[h] {
				continue // a stray file
			}
			seen[h] = true
			n++
			if err := ctx.Err(); err != nil {
				return n, err
			}
			err = s.VerifyBlob(h)
			var damaged *DigestError
			if !errors.As(err, &damaged) && !errors.Is(err, ErrMiss) {
				if err != nil {
					return n, fmt.Errorf("verify blob %s: %w", h, err)
				}
				continue
			}
			if errors.Is(err, ErrMiss) { // of parts that are gone
				_ = os.Remove(s.composedPath(h))
				_ = os.Remove(path)
			}
			told(h, s.VerifyBlob(h)) // which makes it again
		}
	}
	return n, nil
}

// Layers lists the ids of all layers.
func (s *Store) Layers() ([]string, error) { return s.folders("layers") }

// Caches lists the names of all cache mounts.
func (s *Store) Caches() ([]string, error) { return s.folders("cache") }

func (s *Store) folders(of string) (names []string, err error) {
	err = eachEntry(filepath.Join(s.root, of), func(e fs.DirEntry) {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", of, err)
	}
	return names, nil
}

// Whole returns the blobs that an image or index needs and the store has not, even after it tried to make them again.
func (s *Store) Whole(d v1.Descriptor) (missing []v1.Hash) {
	s.visit(d, func(h v1.Hash, _ bool) {
		if _, err := s.BlobSize(h); err == nil {
			return
		}
		if r, err := s.OpenBlob(h); err == nil { // which makes it again
			r.Close()
			return
		}
		missing = append(missing, h)
	})
	return missing
}
