package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// Layer is a layer of an image to be made.
type Layer struct {
	DiffID v1.Hash // of the uncompressed tar

	// Blob describes the layer as it lies in a base image, compressed or not: it passes byte for byte. Zero
	// for a layer that this build made: then it is an uncompressed tar of Size bytes.
	Blob v1.Descriptor
	Size int64

	// Open opens the content: of Blob, or the uncompressed tar. It may be nil where the store holds the blob.
	Open func() (io.ReadCloser, error)

	// CreatedBy stands in the history where the config's own history has no entry for the layer.
	CreatedBy string
}

// Annotations of an image: those in its manifest and index, and those in the descriptors of both.
type Annotations struct {
	Index, IndexDescriptor, Manifest, ManifestDescriptor map[string]string
}

// Spec says what an image is made of.
type Spec struct {
	Layers []Layer // lowest first

	// Config is the image config as the Dockerfile frontend returns it. Its rootfs is replaced, its history
	// completed, fields that are not known here stay.
	Config []byte
	// BaseConfig is the config of the image that the last stage started from; nil for none. History entries
	// taken over from there keep their times.
	BaseConfig []byte

	// Epoch is SOURCE_DATE_EPOCH; the zero time means 1970-01-01T00:00:00Z. Nothing that the build made is
	// younger.
	Epoch time.Time

	Annotations map[string]string // of the manifest
}

// Assemble makes an image of layers and a config, the config and its history as BuildKit's exporter makes
// them (moby/buildkit exporter/containerimage/writer.go, patchImageConfig and normalizeLayersAndHistory). Layers
// that the store lacks are written to it; config and manifest only by [Library.Put]. Media types are OCI's.
func (l *Library) Assemble(ctx context.Context, s Spec) (v1.Image, error) {
	manifest := ocispecs.Manifest{
		Versioned:   specs.Versioned{SchemaVersion: 2},
		MediaType:   ocispecs.MediaTypeImageManifest,
		Layers:      []ocispecs.Descriptor{},
		Annotations: s.Annotations,
	}
	for _, layer := range s.Layers {
		d, err := l.addLayer(ctx, layer)
		if err != nil {
			return nil, fmt.Errorf("assemble image: %w", err)
		}
		manifest.Layers = append(manifest.Layers, d)
	}
	config, err := patchConfig(s)
	if err != nil {
		return nil, fmt.Errorf("assemble image: %w", err)
	}
	manifest.Config = ocispecs.Descriptor{
		MediaType: ocispecs.MediaTypeImageConfig,
		Digest:    digest.FromBytes(config),
		Size:      int64(len(config)),
	}
	raw, err := json.MarshalIndent(manifest, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("assemble image: %w", err)
	}
	return newImage(raw, config, l.openBlob)
}

// addLayer makes sure that the store holds a layer and returns its descriptor with OCI's media type.
func (l *Library) addLayer(ctx context.Context, layer Layer) (ocispecs.Descriptor, error) {
	d := layer.Blob
	if d.Digest == (v1.Hash{}) {
		d = v1.Descriptor{MediaType: types.OCIUncompressedLayer, Digest: layer.DiffID, Size: layer.Size}
	}
	mt, err := layerType(d.MediaType, false)
	if err != nil {
		return ocispecs.Descriptor{}, err
	}
	out := ocispecs.Descriptor{MediaType: string(mt), Digest: digest.Digest(d.Digest.String()), Size: d.Size}
	if n, err := l.st.BlobSize(d.Digest); err == nil && n == d.Size {
		return out, nil
	}
	if layer.Open == nil {
		return out, fmt.Errorf("layer %s is not in the store", d.Digest)
	}
	r, err := layer.Open()
	if err != nil {
		return out, fmt.Errorf("open layer %s: %w", d.Digest, err)
	}
	defer r.Close()
	if _, _, err := l.st.WriteBlob(ctx, r, d.Digest, d.Size); err != nil {
		return out, err
	}
	return out, nil
}

// patchConfig puts the layers into the config.
func patchConfig(s Spec) ([]byte, error) {
	epoch := s.Epoch
	if epoch.IsZero() {
		epoch = time.Unix(0, 0)
	}
	epoch = epoch.UTC()
	var img ocispecs.Image
	if err := json.Unmarshal(s.Config, &img); err != nil {
		return nil, fmt.Errorf("read image config: %w", err)
	}
	var base ocispecs.Image
	if len(s.BaseConfig) > 0 {
		if err := json.Unmarshal(s.BaseConfig, &base); err != nil {
			return nil, fmt.Errorf("read config of the base image: %w", err)
		}
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(s.Config, &fields); err != nil || fields == nil {
		return nil, errors.New("read image config: it is no JSON object")
	}
	if img.OS == "" || img.Architecture == "" {
		return nil, errors.New("read image config: it has no os or no architecture")
	}

	rootfs := ocispecs.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}
	for _, layer := range s.Layers {
		rootfs.DiffIDs = append(rootfs.DiffIDs, digest.Digest(layer.DiffID.String()))
	}
	history := clampHistory(completeHistory(img.History, s.Layers, epoch), base.History, epoch)
	created := createdOf(img.Created, history, epoch)
	for name, v := range map[string]any{"rootfs": rootfs, "history": history, "created": created} {
		b, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		fields[name] = b
	}
	return json.Marshal(fields) // sorted by name: the same config gives the same digest
}

// completeHistory returns a history with as many entries for layers as there are layers, each with a time.
func completeHistory(history []ocispecs.History, layers []Layer, epoch time.Time) []ocispecs.History {
	out := append([]ocispecs.History{}, history...)
	n := 0
	for i := range out {
		if !out[i].EmptyLayer && n == len(layers) {
			out[i].EmptyLayer = true // an entry too many: the instruction changed no file
		}
		if !out[i].EmptyLayer {
			n++
		}
	}
	for _, layer := range layers[n:] {
		by := layer.CreatedBy
		if by == "" {
			by = "created by buildkit"
		}
		out = append(out, ocispecs.History{Created: &epoch, CreatedBy: by, Comment: "buildkit.exporter.image.v0"})
	}
	for i := range out {
		if out[i].Created == nil {
			out[i].Created = &epoch
		}
	}
	return out
}

// clampHistory makes nothing younger than epoch but the entries that are the base image's own
// (https://github.com/moby/buildkit/issues/4614).
func clampHistory(history, base []ocispecs.History, epoch time.Time) []ocispecs.History {
	own := false
	for i, h := range history {
		own = own || i >= len(base) || !reflect.DeepEqual(h, base[i])
		if own && h.Created.After(epoch) {
			history[i].Created = &epoch
		}
	}
	return history
}

func createdOf(created *time.Time, history []ocispecs.History, epoch time.Time) time.Time {
	if created != nil {
		if created.After(epoch) {
			return epoch
		}
		return *created
	}
	if len(history) > 0 {
		return *history[len(history)-1].Created
	}
	return epoch
}

// PlatformImage is an image of an index.
type PlatformImage struct {
	Platform    v1.Platform
	Image       v1.Image
	Annotations map[string]string // of the descriptor in the index
}

// AssembleIndex makes an index of images, with annotations of its own.
func AssembleIndex(images []PlatformImage, annotations map[string]string) (v1.ImageIndex, error) {
	ix := ocispecs.Index{
		Versioned:   specs.Versioned{SchemaVersion: 2},
		MediaType:   ocispecs.MediaTypeImageIndex,
		Manifests:   []ocispecs.Descriptor{},
		Annotations: annotations,
	}
	children := map[v1.Hash]v1.Image{}
	for _, p := range images {
		d, err := describe(p.Image)
		if err != nil {
			return nil, fmt.Errorf("assemble index: %w", err)
		}
		children[d.Digest] = p.Image
		ix.Manifests = append(ix.Manifests, ocispecs.Descriptor{
			MediaType:   string(d.MediaType),
			Digest:      digest.Digest(d.Digest.String()),
			Size:        d.Size,
			Annotations: p.Annotations,
			Platform: &ocispecs.Platform{
				Architecture: p.Platform.Architecture, OS: p.Platform.OS, OSVersion: p.Platform.OSVersion,
				OSFeatures: p.Platform.OSFeatures, Variant: p.Platform.Variant,
			},
		})
	}
	raw, err := json.MarshalIndent(ix, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("assemble index: %w", err)
	}
	return newIndex(raw, func(d v1.Descriptor) (Content, error) { return children[d.Digest], nil })
}

// ownMediaType returns the mediaType field of a manifest; where there is none, what its other fields tell.
func ownMediaType(raw []byte) types.MediaType {
	var m struct {
		MediaType types.MediaType `json:"mediaType"`
		Manifests json.RawMessage `json:"manifests"`
		Config    json.RawMessage `json:"config"`
	}
	if json.NewDecoder(bytes.NewReader(raw)).Decode(&m) != nil {
		return ""
	}
	switch {
	case m.MediaType != "":
		return m.MediaType
	case m.Manifests != nil && m.Config == nil:
		return types.OCIImageIndex
	case m.Config != nil && m.Manifests == nil:
		return types.OCIManifestSchema1
	}
	return ""
}
