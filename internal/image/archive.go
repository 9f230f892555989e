package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"sort"
	"time"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Named is an image or index with the names it is to have elsewhere.
type Named struct {
	Content Content
	Names   []string
}

const (
	annotationRefName   = "org.opencontainers.image.ref.name"
	annotationImageName = "io.containerd.image.name"
	annotationCreated   = "org.opencontainers.image.created"
)

// WriteOCI writes images to w as an OCI archive: a tar of an OCI layout (image-spec image-layout.md).
func WriteOCI(ctx context.Context, w io.Writer, images []Named, epoch time.Time) error {
	return writeArchive(ctx, w, images, epoch, false)
}

// WriteDocker writes images to w as `docker save` does: an OCI layout with a manifest.json beside it, which
// `docker load`, Podman and skopeo read. Of an index, it names this machine's image.
func WriteDocker(ctx context.Context, w io.Writer, images []Named, epoch time.Time) error {
	return writeArchive(ctx, w, images, epoch, true)
}

// archive collects what goes into a tar.
type archive struct {
	index  v1.IndexManifest
	blobs  map[string]archived // by name in the archive
	docker []dockerImage
	legacy map[string]map[string]string // the content of "repositories"
}

type archived struct {
	size int64
	open func() (io.ReadCloser, error)
}

// dockerImage is an entry of manifest.json (https://github.com/moby/docker-image-spec/blob/main/v1.2.md,
// "Combined Image JSON + Filesystem Changeset Format").
type dockerImage struct {
	Config   string   `json:"Config"`
	RepoTags []string `json:"RepoTags"`
	Layers   []string `json:"Layers"`
}

func writeArchive(ctx context.Context, w io.Writer, images []Named, epoch time.Time, docker bool) error {
	if epoch.IsZero() {
		epoch = time.Unix(0, 0)
	}
	a, err := collect(images, epoch)
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	files := map[string]any{"index.json": a.index, "oci-layout": map[string]string{"imageLayoutVersion": "1.0.0"}}
	if docker {
		files["manifest.json"], files["repositories"] = a.docker, a.legacy
	}
	for name, v := range files {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		a.blobs[name] = inMemory(b)
	}
	if err := a.writeTar(ctx, w, epoch); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}

func collect(images []Named, epoch time.Time) (*archive, error) {
	a := &archive{
		index:  v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{}},
		blobs:  map[string]archived{},
		legacy: map[string]map[string]string{},
	}
	for _, img := range images {
		if err := a.add(img, epoch); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func inMemory(b []byte) archived {
	return archived{int64(len(b)), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }}
}

// add puts an image with all its names into the archive.
func (a *archive) add(img Named, epoch time.Time) error {
	if err := a.addContent(img.Content); err != nil {
		return err
	}
	descs, err := rootDescriptors(img, epoch)
	if err != nil {
		return err
	}
	a.index.Manifests = append(a.index.Manifests, descs...)
	return a.addDocker(img)
}

// rootDescriptors returns what stands in index.json for an image: an entry for each of its names, annotated as
// BuildKit's archives are.
func rootDescriptors(img Named, epoch time.Time) ([]v1.Descriptor, error) {
	d, err := describe(img.Content)
	if err != nil {
		return nil, err
	}
	if one, ok := img.Content.(v1.Image); ok {
		cf, err := one.ConfigFile()
		if err != nil {
			return nil, err
		}
		d.Platform = cf.Platform()
	}
	created := epoch.UTC().Format(time.RFC3339)
	if len(img.Names) == 0 {
		d.Annotations = map[string]string{annotationCreated: created}
		return []v1.Descriptor{d}, nil
	}
	var out []v1.Descriptor
	for _, name := range img.Names {
		full, err := parseTag(name)
		if err != nil {
			return nil, err
		}
		_, tag := splitName(full)
		named := d
		named.Annotations = map[string]string{annotationCreated: created, annotationImageName: full, annotationRefName: tag}
		out = append(out, named)
	}
	return out, nil
}

func (a *archive) addContent(c Content) error {
	raw, err := c.RawManifest()
	if err != nil {
		return err
	}
	h, err := c.Digest()
	if err != nil {
		return err
	}
	a.blobs[blobName(h)] = inMemory(raw)
	if ix, ok := c.(v1.ImageIndex); ok {
		children, err := childrenOf(ix)
		if err != nil {
			return err
		}
		for _, child := range children {
			if err := a.addContent(child.Content); err != nil {
				return err
			}
		}
		return nil
	}
	img, ok := c.(v1.Image)
	if !ok {
		return fmt.Errorf("%T is neither image nor index", c)
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return err
	}
	if h, err = img.ConfigName(); err != nil {
		return err
	}
	a.blobs[blobName(h)] = inMemory(config)
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	for _, layer := range layers {
		if h, err = layer.Digest(); err != nil {
			return err
		}
		size, err := layer.Size()
		if err != nil {
			return err
		}
		a.blobs[blobName(h)] = archived{size, layer.Compressed}
	}
	return nil
}

func blobName(h v1.Hash) string { return path.Join("blobs", h.Algorithm, h.Hex) }

func (a *archive) addDocker(named Named) error {
	img, err := imageFor(named.Content, nil)
	if err != nil {
		return err
	}
	config, err := img.ConfigName()
	if err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	d := dockerImage{Config: blobName(config), RepoTags: []string{}, Layers: []string{}}
	last := ""
	for _, layer := range layers {
		h, err := layer.Digest()
		if err != nil {
			return err
		}
		d.Layers = append(d.Layers, blobName(h))
		diffID, err := layer.DiffID()
		if err != nil {
			return err
		}
		last = diffID.Hex
	}
	for _, name := range named.Names {
		full, err := parseTag(name)
		if err != nil {
			return err
		}
		d.RepoTags = append(d.RepoTags, FamiliarName(full))
		repo, tag := splitName(full)
		if a.legacy[repo] == nil {
			a.legacy[repo] = map[string]string{}
		}
		a.legacy[repo][tag] = last
	}
	a.docker = append(a.docker, d)
	return nil
}

// writeTar writes folders, then files by name, all of one time: the same images give the same bytes.
func (a *archive) writeTar(ctx context.Context, w io.Writer, epoch time.Time) error {
	tw := tar.NewWriter(w)
	for _, dir := range []string{"blobs/", "blobs/sha256/"} {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: epoch}); err != nil {
			return err
		}
	}
	var names []string
	for name := range a.blobs {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := writeMember(tw, name, a.blobs[name], epoch); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return tw.Close()
}

func writeMember(tw *tar.Writer, name string, b archived, epoch time.Time) error {
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: b.size, Mode: 0o644, ModTime: epoch}); err != nil {
		return err
	}
	return b.writeTo(tw)
}

// writeTo writes the content, which has to be as long as it was announced.
func (b archived) writeTo(w io.Writer) error {
	r, err := b.open()
	if err != nil {
		return err
	}
	defer r.Close()
	n, err := copyAhead(w, r)
	if err == nil && n != b.size {
		err = fmt.Errorf("the blob has %d bytes, announced were %d", n, b.size)
	}
	return err
}

// copyAhead is io.Copy, but reads and verifies the next bytes while some are written.
func copyAhead(w io.Writer, r io.Reader) (n int64, err error) {
	type piece struct {
		b   []byte
		err error
	}
	free, full := make(chan []byte, 3), make(chan piece)
	for range cap(free) {
		free <- make([]byte, 256<<10)
	}
	go func() {
		defer close(full)
		for b := range free {
			n, err := r.Read(b)
			full <- piece{b[:n], err}
			if err != nil {
				return
			}
		}
	}()
	for p := range full {
		if err != nil {
			continue // until nothing reads r any more
		}
		k, werr := w.Write(p.b)
		n += int64(k)
		switch {
		case werr != nil:
			err = werr
			close(free)
		case p.err == nil:
			free <- p.b[:cap(p.b)]
		case p.err != io.EOF:
			err = p.err
		}
	}
	return n, err
}

// canonicalNames brings names into their full form, without doubles.
func canonicalNames(names []string) ([]string, error) {
	var out []string
	seen := map[string]bool{}
	for _, n := range names {
		ref, err := parseName(n)
		if err != nil {
			return nil, err
		}
		if t, ok := ref.(reference.NamedTagged); ok && !seen[t.String()] {
			seen[t.String()] = true
			out = append(out, t.String())
		}
	}
	return out, nil
}
