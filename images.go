package skiff

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/skiff-build/skiff/internal/image"
	"github.com/skiff-build/skiff/internal/store"
)

// NotFoundError says that the state has no image of that name.
type NotFoundError = image.NotFoundError

// RegistryError is a failure of a registry.
type RegistryError = image.RegistryError

// Image is an image in the state, under one of its names.
type Image struct {
	ID         string // digest of the config, "sha256:…"
	Repository string // short, as docker shows it; "" for an image without a name
	Tag        string
	Digest     string    // of the manifest or index in its registry; "" where it was neither pushed nor pulled
	Built      time.Time // zero where nobody knows
	Size       int64     // bytes of the files in its layers
}

// Images lists the images of the state, the newest first. A pattern, REPOSITORY or REPOSITORY:TAG, leaves the others out.
func (s *State) Images(ctx context.Context, pattern string) ([]Image, error) {
	rows, err := s.library.List(ctx)
	if err != nil {
		return nil, err
	}
	var out []Image
	for _, r := range rows {
		repository, tag := "", ""
		if r.Name != "" {
			repository, tag = r.Repository, r.Tag
		}
		if pattern != "" && pattern != repository && pattern != repository+":"+tag {
			continue
		}
		image := Image{ID: r.ID.String(), Repository: repository, Tag: tag, Built: r.Made, Size: r.Size}
		if r.Registry != (v1.Hash{}) {
			image.Digest = r.Registry.String()
		}
		out = append(out, image)
	}
	return out, nil
}

// familiar are the repository and the tag of a full name, as docker shows them.
func familiar(name string) (repository, tag string) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name, ""
	}
	if t, ok := named.(reference.Tagged); ok {
		tag = t.Tag()
	}
	return reference.FamiliarName(named), tag
}

// canonical are names that an image may be given, in full and each once.
func canonical(names []string) ([]string, error) {
	var out []string
	seen := map[string]bool{}
	for _, n := range names {
		full, err := image.ParseName(n)
		if err != nil {
			return nil, err
		}
		if strings.Contains(full, "@") {
			return nil, fmt.Errorf("image name %q: a name for an image cannot have a digest", n)
		}
		if !seen[full] {
			out = append(out, full)
		}
		seen[full] = true
	}
	return out, nil
}

// ImageDetails is what is known of an image, in docker inspect's words.
type ImageDetails = image.Inspection

// Inspect says what is known of an image, given by name, ID or the start of one. Of an index it is the image for this machine.
func (s *State) Inspect(ctx context.Context, name string) (*ImageDetails, error) {
	return s.library.Inspect(ctx, name, nil)
}

// HistoryStep is one of the steps by which an image was made.
type HistoryStep = image.Step

// History returns the steps by which an image was made, the newest first. Of an index it is that of the image for this machine.
func (s *State) History(ctx context.Context, name string) ([]HistoryStep, error) {
	return s.library.History(ctx, name, nil)
}

// Usage is what the state takes on the disk, in bytes.
type Usage = store.Usage

// DiskUsage measures the state. What belongs to subordinate ids and cannot be read is left out.
func (s *State) DiskUsage() (Usage, error) { return s.store.DiskUsage() }

// Tag gives an image one more name.
func (s *State) Tag(ctx context.Context, name, more string) error {
	return s.library.Tag(ctx, name, more)
}

// Removed is what [State.Remove] did: the names that it took away, and the ID of the image where it has none left.
type Removed struct {
	Untagged []string
	Deleted  string
}

// Remove takes a name away, or all names of an image that is given by its ID; where it has several that needs force. With
// force an image that is not there is no error. Layers go with the next clean-up.
func (s *State) Remove(ctx context.Context, name string, force bool) (Removed, error) {
	done, err := s.library.Remove(ctx, name, force)
	if _, missing := err.(*image.NotFoundError); missing && force {
		return Removed{}, nil
	}
	out := Removed{Untagged: done.Untagged}
	if done.Deleted != (v1.Hash{}) {
		out.Deleted = done.Deleted.String()
	}
	return out, err
}

// PruneOptions says how much goes.
type PruneOptions struct {
	Keep   int64 // bytes that may stay, most recently used first
	Images bool  // images, too, and with them all there is
}

// Pruned is what went.
type Pruned struct {
	Untagged []string
	Bytes    int64
}

// Prune removes results of earlier builds and Go's caches down to o.Keep bytes. What images need stays.
func (s *State) Prune(ctx context.Context, o PruneOptions) (Pruned, error) {
	var done Pruned
	if o.Images {
		rows, err := s.library.List(ctx)
		if err != nil {
			return done, err
		}
		for _, r := range rows {
			removed, err := s.library.Remove(ctx, r.Digest.String(), true)
			if err != nil {
				if _, missing := err.(*image.NotFoundError); missing { // under another of its names, already
					continue
				}
				return done, err
			}
			done.Untagged = append(done.Untagged, removed.Untagged...)
		}
		broken, err := s.store.Tags() // no list shows images whose manifests are gone
		if err != nil {
			return done, err
		}
		for _, d := range broken {
			if err := s.store.Forget(d.Digest); err != nil && !errors.Is(err, store.ErrMiss) {
				return done, err
			}
			if name := store.NameOf(d); name != "" {
				done.Untagged = append(done.Untagged, image.FamiliarName(name))
			}
		}
	}
	freed, err := s.trim(ctx, o.Keep)
	done.Bytes = freed.Bytes
	if err == nil && freed.Skipped {
		err = fmt.Errorf("prune: another skiff is at work in %s: try again when it has ended", s.store.Root())
	}
	return done, err
}

func describe(c image.Content) (d v1.Descriptor, err error) {
	if d.MediaType, err = c.MediaType(); err != nil {
		return d, err
	}
	if d.Digest, err = c.Digest(); err != nil {
		return d, err
	}
	d.Size, err = c.Size()
	return d, err
}
