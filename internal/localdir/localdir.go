// Package localdir reads a build context where it lies: the files of a folder that .dockerignore and the
// build select, with digests of their contents that are remembered from one build to the next.
//
// [Index.Scan] walks the folder once and makes a [Tree] of attributes, which opens no file. Include, exclude
// and follow patterns are those of BuildKit, applied by BuildKit's own code (tonistiigi/fsutil), and so is
// what becomes of special files: owners are 0:0, extended attributes and hard links are dropped, fifos and
// devices stay, a socket counts as an empty file, the root is 0755.
//
// A content is read when its digest is asked for, unless the index knows it: for each file its size, times,
// inode and mode as lstat gave them when it was hashed. As in git's index ("racy git"), an entry counts only
// if the file had been left alone for a moment before it was hashed, since a later write within the same
// tick of the clock would not show. The index is one record of the store for each folder; processes that
// write it at once overwrite each other's, which costs hashing only.
//
// What cannot be read is an error when it is asked for, not before.
package localdir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/skiff-build/skiff/internal/inode"
	"github.com/skiff-build/skiff/internal/store"
	"github.com/tonistiigi/fsutil"
	"golang.org/x/sync/errgroup"
)

// Selection says which files of a folder count. Without patterns all do.
type Selection struct {
	Dir     string   // may be a symlink to a folder
	Include []string // patterns in the form of .dockerignore
	Exclude []string
	Follow  []string // paths that are included with the targets of all symlinks on the way; wildcards count
}

// Open returns the index kept in st. With a nil store nothing is remembered beyond the Index itself.
func Open(st *store.Store) *Index {
	return &Index{store: st, dirs: map[string]*dirIndex{}}
}

// Scan lists the selected files. The folder must exist; a file that vanishes meanwhile is left out.
func (ix *Index) Scan(ctx context.Context, sel Selection) (*Tree, error) {
	t, err := ix.scan(ctx, sel)
	if err != nil {
		return nil, fmt.Errorf("read build context: %w", err)
	}
	return t, nil
}

func (ix *Index) scan(ctx context.Context, sel Selection) (*Tree, error) {
	dir, err := filepath.Abs(sel.Dir)
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir) // closed with the last reference to the tree
	if err != nil {
		return nil, err
	}
	known := make(chan *dirIndex, 1)
	go func() { known <- ix.dir(dir) }() // beside the walk: with many files it takes a while to read
	t := &Tree{dir: dir, root: root, nodes: map[string]*node{
		".": {info: inode.Info{Mode: inode.TypeDir | 0o755}},
	}}
	err = t.list(ctx, sel)
	if err == nil {
		err = t.fill(ctx)
	}
	t.index = <-known
	return t, err
}

// list finds the names of the selected files.
func (t *Tree) list(ctx context.Context, sel Selection) error {
	filtered, err := fsutil.NewFilterFS(&folder{dir: t.dir, tree: t}, &fsutil.FilterOpt{
		IncludePatterns: sel.Include, ExcludePatterns: sel.Exclude, FollowPaths: sel.Follow,
	})
	if err != nil {
		return err
	}
	return filtered.Walk(ctx, "/", func(name string, e fs.DirEntry, err error) error {
		if err == nil {
			t.add(filepath.ToSlash(name))
		}
		return err
	})
}

// Tree is the selected files of a folder as they were when it was scanned. It implements [inode.Tree] and
// is safe for concurrent use.
type Tree struct {
	dir   string
	root  *os.Root
	index *dirIndex
	nodes map[string]*node
	// denied holds the folders that could not be listed.
	denied map[string]error
}

var _ inode.Tree = (*Tree)(nil)

type node struct {
	info  inode.Info
	stamp stamp    // of the file on disk
	names []string // in a directory
	// content of a regular file, once it is known.
	content atomic.Pointer[content]
}

// add takes a name into the tree. Its directory is there already.
func (t *Tree) add(name string) {
	t.nodes[name] = &node{}
	dir, base := path.Split(name)
	parent := t.nodes["."]
	if dir != "" {
		parent = t.nodes[dir[:len(dir)-1]]
	}
	if parent != nil {
		parent.names = append(parent.names, base)
	}
}

// fill asks for the attributes of all files, as many at once as there are processors, and takes out those that are gone.
func (t *Tree) fill(ctx context.Context) error {
	const batch = 500 // files that one goroutine asks for
	names := slices.Collect(maps.Keys(t.nodes))
	var (
		mu   sync.Mutex
		gone []string
	)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for part := range slices.Chunk(names, batch) {
		g.Go(func() error {
			for _, name := range part {
				n := t.nodes[name]
				slices.Sort(n.names)
				if name == "." {
					continue
				}
				err := n.fill(filepath.Join(t.dir, filepath.FromSlash(name)))
				if errors.Is(err, errVanished) {
					mu.Lock()
					gone = append(gone, name)
					mu.Unlock()
					continue
				}
				if err != nil {
					return err
				}
			}
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, name := range gone {
		t.remove(name)
	}
	return nil
}

// fill sets the attributes of the file at path.
func (n *node) fill(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return errVanished
	}
	if err != nil {
		return err
	}
	n.info = inode.Info{Mode: inode.FromFileMode(contextMode(fi.Mode())), Mtime: fi.ModTime().UnixNano()}
	n.stamp = stampOf(fi)
	switch n.info.Type() {
	case inode.TypeFile:
		if fi.Mode().IsRegular() {
			n.info.Size = fi.Size()
		}
	case inode.TypeLink:
		link, err := os.Readlink(path)
		if err != nil {
			return errVanished
		}
		n.info.Link = filepath.ToSlash(link)
	case inode.TypeChar, inode.TypeBlock:
		n.info.Major, n.info.Minor = deviceOf(fi)
	case 0: // what Go calls irregular
		return errVanished
	}
	if len(n.names) > 0 && !n.info.IsDir() {
		return errVanished // it was a directory a moment ago
	}
	return nil
}

// remove takes a file out of the tree, with all below it.
func (t *Tree) remove(name string) {
	n := t.nodes[name]
	if n == nil {
		return
	}
	delete(t.nodes, name) // before what is below, which then finds no list to leave
	for _, base := range n.names {
		t.remove(path.Join(name, base))
	}
	if parent := t.nodes[path.Dir(name)]; parent != nil {
		if i, ok := slices.BinarySearch(parent.names, path.Base(name)); ok {
			parent.names = slices.Delete(parent.names, i, i+1)
		}
	}
}

// Dir returns the folder, with symlinks resolved.
func (t *Tree) Dir() string { return t.dir }

// Lstat implements [inode.Tree].
func (t *Tree) Lstat(name string) (inode.Info, error) {
	n, err := t.node("lstat", name)
	if err != nil {
		return inode.Info{}, err
	}
	return n.info, nil
}

// ReadDir implements [inode.Tree]. A directory that could not be read is an error that names it.
func (t *Tree) ReadDir(name string) ([]string, error) {
	n, err := t.node("readdir", name)
	if err == nil && !n.info.IsDir() {
		err = &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	if err == nil {
		err = t.denied[name]
	}
	if err != nil {
		return nil, err
	}
	return n.names, nil
}

// Open implements [inode.Tree]. Of a file that changed since the scan it gives what is there now; see
// [Tree.Changed].
func (t *Tree) Open(name string) (io.ReadCloser, error) {
	n, err := t.node("open", name)
	if err == nil && !n.info.IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	if err != nil {
		return nil, err
	}
	if n.stamp.socket {
		return emptyFile{}, nil
	}
	f, err := t.openRegular(name)
	if err != nil {
		return nil, t.named(name, err)
	}
	return f, nil
}

type emptyFile struct{}

func (emptyFile) Read([]byte) (int, error) { return 0, io.EOF }
func (emptyFile) Close() error             { return nil }

// Walk calls fn for each file but the root, each directory before what it holds, names sorted within a
// directory. It ends at the first error and returns it.
func (t *Tree) Walk(fn func(name string, i inode.Info) error) error { return t.walk(".", fn) }

func (t *Tree) walk(dir string, fn func(name string, i inode.Info) error) error {
	names, err := t.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, base := range names {
		name := path.Join(dir, base)
		i := t.nodes[name].info
		if err := fn(name, i); err != nil {
			return err
		}
		if i.IsDir() {
			if err := t.walk(name, fn); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *Tree) node(op, name string) (*node, error) {
	n := t.nodes[name]
	if n == nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return n, nil
}

// named puts the whole path into an error, in the place of the one below the root.
func (t *Tree) named(name string, err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return fmt.Errorf("read %s: %w", filepath.Join(t.dir, filepath.FromSlash(name)), err)
}
