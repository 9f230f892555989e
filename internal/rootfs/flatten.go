package rootfs

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"math"
	"path"
	"sort"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/skiff-build/skiff/internal/bounds"
)

// Flatten calls fn for each file of an image's root filesystem, with all layers applied: folders before what is
// in them, a hard link after the file that it names (h.Linkname, as h.Name relative to the root). Names are
// clean; the root itself is not among them. Layers are read twice.
func Flatten(ctx context.Context, img v1.Image, fn func(h *tar.Header, content io.Reader) error) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	root := newDir()
	for i, layer := range layers {
		if err := readLayer(layer, func(r io.Reader) error { return (&flattener{root: root, layer: int32(i)}).apply(ctx, r) }); err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	files := map[[2]int]*emitted{}
	if err := emitDirs(root, ".", files, fn); err != nil {
		return err
	}
	for i, layer := range layers {
		if err := holes(layer, i, files); err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
		if err := readLayer(layer, func(r io.Reader) error { return emitFiles(ctx, r, i, files, fn) }); err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	return nil
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
func holes(layer v1.Layer, i int, files map[[2]int]*emitted) error {
	stored, err := layer.Size()
	if err != nil {
		return err
	}
	var sum int64
	for at, n := range files {
		if at[0] != i {
			continue
		}
		if sum += n.header.Size; sum < 0 {
			sum = math.MaxInt64 // it ends here
		}
		if err := bounds.Grown(stored, sum); err != nil {
			return err
		}
	}
	return nil
}

// emitted is a regular file, with all of its names.
type emitted struct {
	*node
	names []string
}

// emitDirs emits everything but regular files, in the order of names, and collects those by layer and entry.
func emitDirs(dir *node, at string, files map[[2]int]*emitted, fn func(*tar.Header, io.Reader) error) error {
	var names []string
	for name := range dir.children {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		n := dir.children[name]
		full := path.Join(at, name)
		if n.header.Typeflag == tar.TypeReg {
			at := [2]int{int(n.layer), int(n.entry)}
			if files[at] == nil {
				files[at] = &emitted{node: n}
			}
			files[at].names = append(files[at].names, full)
			continue
		}
		h := *n.header
		h.Name = full
		if err := fn(&h, strings.NewReader("")); err != nil {
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

// emitFiles emits the regular files whose content is in a layer, and hard links to them.
func emitFiles(ctx context.Context, r io.Reader, layer int, files map[[2]int]*emitted, fn func(*tar.Header, io.Reader) error) error {
	i := -1
	return EachEntry(ctx, r, func(_ Entry, content io.Reader) error {
		i++
		n := files[[2]int{layer, i}]
		if n == nil {
			return nil
		}
		h := *n.header
		h.Name = n.names[0]
		if err := fn(&h, content); err != nil {
			return err
		}
		for _, name := range n.names[1:] {
			link := h
			link.Typeflag, link.Name, link.Linkname, link.Size = tar.TypeLink, name, h.Name, 0
			if err := fn(&link, strings.NewReader("")); err != nil {
				return err
			}
		}
		return nil
	})
}
