package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/skiff-build/skiff/internal/store"
)

// ResolveOptions say how a name is resolved.
type ResolveOptions struct {
	// Pull asks the registry even where the store knows what the name means.
	Pull bool
	// Log takes messages for the user; nil: those of the Registry.
	Log func(string)
}

// Resolved is what a name means.
type Resolved struct {
	Name   string  // in full, "docker.io/library/alpine:latest"
	Digest v1.Hash // of what the name stands for: an index, mostly
	Config []byte  // of the image for the platform asked for
}

// resolution is a record of what a name meant when it was asked for last.
type resolution struct {
	Name       string        `json:"name"`
	Descriptor v1.Descriptor `json:"descriptor"`
	At         time.Time     `json:"at"`
	Blobs      []string      `json:"blobs"`
}

const recordTag = store.KindTag

func tagKey(name string) store.Key { return sha256.Sum256([]byte("tag\n" + name)) }

// Resolve finds the digest and the config that ref means for a platform (nil: this machine's). An image of
// that name in the store comes first, then what the registry said the last time, then the registry; with
// o.Pull the registry comes first, and only where it cannot be reached, what it said the last time.
func (r *Registry) Resolve(ctx context.Context, ref string, p *v1.Platform, o ResolveOptions) (Resolved, error) {
	n, err := parseName(ref)
	if err != nil {
		return Resolved{}, err
	}
	log := o.Log
	if log == nil {
		log = r.o.Log
	}
	d, asked, err := r.meaning(ctx, n, p, o.Pull, log)
	if err != nil {
		return Resolved{}, err
	}
	img, err := r.image(ctx, n, d, p)
	if err != nil {
		return Resolved{}, err
	}
	if err := r.remember(n, d, asked); err != nil {
		return Resolved{}, err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return Resolved{}, err
	}
	return Resolved{Name: n.String(), Digest: d.Digest, Config: config}, nil
}

// Image returns the image for a platform (nil: this machine's) that ref means, verified by the digest that ref
// should have. Its layers are fetched into the store when they are opened: see [Registry.Fetch].
func (r *Registry) Image(ctx context.Context, ref string, p *v1.Platform) (v1.Image, error) {
	n, err := parseName(ref)
	if err != nil {
		return nil, err
	}
	d, _, err := r.meaning(ctx, n, p, false, r.o.Log)
	if err != nil {
		return nil, err
	}
	return r.image(ctx, n, d, p)
}

// meaning returns the descriptor that a name stands for, and whether its registry was asked. The manifest is in
// the store afterwards.
func (r *Registry) meaning(ctx context.Context, n reference.Named, p *v1.Platform, pull bool, log func(string)) (d v1.Descriptor, asked bool, err error) {
	if h, ok := digestOf(n); ok {
		d, err = r.fetchManifest(ctx, n, v1.Descriptor{Digest: h, Size: -1})
		return d, false, err
	}
	full := n.String()
	var last resolution
	known := r.o.Store.Get(recordTag, tagKey(full), &last) == nil
	if known {
		if _, err := r.o.Store.BlobSize(last.Descriptor.Digest); err != nil {
			known = false
		}
	}
	if own, err := r.o.Store.Tagged(full); err == nil && !pull && !(known && r.lists(last.Descriptor, own.Digest)) && r.fits(own, p) {
		own.Annotations, own.Platform = nil, nil
		return own, false, nil
	}
	if known && !pull {
		return last.Descriptor, false, nil
	}
	d, err = r.askRegistry(ctx, n, last.Descriptor.Digest)
	if err != nil && known && !ended(ctx) && unreachable(err) {
		log(fmt.Sprintf("%s: cannot reach the registry: using %s, as resolved on %s", FamiliarName(full),
			last.Descriptor.Digest, last.At.Local().Format("2006-01-02 15:04")))
		return last.Descriptor, false, nil
	}
	if own, terr := r.o.Store.Tagged(full); err != nil && terr == nil {
		if _, lerr := r.lib.load(own); errors.Is(lerr, store.ErrMiss) {
			err = fmt.Errorf("%w; the image of that name in skiff's state is damaged: build, pull or load it again", err)
		}
	}
	return d, true, err
}

// lists tells whether an index has a manifest: then the image in the store is the one that was pulled, and its
// name goes on meaning the index.
func (r *Registry) lists(index v1.Descriptor, h v1.Hash) bool {
	c, err := r.lib.load(index)
	if err != nil {
		return false
	}
	ix, ok := c.(v1.ImageIndex)
	if !ok {
		return false
	}
	m, err := ix.IndexManifest()
	return err == nil && slices.ContainsFunc(m.Manifests, func(d v1.Descriptor) bool { return d.Digest == h })
}

// fits tells whether the store has the image of d for p. One for another platform may be all that was pulled.
func (r *Registry) fits(d v1.Descriptor, p *v1.Platform) bool {
	c, err := r.lib.load(d)
	if err != nil {
		return false
	}
	img, err := imageFor(c, p)
	if err != nil || p == nil {
		return err == nil
	}
	cf, err := img.ConfigFile()
	return err == nil && platforms.Only(ociPlatform(*p)).Match(ociPlatform(*cf.Platform()))
}

// unreachable tells whether a registry gave no answer to go by: one that says that there is no such image is
// believed.
func unreachable(err error) bool {
	var e *RegistryError
	return errors.As(err, &e) && (e.Status == 0 || busy(e.Status))
}

// remember notes what a tag means, with the blobs by which it resolves without network: there are more of
// them with each platform asked for.
func (r *Registry) remember(n reference.Named, d v1.Descriptor, asked bool) error {
	if _, ok := digestOf(n); ok {
		return nil
	}
	full := n.String()
	rec := resolution{Name: full, Descriptor: d, At: time.Now().UTC(), Blobs: r.needs(d)}
	var last resolution
	if !asked {
		err := r.o.Store.Get(recordTag, tagKey(full), &last)
		if err != nil || last.Descriptor.Digest != d.Digest || slices.Equal(last.Blobs, rec.Blobs) {
			return nil // an image of the store's own, or nothing new
		}
		rec.At = last.At
	}
	return r.o.Store.Put(recordTag, tagKey(full), rec)
}

// needs lists what a record must keep of an image so that it resolves without network: manifests and configs.
// Layers are kept by those who use them.
func (r *Registry) needs(d v1.Descriptor) []string {
	blobs := []string{d.Digest.String()}
	c, err := r.lib.load(d)
	if err != nil {
		return blobs
	}
	if ix, ok := c.(v1.ImageIndex); ok {
		if m, err := ix.IndexManifest(); err == nil {
			for _, child := range m.Manifests {
				if _, err := r.o.Store.BlobSize(child.Digest); err == nil {
					blobs = append(blobs, r.needs(child)...)
				}
			}
		}
	}
	if img, ok := c.(v1.Image); ok {
		if h, err := img.ConfigName(); err == nil {
			blobs = append(blobs, h.String())
		}
	}
	return blobs
}

// askRegistry resolves a tag. Where the registry still means what is in the store already, it is spared the
// download, which Docker Hub counts.
func (r *Registry) askRegistry(ctx context.Context, n reference.Named, have v1.Hash) (v1.Descriptor, error) {
	tag := n.(reference.Tagged).Tag()
	var out v1.Descriptor
	err := r.each(ctx, "resolve", n, func(s source) error {
		from, err := r.puller(ctx, s)
		if err != nil {
			return err
		}
		if have != (v1.Hash{}) {
			if d, err := from.Head(ctx, s.tag(tag)); err == nil && d.Digest == have {
				out, err = r.inStore(have)
				return err
			}
		}
		got, err := from.Get(ctx, s.tag(tag))
		if err != nil {
			return err
		}
		out, err = r.keepManifest(ctx, got, v1.Descriptor{Digest: got.Digest, Size: -1})
		return err
	})
	return out, err
}

// each tries the sources of an image in turn, until one has it. Its error is that of the registry itself.
func (r *Registry) each(ctx context.Context, step string, n reference.Named, try func(source) error) error {
	if r.o.Never {
		return &RegistryError{Step: step, Name: n.String(), Hint: "`skiff pull " + FamiliarName(n.String()) + "` fetches it", Err: errNever}
	}
	sources, err := r.sources(n)
	if err != nil {
		return fmt.Errorf("%s %s: %w", step, n, err)
	}
	lacking := ""
	for _, s := range sources {
		if err = try(s); err == nil || ended(ctx) {
			break
		}
		if s.mirror && missing(err) {
			lacking += fmt.Sprintf("the mirror %s does not have it, and ", s.repo.RegistryStr())
		} else if s.mirror {
			r.logf("mirror %s: %v", s.repo.RegistryStr(), err)
		}
	}
	err = r.failure(ctx, step, n.String(), reference.Domain(n), err)
	var known *RegistryError
	if errors.As(err, &known) {
		known.Hint = lacking + known.Hint
	}
	return err
}

var errNever = errors.New("it is not here, or not all of it, and --pull=never lets no registry be asked")

func missing(err error) bool {
	var status *transport.Error
	return errors.As(err, &status) && status.StatusCode == http.StatusNotFound
}

// inStore describes a manifest that the store has.
func (r *Registry) inStore(h v1.Hash) (v1.Descriptor, error) {
	raw, err := r.lib.readBlob(h, maxManifest)
	if err != nil {
		return v1.Descriptor{}, err
	}
	return v1.Descriptor{MediaType: kindOf("", raw), Digest: h, Size: int64(len(raw))}, nil
}

// fetchManifest brings a manifest into the store, by its digest. want may lack size (-1) and media type.
func (r *Registry) fetchManifest(ctx context.Context, n reference.Named, want v1.Descriptor) (v1.Descriptor, error) {
	if d, err := r.inStore(want.Digest); err == nil {
		return d, checkKind(want, d.MediaType)
	}
	var out v1.Descriptor
	err := r.each(ctx, "resolve", n, func(s source) error {
		from, err := r.puller(ctx, s)
		if err != nil {
			return err
		}
		got, err := from.Get(ctx, s.digest(want.Digest.String()))
		if err != nil {
			return err
		}
		out, err = r.keepManifest(ctx, got, want)
		return err
	})
	return out, err
}

// keepManifest checks a manifest against what was announced and writes it to the store.
func (r *Registry) keepManifest(ctx context.Context, got *remote.Descriptor, want v1.Descriptor) (v1.Descriptor, error) {
	kind := kindOf(got.MediaType, got.Manifest)
	if kind != got.MediaType && kind.IsIndex() != got.MediaType.IsIndex() && (got.MediaType.IsIndex() || got.MediaType.IsImage()) {
		return v1.Descriptor{}, fmt.Errorf("the manifest is sent as %q, and says that it is %q", got.MediaType, kind)
	}
	if err := checkKind(want, kind); err != nil {
		return v1.Descriptor{}, err
	}
	if kind.IsIndex() {
		if _, err := parseIndex(got.Manifest); err != nil {
			return v1.Descriptor{}, err
		}
	} else if _, err := parseManifest(got.Manifest); err != nil {
		return v1.Descriptor{}, err
	}
	h, size, err := r.o.Store.WriteBlob(ctx, bytes.NewReader(got.Manifest), want.Digest, want.Size)
	return v1.Descriptor{MediaType: kind, Digest: h, Size: size}, err
}

// checkKind compares the media type of a manifest with the one that an index announced.
func checkKind(want v1.Descriptor, is types.MediaType) error {
	if want.MediaType != "" && want.MediaType != is {
		return fmt.Errorf("manifest %s is of the type %q, announced was %q", want.Digest, is, want.MediaType)
	}
	return nil
}
