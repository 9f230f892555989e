package image

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/skiff-build/skiff/internal/store"
)

// Format says how an image leaves.
type Format struct {
	Compression string // of layers: "gzip" (also ""), "zstd", "uncompressed"
	Level       int    // of compression; 0: the default. gzip 1 to 9, zstd 1 to 22
	Force       bool   // compress the layers of base images anew, too
	Docker      bool   // Docker's media types instead of OCI's
}

func (f Format) check() error {
	most := 0
	switch f.Compression {
	case "", "gzip":
		most = 9
	case "zstd":
		most = 22
		if f.Docker {
			return errors.New("compression=zstd needs OCI media types: leave out oci-mediatypes=false")
		}
	case "uncompressed":
	case "estargz":
		return errors.New("compression=estargz is not supported: use gzip, zstd or uncompressed")
	default:
		return fmt.Errorf("compression=%s is not known: use gzip, zstd or uncompressed", f.Compression)
	}
	if f.Level < 0 || f.Level > most {
		return fmt.Errorf("compression-level=%d is out of range: %s takes 0 (its default) to %d", f.Level, f.kind(), most)
	}
	return nil
}

func (f Format) kind() string {
	if f.Compression == "" {
		return "gzip"
	}
	return f.Compression
}

// layerType returns the media type of a layer compressed as mt says, as OCI's or as Docker's.
func layerType(mt types.MediaType, docker bool) (types.MediaType, error) {
	switch mt {
	case types.OCILayer, types.DockerLayer:
		if docker {
			return types.DockerLayer, nil
		}
		return types.OCILayer, nil
	case types.OCIUncompressedLayer, types.DockerUncompressedLayer:
		if docker {
			return types.DockerUncompressedLayer, nil
		}
		return types.OCIUncompressedLayer, nil
	case types.OCILayerZStd, "application/vnd.docker.image.rootfs.diff.tar.zstd":
		if docker {
			return "application/vnd.docker.image.rootfs.diff.tar.zstd", nil
		}
		return types.OCILayerZStd, nil
	case "application/vnd.in-toto+json": // attestations, which stand in an index like images
		return mt, nil
	case types.DockerForeignLayer, types.OCIRestrictedLayer, types.OCIUncompressedRestrictedLayer:
		return mt, nil
	}
	return "", fmt.Errorf("layers of the type %q are not supported", mt)
}

func compressionOf(mt types.MediaType) string {
	switch mt {
	case types.OCIUncompressedLayer, types.DockerUncompressedLayer, types.OCIUncompressedRestrictedLayer:
		return "uncompressed"
	case types.OCILayerZStd, "application/vnd.docker.image.rootfs.diff.tar.zstd":
		return "zstd"
	}
	return "gzip"
}

// Convert returns an image or index in another format. Layers that the build made are compressed, in
// parallel, and kept in the store by diff ID, so that it happens once; layers of base images pass as they
// are unless f.Force. The config, and so the image's ID, stays the same.
func (l *Library) Convert(ctx context.Context, c Content, f Format) (Content, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	switch c := c.(type) {
	case v1.Image:
		return l.convertImage(ctx, c, f)
	case v1.ImageIndex:
		return l.convertIndex(ctx, c, f)
	}
	return nil, fmt.Errorf("convert image: %T is neither image nor index", c)
}

func (l *Library) convertImage(ctx context.Context, img v1.Image, f Format) (v1.Image, error) {
	raw, err := img.RawManifest()
	if err != nil {
		return nil, err
	}
	var m ocispecs.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("convert image: %w", err)
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return nil, err
	}
	m.MediaType, m.Config.MediaType = ocispecs.MediaTypeImageManifest, ocispecs.MediaTypeImageConfig
	if f.Docker {
		m.MediaType, m.Config.MediaType = string(types.DockerManifestSchema2), string(types.DockerConfigJSON)
	}
	opens := make([]opener, len(layers))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(2, runtime.GOMAXPROCS(0)))
	for i, layer := range layers {
		g.Go(func() error {
			d, open, err := l.convertLayer(ctx, layer, f, nil)
			if err != nil {
				return err
			}
			out := &m.Layers[i]
			out.MediaType, out.Digest, out.Size = string(d.MediaType), digest.Digest(d.Digest.String()), d.Size
			opens[i] = open
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("convert image: %w", err)
	}
	if raw, err = json.MarshalIndent(m, "", "  "); err != nil {
		return nil, fmt.Errorf("convert image: %w", err)
	}
	byDigest := map[string]opener{}
	for i, d := range m.Layers {
		byDigest[string(d.Digest)] = opens[i]
	}
	return newImage(raw, config, func(d v1.Descriptor) (io.ReadCloser, error) {
		if open, ok := byDigest[d.Digest.String()]; ok {
			return open(d)
		}
		return nil, fmt.Errorf("image has no layer %s", d.Digest)
	})
}

// passes tells whether a layer goes into the format f as it is.
func (f Format) passes(mt types.MediaType) bool {
	have := compressionOf(mt)
	return have == f.kind() && !(f.Force && f.Level != 0) || have != "uncompressed" && !f.Force
}

// convertLayer returns the descriptor of the layer in the format f, and how to open it. follow may be nil; where all of the layer
// is compressed now, it is called before with what comes of it.
func (l *Library) convertLayer(ctx context.Context, layer v1.Layer, f Format, follow func(*growing)) (v1.Descriptor, opener, error) {
	mt, err := layer.MediaType()
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	if f.passes(mt) {
		to, err := layerType(mt, f.Docker)
		if err != nil {
			return v1.Descriptor{}, nil, err
		}
		h, err := layer.Digest()
		if err != nil {
			return v1.Descriptor{}, nil, err
		}
		size, err := layer.Size()
		return v1.Descriptor{MediaType: to, Digest: h, Size: size}, func(v1.Descriptor) (io.ReadCloser, error) { return layer.Compressed() }, err
	}
	c, err := l.compress(ctx, layer, f, follow)
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	plain := map[string]types.MediaType{"gzip": types.OCILayer, "zstd": types.OCILayerZStd, "uncompressed": types.OCIUncompressedLayer}
	to, err := layerType(plain[f.kind()], f.Docker)
	return v1.Descriptor{MediaType: to, Digest: c.Digest, Size: c.Size}, l.openBlob, err
}

// compressed is the record of a layer's compressed form, by diff ID and format.
type compressed struct {
	Digest v1.Hash   `json:"digest"`
	Size   int64     `json:"size"` // bytes
	Blobs  []v1.Hash `json:"blobs"`
}

// plainLayer is what is asked of a layer that is compressed.
type plainLayer interface {
	DiffID() (v1.Hash, error)
	Uncompressed() (io.ReadCloser, error)
}

// recordCompressed is the kind of those records.
const recordCompressed = store.KindCompressed

// compressedAs returns what a layer became when it was compressed before.
func (l *Library) compressedAs(key store.Key) (c compressed, ok bool) {
	if l.st.Get(recordCompressed, key, &c) != nil {
		return c, false
	}
	n, err := l.st.BlobSize(c.Digest)
	return c, err == nil && n == c.Size
}

func (l *Library) compress(ctx context.Context, layer plainLayer, f Format, follow func(*growing)) (compressed, error) {
	diffID, err := layer.DiffID()
	if err != nil {
		return compressed{}, err
	}
	key := compressedKey(diffID, f)
	// Two at once would only do the same work twice.
	unlock, err := l.st.Lock(ctx, "compress "+key.String())
	if err != nil {
		return compressed{}, err
	}
	defer unlock()
	c, ok := l.compressedAs(key)
	if ok {
		return c, nil
	}
	if c, err = l.compressLayer(ctx, layer, f, follow); err != nil {
		return compressed{}, fmt.Errorf("compress layer %s: %w", diffID, err)
	}
	return c, l.st.Put(recordCompressed, key, c)
}

func compressedKey(diffID v1.Hash, f Format) store.Key {
	version := 2
	if f.kind() == "zstd" {
		version = 3 // in chunks
	}
	return sha256.Sum256(fmt.Appendf(nil, "compress %d\n%s\n%d\n%s\n", version, f.kind(), f.Level, diffID))
}

func (l *Library) compressLayer(ctx context.Context, layer plainLayer, f Format, follow func(*growing)) (compressed, error) {
	how, ok := f.chunking()
	if !ok {
		return l.compressStream(ctx, layer, follow, func(w io.Writer, r io.Reader) error { return compressTo(w, r, f) })
	}
	known := l.knownChunks(how)
	defer known.close()
	if c, err := l.compressParts(ctx, layer, f, known); err == nil || ctx.Err() != nil {
		return c, err
	}
	return l.compressWhole(ctx, layer, known, follow)
}

// compressWhole reads all of the layer, makes one blob of it, and lists its chunks.
func (l *Library) compressWhole(ctx context.Context, layer plainLayer, known *knownChunks, follow func(*growing)) (compressed, error) {
	var chunks []chunk
	c, err := l.compressStream(ctx, layer, follow, func(w io.Writer, r io.Reader) (err error) {
		chunks, err = packChunks(ctx, streamSink{w}, &streamPieces{cutter{r: r}}, known.how, known)
		return err
	})
	if err == nil && len(chunks) > 1 {
		err = l.noteChunks(ctx, known.how, chunked{c.Digest, chunks})
	}
	return c, err
}

// streamSink is one to which nothing comes that is kept.
type streamSink struct{ io.Writer }

func (streamSink) Keep(v1.Hash, int64, int64, ...io.Writer) error { return store.ErrMiss }

// compressStream reads the layer from its first byte to its last. What is written can be read meanwhile by whoever follows.
func (l *Library) compressStream(ctx context.Context, layer plainLayer, follow func(*growing),
	compress func(w io.Writer, r io.Reader) error) (c compressed, err error) {
	in, err := layer.Uncompressed()
	if err != nil {
		return c, err
	}
	defer in.Close()
	draft, err := l.st.NewDraft()
	if err != nil {
		return c, err
	}
	out := newGrowing(ctx, draft)
	defer func() { out.end(c, err); out.release() }()
	if follow != nil {
		follow(out)
	}
	if err := compress(out, in); err != nil {
		return c, err
	}
	h, n, err := draft.Commit()
	return compressed{Digest: h, Size: n, Blobs: []v1.Hash{h}}, err
}

// compressParts compresses a layer whose tar is composed of others: their chunks are kept, little of the tar is read, and the blob
// is composed of theirs. Others that were never compressed are now, so that the next layer made of them costs little. An error says
// that the layer has to be compressed as a whole.
func (l *Library) compressParts(ctx context.Context, layer plainLayer, f Format, known *knownChunks) (c compressed, err error) {
	diffID, err := layer.DiffID()
	if err != nil {
		return c, err
	}
	in := placedPieces{from: map[v1.Hash]*placed{}}
	if in.parts, err = l.st.Parts(diffID); err != nil {
		return c, err
	}
	size := int64(0)
	for _, p := range in.parts {
		size += p.Size
		in.ends = append(in.ends, size)
		if p.Blob != (v1.Hash{}) && in.from[p.Blob] == nil {
			if in.from[p.Blob], err = l.placedChunks(ctx, p.Blob, f, known); err != nil {
				return c, err
			}
		}
	}
	tar, err := l.st.OpenBlobAt(diffID)
	if err != nil {
		return c, err
	}
	defer tar.Close()
	in.tar = tar
	out, err := l.st.Compose(ctx)
	if err != nil {
		return c, err
	}
	defer out.Abort()
	if _, err := packChunks(ctx, out, &in, known.how, known); err != nil {
		return c, err
	}
	h, n, err := out.Commit()
	return compressed{Digest: h, Size: n, Blobs: []v1.Hash{h}}, err
}

// placedChunks finds the chunks of a tar in the store.
func (l *Library) placedChunks(ctx context.Context, tar v1.Hash, f Format, known *knownChunks) (*placed, error) {
	size, err := l.st.BlobSize(tar)
	if err != nil {
		return nil, err
	}
	key := compressedKey(tar, f)
	var c compressed
	if l.st.Get(recordCompressed, key, &c) == nil {
		list, listed := known.of(c.Digest)
		p, covered := place(list, known.how)
		if _, err := l.st.BlobSize(c.Digest); err == nil && listed && covered == size {
			// What is used stays at the front of the list, from whose end others fall.
			if known.blobs[0].blob != c.Digest {
				err = l.noteChunks(ctx, known.how, list)
			}
			return &p, err
		}
	}
	if c, err = l.compressWhole(ctx, storedTar{l.st, tar}, known, nil); err != nil {
		return nil, err
	}
	if err := l.st.Put(recordCompressed, key, c); err != nil {
		return nil, err
	}
	now := l.knownChunks(known.how)
	defer now.close()
	list, listed := now.of(c.Digest)
	if !listed {
		return nil, store.ErrMiss
	}
	p, _ := place(list, known.how)
	return &p, nil
}

// storedTar is a tar of the store as a layer that can be read, and no more.
type storedTar struct {
	st *store.Store
	h  v1.Hash
}

func (t storedTar) DiffID() (v1.Hash, error)             { return t.h, nil }
func (t storedTar) Uncompressed() (io.ReadCloser, error) { return t.st.OpenBlob(t.h) }

// compressTo copies r to w, other than in chunks. The output depends on the input and f alone, not on the number of processors.
func compressTo(w io.Writer, r io.Reader, f Format) error {
	if f.kind() == "uncompressed" {
		_, err := io.Copy(w, r)
		return err
	}
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstdLevel(f.Level)), zstd.WithEncoderConcurrency(2))
	if err != nil {
		return err
	}
	if _, err := io.Copy(z, r); err != nil {
		z.Close()
		return err
	}
	return z.Close()
}

func zstdLevel(level int) zstd.EncoderLevel {
	if level == 0 {
		return zstd.SpeedDefault
	}
	return zstd.EncoderLevelFromZstd(level)
}

func (l *Library) convertIndex(ctx context.Context, ix v1.ImageIndex, f Format) (v1.ImageIndex, error) {
	raw, err := ix.RawManifest()
	if err != nil {
		return nil, err
	}
	var m ocispecs.Index
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("convert index: %w", err)
	}
	m.MediaType = ocispecs.MediaTypeImageIndex
	if f.Docker {
		if len(m.Annotations) > 0 {
			return nil, errors.New("annotations of an index need OCI media types: leave out oci-mediatypes=false")
		}
		m.MediaType = string(types.DockerManifestList)
	}
	children, err := childrenOf(ix)
	if err != nil {
		return nil, err
	}
	byDigest := map[v1.Hash]Content{}
	for i, c := range children {
		conv, err := l.Convert(ctx, c.Content, f)
		if err != nil {
			return nil, err
		}
		d, err := describe(conv)
		if err != nil {
			return nil, err
		}
		byDigest[d.Digest] = conv
		out := &m.Manifests[i]
		out.MediaType, out.Digest, out.Size = string(d.MediaType), digest.Digest(d.Digest.String()), d.Size
	}
	if raw, err = json.MarshalIndent(m, "", "  "); err != nil {
		return nil, fmt.Errorf("convert index: %w", err)
	}
	return newIndex(raw, func(d v1.Descriptor) (Content, error) { return byDigest[d.Digest], nil })
}
