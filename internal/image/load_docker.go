package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/skiff-build/skiff/internal/bounds"
	"github.com/skiff-build/skiff/internal/layer"
)

// finishDocker makes images of manifest.json: configs, and layers as plain or compressed tars.
func (in *importer) finishDocker(ctx context.Context) ([]Loaded, error) {
	var entries []dockerImage
	if err := json.Unmarshal(in.small["manifest.json"], &entries); err != nil {
		return nil, fmt.Errorf("read manifest.json: %w", err)
	}
	var loaded []Loaded
	for _, e := range entries {
		img, err := in.dockerImage(ctx, e)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", e.Config, err)
		}
		id, err := img.ConfigName()
		if err != nil {
			return nil, err
		}
		names, err := canonicalNames(e.RepoTags)
		if err != nil {
			return nil, err
		}
		if err := in.readable(ctx, img); err != nil {
			return nil, fmt.Errorf("image %s: %w", e.Config, err)
		}
		if _, err := in.l.put(ctx, img, fromElsewhere, names); err != nil {
			return nil, err
		}
		loaded = append(loaded, Loaded{Names: names, ID: id})
	}
	return loaded, nil
}

func (in *importer) dockerImage(ctx context.Context, e dockerImage) (v1.Image, error) {
	m, ok := in.named(e.Config)
	if !ok {
		return nil, errors.New("its config is not in the archive")
	}
	config, err := in.l.readBlob(m.digest, maxConfig)
	if err != nil {
		return nil, err
	}
	cf, err := v1.ParseConfigFile(bytes.NewReader(config))
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	if len(cf.RootFS.DiffIDs) != len(e.Layers) {
		return nil, fmt.Errorf("it has %d layers, its config names %d", len(e.Layers), len(cf.RootFS.DiffIDs))
	}
	manifest := v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Layers: []v1.Descriptor{},
		Config: v1.Descriptor{MediaType: types.OCIConfigJSON, Digest: m.digest, Size: m.size},
	}
	for i, name := range e.Layers {
		blob, ok := in.named(name)
		if !ok {
			return nil, fmt.Errorf("layer %s is not in the archive", name)
		}
		mt, err := in.checkLayer(blob, cf.RootFS.DiffIDs[i])
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", name, err)
		}
		manifest.Layers = append(manifest.Layers, v1.Descriptor{MediaType: mt, Digest: blob.digest, Size: blob.size})
	}
	raw, err := json.MarshalIndent(manifest, "", "  ")
	if err != nil {
		return nil, err
	}
	return newImage(raw, config, in.l.openBlob)
}

// named returns the member of that name, however it is spelled.
func (in *importer) named(name string) (member, bool) {
	name, err := bounds.Name(name)
	m, ok := in.blobs[name]
	return m, ok && err == nil
}

// checkLayer compares a layer's content with the diff ID in the config, and tells its media type.
func (in *importer) checkLayer(b member, diffID v1.Hash) (types.MediaType, error) {
	if b.digest == diffID {
		return types.OCIUncompressedLayer, nil
	}
	f, err := in.l.st.OpenBlob(b.digest)
	if err != nil {
		return "", err
	}
	defer f.Close()
	plain, err := layer.Decompress(f)
	if err != nil {
		return "", err
	}
	defer plain.Close()
	got, _, err := v1.SHA256(io.LimitReader(plain, bounds.MaxArchive))
	if err != nil {
		return "", err
	}
	if got != diffID {
		return "", fmt.Errorf("its content has the diff ID %s, the config names %s", got, diffID)
	}
	switch plain.Kind {
	case layer.None:
		return types.OCIUncompressedLayer, nil
	case layer.Gzip:
		return types.OCILayer, nil
	case layer.Zstd:
		return types.OCILayerZStd, nil
	}
	return "", fmt.Errorf("it is compressed by %s, which no image's layer may be", plain.Kind)
}
