package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/skiff-build/skiff/internal/store"
)

// readDir reads the files of an OCI layout. Symbolic links in it do not lead out.
func (in *importer) readDir(ctx context.Context, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, name := range []string{"index.json", "oci-layout"} {
		b, err := readSmall(root, name)
		if err != nil {
			if errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("it is no OCI layout: %w", err)
			}
			return err
		}
		in.small[name] = b
	}
	ix, err := parseIndex(in.small["index.json"])
	if err != nil {
		return err
	}
	fetch := func(d v1.Descriptor) error { return in.copyBlob(ctx, root, d) }
	for _, d := range ix.Manifests {
		if err := in.walk(d, 0, fetch); err != nil {
			return err
		}
	}
	return nil
}

func readSmall(root *os.Root, name string) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxArchiveJSON+1))
	if err == nil && len(b) > maxArchiveJSON {
		err = fmt.Errorf("%s: more than %d bytes", name, maxArchiveJSON)
	}
	return b, err
}

func (in *importer) copyBlob(ctx context.Context, root *os.Root, d v1.Descriptor) error {
	name := filepath.Join("blobs", d.Digest.Algorithm, d.Digest.Hex)
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if i, err := f.Stat(); err != nil || !i.Mode().IsRegular() {
		return errors.Join(err, fmt.Errorf("%s is no regular file", name))
	}
	_, _, err = in.l.st.WriteBlob(ctx, f, d.Digest, d.Size)
	return err
}

// walk calls fetch for all blobs of a layout that d needs. Children of an index that are not there are left out.
func (in *importer) walk(d v1.Descriptor, depth int, fetch func(v1.Descriptor) error) error {
	if depth > maxDepth {
		return errors.New("indexes are nested too deeply")
	}
	if err := fetch(d); err != nil {
		if depth > 0 && errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	raw, err := in.l.readBlob(d.Digest, maxManifest)
	if err != nil {
		return err
	}
	if kindOf(d.MediaType, raw).IsIndex() {
		ix, err := parseIndex(raw)
		if err != nil {
			return err
		}
		for _, c := range ix.Manifests {
			if err := in.walk(c, depth+1, fetch); err != nil {
				return err
			}
		}
		return nil
	}
	m, err := parseManifest(raw)
	if err != nil {
		return err
	}
	for _, b := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		if err := fetch(b); err != nil {
			return err
		}
	}
	return nil
}

// finishOCI tags what index.json lists. Entries of one manifest under several names are one image.
func (in *importer) finishOCI(ctx context.Context) ([]Loaded, error) {
	ix, err := parseIndex(in.small["index.json"])
	if err != nil {
		return nil, err
	}
	tags := in.dockerTags()
	found := map[v1.Hash]*ociEntry{}
	var order []*ociEntry
	for _, d := range ix.Manifests {
		if !isRunnable(d) {
			continue
		}
		e := found[d.Digest]
		if e == nil {
			c, err := in.complete(d)
			if err != nil {
				return nil, err
			}
			id, err := idOf(c)
			if err != nil {
				return nil, err
			}
			e = &ociEntry{content: c, Loaded: Loaded{ID: id, Names: tags[id.Hex]}}
			found[d.Digest], order = e, append(order, e)
		}
		if name := archiveName(d); name != "" {
			e.Names = append(e.Names, name)
		}
	}
	var loaded []Loaded
	for _, e := range order {
		if e.Names, err = canonicalNames(e.Names); err != nil {
			return nil, err
		}
		if err := in.readable(ctx, e.content); err != nil {
			return nil, err
		}
		if _, err := in.l.put(ctx, e.content, fromElsewhere, e.Names); err != nil {
			return nil, err
		}
		loaded = append(loaded, e.Loaded)
	}
	return loaded, nil
}

// ociEntry is an image of index.json, which may list it under several names.
type ociEntry struct {
	Loaded
	content Content
}

func idOf(c Content) (v1.Hash, error) {
	img, err := imageFor(c, nil)
	if err != nil {
		return v1.Hash{}, err
	}
	return img.ConfigName()
}

// archiveName returns the full name in an entry of index.json: containerd's annotation, or image-spec's where
// that holds more than a tag.
func archiveName(d v1.Descriptor) string {
	if n := d.Annotations[annotationImageName]; n != "" {
		return n
	}
	if n := d.Annotations[annotationRefName]; strings.ContainsAny(n, ":/") {
		return n
	}
	return ""
}

// dockerTags reads the names that manifest.json gives to configs, by the hex of their digests.
func (in *importer) dockerTags() map[string][]string {
	var entries []dockerImage
	tags := map[string][]string{}
	if json.Unmarshal(in.small["manifest.json"], &entries) != nil {
		return tags // it is there for Docker only
	}
	for _, e := range entries {
		hex := strings.TrimSuffix(path.Base(e.Config), ".json")
		tags[hex] = append(tags[hex], e.RepoTags...)
	}
	return tags
}

// complete loads an image all of whose blobs came along. Of an index of which only some images did, as
// `docker save` writes, it is the one for this machine, or the only one.
func (in *importer) complete(d v1.Descriptor) (Content, error) {
	c, err := in.l.load(d)
	if err != nil {
		return nil, blame(err)
	}
	if img, ok := c.(v1.Image); ok {
		return img, in.hasLayers(img)
	}
	ix := c.(v1.ImageIndex)
	m, err := ix.IndexManifest()
	if err != nil {
		return nil, err
	}
	all := true
	there := m.DeepCopy()
	there.Manifests = nil
	for _, child := range m.Manifests {
		if _, err := in.complete(child); err == nil {
			there.Manifests = append(there.Manifests, child)
		} else if !errors.Is(err, store.ErrMiss) {
			return nil, err
		} else {
			all = false
		}
	}
	if all {
		return ix, nil
	}
	picked, err := pickManifest(there, nil)
	if err != nil {
		return nil, blame(fmt.Errorf("manifest %s: %w", d.Digest, store.ErrMiss))
	}
	return in.complete(picked)
}

func (in *importer) hasLayers(img v1.Image) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	for _, layer := range layers {
		h, err := layer.Digest()
		if err != nil {
			return err
		}
		if _, err := in.l.st.BlobSize(h); err != nil {
			return blame(err)
		}
	}
	return nil
}

// blame says what a miss means here.
func blame(err error) error {
	if errors.Is(err, store.ErrMiss) {
		return fmt.Errorf("the archive is not complete: %w", err)
	}
	return err
}
