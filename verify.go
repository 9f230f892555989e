package skiff

import (
	"context"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/skiff-build/skiff/internal/engine"
	"github.com/skiff-build/skiff/internal/image"
	"github.com/skiff-build/skiff/internal/store"
)

// Verified is what [State.Verify] found.
type Verified struct {
	Records, Blobs, Layers, Caches int // looked at
	Damaged                        int // of them, all mended or dropped

	Broken []string // images that lack something which cannot be made again, by name
}

// Verify looks at all of the state by its content: records, blobs, layers and Go's caches. What is damaged is made again, or dropped
// so that the next build makes it again. told is called with a line for each thing, and may be nil.
func (s *State) Verify(ctx context.Context, told func(string)) (v Verified, err error) {
	tell := func(format string, args ...any) {
		v.Damaged++
		if told != nil {
			told(fmt.Sprintf(format, args...))
		}
	}
	if v.Records, err = s.store.VerifyRecords(ctx, func(kind store.Kind, k store.Key) {
		tell("record %s/%s is damaged, or of an older skiff: dropped", kind, k.String()[:12])
	}); err != nil {
		return v, err
	}
	e, err := engine.New(engine.Options{Store: s.store})
	if err != nil {
		return v, err
	}
	defer e.Close()
	layers, err := s.store.Layers()
	if err != nil {
		return v, err
	}
	for _, id := range layers {
		v.Layers++
		if err := e.VerifyLayer(ctx, id); engine.IsDamaged(err) {
			tell("layer %s is damaged: dropped, and its step runs again", id)
		} else if err != nil {
			return v, fmt.Errorf("verify layer %s: %w", id, err)
		}
	}
	if v.Blobs, err = s.store.VerifyBlobs(ctx, func(h v1.Hash, gone error) {
		if gone != nil {
			tell("blob %s is damaged: dropped", h)
			return
		}
		tell("blob %s is damaged: made again", h)
	}); err != nil {
		return v, err
	}
	caches, err := s.store.Caches()
	if err != nil {
		return v, err
	}
	for _, name := range caches {
		v.Caches++
		removed, err := e.VerifyCache(ctx, name)
		if err != nil {
			return v, err
		}
		for _, file := range removed {
			tell("cache %s: %s is damaged: dropped", name, file)
		}
	}
	tags, err := s.store.Tags()
	if err != nil {
		return v, err
	}
	for _, d := range tags {
		if name := store.NameOf(d); name != "" && len(s.store.Whole(d)) > 0 {
			v.Broken = append(v.Broken, image.FamiliarName(name))
		}
	}
	return v, nil
}
