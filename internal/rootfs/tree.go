package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/skiff-build/skiff/internal/bounds"
)

// Whiteouts in layers (image-spec layer.md, "Whiteouts").
const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// node is a file of the flattened root filesystem; hard links of one file share it. There may be millions, so it holds what [File]
// tells of a header in a third of the room.
type node struct {
	name    string // as the layer has it; while the tree is written ([Flatten]) as it is written
	size    int64
	mtime   int64 // nanoseconds since 1970
	entry   int32 // as which member of the layer its content is there
	layer   int16 // where that is, see [layersOf]
	written bool
	offset  int64 // from which byte of the uncompressed tar on; -1: it is not stored as one piece
	note    any   // what [Options.Look] returned
	kind    *kind
	more    *more // nil for most files
}

// kind is what many files have in common.
type kind struct {
	typeflag     byte
	mode         int64
	uid, gid     int
	uname, gname string
	major, minor int64
}

// more is what few files have.
type more struct {
	children map[string]*node // of a folder
	link     string
	xattrs   map[string]string // PAX records of extended attributes
	mtime    *time.Time        // that nanoseconds since 1970 do not hold, or of a folder without an entry; else nil
	names    []string          // of a hard link that is written, further ones
}

const xattrRecord = "SCHILY.xattr."

func (n *node) isDir() bool { return n.kind.typeflag == tar.TypeDir }

// child returns an entry of a folder, nil if there is none.
func (n *node) child(name string) *node { return n.children()[name] }

func (n *node) children() map[string]*node {
	if n.more == nil {
		return nil
	}
	return n.more.children
}

func (n *node) link() string {
	if n.more == nil {
		return ""
	}
	return n.more.link
}

// rest returns n.more, which it makes.
func (n *node) rest() *more {
	if n.more == nil {
		n.more = &more{}
	}
	return n.more
}

var bareDir = kind{typeflag: tar.TypeDir, mode: 0o755}

func newDir() *node {
	return &node{kind: &bareDir, layer: -1, more: &more{children: map[string]*node{}, mtime: &time.Time{}}}
}

// describe gives n what a header says of it. What a folder holds stays.
func (f *flattener) describe(n *node, h *tar.Header) {
	var children map[string]*node
	if n.more != nil {
		children, n.more = n.more.children, nil
	}
	if children != nil {
		n.rest().children = children
	}
	if h.Linkname != "" {
		n.rest().link = h.Linkname
	}
	for key, value := range h.PAXRecords {
		if !strings.HasPrefix(key, xattrRecord) {
			continue
		}
		if n.rest().xattrs == nil {
			n.more.xattrs = map[string]string{}
		}
		n.more.xattrs[key] = value
	}
	n.name, n.size, n.mtime = h.Name, h.Size, h.ModTime.UnixNano()
	if !time.Unix(0, n.mtime).Equal(h.ModTime) {
		at := h.ModTime
		n.rest().mtime = &at
	}
	k := kind{h.Typeflag, h.Mode, h.Uid, h.Gid, h.Uname, h.Gname, h.Devmajor, h.Devminor}
	if f.kinds == nil {
		f.kinds = map[kind]*kind{}
	}
	if f.kinds[k] == nil {
		f.kinds[k] = &k
	}
	n.kind = f.kinds[k]
}

// header returns what the layer says of a file, all that concerns an image: how the member was stored is not kept.
func (n *node) header() *tar.Header {
	h := &tar.Header{
		Typeflag: n.kind.typeflag, Name: n.name, Linkname: n.link(), Size: n.size, Mode: n.kind.mode, Uid: n.kind.uid, Gid: n.kind.gid,
		Uname: n.kind.uname, Gname: n.kind.gname, ModTime: time.Unix(0, n.mtime), Devmajor: n.kind.major, Devminor: n.kind.minor,
	}
	if n.more != nil {
		h.PAXRecords = n.more.xattrs
		if n.more.mtime != nil {
			h.ModTime = *n.more.mtime
		}
	}
	return h
}

// flattener applies a layer to the tree of those below it.
type flattener struct {
	root  *node
	layer int16
	kinds map[kind]*kind
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
		n := &node{layer: f.layer, entry: int32(i), offset: e.Offset}
		f.describe(n, e.Header)
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
			f.describe(f.root, e.Header)
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
		if n := parent.child(name); n != nil && !f.isFresh(parent, name, n) {
			delete(parent.children(), name)
		}
		return nil
	}
	switch e.Typeflag {
	case tar.TypeDir:
		n.rest().children = map[string]*node{}
		if old := parent.child(base); old != nil && old.isDir() {
			f.describe(old, e.Header) // it stays, with new attributes
			old.layer = f.layer
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
	parent.children()[base] = n
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
		return len(dir.children()) > 0
	}
	f.bare[dir] = true
	for name, c := range dir.children() {
		keep := f.isFresh(dir, name, c)
		if c.isDir() {
			keep = f.clear(c) || keep
		}
		if !keep {
			delete(dir.children(), name)
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
	n := parent.child(base)
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
		n := at.child(part)
		switch {
		case n == nil:
			n = newDir()
			at.children()[part] = n
			f.fresh[place{at, part}] = true
		case n.kind.typeflag == tar.TypeSymlink:
			if links > 40 {
				return nil, errors.New("too many symbolic links")
			}
			to := path.Join("/", where, n.link())
			if path.IsAbs(n.link()) {
				to = path.Clean(n.link())
			}
			return f.folder(path.Join(append([]string{strings.TrimPrefix(to, "/")}, rest...)...), links+1)
		case !n.isDir():
			n = newDir() // as overlayfs would show it: the folder replaces the file
			at.children()[part] = n
			f.fresh[place{at, part}] = true
		}
		at, where = n, path.Join(where, part)
	}
	return at, bounds.Path(where)
}
