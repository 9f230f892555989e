package rootfs

import (
	"archive/tar"
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"path"
	"slices"
	"sort"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/skiff-build/skiff/internal/bounds"
)

// Flatten calls fn for each file of an image's root filesystem, with all layers applied: folders before what is
// in them, a hard link after the file that it names (h.Linkname, as h.Name relative to the root). Names are
// clean; the root itself is not among them. Layers are read twice.
func Flatten(ctx context.Context, img v1.Image, fn func(h *tar.Header, content io.Reader) error) error {
	layers, err := layersOf(img)
	if err != nil {
		return err
	}
	root := newDir()
	for i, layer := range layers {
		if err := readLayer(layer, func(r io.Reader) error { return (&flattener{root: root, layer: int16(i)}).apply(ctx, r) }); err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	files := make([][]*node, len(layers))
	if err := emitDirs(root, ".", files, fn); err != nil {
		return err
	}
	for i, layer := range layers {
		slices.SortFunc(files[i], func(a, b *node) int { return cmp.Compare(a.entry, b.entry) })
		if err := holes(layer, files[i]); err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
		if err := readLayer(layer, func(r io.Reader) error { return emitFiles(ctx, r, files[i], fn) }); err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	return nil
}

// layersOf bounds how many layers there are: a tree has two bytes for that.
func layersOf(img v1.Image) ([]v1.Layer, error) {
	layers, err := img.Layers()
	if err == nil && len(layers) > bounds.MaxLayers {
		err = fmt.Errorf("%w: it has %d layers, of %d at most", bounds.ErrLimit, len(layers), bounds.MaxLayers)
	}
	return layers, err
}

func readLayer(layer v1.Layer, read func(io.Reader) error) error {
	r, err := layer.Uncompressed()
	if err != nil {
		return err
	}
	defer r.Close()
	return read(r)
}

// holes returns an error where files are to be written of a layer that have more bytes than it can hold: in a few bytes a sparse file may
// pretend to have a petabyte.
func holes(layer v1.Layer, files []*node) error {
	stored, err := layer.Size()
	if err != nil {
		return err
	}
	var sum int64
	for _, n := range files {
		if sum += n.size; sum < 0 {
			sum = math.MaxInt64 // it ends here
		}
		if err := bounds.Grown(stored, sum); err != nil {
			return err
		}
	}
	return nil
}

// emitDirs emits everything but regular files, in the order of names, and collects those by their layers, with the names that they are
// to have.
func emitDirs(dir *node, at string, files [][]*node, fn func(*tar.Header, io.Reader) error) error {
	var names []string
	for name := range dir.children() {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		n := dir.child(name)
		full := path.Join(at, name)
		if n.kind.typeflag == tar.TypeReg {
			if n.written {
				n.rest().names = append(n.rest().names, full)
				continue
			}
			if n.written = true; n.name != full { // most keep the text that the folder has part of
				n.name = full
			}
			files[n.layer] = append(files[n.layer], n)
			continue
		}
		h := n.header()
		h.Name = full
		if err := fn(h, strings.NewReader("")); err != nil {
			return err
		}
		if n.isDir() {
			if err := emitDirs(n, full, files, fn); err != nil {
				return err
			}
		}
	}
	return nil
}

// emitFiles emits the regular files whose content is in a layer, in the order in which it has them, and hard links to them.
func emitFiles(ctx context.Context, r io.Reader, files []*node, fn func(*tar.Header, io.Reader) error) error {
	i := -1
	return EachEntry(ctx, r, func(_ Entry, content io.Reader) error {
		i++
		if len(files) == 0 || int(files[0].entry) != i {
			return nil
		}
		n := files[0]
		files[0], files = nil, files[1:] // what is written is let go of
		h := n.header()
		if err := fn(h, content); err != nil {
			return err
		}
		if n.more == nil {
			return nil
		}
		for _, name := range n.more.names {
			link := *h
			link.Typeflag, link.Name, link.Linkname, link.Size = tar.TypeLink, name, h.Name, 0
			if err := fn(&link, strings.NewReader("")); err != nil {
				return err
			}
		}
		return nil
	})
}
