package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sort"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/skiff-build/skiff/internal/bounds"
	"github.com/skiff-build/skiff/internal/rootfs"
	"github.com/skiff-build/skiff/internal/store"
)

// annotationBuilt, in the descriptor of an image in the store, is when its name was given to it: the image
// itself says 1970. It is in RFC 3339.
const annotationBuilt = "dev.skiff.built"

// annotationFrom says that an image was built elsewhere: it was pulled or loaded, and annotationBuilt is when that was.
const (
	annotationFrom = "dev.skiff.from"
	fromElsewhere  = "elsewhere"
)

// NotFoundError says that the store has no such image.
type NotFoundError struct{ Name string }

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("no image %q here: see `skiff images`", e.Name)
}

// Row is an image in the store, under one of its names.
type Row struct {
	Name            string // in full; "" for an image without one
	Repository, Tag string // as `docker images` shows them; "<none>" where there is none
	ID              v1.Hash
	Digest          v1.Hash   // of the manifest or index, as it lies here
	Registry        v1.Hash   // of what the registry of Name has; zero where it was neither pushed nor pulled
	Created         time.Time // of the config: mostly 1970
	Built           time.Time // when it got its name; Created where that is not known
	Made            time.Time // when it was built, here or as its config says; zero where nobody knows: 1970 is no such time
	Size            int64     // bytes of the regular files in all layers, as `docker images` counts
	Platforms       []string  // "linux/amd64"

	desc v1.Descriptor
}

// Put keeps an image or index in the store under the names given, and under none where there are none. What
// the names meant before loses them.
func (l *Library) Put(ctx context.Context, c Content, names ...string) (v1.Descriptor, error) {
	return l.put(ctx, c, "", names)
}

func (l *Library) put(ctx context.Context, c Content, from string, names []string) (v1.Descriptor, error) {
	var full []string
	for _, n := range names {
		t, err := parseTag(n)
		if err != nil {
			return v1.Descriptor{}, err
		}
		full = append(full, t)
	}
	if len(full) == 0 {
		full = []string{""}
	}
	d, err := l.save(ctx, c)
	if err != nil {
		return v1.Descriptor{}, err
	}
	for _, name := range full {
		if err := l.tag(name, d, from); err != nil {
			return v1.Descriptor{}, err
		}
	}
	return d, nil
}

// tag gives a name to an image that was built here, or came from elsewhere.
func (l *Library) tag(name string, d v1.Descriptor, from string) error {
	d.Annotations = map[string]string{annotationBuilt: time.Now().UTC().Format(time.RFC3339Nano)}
	if from != "" {
		d.Annotations[annotationFrom] = from
	}
	d.Platform = nil
	return l.st.Tag(name, d)
}

// List returns all images, the newest first. Those whose blobs are gone or broken are left out.
func (l *Library) List(ctx context.Context) ([]Row, error) {
	tags, err := l.st.Tags()
	if err != nil {
		return nil, err
	}
	var rows []Row
	for _, d := range tags {
		row, err := l.row(ctx, d)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err == nil {
			rows = append(rows, row)
		}
	}
	sort.SliceStable(rows, func(i, j int) bool { return rows[i].Built.After(rows[j].Built) })
	return rows, nil
}

func (l *Library) row(ctx context.Context, d v1.Descriptor) (Row, error) {
	row := Row{Name: store.NameOf(d), Repository: "<none>", Tag: "<none>", Digest: d.Digest, desc: d}
	if row.Name != "" {
		row.Repository, row.Tag = splitName(row.Name)
		row.Registry, _ = l.inRegistry(d.Digest, row.Name)
	}
	c, err := l.load(d)
	if err != nil {
		return Row{}, err
	}
	img, err := imageFor(c, nil)
	if err != nil {
		return Row{}, err
	}
	if row.Platforms, err = platformsOf(c); err != nil {
		return Row{}, err
	}
	if row.ID, err = img.ConfigName(); err != nil {
		return Row{}, err
	}
	cf, err := img.ConfigFile()
	if err != nil {
		return Row{}, err
	}
	row.Created, row.Built = cf.Created.Time, cf.Created.Time
	if t, err := time.Parse(time.RFC3339Nano, d.Annotations[annotationBuilt]); err == nil {
		row.Built = t
	}
	if row.Made = row.Built; d.Annotations[annotationFrom] == fromElsewhere {
		row.Made = row.Created
	}
	if row.Made.Year() <= 1980 { // reproducible builds say 1970, or as zip begins to count
		row.Made = time.Time{}
	}
	row.Size, err = l.UnpackedSize(ctx, img)
	return row, err
}

// recordFiles is the kind of records that keep the unpacked size of a layer, by diff ID.
const recordFiles = store.KindLayerSize

type files struct {
	Bytes int64 `json:"bytes"`
}

func filesKey(diffID v1.Hash) store.Key {
	return sha256.Sum256([]byte("unpacked size\n" + diffID.String()))
}

// NoteFiles keeps the bytes of the regular files in a layer, so that nobody has to read it to know.
func (l *Library) NoteFiles(diffID v1.Hash, bytes int64) error {
	var known files
	if l.st.Get(recordFiles, filesKey(diffID), &known) == nil && known.Bytes == bytes {
		return nil
	}
	return l.st.Put(recordFiles, filesKey(diffID), files{bytes})
}

// UnpackedSize returns the bytes of the regular files in all layers. It reads layers of which that is not
// known yet.
func (l *Library) UnpackedSize(ctx context.Context, img v1.Image) (int64, error) {
	layers, err := img.Layers()
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, layer := range layers {
		n, err := l.layerFiles(ctx, layer)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// layerFiles returns the bytes of the regular files in a layer.
func (l *Library) layerFiles(ctx context.Context, layer v1.Layer) (int64, error) {
	diffID, err := layer.DiffID()
	if err != nil {
		return 0, err
	}
	var f files
	if l.st.Get(recordFiles, filesKey(diffID), &f) == nil {
		return f.Bytes, nil
	}
	if f.Bytes, err = countFiles(ctx, layer, diffID); err != nil {
		return 0, fmt.Errorf("measure layer %s: %w", diffID, err)
	}
	return f.Bytes, l.NoteFiles(diffID, f.Bytes)
}

// countFiles sums the regular files of a layer, and holds its content against the diff ID.
func countFiles(ctx context.Context, layer v1.Layer, diffID v1.Hash) (int64, error) {
	r, err := layer.Uncompressed()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	var n int64
	sum := sha256.New()
	in := &io.LimitedReader{R: io.TeeReader(r, sum), N: bounds.MaxArchive}
	err = rootfs.EachEntry(ctx, in, func(e rootfs.Entry, _ io.Reader) error {
		n += e.Bytes()
		return nil
	})
	if err != nil {
		return 0, err
	}
	if in.N == 0 {
		return 0, fmt.Errorf("it unpacks to more than %d GiB", int64(bounds.MaxArchive)>>30)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != diffID.Hex {
		return 0, fmt.Errorf("its content has the diff ID sha256:%s, the config names %s", got, diffID)
	}
	return n, nil
}

// Open returns the image or index that ref means: a name, a name with a digest, an ID or the start of one. A
// *[NotFoundError] says that the store has none such.
func (l *Library) Open(ctx context.Context, ref string) (Content, error) {
	rows, err := l.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	return l.load(rows[0].desc)
}

// find returns the rows that ref means, all of one image: one for a name, one or more for an ID.
func (l *Library) find(ctx context.Context, ref string) ([]Row, error) {
	if n, err := parseName(ref); err == nil {
		if d, err := l.st.Tagged(n.String()); err == nil {
			row, err := l.row(ctx, d)
			if errors.Is(err, store.ErrMiss) {
				return nil, fmt.Errorf("image %q is damaged: its blobs are not in the store any more: build or pull it again", ref)
			}
			return []Row{row}, err
		}
		if h, ok := digestOf(n); ok {
			return l.findDigest(ctx, ref, h)
		}
	}
	return l.findID(ctx, ref)
}

// findDigest finds an image by its manifest's digest, whatever its name: content is the same everywhere.
func (l *Library) findDigest(ctx context.Context, ref string, h v1.Hash) ([]Row, error) {
	rows, err := l.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		if r.Digest == h || r.Registry == h {
			return []Row{r}, nil
		}
	}
	return nil, &NotFoundError{ref}
}

func (l *Library) findID(ctx context.Context, ref string) ([]Row, error) {
	prefix, ok := looksLikeID(ref)
	if !ok {
		return nil, &NotFoundError{ref}
	}
	rows, err := l.List(ctx)
	if err != nil {
		return nil, err
	}
	var found []Row
	for _, r := range rows {
		if !strings.HasPrefix(r.ID.Hex, prefix) && !strings.HasPrefix(r.Digest.Hex, prefix) && !strings.HasPrefix(r.Registry.Hex, prefix) {
			continue
		}
		if len(found) > 0 && found[0].ID != r.ID {
			return nil, fmt.Errorf("image ID %q is not unique: give more of it", ref)
		}
		found = append(found, r)
	}
	if len(found) == 0 {
		return nil, &NotFoundError{ref}
	}
	return found, nil
}

// Tag gives the image that ref means one more name.
func (l *Library) Tag(ctx context.Context, ref, name string) error {
	full, err := parseTag(name)
	if err != nil {
		return err
	}
	rows, err := l.find(ctx, ref)
	if err != nil {
		return err
	}
	d := rows[0].desc
	d.Platform = nil
	return l.st.Tag(full, d) // keeps the time of the build
}

// Removed is what [Library.Remove] did: the names taken, in the short form, and the ID of the image when no
// name is left for it.
type Removed struct {
	Untagged []string
	Deleted  v1.Hash
}

// Remove takes away the name ref, or, for an ID, the image. An ID with several names needs force. Layers and
// blobs go with the next Trim.
func (l *Library) Remove(ctx context.Context, ref string, force bool) (Removed, error) {
	rows, err := l.find(ctx, ref)
	if err != nil {
		return Removed{}, err
	}
	byName := false
	if n, err := parseName(ref); err == nil {
		byName = rows[0].Name == n.String()
	}
	if !byName && len(rows) > 1 && !force {
		var names []string
		for _, r := range rows {
			names = append(names, FamiliarName(r.Name))
		}
		return Removed{}, fmt.Errorf("remove image %s: it has several names (%s): remove them by name, or use --force", ref, strings.Join(names, ", "))
	}
	var done Removed
	for _, r := range rows {
		if r.Name == "" {
			err = l.st.Forget(r.Digest)
		} else {
			err = l.st.Untag(r.Name)
			done.Untagged = append(done.Untagged, FamiliarName(r.Name))
		}
		if err != nil && !errors.Is(err, store.ErrMiss) { // gone meanwhile: what was asked for
			return done, err
		}
	}
	left, err := l.findID(ctx, rows[0].ID.String())
	if len(left) == 0 && isNotFound(err) {
		done.Deleted = rows[0].ID
	} else if err != nil {
		return done, err
	}
	return done, nil
}

func isNotFound(err error) bool {
	var nf *NotFoundError
	return errors.As(err, &nf)
}

// ImageFor returns the image of c for a platform; nil means that of this machine, or the only or first one.
func ImageFor(c Content, p *v1.Platform) (v1.Image, error) { return imageFor(c, p) }

func imageFor(c Content, p *v1.Platform) (v1.Image, error) {
	switch c := c.(type) {
	case v1.Image:
		return c, nil
	case v1.ImageIndex:
		m, err := c.IndexManifest()
		if err != nil {
			return nil, err
		}
		d, err := pickManifest(m, p)
		if err != nil {
			return nil, err
		}
		if d.MediaType.IsIndex() {
			inner, err := c.ImageIndex(d.Digest)
			if err != nil {
				return nil, err
			}
			return imageFor(inner, p)
		}
		return c.Image(d.Digest)
	}
	return nil, fmt.Errorf("%T is neither image nor index", c)
}

// ImagesFor are the images that c is made of: itself, or those of an index that are here and run on p, with nil all.
func ImagesFor(c Content, p *v1.Platform) ([]v1.Image, error) {
	ix, ok := c.(v1.ImageIndex)
	if !ok || p != nil {
		img, err := imageFor(c, p)
		return []v1.Image{img}, err
	}
	m, err := ix.IndexManifest()
	if err != nil {
		return nil, err
	}
	var images []v1.Image
	for _, d := range m.Manifests {
		if !isRunnable(d) || !d.MediaType.IsImage() {
			continue
		}
		img, err := ix.Image(d.Digest)
		if errors.Is(err, store.ErrMiss) {
			continue // of another platform than was pulled
		}
		if err != nil {
			return nil, err
		}
		images = append(images, img)
	}
	if len(images) == 0 {
		return nil, errors.New("image index: none of its images is here")
	}
	return images, nil
}

func platformsOf(c Content) ([]string, error) {
	switch c := c.(type) {
	case v1.Image:
		cf, err := c.ConfigFile()
		if err != nil {
			return nil, err
		}
		return []string{cf.Platform().String()}, nil
	case v1.ImageIndex:
		m, err := c.IndexManifest()
		if err != nil {
			return nil, err
		}
		var out []string
		for _, d := range m.Manifests {
			if isRunnable(d) && d.Platform != nil {
				out = append(out, d.Platform.String())
			}
		}
		return out, nil
	}
	return nil, nil
}

// hostPlatform is the platform of images that run on this machine: Linux, where skiff's sandbox is one.
func hostPlatform() v1.Platform { return v1.Platform{OS: "linux", Architecture: runtime.GOARCH} }

// isRunnable leaves out what BuildKit puts into an index beside the images: attestations.
func isRunnable(d v1.Descriptor) bool {
	if d.Annotations["vnd.docker.reference.type"] == "attestation-manifest" {
		return false
	}
	return d.MediaType.IsImage() || d.MediaType.IsIndex() || d.MediaType == types.MediaType("")
}
