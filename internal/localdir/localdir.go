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
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

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
	return &Index{store: st, dirs: map[string]*dirIndex{}, memories: map[store.Key]*memory{}}
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
	t := newTree(dir, root)
	t.index = sync.OnceValue(func() *dirIndex { return ix.dir(dir) })
	t.memory, t.state = ix.memory(dir, sel), sync.OnceValue(t.makeState)
	f := t.filler(ctx)
	return t, f.wait(t.list(ctx, sel, f.add))
}

// list finds the names of the selected files, and calls found for each.
func (t *Tree) list(ctx context.Context, sel Selection, found func(listed)) error {
	var from fsutil.FS = &folder{dir: t.dir, tree: t}
	if len(sel.Include)+len(sel.Exclude)+len(sel.Follow) > 0 {
		var err error
		if from, err = fsutil.NewFilterFS(from, &fsutil.FilterOpt{
			IncludePatterns: sel.Include, ExcludePatterns: sel.Exclude, FollowPaths: sel.Follow,
		}); err != nil {
			return err
		}
	}
	return from.Walk(ctx, "/", func(name string, e fs.DirEntry, err error) error {
		if err == nil {
			found(t.add(filepath.ToSlash(name)))
		}
		return err
	})
}

// Tree is the selected files of a folder as they were when it was scanned. It implements [inode.Tree] and
// is safe for concurrent use.
type Tree struct {
	dir    string
	root   *os.Root
	index  func() *dirIndex // read when it is first asked for: with many files it takes a while
	memory *memory          // of digests; nil: there is none
	state  func() string    // what memory goes by
	nodes  map[string]*node
	order  []listed // all of nodes but the root, as they were found
	room   []node   // for the next ones: many are made at once
	// denied holds the folders that could not be listed.
	denied map[string]error
	gone   bool // a file vanished while the folder was scanned

	recalled atomic.Bool // a digest came from memory: contents may have been told of that no node has
	unsure   atomic.Bool // a file was read that may change, or had changed, unseen
}

var _ inode.Tree = (*Tree)(nil)

func newTree(dir string, root *os.Root) *Tree {
	return &Tree{dir: dir, root: root, nodes: map[string]*node{
		".": {stamp: stamp{mode: uint32(fs.ModeDir | 0o755)}},
	}}
}

// node is a file. There are many: it holds nothing twice.
type node struct {
	stamp  stamp // of the file on disk; of the root, what the build sees
	device [2]uint32
	link   string
	names  []string // in a directory
	// content of a regular file, once it is known.
	content atomic.Pointer[content]
}

func (n *node) mode() fs.FileMode { return fs.FileMode(n.stamp.mode) }

func (n *node) isDir() bool { return n.mode().IsDir() }

// isRegular tells whether the build sees a regular file.
func (n *node) isRegular() bool { return contextMode(n.mode()).IsRegular() }

func (n *node) info() inode.Info {
	i := inode.Info{
		Mode: inode.FromFileMode(contextMode(n.mode())), Mtime: n.stamp.mtime,
		Major: n.device[0], Minor: n.device[1], Link: n.link,
	}
	if n.mode().IsRegular() {
		i.Size = n.stamp.size
	}
	return i
}

// listed is a file that was found.
type listed struct {
	name string
	node *node
}

// add takes a name into the tree. Its directory is there already.
func (t *Tree) add(name string) listed {
	if len(t.room) == 0 {
		t.room = make([]node, 100)
	}
	l := listed{name, &t.room[0]}
	t.room = t.room[1:]
	t.nodes[name] = l.node
	t.order = append(t.order, l)
	dir, base := path.Split(name)
	parent := t.nodes["."]
	if dir != "" {
		parent = t.nodes[dir[:len(dir)-1]]
	}
	if parent != nil {
		parent.names = append(parent.names, base)
	}
	return l
}

// filler asks for the attributes of files, as many at once as there are processors, beside the search for more.
type filler struct {
	t     *Tree
	ctx   context.Context // of the call that it lives in
	group *errgroup.Group
	work  chan []listed
	batch []listed

	mu   sync.Mutex
	gone []string
}

func (t *Tree) filler(ctx context.Context) *filler {
	f := &filler{t: t, work: make(chan []listed, 100)}
	f.group, f.ctx = errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		f.group.Go(func() error {
			for batch := range f.work {
				if err := f.fill(batch); err != nil {
					return err
				}
			}
			return f.ctx.Err()
		})
	}
	return f
}

// fillBatch is how many files are asked for at once.
const fillBatch = 200

func (f *filler) add(l listed) {
	if f.batch = append(f.batch, l); len(f.batch) == fillBatch {
		f.send()
	}
}

func (f *filler) send() {
	select {
	case f.work <- f.batch:
	case <-f.ctx.Done():
	}
	f.batch = make([]listed, 0, fillBatch)
}

// fill sets the attributes of files, most of which lie in one directory.
func (f *filler) fill(batch []listed) error {
	var dir statDir
	defer func() { dir.close() }()
	for _, l := range batch {
		parent, base := path.Split(l.name)
		if err := dir.change(filepath.Join(f.t.dir, filepath.FromSlash(parent))); err != nil {
			return err
		}
		err := l.node.fill(&dir, base)
		if errors.Is(err, errVanished) {
			f.mu.Lock()
			f.gone = append(f.gone, l.name)
			f.mu.Unlock()
			continue
		}
		if err != nil {
			return err
		}
	}
	return f.ctx.Err()
}

// wait ends the work, err being how the search ended, and takes out of the tree the files that are gone.
func (f *filler) wait(err error) error {
	if err == nil {
		f.send()
	}
	close(f.work)
	if werr := f.group.Wait(); werr != nil && (err == nil || errors.Is(err, context.Canceled)) {
		err = werr
	}
	if err != nil {
		return err
	}
	for _, l := range f.t.order {
		if len(l.node.names) > 0 && !l.node.isDir() {
			f.gone = append(f.gone, l.name) // it was a directory a moment ago
		}
		slices.Sort(l.node.names)
	}
	slices.Sort(f.t.nodes["."].names)
	f.t.gone = len(f.gone) > 0
	for _, name := range f.gone {
		f.t.remove(name)
	}
	return nil
}

// fill sets the attributes of the file of that name in a directory.
func (n *node) fill(dir *statDir, base string) (err error) {
	if n.stamp, n.device, err = dir.lstat(base); err != nil {
		return err
	}
	switch n.mode().Type() {
	case fs.ModeSymlink:
		link, err := dir.readlink(base)
		if err != nil {
			return errVanished
		}
		n.link = filepath.ToSlash(link)
	case fs.ModeIrregular:
		return errVanished
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
	return n.info(), nil
}

// ReadDir implements [inode.Tree]. A directory that could not be read is an error that names it.
func (t *Tree) ReadDir(name string) ([]string, error) {
	n, err := t.node("readdir", name)
	if err == nil && !n.isDir() {
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
	if err == nil && !n.isRegular() {
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
		i := t.nodes[name].info()
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
