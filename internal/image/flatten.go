package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"sort"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Whiteouts in layers (image-spec layer.md, "Whiteouts").
const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// node is a file of the flattened root filesystem; hard links of one file share it.
type node struct {
	header   *tar.Header
	layer    int // where its content is,
	entry    int // as which member
	names    []string
	children map[string]*node // of a folder
}

func (n *node) isDir() bool { return n.header.Typeflag == tar.TypeDir }

func newDir() *node {
	return &node{
		header:   &tar.Header{Typeflag: tar.TypeDir, Mode: 0o755},
		layer:    -1,
		children: map[string]*node{},
	}
}

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
		if err := readLayer(layer, func(r io.Reader) error { return (&flattener{root: root, layer: i}).apply(ctx, r) }); err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	files := map[[2]int]*node{}
	if err := emitDirs(root, ".", files, fn); err != nil {
		return err
	}
	for i, layer := range layers {
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

// flattener applies a layer to the tree of those below it.
type flattener struct {
	root  *node
	layer int
	fresh map[place]bool // what this layer put there: whiteouts do not touch it
}

// place is an entry of a folder.
type place struct {
	dir  *node
	name string
}

func (f *flattener) apply(ctx context.Context, r io.Reader) error {
	f.fresh = map[place]bool{}
	i := -1
	return eachEntry(ctx, r, func(e entry, _ io.Reader) error {
		i++
		if err := f.add(e, i); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		return nil
	})
}

func (f *flattener) add(e entry, i int) error {
	if e.name == "." {
		f.root.header = e.Header
		return nil
	}
	dir, base := path.Split(e.name)
	parent, err := f.folder(path.Clean(dir), 0)
	if err != nil {
		return err
	}
	switch {
	case base == whiteoutOpaque:
		f.clear(parent)
		return nil
	case strings.HasPrefix(base, whiteoutPrefix):
		name := strings.TrimPrefix(base, whiteoutPrefix)
		if !f.fresh[place{parent, name}] {
			delete(parent.children, name)
		}
		return nil
	}
	n := &node{header: e.Header, layer: f.layer, entry: i}
	switch e.Typeflag {
	case tar.TypeDir:
		n.children = map[string]*node{}
		if old := parent.children[base]; old != nil && old.isDir() {
			old.header = e.Header // it stays, with new attributes
			n = old
		}
	case tar.TypeLink:
		if n, err = f.linked(e.Linkname); err != nil {
			return err
		}
	case tar.TypeReg, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
	default:
		return nil // extended headers for programs that we are not
	}
	parent.children[base] = n
	f.fresh[place{parent, base}] = true
	return nil
}

// clear makes a folder opaque: what lower layers have in it goes. It tells whether something stays.
func (f *flattener) clear(dir *node) (stays bool) {
	for name, c := range dir.children {
		keep := f.fresh[place{dir, name}]
		if c.isDir() {
			keep = f.clear(c) || keep
		}
		if !keep {
			delete(dir.children, name)
		}
		stays = stays || keep
	}
	return stays
}

// linked finds the file that a hard link names.
func (f *flattener) linked(target string) (*node, error) {
	name, err := cleanName(target)
	if err != nil {
		return nil, err
	}
	dir, base := path.Split(name)
	parent, err := f.folder(path.Clean(dir), 0)
	if err != nil {
		return nil, err
	}
	n := parent.children[base]
	if n == nil || n.isDir() {
		return nil, fmt.Errorf("hard link to %q, which is no file in the image", target)
	}
	return n, nil
}

// folder returns the folder of that name. Missing ones are made; symlinks in between are followed within the
// image, as they are when a layer is unpacked.
func (f *flattener) folder(name string, links int) (*node, error) {
	at, rest := f.root, strings.Split(name, "/")
	where := ""
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		if part == "." || part == "" {
			continue
		}
		n := at.children[part]
		switch {
		case n == nil:
			n = newDir()
			at.children[part] = n
			f.fresh[place{at, part}] = true
		case n.header.Typeflag == tar.TypeSymlink:
			if links > 40 {
				return nil, errors.New("too many symbolic links")
			}
			to := path.Join("/", where, n.header.Linkname)
			if path.IsAbs(n.header.Linkname) {
				to = path.Clean(n.header.Linkname)
			}
			return f.folder(path.Join(append([]string{strings.TrimPrefix(to, "/")}, rest...)...), links+1)
		case !n.isDir():
			n = newDir() // as overlayfs would show it: the folder replaces the file
			at.children[part] = n
			f.fresh[place{at, part}] = true
		}
		at, where = n, path.Join(where, part)
	}
	return at, nil
}

// emitDirs emits everything but regular files, in the order of names, and collects those by layer and entry.
func emitDirs(dir *node, at string, files map[[2]int]*node, fn func(*tar.Header, io.Reader) error) error {
	var names []string
	for name := range dir.children {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		n := dir.children[name]
		full := path.Join(at, name)
		if n.header.Typeflag == tar.TypeReg {
			n.names = append(n.names, full)
			files[[2]int{n.layer, n.entry}] = n
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
func emitFiles(ctx context.Context, r io.Reader, layer int, files map[[2]int]*node, fn func(*tar.Header, io.Reader) error) error {
	i := -1
	return eachEntry(ctx, r, func(_ entry, content io.Reader) error {
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

// WriteTar writes the root filesystem of an image to w as a tar. Of an index, it has the image of each platform
// in a folder "linux_amd64".
func WriteTar(ctx context.Context, w io.Writer, c Content) error {
	tw := tar.NewWriter(w)
	err := eachRoot(c, func(prefix string, img v1.Image) error {
		if prefix != "" {
			if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: prefix + "/", Mode: 0o755}); err != nil {
				return err
			}
		}
		return Flatten(ctx, img, func(h *tar.Header, content io.Reader) error {
			return writeTarEntry(tw, prefix, h, content)
		})
	})
	if err != nil {
		return fmt.Errorf("write tar: %w", err)
	}
	return tw.Close()
}

func writeTarEntry(tw *tar.Writer, prefix string, h *tar.Header, content io.Reader) error {
	out := *h
	out.Format = tar.FormatUnknown // the least that holds it
	out.PAXRecords = nil
	for k, v := range h.PAXRecords { // the others are about how the member was stored
		if strings.HasPrefix(k, "SCHILY.xattr.") {
			if out.PAXRecords == nil {
				out.PAXRecords = map[string]string{}
			}
			out.PAXRecords[k] = v
		}
	}
	out.Name = path.Join(prefix, h.Name)
	if h.Typeflag == tar.TypeDir {
		out.Name += "/"
	}
	if h.Typeflag == tar.TypeLink {
		out.Linkname = path.Join(prefix, h.Linkname)
	}
	if err := tw.WriteHeader(&out); err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	if _, err := io.Copy(tw, content); err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	return nil
}

// eachRoot calls fn for an image with the prefix "", and for those of an index with their platforms.
func eachRoot(c Content, fn func(prefix string, img v1.Image) error) error {
	ix, ok := c.(v1.ImageIndex)
	if !ok {
		img, err := imageFor(c, nil)
		if err != nil {
			return err
		}
		return fn("", img)
	}
	children, err := childrenOf(ix)
	if err != nil {
		return err
	}
	for _, child := range children {
		img, ok := child.Content.(v1.Image)
		if !ok || !isRunnable(child.desc) {
			continue
		}
		cf, err := img.ConfigFile()
		if err != nil {
			return err
		}
		p := cf.Platform()
		prefix := strings.Trim(strings.Join([]string{p.OS, p.Architecture, p.Variant}, "_"), "_")
		if err := fn(strings.ReplaceAll(prefix, "/", "_"), img); err != nil {
			return err
		}
	}
	return nil
}
