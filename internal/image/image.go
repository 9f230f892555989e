// Package image makes images of layers and a config, keeps them in the store, and moves them: to and from
// registries, archives, folders and a Docker daemon.
//
// What goes through it is go-containerregistry's v1.Image or v1.ImageIndex. In the store, an image's own
// layers lie uncompressed, as the build made them; those of a base image as they came, byte for byte. They
// are compressed once, when bytes leave ([Library.Convert]). The package sees nothing of BuildKit. All its
// types are safe for concurrent use.
package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/skiff-build/skiff/internal/bounds"
	"github.com/skiff-build/skiff/internal/layer"
	"github.com/skiff-build/skiff/internal/store"
)

// maxManifest and maxConfig bound, in bytes, what is read as a manifest or a config. Registries accept
// manifests of up to 4 MiB (distribution-spec, "Pushing Manifests").
const (
	maxManifest = 4 << 20
	maxConfig   = 4 << 20
)

// Library is the images of a store.
type Library struct {
	st *store.Store
}

// NewLibrary returns the images that st holds.
func NewLibrary(st *store.Store) *Library { return &Library{st: st} }

// Content is what a name means: an [v1.Image] or an [v1.ImageIndex].
type Content interface {
	MediaType() (types.MediaType, error)
	Digest() (v1.Hash, error)
	Size() (int64, error)
	RawManifest() ([]byte, error)
}

// opener opens the blob of a descriptor. Its content is verified as it is read.
type opener func(v1.Descriptor) (io.ReadCloser, error)

// core is an image whose manifest and config are in memory. It implements [partial.CompressedImageCore].
type core struct {
	raw, config []byte
	mediaType   types.MediaType
	manifest    *v1.Manifest
	diffIDs     []v1.Hash
	open        opener
}

// newImage makes an image of its manifest and config, and refuses those that do not fit together.
func newImage(manifest, config []byte, open opener) (v1.Image, error) {
	m, err := parseManifest(manifest)
	if err != nil {
		return nil, err
	}
	cf, err := v1.ParseConfigFile(bytes.NewReader(config))
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	if len(cf.RootFS.DiffIDs) != len(m.Layers) {
		return nil, fmt.Errorf("read image: the manifest has %d layers, the config %d", len(m.Layers), len(cf.RootFS.DiffIDs))
	}
	c := &core{raw: manifest, config: config, mediaType: m.MediaType, manifest: m, diffIDs: cf.RootFS.DiffIDs, open: open}
	img, err := partial.CompressedToImage(c)
	return whole{img, c}, err
}

// whole is an image with layers that bound what they unpack to, as those of package partial do not.
type whole struct {
	v1.Image
	core *core
}

func (w whole) Layers() ([]v1.Layer, error) {
	var layers []v1.Layer
	for i := range w.core.manifest.Layers {
		layers = append(layers, w.core.layer(i))
	}
	return layers, nil
}

func (w whole) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	l, err := w.core.LayerByDigest(h)
	if err != nil {
		return nil, err
	}
	return l.(*blob), nil
}

func (w whole) LayerByDiffID(h v1.Hash) (v1.Layer, error) {
	if i := slices.Index(w.core.diffIDs, h); i >= 0 {
		return w.core.layer(i), nil
	}
	return nil, fmt.Errorf("image has no layer of the diff ID %s", h)
}

// parseManifest reads an image manifest. One of another kind (an index, an artifact that is no image) is an
// error that says what it is.
func parseManifest(raw []byte) (*v1.Manifest, error) {
	m, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if m.MediaType == "" {
		m.MediaType = types.OCIManifestSchema1 // optional in OCI manifests (image-spec manifest.md)
	}
	if m.SchemaVersion == 1 || m.MediaType.IsSchema1() {
		return nil, errors.New("read manifest: the image has the format of before 2017 (schema 1), which is not supported: push it again with a current tool")
	}
	if !m.MediaType.IsImage() {
		return nil, fmt.Errorf("read manifest: %s is not an image manifest", m.MediaType)
	}
	switch m.Config.MediaType {
	case types.OCIConfigJSON, types.DockerConfigJSON:
	default:
		return nil, fmt.Errorf("read manifest: this is no container image: its config has the type %q", m.Config.MediaType)
	}
	if len(m.Layers) > bounds.MaxLayers {
		return nil, fmt.Errorf("read manifest: %w: it has %d layers, of %d at most", bounds.ErrLimit, len(m.Layers), bounds.MaxLayers)
	}
	for _, l := range m.Layers {
		if _, err := layerType(l.MediaType, false); err != nil {
			return nil, fmt.Errorf("read manifest: layer %s has the type %q, which is no file system layer", l.Digest, l.MediaType)
		}
		if l.Size < 0 {
			return nil, fmt.Errorf("read manifest: layer %s has the size %d", l.Digest, l.Size)
		}
	}
	return m, nil
}

func (c *core) RawConfigFile() ([]byte, error)      { return c.config, nil }
func (c *core) RawManifest() ([]byte, error)        { return c.raw, nil }
func (c *core) MediaType() (types.MediaType, error) { return c.mediaType, nil }
func (c *core) ConfigLayer() (v1.Layer, error)      { return partial.ConfigLayer(c) }
func (c *core) Manifest() (*v1.Manifest, error)     { return c.manifest.DeepCopy(), nil }
func (c *core) ConfigFile() (*v1.ConfigFile, error) { return partial.ConfigFile(c) }

func (c *core) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for i, d := range c.manifest.Layers {
		if d.Digest == h {
			return c.layer(i), nil
		}
	}
	if c.manifest.Config.Digest == h {
		return &blob{desc: c.manifest.Config, diffID: h, open: func(v1.Descriptor) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(c.config)), nil
		}}, nil
	}
	return nil, fmt.Errorf("image has no layer %s", h)
}

func (c *core) layer(i int) *blob {
	return &blob{desc: c.manifest.Layers[i], diffID: c.diffIDs[i], open: c.open}
}

// blob is a layer whose content lies elsewhere.
type blob struct {
	desc   v1.Descriptor
	diffID v1.Hash
	open   opener
}

func (b *blob) Digest() (v1.Hash, error)            { return b.desc.Digest, nil }
func (b *blob) DiffID() (v1.Hash, error)            { return b.diffID, nil }
func (b *blob) Size() (int64, error)                { return b.desc.Size, nil }
func (b *blob) MediaType() (types.MediaType, error) { return b.desc.MediaType, nil }
func (b *blob) Descriptor() (*v1.Descriptor, error) { return b.desc.DeepCopy(), nil }
func (b *blob) Compressed() (io.ReadCloser, error)  { return b.open(b.desc) }

func (b *blob) Uncompressed() (io.ReadCloser, error) {
	r, err := b.Compressed()
	if err != nil {
		return nil, err
	}
	plain, err := layer.Decompress(r)
	if err != nil {
		r.Close()
		return nil, err
	}
	return closeBoth{plain, r}, nil
}

// closeBoth closes a stream and what it reads from.
type closeBoth struct {
	io.ReadCloser
	below io.Closer
}

func (c closeBoth) Close() error { return errors.Join(c.ReadCloser.Close(), c.below.Close()) }

// index is an image index whose manifest is in memory.
type index struct {
	raw       []byte
	mediaType types.MediaType
	manifest  *v1.IndexManifest
	child     func(v1.Descriptor) (Content, error)
}

func newIndex(raw []byte, child func(v1.Descriptor) (Content, error)) (v1.ImageIndex, error) {
	m, err := parseIndex(raw)
	if err != nil {
		return nil, err
	}
	return &index{raw: raw, mediaType: m.MediaType, manifest: m, child: child}, nil
}

func parseIndex(raw []byte) (*v1.IndexManifest, error) {
	m, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("read image index: %w", err)
	}
	if m.MediaType == "" {
		m.MediaType = types.OCIImageIndex
	}
	if !m.MediaType.IsIndex() {
		return nil, fmt.Errorf("read image index: %s is not an image index", m.MediaType)
	}
	return m, nil
}

func (x *index) MediaType() (types.MediaType, error)       { return x.mediaType, nil }
func (x *index) Digest() (v1.Hash, error)                  { return partial.Digest(x) }
func (x *index) Size() (int64, error)                      { return partial.Size(x) }
func (x *index) RawManifest() ([]byte, error)              { return x.raw, nil }
func (x *index) IndexManifest() (*v1.IndexManifest, error) { return x.manifest.DeepCopy(), nil }

func (x *index) find(h v1.Hash) (Content, error) {
	for _, d := range x.manifest.Manifests {
		if d.Digest == h {
			return x.child(d)
		}
	}
	return nil, fmt.Errorf("image index has no manifest %s", h)
}

func (x *index) Image(h v1.Hash) (v1.Image, error) {
	c, err := x.find(h)
	if err != nil {
		return nil, err
	}
	if img, ok := c.(v1.Image); ok {
		return img, nil
	}
	return nil, fmt.Errorf("%s is not an image", h)
}

func (x *index) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	c, err := x.find(h)
	if err != nil {
		return nil, err
	}
	if ix, ok := c.(v1.ImageIndex); ok {
		return ix, nil
	}
	return nil, fmt.Errorf("%s is not an image index", h)
}

// load reads an image or index whose blobs the store holds. [store.ErrMiss]: its manifest or config is gone.
func (l *Library) load(d v1.Descriptor) (Content, error) {
	return l.loadDepth(d, 0)
}

// maxDepth bounds indexes within indexes.
const maxDepth = 4

func (l *Library) loadDepth(d v1.Descriptor, depth int) (Content, error) {
	raw, err := l.readBlob(d.Digest, maxManifest)
	if err != nil {
		return nil, err
	}
	if kindOf(d.MediaType, raw).IsIndex() {
		if depth >= maxDepth {
			return nil, errors.New("read image index: indexes are nested too deeply")
		}
		return newIndex(raw, func(d v1.Descriptor) (Content, error) { return l.loadDepth(d, depth+1) })
	}
	m, err := parseManifest(raw)
	if err != nil {
		return nil, err
	}
	config, err := l.readBlob(m.Config.Digest, maxConfig)
	if err != nil {
		return nil, err
	}
	return newImage(raw, config, l.openBlob)
}

// kindOf returns the media type of a manifest: what it says itself, else what its descriptor says.
func kindOf(announced types.MediaType, raw []byte) types.MediaType {
	if own := ownMediaType(raw); own != "" {
		return own
	}
	return announced
}

func (l *Library) openBlob(d v1.Descriptor) (io.ReadCloser, error) { return l.st.OpenBlob(d.Digest) }

// readBlob reads a small blob whole, verified.
func (l *Library) readBlob(h v1.Hash, most int64) ([]byte, error) {
	size, err := l.st.BlobSize(h)
	if err != nil {
		return nil, err
	}
	if size > most {
		return nil, fmt.Errorf("blob %s has %d bytes, more than the %d allowed here", h, size, most)
	}
	r, err := l.st.OpenBlob(h)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// save writes all blobs of an image or index that the store lacks, and returns its descriptor.
func (l *Library) save(ctx context.Context, c Content) (v1.Descriptor, error) {
	switch c := c.(type) {
	case v1.Image:
		if err := l.saveImage(ctx, c); err != nil {
			return v1.Descriptor{}, err
		}
	case v1.ImageIndex:
		children, err := childrenOf(c)
		if err != nil {
			return v1.Descriptor{}, err
		}
		for _, child := range children {
			if _, err := l.save(ctx, child.Content); err != nil {
				return v1.Descriptor{}, err
			}
		}
	default:
		return v1.Descriptor{}, fmt.Errorf("save image: %T is neither image nor index", c)
	}
	raw, err := c.RawManifest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	if err := l.saveBytes(ctx, raw); err != nil {
		return v1.Descriptor{}, fmt.Errorf("save manifest: %w", err)
	}
	return describe(c)
}

func (l *Library) saveImage(ctx context.Context, img v1.Image) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	for _, layer := range layers {
		if err := l.saveLayer(ctx, layer); err != nil {
			return err
		}
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return err
	}
	if err := l.saveBytes(ctx, config); err != nil {
		return fmt.Errorf("save config: %w", err)
	}
	return nil
}

func (l *Library) saveLayer(ctx context.Context, layer v1.Layer) error {
	h, err := layer.Digest()
	if err != nil {
		return err
	}
	size, err := layer.Size()
	if err != nil {
		return err
	}
	if n, err := l.st.BlobSize(h); err == nil && n == size {
		return nil
	}
	r, err := layer.Compressed()
	if err != nil {
		return fmt.Errorf("save layer %s: %w", h, err)
	}
	defer r.Close()
	if _, _, err := l.st.WriteBlob(ctx, r, h, size); err != nil {
		return fmt.Errorf("save layer: %w", err)
	}
	return nil
}

// saveBytes stores a config or manifest. One that lies there, whole, is not written again.
func (l *Library) saveBytes(ctx context.Context, b []byte) error {
	h, size, err := v1.SHA256(bytes.NewReader(b))
	if err != nil {
		return err
	}
	if l.st.VerifyBlob(h) == nil {
		return nil
	}
	_, _, err = l.st.WriteBlob(ctx, bytes.NewReader(b), h, size)
	return err
}

// child is an image or index within an index, with the descriptor that it has there.
type child struct {
	Content
	desc v1.Descriptor
}

func childrenOf(ix v1.ImageIndex) ([]child, error) {
	m, err := ix.IndexManifest()
	if err != nil {
		return nil, err
	}
	var out []child
	for _, d := range m.Manifests {
		var c Content
		switch {
		case d.MediaType.IsIndex():
			c, err = ix.ImageIndex(d.Digest)
		case d.MediaType.IsImage():
			c, err = ix.Image(d.Digest)
		default:
			err = fmt.Errorf("image index: %s has the type %q, which is neither image nor index", d.Digest, d.MediaType)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, child{c, d})
	}
	return out, nil
}

// describe returns the descriptor of c as a root: type, size and digest.
func describe(c Content) (v1.Descriptor, error) {
	mt, err := c.MediaType()
	if err != nil {
		return v1.Descriptor{}, err
	}
	h, err := c.Digest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	size, err := c.Size()
	if err != nil {
		return v1.Descriptor{}, err
	}
	return v1.Descriptor{MediaType: mt, Digest: h, Size: size}, nil
}
