package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/skiff-build/skiff/internal/bounds"
	"github.com/skiff-build/skiff/internal/layer"
)

// maxArchiveJSON bounds, in bytes, what is read as a list of the images in an archive.
const maxArchiveJSON = 16 << 20

// Loaded is an image that came out of an archive.
type Loaded struct {
	Names []string // in full; none for an image without a name
	ID    v1.Hash
}

// Load reads an archive of images from r, as `docker save` or an OCI tool writes it, plain or compressed, and
// keeps the images in the store under the names that they have there. Every digest is verified.
func (l *Library) Load(ctx context.Context, r io.Reader) ([]Loaded, error) {
	plain, err := layer.Decompress(r)
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
		if n >= bounds.MaxMembers {
			return fmt.Errorf("the archive has more than %d members", bounds.MaxMembers)
		}
		name, err := bounds.Name(h.Name)
		if err != nil {
			return fmt.Errorf("%.100q: %w", h.Name, err)
		}
		switch h.Typeflag {
		//lint:ignore SA1019 old tars have it
		case tar.TypeReg, tar.TypeRegA:
			if err := in.add(ctx, name, tr, h.Size); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		case tar.TypeSymlink: // older docker save: a layer that two images share
			links[name] = path.Join(path.Dir(name), h.Linkname)
		case tar.TypeLink:
			if links[name], err = bounds.Name(h.Linkname); err != nil {
				return fmt.Errorf("%.100q: link to %.100q: %w", name, h.Linkname, err)
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
	if size < 0 || in.bytes > bounds.MaxArchive {
		return fmt.Errorf("the archive holds more than %d GiB", int64(bounds.MaxArchive)>>30)
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

// readable reads the layers of what came, as a pull does: an image with one that nothing can unpack is an error now, not at its first use.
func (in *importer) readable(ctx context.Context, c Content) error {
	images, err := ImagesFor(c, nil)
	if err != nil {
		return err
	}
	for _, img := range images {
		if _, err := in.l.UnpackedSize(ctx, img); err != nil {
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
