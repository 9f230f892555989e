package image

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sync/errgroup"
)

// PushOptions say how an image is pushed.
type PushOptions struct {
	Format Format
	// Progress is told of each layer; nil for nobody. It is called from several goroutines.
	Progress func(Transfer)
}

// Push sends an image or index to the registry in ref, which names a tag, and returns the digest that it has
// there. Layers that the registry has are not sent again.
func (r *Registry) Push(ctx context.Context, c Content, ref string, o PushOptions) (v1.Hash, error) {
	full, err := parseTag(ref)
	if err != nil {
		return v1.Hash{}, err
	}
	n, err := parseName(full)
	if err != nil {
		return v1.Hash{}, err
	}
	sources, err := r.sources(n)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("push %s: %w", full, err)
	}
	target := sources[len(sources)-1] // the registry itself: nothing is pushed to mirrors
	out, err := r.lib.Convert(ctx, c, o.Format)
	if err != nil {
		return v1.Hash{}, err
	}
	digest, err := out.Digest()
	if err != nil {
		return v1.Hash{}, err
	}
	from, err := c.Digest()
	if err != nil {
		return v1.Hash{}, err
	}
	p := &push{r: r, target: target, report: o.Progress, origins: r.originsOf(from, target)}
	if p.report == nil {
		p.report = func(Transfer) {}
	}
	if p.to, err = remote.NewPusher(append(r.options, remote.WithJobs(parallel))...); err != nil {
		return v1.Hash{}, err
	}
	err = p.send(ctx, target.tag(n.(reference.Tagged).Tag()), out)
	if err := failure(ctx, "push", full, reference.Domain(n), err); err != nil {
		return v1.Hash{}, err
	}
	return digest, r.lib.noteOrigin(from, full, digest)
}

// push is one image or index on its way.
type push struct {
	r       *Registry
	to      *remote.Pusher
	target  source
	origins []name.Digest
	report  func(Transfer)
}

func (p *push) send(ctx context.Context, ref name.Reference, c Content) error {
	switch c := c.(type) {
	case v1.ImageIndex:
		children, err := childrenOf(c)
		if err != nil {
			return err
		}
		for _, child := range children {
			if err := p.send(ctx, p.target.digest(child.desc.Digest.String()), child.Content); err != nil {
				return err
			}
		}
	case v1.Image:
		if err := p.layers(ctx, c); err != nil {
			return err
		}
	default:
		return errors.New("neither image nor index")
	}
	return p.to.Put(ctx, ref, c)
}

// layers uploads what the manifest of img needs. The pusher asks for each whether it is there.
func (p *push) layers(ctx context.Context, img v1.Image) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	config, err := configLayer(img)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, layer := range append(layers, config) {
		g.Go(func() error { return p.layer(ctx, layer) })
	}
	return g.Wait()
}

func (p *push) layer(ctx context.Context, layer v1.Layer) error {
	h, err := layer.Digest()
	if err != nil {
		return err
	}
	size, err := layer.Size()
	if err != nil {
		return err
	}
	sent := &sentLayer{Layer: layer, report: func(n int64) {
		p.report(Transfer{Digest: h.String(), Done: n, Total: size})
	}}
	var up v1.Layer = sent
	if len(p.origins) > 0 {
		up = &remote.MountableLayer{Layer: sent, Reference: p.origins[0].Context().Digest(h.String())}
	}
	if err := p.to.Upload(ctx, p.target.repo, up); err != nil {
		return err
	}
	if !sent.opened {
		p.report(Transfer{Digest: h.String(), Done: size, Total: size, Exists: true})
	}
	return nil
}

// originsOf lists other repositories of the same registry that have the image: the registry can take its
// layers from there.
func (r *Registry) originsOf(manifest v1.Hash, target source) []name.Digest {
	var o origin
	if r.o.Store.Get(recordOrigin, originKey(manifest), &o) != nil {
		return nil
	}
	var out []name.Digest
	for _, d := range o.Digests {
		ref, err := name.NewDigest(d, r.nameOptions(target.repo.RegistryStr(), false)...)
		if err == nil && ref.Context().Registry == target.repo.Registry && ref.Context() != target.repo {
			out = append(out, ref)
		}
	}
	return out
}

// sentLayer counts what is read of a layer on its way out. Once opened for reading it was not there yet.
type sentLayer struct {
	v1.Layer
	report func(int64)
	opened bool
}

func (s *sentLayer) Compressed() (io.ReadCloser, error) {
	s.opened = true
	rc, err := s.Layer.Compressed()
	if err != nil {
		return nil, err
	}
	return &countedBody{counter{Reader: rc, report: s.report}, rc}, nil
}

type countedBody struct {
	counter
	io.Closer
}

func configLayer(img v1.Image) (v1.Layer, error) {
	h, err := img.ConfigName()
	if err != nil {
		return nil, err
	}
	return img.LayerByDigest(h)
}
