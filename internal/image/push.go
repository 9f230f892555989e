package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"sync"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/errgroup"
)

// PushOptions say how an image is pushed.
type PushOptions struct {
	Format Format
	// Progress is told of each blob; nil for nobody. It is called from several goroutines.
	Progress func(Transfer)
}

// Push sends an image or index to the registry in ref, which names a tag, and returns the digest that it has
// there. Blobs that the registry has are not sent again, and those that another of its repositories has it takes
// from there. Layers that have to be compressed are sent while they are.
func (r *Registry) Push(ctx context.Context, c Content, ref string, o PushOptions) (v1.Hash, error) {
	d, err := r.pushed(ctx, c, ref, o)
	return d.Digest, err
}

// pushed is Push; it returns the descriptor that the image has in the registry.
func (r *Registry) pushed(ctx context.Context, c Content, ref string, o PushOptions) (d v1.Descriptor, err error) {
	full, err := parseTag(ref)
	if err != nil {
		return d, err
	}
	n, err := parseName(full)
	if err != nil {
		return d, err
	}
	if err := o.Format.check(); err != nil {
		return d, err
	}
	sources, err := r.sources(n)
	if err != nil {
		return d, fmt.Errorf("push %s: %w", full, err)
	}
	from, err := c.Digest()
	if err != nil {
		return d, err
	}
	p := &push{
		r: r, name: n, target: sources[len(sources)-1], // the registry itself: nothing is pushed to mirrors
		format: o.Format, report: o.Progress, done: map[v1.Hash]func() error{},
		compressors: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
	}
	if p.report == nil {
		p.report = func(Transfer) {}
	}
	d, err = p.push(ctx, c, from)
	if err := p.r.failure(ctx, "push", full, reference.Domain(n), err); err != nil {
		return v1.Descriptor{}, err
	}
	return d, r.lib.noteOrigin(from, full, d.Digest)
}

// push is one image or index on its way.
type push struct {
	r      *Registry
	name   reference.Named
	target source
	format Format
	report func(Transfer)

	client  *http.Client
	to      *remote.Pusher
	origins map[v1.Hash]string // by blob: another repository of the registry that should have it

	// compressors bounds how many layers are compressed at once. One uses several processors by itself, and the first to
	// be ready is the first on its way.
	compressors chan struct{}

	mu   sync.Mutex
	done map[v1.Hash]func() error // each blob once
}

func (p *push) push(ctx context.Context, c Content, from v1.Hash) (d v1.Descriptor, err error) {
	images, err := imagesOf(c)
	if err != nil {
		return d, err
	}
	if err := p.login(ctx, images, from); err != nil {
		return d, err
	}
	if err := p.blobs(ctx, images); err != nil {
		return d, err
	}
	// All layers are compressed by now: this makes the manifests.
	out, err := p.r.lib.Convert(ctx, c, p.format)
	if err != nil {
		return d, err
	}
	if err := p.manifests(ctx, p.target.tag(p.name.(reference.Tagged).Tag()), out); err != nil {
		return d, err
	}
	return describe(out)
}

// imagesOf lists the images in c.
func imagesOf(c Content) ([]v1.Image, error) {
	switch c := c.(type) {
	case v1.Image:
		return []v1.Image{c}, nil
	case v1.ImageIndex:
		children, err := childrenOf(c)
		if err != nil {
			return nil, err
		}
		var out []v1.Image
		for _, child := range children {
			more, err := imagesOf(child.Content)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		}
		return out, nil
	}
	return nil, errors.New("neither image nor index")
}

// login opens the repository to push, and the others that blobs may come from to pull.
func (p *push) login(ctx context.Context, images []v1.Image, from v1.Hash) error {
	p.findOrigins(images, from)
	scopes := []string{p.target.repo.Scope(transport.PushScope)}
	for _, repo := range p.origins {
		if s := p.target.repo.Registry.Repo(repo).Scope(transport.PullScope); !slices.Contains(scopes, s) {
			scopes = append(scopes, s)
		}
	}
	rt, err := p.r.login(ctx, p.target.repo, p.r.transport, scopes...)
	if err != nil && len(scopes) > 1 && !ended(ctx) {
		// Who may push here need not be allowed to read there.
		p.origins = nil
		rt, err = p.r.login(ctx, p.target.repo, p.r.transport, scopes[0])
	}
	if err != nil {
		return err
	}
	p.client = clientOf(rt)
	p.to, err = remote.NewPusher(remote.WithTransport(rt), remote.WithJobs(parallel),
		remote.WithRetryPredicate(func(err error) bool { return retryable(err) && statusOf(err) == 0 }), // the rest is tried again below
		remote.WithRetryBackoff(remote.Backoff{Duration: p.r.o.RetryWait, Factor: 2, Jitter: 0.1, Steps: 3}))
	return err
}

// blobs sends what the manifests of the images need, several at once, and compresses what has to be.
func (p *push) blobs(ctx context.Context, images []v1.Image) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	seen := map[v1.Hash]bool{}
	send := func(layer v1.Layer, how func() error) error {
		h, err := layer.Digest()
		if err != nil || seen[h] {
			return err
		}
		seen[h] = true
		g.Go(func() error {
			if ended(ctx) {
				return context.Cause(ctx)
			}
			return how()
		})
		return nil
	}
	err := func() error {
		for _, img := range images {
			layers, err := img.Layers()
			if err != nil {
				return err
			}
			for _, layer := range layers {
				if err := send(layer, func() error { return p.layer(ctx, layer) }); err != nil {
					return err
				}
			}
			config, err := configLayer(img)
			if err == nil {
				err = send(config, func() error { return p.blob(ctx, config) })
			}
			if err != nil {
				return err
			}
		}
		return nil
	}()
	return cmp.Or(g.Wait(), err)
}

func configLayer(img v1.Image) (v1.Layer, error) {
	h, err := img.ConfigName()
	if err != nil {
		return nil, err
	}
	return img.LayerByDigest(h)
}

// layer sends a layer in the format of the push.
func (p *push) layer(ctx context.Context, layer v1.Layer) error {
	mt, err := layer.MediaType()
	if err != nil || !mt.IsDistributable() {
		return err
	}
	if p.format.passes(mt) {
		return p.blob(ctx, layer)
	}
	diffID, err := layer.DiffID()
	if err != nil {
		return err
	}
	select {
	case p.compressors <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	var sending sync.WaitGroup
	var sent error
	making, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	d, open, err := p.r.lib.convertLayer(making, layer, p.format, func(g *growing) {
		g.retain()
		sending.Go(func() {
			defer g.release()
			if sent = p.stream(ctx, g, diffID); sent != nil {
				stop(sent)
			}
		})
	})
	<-p.compressors
	sending.Wait()
	if sent != nil {
		err = sent
	}
	if err != nil {
		return err
	}
	return p.blob(ctx, &blob{desc: d, diffID: diffID, open: open})
}

// once runs send for a blob if nobody did yet.
func (p *push) once(h v1.Hash, send func() error) error {
	p.mu.Lock()
	do, ok := p.done[h]
	if !ok {
		do = sync.OnceValue(send)
		p.done[h] = do
	}
	p.mu.Unlock()
	return do()
}

type sizedBlob interface {
	Digest() (v1.Hash, error)
	Size() (int64, error)
	Compressed() (io.ReadCloser, error)
}

// blob sends what is known and lies in the store.
func (p *push) blob(ctx context.Context, b sizedBlob) error {
	h, err := b.Digest()
	if err != nil {
		return err
	}
	size, err := b.Size()
	if err != nil {
		return err
	}
	return p.once(h, func() error {
		t := Transfer{Digest: h.String(), Total: size}
		u := p.upload(&t)
		u.size, u.mount = size, p.origins[h]
		u.end = func(context.Context) (v1.Hash, int64, error) { return h, size, nil }
		u.open = func(_ context.Context, at int64) (io.ReadCloser, error) {
			in, err := b.Compressed()
			if err == nil && at > 0 {
				if _, err = io.CopyN(io.Discard, in, at); err != nil {
					in.Close()
				}
			}
			return in, err
		}
		there, err := p.there(ctx, h)
		if err == nil && !there {
			err = u.send(ctx, endurance{wait: p.r.o.RetryWait})
		}
		return p.sent(t, there || u.mounted, err)
	})
}

func (p *push) upload(t *Transfer) *upload {
	at := *t
	return &upload{
		client: p.client, new: blobURL(p.target.repo, "uploads/"), size: -1, there: p.there,
		report: func(n int64) {
			now := at
			now.Done = n
			p.report(now)
		},
	}
}

// sent reports how a blob fared.
func (p *push) sent(t Transfer, there bool, err error) error {
	if err != nil {
		return &blobError{t.Digest, err}
	}
	t.Done, t.Exists = t.Total, there
	p.report(t)
	return p.r.lib.noteBlobOrigin(t.Digest, p.name)
}

// errThere ends the sending of a blob that turns out to be there.
var errThere = errors.New("the registry has the blob")

// streamFrom is how many bytes of a layer have to be compressed before they go on their way: of what is smaller, the digest
// is known in a moment, and that may spare sending it.
const streamFrom = 1 << 20

// stream sends a layer while it is compressed. As soon as its digest is known, the registry is asked whether it has it.
func (p *push) stream(ctx context.Context, g *growing, diffID v1.Hash) error {
	if _, over, err := g.wait(ctx, streamFrom); err != nil || over {
		return nil // whoever compresses says why, or sends it
	}
	t := Transfer{Digest: diffID.String(), Total: -1}
	u := p.upload(&t)
	u.end = func(ctx context.Context) (v1.Hash, int64, error) {
		c, err := g.result(ctx)
		return c.Digest, c.Size, err
	}
	u.open = func(ctx context.Context, at int64) (io.ReadCloser, error) { return g.from(ctx, at), nil }
	sending, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var asked sync.WaitGroup
	asked.Go(func() {
		if c, err := g.result(sending); err == nil {
			if there, err := p.there(sending, c.Digest); err == nil && there {
				stop(errThere)
			}
		}
	})
	err := u.send(sending, endurance{wait: p.r.o.RetryWait})
	there := err != nil && context.Cause(sending) == errThere
	if err != nil {
		stop(err)
	}
	asked.Wait()
	if there {
		u.cancel(ctx)
		return nil // and p.blob finds it there
	}
	c, gerr := g.result(ctx)
	if gerr != nil {
		return nil // whoever compresses says why
	}
	t.Layer, t.Digest, t.Total = t.Digest, c.Digest.String(), c.Size
	return p.once(c.Digest, func() error { return p.sent(t, false, err) })
}

// there asks whether the repository has a blob.
func (p *push) there(ctx context.Context, h v1.Hash) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, blobURL(p.target.repo, h.String()), nil)
	if err != nil {
		return false, err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK, transport.CheckError(resp, http.StatusOK, http.StatusNotFound)
}

// manifests puts the manifests of c, an index after its images.
func (p *push) manifests(ctx context.Context, ref name.Reference, c Content) error {
	if ix, ok := c.(v1.ImageIndex); ok {
		children, err := childrenOf(ix)
		if err != nil {
			return err
		}
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(parallel)
		for _, child := range children {
			g.Go(func() error { return p.manifests(ctx, p.target.digest(child.desc.Digest.String()), child.Content) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return p.to.Put(ctx, ref, c)
}
