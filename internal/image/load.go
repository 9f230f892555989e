package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
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
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"

	"github.com/skiff-build/skiff/internal/store"
)

// Bounds of what an archive may hold. The largest images in use have some 30 GB; `docker save` makes a member
// or two a layer.
const (
	maxArchiveMembers = 100_000
	maxArchiveBytes   = 200 << 30
	maxArchiveJSON    = 16 << 20
)

// Loaded is an image that came out of an archive.
type Loaded struct {
	Names []string // in full; none for an image without a name
	ID    v1.Hash
}

// Load reads an archive of images from r, as `docker save` or an OCI tool writes it, plain or compressed, and
// keeps the images in the store under the names that they have there. Every digest is verified.
func (l *Library) Load(ctx context.Context, r io.Reader) ([]Loaded, error) {
	plain, err := decompress(r)
	if err != nil {
		return nil, fmt.Errorf("load images: %w", err)
	}
	defer plain.Close()
	in := &importer{l: l, blobs: map[string]member{}, small: map[string][]byte{}}
	if err := in.readTar(ctx, plain); err != nil {
		return nil, fmt.Errorf("load images: %w", err)
	}
	return in.finish(ctx)
}

// LoadDir reads an OCI layout from a folder, as [Library.Load] reads an archive.
func (l *Library) LoadDir(ctx context.Context, dir string) ([]Loaded, error) {
	in := &importer{l: l, blobs: map[string]member{}, small: map[string][]byte{}}
	if err := in.readDir(ctx, dir); err != nil {
		return nil, fmt.Errorf("load images: %s: %w", dir, err)
	}
	return in.finish(ctx)
}

// LoadPath reads the archive or the folder at path.
func (l *Library) LoadPath(ctx context.Context, path string) ([]Loaded, error) {
	i, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("load images: %w", err)
	}
	if i.IsDir() {
		return l.LoadDir(ctx, path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("load images: %w", err)
	}
	defer f.Close()
	return l.Load(ctx, f)
}

// decompress looks at the first bytes of r.
func decompress(r io.Reader) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	head, _ := br.Peek(4)
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gzip.NewReader(br)
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(br, zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case bytes.HasPrefix(head, []byte("BZh")):
		return io.NopCloser(bzip2.NewReader(br)), nil
	}
	return io.NopCloser(br), nil
}

// importer collects an archive: its larger members as blobs of the store, by their names.
type importer struct {
	l     *Library
	blobs map[string]member
	small map[string][]byte // index.json, manifest.json and the like
	bytes int64
}

// member is a member of the archive that lies in the store.
type member struct {
	digest v1.Hash
	size   int64
}

var errNoImages = errors.New("there are no images in it: neither manifest.json (docker save) nor index.json (an OCI layout)")

func (in *importer) readTar(ctx context.Context, r io.Reader) error {
	tr := tar.NewReader(r)
	links := map[string]string{}
	for n := 0; ; n++ {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			if n == 0 {
				return fmt.Errorf("it is no tar archive: %w", err)
			}
			return fmt.Errorf("read tar: %w", err)
		}
		if n >= maxArchiveMembers {
			return fmt.Errorf("the archive has more than %d members", maxArchiveMembers)
		}
		name, err := cleanName(h.Name)
		if err != nil {
			return err
		}
		switch h.Typeflag {
		case tar.TypeReg, tar.TypeRegA: //nolint:staticcheck // old tars have it
			if err := in.add(ctx, name, tr, h.Size); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		case tar.TypeSymlink: // older docker save: a layer that two images share
			links[name] = path.Join(path.Dir(name), h.Linkname)
		case tar.TypeLink:
			if links[name], err = cleanName(h.Linkname); err != nil {
				return err
			}
		}
	}
	for name, to := range links {
		for hops := 0; links[to] != "" && hops < 10; hops++ {
			to = links[to]
		}
		if m, ok := in.blobs[to]; ok {
			in.blobs[name] = m
		}
	}
	return nil
}

// add keeps a member of the archive.
func (in *importer) add(ctx context.Context, name string, r io.Reader, size int64) error {
	in.bytes += size
	if size < 0 || in.bytes > maxArchiveBytes {
		return fmt.Errorf("the archive holds more than %d GiB", int64(maxArchiveBytes)>>30)
	}
	switch name {
	case "index.json", "manifest.json", "oci-layout", "repositories":
		if size > maxArchiveJSON {
			return fmt.Errorf("it has %d bytes, more than the %d allowed", size, maxArchiveJSON)
		}
		b, err := io.ReadAll(io.LimitReader(r, maxArchiveJSON))
		in.small[name] = b
		return err
	}
	var want v1.Hash
	if dir, hex := path.Split(name); dir == "blobs/sha256/" {
		want = v1.Hash{Algorithm: "sha256", Hex: hex}
	}
	h, n, err := in.l.st.WriteBlob(ctx, r, want, size)
	if err != nil {
		return err
	}
	in.blobs[name] = member{h, n}
	return nil
}

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

// finish makes images of what was collected.
func (in *importer) finish(ctx context.Context) (loaded []Loaded, err error) {
	switch {
	case in.small["index.json"] != nil && in.small["oci-layout"] != nil:
		loaded, err = in.finishOCI(ctx)
	case in.small["manifest.json"] != nil:
		loaded, err = in.finishDocker(ctx)
	default:
		err = errNoImages
	}
	if err == nil && len(loaded) == 0 {
		err = errors.New("there are no images in it")
	}
	if err != nil {
		return nil, fmt.Errorf("load images: %w", err)
	}
	return loaded, nil
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
		if _, err := in.l.Put(ctx, e.content, e.Names...); err != nil {
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
		if _, _, err := in.l.st.Blob(h); err != nil {
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
		if _, err := in.l.Put(ctx, img, names...); err != nil {
			return nil, err
		}
		loaded = append(loaded, Loaded{Names: names, ID: id})
	}
	return loaded, nil
}

func (in *importer) dockerImage(ctx context.Context, e dockerImage) (v1.Image, error) {
	m, ok := in.blobs[path.Clean(e.Config)]
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
		blob, ok := in.blobs[path.Clean(name)]
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
	head := make([]byte, 4)
	n, _ := io.ReadFull(f, head)
	mt := types.OCIUncompressedLayer
	switch {
	case bytes.HasPrefix(head[:n], []byte{0x1f, 0x8b}):
		mt = types.OCILayer
	case bytes.HasPrefix(head[:n], []byte{0x28, 0xb5, 0x2f, 0xfd}):
		mt = types.OCILayerZStd
	}
	plain, err := decompress(io.MultiReader(bytes.NewReader(head[:n]), f))
	if err != nil {
		return "", err
	}
	defer plain.Close()
	got, _, err := v1.SHA256(io.LimitReader(plain, maxArchiveBytes))
	if err != nil {
		return "", err
	}
	if got != diffID {
		return "", fmt.Errorf("its content has the diff ID %s, the config names %s", got, diffID)
	}
	return mt, nil
}
