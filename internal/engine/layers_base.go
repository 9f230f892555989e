package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/skiff-build/skiff/internal/layer"
	"github.com/skiff-build/skiff/internal/store"
)

// baseLayer is a layer of an image that something stands on.
func (e *Engine) baseLayer(id string, rec baseRecord) Layer {
	open := func(ctx context.Context) (io.ReadCloser, error) { return e.openBase(ctx, rec) }
	return Layer{ID: id, DiffID: rec.DiffID, Size: rec.Size, Files: rec.Files, Base: &BaseBlob{rec.Desc, open},
		Open: func(ctx context.Context) (io.ReadCloser, error) {
			r, err := open(ctx)
			if err != nil {
				return nil, err
			}
			s, err := layer.Decompress(r)
			if err != nil {
				r.Close()
				return nil, err
			}
			return closeBoth{s, r}, nil
		}}
}

type closeBoth struct {
	io.ReadCloser
	below io.Closer
}

func (c closeBoth) Close() error { return errors.Join(c.ReadCloser.Close(), c.below.Close()) }

// openBase opens the compressed blob; one that the store has lost is fetched again.
func (e *Engine) openBase(ctx context.Context, rec baseRecord) (io.ReadCloser, error) {
	r, err := e.o.Store.OpenBlob(rec.Desc.Digest)
	if !errors.Is(err, store.ErrMiss) {
		return r, err
	}
	gone := err // it says what to do where the image was made here
	img, err := e.reopen(ctx, rec.Origin)
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w: %w", rec.Desc.Digest, err, gone)
	}
	l, err := img.LayerByDigest(rec.Desc.Digest)
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", rec.Desc.Digest, err)
	}
	src, err := l.Compressed()
	if err != nil {
		return nil, fmt.Errorf("fetch layer %s: %w: %w", rec.Desc.Digest, err, gone)
	}
	defer src.Close()
	if _, _, err := e.o.Store.WriteBlob(ctx, src, rec.Desc.Digest, rec.Desc.Size); err != nil {
		return nil, fmt.Errorf("fetch layer: %w", err)
	}
	return e.o.Store.OpenBlob(rec.Desc.Digest)
}

func (e *Engine) reopen(ctx context.Context, from origin) (v1.Image, error) {
	if from.OCI == "" {
		if e.o.Images == nil {
			return nil, errors.New("this build has no images")
		}
		return e.o.Images.Image(ctx, from.Image, from.Platform)
	}
	if _, err := os.Stat(from.OCI); err != nil {
		return nil, err
	}
	index, err := layout.ImageIndexFromPath(from.OCI)
	if err != nil {
		return nil, err
	}
	dgst, err := v1.NewHash(from.Digest)
	if err != nil {
		return nil, err
	}
	return imageOf(index, dgst, from.Platform)
}
