package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/skiff-build/skiff/internal/bounds"
)

// Whiteouts in layers (image-spec layer.md, "Whiteouts").
const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// node is a file of the flattened root filesystem; hard links of one file share it. There may be millions.
type node struct {
	header   *tar.Header
	layer    int32            // where its content is,
	entry    int32            // as which member,
	offset   int64            // from which byte of the uncompressed tar on; -1: it is not stored as one piece
	note     any              // what [Options.Look] returned
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

// flattener applies a layer to the tree of those below it.
type flattener struct {
	root  *node
	layer int32
	fresh map[place]bool // see isFresh
	bare  map[*node]bool // folders in which nothing of lower layers is left
	look  func(int, Entry, io.Reader) (any, error)
}

// place is an entry of a folder.
type place struct {
	dir  *node
	name string
}

func (f *flattener) apply(ctx context.Context, r io.Reader) error {
	f.fresh, f.bare = map[place]bool{}, map[*node]bool{}
	i := -1
	return EachEntry(ctx, r, func(e Entry, content io.Reader) error {
		i++
		n := &node{header: e.Header, layer: f.layer, entry: int32(i), offset: e.Offset}
		if e.Sparse {
			n.offset = -1
		}
		err := f.add(e, n)
		if err == nil && f.look != nil && e.Typeflag == tar.TypeReg {
			n.note, err = f.look(int(f.layer), e, content)
		}
		if err != nil {
			return fmt.Errorf("%.100q: %w", e.Name, err)
		}
		return nil
	})
}

func (f *flattener) add(e Entry, n *node) error {
	if e.Name == "." {
		switch e.Typeflag {
		case tar.TypeDir:
			f.root.header = e.Header
		case tar.TypeReg, tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
			return errors.New("the root is no folder")
		}
		return nil
	}
	dir, base := path.Split(e.Name)
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
		if n := parent.children[name]; n != nil && !f.isFresh(parent, name, n) {
			delete(parent.children, name)
		}
		return nil
	}
	switch e.Typeflag {
	case tar.TypeDir:
		n.children = map[string]*node{}
		if old := parent.children[base]; old != nil && old.isDir() {
			old.header, old.layer = e.Header, f.layer // it stays, with new attributes
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
	if n.layer != f.layer {
		f.fresh[place{parent, base}] = true
	}
	return nil
}

// isFresh tells whether this layer put an entry into a folder: whiteouts do not touch it. Most entries are files of the layer itself;
// only folders without an entry of their own, and hard links to files of lower layers, have to be remembered.
func (f *flattener) isFresh(dir *node, name string, n *node) bool {
	return n.layer == f.layer || f.fresh[place{dir, name}]
}

// clear makes a folder opaque: what lower layers have in it goes. It tells whether something stays. However often a layer asks for it, a
// folder is gone through once.
func (f *flattener) clear(dir *node) (stays bool) {
	if f.bare[dir] {
		return len(dir.children) > 0
	}
	f.bare[dir] = true
	for name, c := range dir.children {
		keep := f.isFresh(dir, name, c)
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

// linked finds the file that a hard link names, in the form of [bounds.Name].
func (f *flattener) linked(target string) (*node, error) {
	dir, base := path.Split(target)
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
	return at, bounds.Path(where)
}
