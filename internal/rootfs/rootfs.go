// Package rootfs reads the root filesystem of an image out of its layers, without unpacking it: the layers, tars, are read
// once, and what they say of files is applied as it would be on a disk (whiteouts, hard links, folders below symbolic links).
// Contents are read afterwards, where they lie. Memory grows with the number of files, not with their size.
//
// Nothing in a layer leads out of the root: names that climb are an error, links are followed within it.
package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"sort"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Options for [Open]. The zero value works.
type Options struct {
	// Look is called for each regular file while its layer is read, with the content, of which it may read any part. What it
	// returns is the file's Note. Files that a later layer hides are looked at, too.
	Look func(layer int, e Entry, content io.Reader) (note any, err error)
	// Skim says that what Look does not read of a layer need not be read: where Plain has it, that is passed over, and the layer's
	// digest not verified. Nil: of none.
	Skim func(layer int) bool
	// Plain opens the uncompressed tar of a layer where it lies, by its diff ID. Contents are then read from there;
	// others are copied to a temporary file. Nil, and any error: there is none.
	Plain func(diffID v1.Hash) (ReaderAtCloser, error)
}

// ReaderAtCloser is an open file that is read at any place.
type ReaderAtCloser interface {
	io.ReaderAt
	io.Closer
}

// FS is a root filesystem. It is safe for concurrent use.
type FS struct {
	root   *node
	layers []v1.Layer
	plain  func(v1.Hash) (ReaderAtCloser, error)
}

// File is one name in it. Hard links are several files with the same Header.
type File struct {
	Path   string      // absolute, clean
	Header *tar.Header // as the layer has it; its Name may be another one. Not to be changed
	Layer  int         // the one that it comes from, 0 the lowest; -1 for a folder that no layer has an entry for
	Note   any         // of [Options.Look]
	node   *node
}

// IsDir reports a folder.
func (f File) IsDir() bool { return f.node.isDir() }

// IsRegular reports a regular file.
func (f File) IsRegular() bool { return f.Header.Typeflag == tar.TypeReg }

// Same reports two names of one file.
func (f File) Same(g File) bool { return f.node == g.node }

// Open reads the layers of an image.
func Open(ctx context.Context, img v1.Image, o Options) (*FS, error) {
	layers, err := layersOf(img)
	if err != nil {
		return nil, err
	}
	root := newDir()
	for i, layer := range layers {
		f := &flattener{root: root, layer: int16(i), look: o.Look}
		if err := o.readLayer(i, layer, func(r io.Reader) error { return f.apply(ctx, r) }); err != nil {
			return nil, fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	return &FS{root: root, layers: layers, plain: o.Plain}, nil
}

func (o Options) readLayer(i int, layer v1.Layer, read func(io.Reader) error) error {
	if o.Skim != nil && o.Skim(i) {
		plain, done := (&FS{plain: o.Plain}).openPlain(layer)
		defer done()
		if plain != nil {
			return read(&skimmer{r: plain, buf: make([]byte, 2048)})
		}
	}
	return readLayer(layer, read)
}

// Walk calls fn for every file but the root, sorted by name, folders before what is in them. An error ends it.
func (f *FS) Walk(fn func(File) error) error { return walk(f.root, "/", fn) }

func walk(dir *node, at string, fn func(File) error) error {
	names := make([]string, 0, len(dir.children()))
	for name := range dir.children() {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		n := dir.child(name)
		if err := fn(n.file(path.Join(at, name))); err != nil {
			return err
		}
		if n.isDir() {
			if err := walk(n, path.Join(at, name), fn); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n *node) file(name string) File {
	return File{Path: name, Header: n.header(), Layer: int(n.layer), Note: n.note, node: n}
}

// maxLinks is how many symbolic links a name may lead through, as in Linux (path_resolution(7)).
const maxLinks = 40

// Find returns the file of that name, with symbolic links followed within the root; its Path is where it really lies. An
// error is [fs.ErrNotExist] where there is none, as where links go in circles.
func (f *FS) Find(name string) (File, error) { return f.find(name, true, nil) }

// FindLink is Find, but the last part of the name is not followed where it is a symbolic link.
func (f *FS) FindLink(name string) (File, error) { return f.find(name, false, nil) }

// FindBy is Find by way of folders that enter lets pass: it is asked of each in which a part of the name, or of a link on the way, is
// looked up. Where it says no, the error is [fs.ErrPermission], as the kernel's is (path_resolution(7), step 2).
func (f *FS) FindBy(name string, enter func(dir File) bool) (File, error) {
	return f.find(name, true, enter)
}

// ReadDir returns what is in a folder, sorted by name; links in it are not followed.
func (f *FS) ReadDir(name string) ([]File, error) {
	dir, err := f.Find(name)
	if err != nil {
		return nil, err
	}
	if !dir.IsDir() {
		return nil, &fs.PathError{Op: "read folder", Path: name, Err: fs.ErrInvalid}
	}
	all := make([]File, 0, len(dir.node.children()))
	for name, n := range dir.node.children() {
		all = append(all, n.file(path.Join(dir.Path, name)))
	}
	slices.SortFunc(all, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

func (f *FS) find(name string, follow bool, enter func(File) bool) (File, error) {
	miss := &fs.PathError{Op: "find", Path: name, Err: fs.ErrNotExist}
	at, where := f.root, "/"
	var above []*node
	rest := strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if len(above) > 0 {
				at, above, where = above[len(above)-1], above[:len(above)-1], path.Dir(where)
			}
			continue
		}
		if !at.isDir() {
			return File{}, miss
		}
		if enter != nil && !enter(at.file(where)) {
			return File{}, &fs.PathError{Op: "find", Path: name, Err: fs.ErrPermission}
		}
		n := at.child(part)
		if n == nil {
			return File{}, miss
		}
		if n.kind.typeflag == tar.TypeSymlink && (follow || len(rest) > 0) {
			if links++; links > maxLinks || len(rest) > maxLinks*maxLinks {
				return File{}, miss
			}
			if path.IsAbs(n.link()) {
				at, above, where = f.root, nil, "/"
			}
			rest = append(strings.Split(n.link(), "/"), rest...)
			continue
		}
		above = append(above, at)
		at, where = n, path.Join(where, part)
	}
	return at.file(where), nil
}

// Content is what a regular file holds.
type Content struct {
	io.ReaderAt
	Size int64
}

// maxCopied bounds the files that are copied to be read: a layer may pretend to hold any number of bytes, in a few.
const maxCopied = 1 << 30

// ErrTooLarge is what reading a file of more than a gigabyte ends in whose layer lies compressed, or that has holes.
var ErrTooLarge = errors.New("larger than 1 GiB: it is not read")

type tooLarge struct{}

func (tooLarge) ReadAt([]byte, int64) (int, error) { return 0, ErrTooLarge }

// Contents calls fn with the content of each of files, which are regular ones, in the order of the layers. It reads those layers
// again that lie compressed; one file at a time is then copied to a temporary file, if it is not too large ([ErrTooLarge]). An error
// of fn ends it.
func (f *FS) Contents(ctx context.Context, files []File, fn func(File, Content) error) error {
	for i := range f.layers {
		mine := slices.DeleteFunc(slices.Clone(files), func(file File) bool { return file.Layer != i || !file.IsRegular() })
		if len(mine) == 0 {
			continue
		}
		if err := f.layerContents(ctx, i, mine, fn); err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	return nil
}

func (f *FS) layerContents(ctx context.Context, i int, files []File, fn func(File, Content) error) error {
	tar, done := f.openPlain(f.layers[i])
	defer done()
	var rest []File
	for _, file := range files {
		if tar == nil || file.node.offset < 0 {
			rest = append(rest, file)
			continue
		}
		size := file.Header.Size
		if err := fn(file, Content{io.NewSectionReader(tar, file.node.offset, size), size}); err != nil {
			return err
		}
	}
	if len(rest) == 0 {
		return nil
	}
	return readLayer(f.layers[i], func(r io.Reader) error { return spool(ctx, r, rest, fn) })
}

func (f *FS) openPlain(layer v1.Layer) (ReaderAtCloser, func()) {
	none := func() {}
	if f.plain == nil {
		return nil, none
	}
	h, err := layer.DiffID()
	if err != nil {
		return nil, none
	}
	file, err := f.plain(h)
	if err != nil {
		return nil, none
	}
	return file, func() { file.Close() }
}

// spool calls fn with copies of files, which are members of the layer in r.
func spool(ctx context.Context, r io.Reader, files []File, fn func(File, Content) error) (err error) {
	temp, err := os.CreateTemp("", "skiff-file-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, temp.Close(), os.Remove(temp.Name())) }()
	wanted := map[int][]File{}
	for _, file := range files {
		if size := file.Header.Size; size > maxCopied {
			if err := fn(file, Content{tooLarge{}, size}); err != nil {
				return err
			}
			continue
		}
		wanted[int(file.node.entry)] = append(wanted[int(file.node.entry)], file)
	}
	i := -1
	return EachEntry(ctx, r, func(_ Entry, content io.Reader) error {
		i++
		if len(wanted[i]) == 0 {
			return nil
		}
		if err := temp.Truncate(0); err != nil {
			return err
		}
		if _, err := temp.Seek(0, io.SeekStart); err != nil {
			return err
		}
		n, err := io.Copy(temp, content)
		if err != nil {
			return err
		}
		for _, file := range wanted[i] {
			if err := fn(file, Content{temp, n}); err != nil {
				return err
			}
		}
		return nil
	})
}

// ReadFile returns a regular file of at most most bytes; a larger one is an error.
func (f *FS) ReadFile(ctx context.Context, name string, most int64) (data []byte, err error) {
	file, err := f.Find(name)
	switch {
	case err != nil:
		return nil, err
	case !file.IsRegular():
		return nil, fmt.Errorf("read %s: it is no regular file", name)
	case file.Header.Size > most:
		return nil, fmt.Errorf("read %s: it has %d bytes, more than %d", name, file.Header.Size, most)
	}
	err = f.Contents(ctx, []File{file}, func(_ File, c Content) error {
		data, err = io.ReadAll(io.NewSectionReader(c, 0, c.Size))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}
