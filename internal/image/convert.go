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
			d, open, err := l.convertLayer(ctx, layer, f)
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

// convertLayer returns the descriptor of the layer in the format f, and how to open it.
func (l *Library) convertLayer(ctx context.Context, layer v1.Layer, f Format) (v1.Descriptor, opener, error) {
	mt, err := layer.MediaType()
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	if have := compressionOf(mt); have == f.kind() && !(f.Force && f.Level != 0) || have != "uncompressed" && !f.Force {
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
	c, err := l.compress(ctx, layer, f)
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

// recordCompressed is the kind of those records.
const recordCompressed = "blob"

func (l *Library) compress(ctx context.Context, layer v1.Layer, f Format) (compressed, error) {
	diffID, err := layer.DiffID()
	if err != nil {
		return compressed{}, err
	}
	key := store.Key(sha256.Sum256(fmt.Appendf(nil, "compress 2\n%s\n%d\n%s\n", f.kind(), f.Level, diffID)))
	// Two at once would only do the same work twice.
	unlock, err := l.st.Lock(ctx, "compress "+key.String())
	if err != nil {
		return compressed{}, err
	}
	defer unlock()
	var c compressed
	if err := l.st.Get(recordCompressed, key, &c); err == nil {
		if _, n, err := l.st.Blob(c.Digest); err == nil && n == c.Size {
			return c, nil
		}
	}
	if c, err = l.compressLayer(ctx, layer, f); err != nil {
		return compressed{}, fmt.Errorf("compress layer %s: %w", diffID, err)
	}
	return c, l.st.Put(recordCompressed, key, c)
}

func (l *Library) compressLayer(ctx context.Context, layer v1.Layer, f Format) (compressed, error) {
	in, err := layer.Uncompressed()
	if err != nil {
		return compressed{}, err
	}
	defer in.Close()
	var (
		known  *knownChunks
		chunks []chunk
	)
	if f.kind() == "gzip" {
		known = l.knownChunks(f.Level)
		defer known.close()
	}
	pr, pw := io.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var err error
		if known != nil {
			chunks, err = gzipChunks(ctx, pw, in, f.Level, known)
		} else {
			err = compressTo(pw, in, f)
		}
		pw.CloseWithError(err)
	}()
	h, n, err := l.st.WriteBlob(ctx, pr, v1.Hash{}, -1)
	pr.CloseWithError(io.ErrClosedPipe) // ends the compressor when the store gave up
	<-ended
	if err != nil {
		return compressed{}, err
	}
	if len(chunks) > 1 {
		err = l.noteChunks(f.Level, known, chunked{h, chunks})
	}
	return compressed{Digest: h, Size: n, Blobs: []v1.Hash{h}}, err
}

// compressTo copies r to w, other than with gzip. The output depends on the input and f alone, not on the number of processors.
func compressTo(w io.Writer, r io.Reader, f Format) error {
	if f.kind() == "uncompressed" {
		_, err := io.Copy(w, r)
		return err
	}
	level := zstd.SpeedDefault
	if f.Level > 0 {
		level = zstd.EncoderLevelFromZstd(f.Level)
	}
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(2))
	if err != nil {
		return err
	}
	if _, err := io.Copy(z, r); err != nil {
		z.Close()
		return err
	}
	return z.Close()
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
