package image

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
)

// parallel is how many layers are fetched at once; Docker takes three.
const parallel = 4

// image reads the image for p out of what d stands for. Manifest and config come into the store.
func (r *Registry) image(ctx context.Context, n reference.Named, d v1.Descriptor, p *v1.Platform) (v1.Image, error) {
	for depth := 0; d.MediaType.IsIndex(); depth++ {
		if depth >= maxDepth {
			return nil, fmt.Errorf("pull %s: indexes are nested too deeply", FamiliarName(n.String()))
		}
		raw, err := r.lib.readBlob(d.Digest, maxManifest)
		if err != nil {
			return nil, err
		}
		m, err := parseIndex(raw)
		if err != nil {
			return nil, err
		}
		picked, err := pickManifest(m, p)
		if err != nil {
			return nil, fmt.Errorf("pull %s: %w", FamiliarName(n.String()), err)
		}
		if d, err = r.fetchManifest(ctx, n, picked); err != nil {
			return nil, err
		}
	}
	raw, err := r.lib.readBlob(d.Digest, maxManifest)
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(raw)
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", FamiliarName(n.String()), err)
	}
	if m.Config.Size > maxConfig {
		return nil, fmt.Errorf("pull %s: the config has %d bytes, more than the %d allowed", FamiliarName(n.String()), m.Config.Size, maxConfig)
	}
	if err := r.fetchBlob(ctx, n, m.Config); err != nil {
		return nil, err
	}
	config, err := r.lib.readBlob(m.Config.Digest, maxConfig)
	if err != nil {
		return nil, err
	}
	img, err := newImage(raw, config, func(d v1.Descriptor) (io.ReadCloser, error) {
		if err := r.fetchBlob(ctx, n, d); err != nil {
			return nil, err
		}
		return r.o.Store.OpenBlob(d.Digest)
	})
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", FamiliarName(n.String()), err)
	}
	return img, nil
}

// Fetch brings all layers of an image into the store, several at once. Layers that the store has are not
// fetched again.
func (r *Registry) Fetch(ctx context.Context, img v1.Image) error {
	return r.fetch(ctx, img, func(context.Context, v1.Layer) error { return nil })
}

// fetch is Fetch; then is called for each layer that is there.
func (r *Registry) fetch(ctx context.Context, img v1.Image, then func(context.Context, v1.Layer) error) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, layer := range layers {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := r.lib.saveLayer(ctx, layer); err != nil {
				return err
			}
			return then(ctx, layer)
		})
	}
	return g.Wait()
}

// Pull fetches the image that ref means now, and keeps it in the store under that name. Of an index it
// fetches the image for p, or with p nil and all, every one.
func (r *Registry) Pull(ctx context.Context, ref string, p *v1.Platform, all bool) (v1.Descriptor, error) {
	n, err := parseName(ref)
	if err != nil {
		return v1.Descriptor{}, err
	}
	d, asked, err := r.meaning(ctx, n, p, true, r.o.Log)
	if err != nil {
		return v1.Descriptor{}, err
	}
	keep := d
	if all && d.MediaType.IsIndex() {
		err = r.pullAll(ctx, n, d)
	} else {
		var img v1.Image
		if img, err = r.image(ctx, n, d, p); err == nil {
			if err = r.fetchWhole(ctx, n, img); err == nil {
				keep, err = describe(img)
			}
		}
	}
	if err == nil {
		err = r.remember(n, d, asked)
	}
	if err != nil {
		return v1.Descriptor{}, err
	}
	name := n.String()
	if _, ok := digestOf(n); ok {
		// By digest and tag it gets the tag's name; by digest alone it has none.
		name = ""
		if t, ok := n.(reference.Tagged); ok {
			name = reference.TrimNamed(n).Name() + ":" + t.Tag()
		}
	}
	if err := r.lib.tag(name, keep, fromElsewhere); err != nil {
		return v1.Descriptor{}, err
	}
	return keep, r.lib.noteOrigin(keep.Digest, n.String(), d.Digest)
}

func (r *Registry) pullAll(ctx context.Context, n reference.Named, d v1.Descriptor) error {
	raw, err := r.lib.readBlob(d.Digest, maxManifest)
	if err != nil {
		return err
	}
	m, err := parseIndex(raw)
	if err != nil {
		return err
	}
	for _, child := range m.Manifests {
		got, err := r.fetchManifest(ctx, n, child)
		if err != nil {
			return err
		}
		if got.MediaType.IsIndex() {
			return errors.New("an index within an index cannot be pulled whole: name a platform")
		}
		img, err := r.image(ctx, n, got, nil)
		if err != nil {
			return err
		}
		if !isRunnable(child) {
			err = r.Fetch(ctx, img)
		} else {
			err = r.fetchWhole(ctx, n, img)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fetchWhole fetches all layers and reads each once, while others are on their way: that tells the image's size, and whether
// the layers are those that its config names.
func (r *Registry) fetchWhole(ctx context.Context, n reference.Named, img v1.Image) error {
	return r.fetch(ctx, img, func(ctx context.Context, layer v1.Layer) error {
		if _, err := r.lib.layerFiles(ctx, layer); err != nil {
			return fmt.Errorf("pull %s: %w", FamiliarName(n.String()), err)
		}
		return nil
	})
}

// fetchBlob brings a blob into the store: once, whoever asks for it at the same time. What an earlier try left is
// continued, and what one source gave, by the next.
func (r *Registry) fetchBlob(ctx context.Context, n reference.Named, d v1.Descriptor) error {
	if r.hasBlob(d) {
		return nil
	}
	draft, err := r.o.Store.OpenDraft(ctx, d.Digest, d.Size)
	if err != nil {
		return err
	}
	defer draft.Close()
	if r.hasBlob(d) {
		return draft.Reset() // somebody else was first
	}
	return r.each(ctx, "pull", n, func(s source) error {
		l := &download{r: r, from: s, blob: d, draft: draft}
		if err := l.run(ctx); err != nil {
			return &blobError{d.Digest.String(), err}
		}
		return r.lib.noteBlobOrigin(d.Digest.String(), n)
	})
}

func (r *Registry) hasBlob(d v1.Descriptor) bool {
	size, err := r.o.Store.BlobSize(d.Digest)
	if err != nil || size != d.Size {
		return false
	}
	r.progress(Transfer{Digest: d.Digest.String(), Done: size, Total: size, Exists: true})
	return true
}

func (r *Registry) progress(t Transfer) {
	if r.o.Progress != nil {
		r.o.Progress(t)
	}
}

// counter reports how much was read, at most every 256 KiB, and at the end.
type counter struct {
	io.Reader
	report  func(int64)
	n, told int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	if c.n-c.told >= 256<<10 || err == io.EOF {
		c.told = c.n
		c.report(c.n)
	}
	return n, err
}
