package fileop

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"github.com/skiff-build/skiff/internal/inode"
)

// rootDir is the root filesystem that is written to. Names are as in [inode.Tree]; all methods but
// resolve take resolved names.
type rootDir struct {
	dir   string
	tree  inode.Tree
	close func() error
}

func openRoot(dir string) (*rootDir, error) {
	t, closeTree, err := inode.Dir(dir)
	if err != nil {
		return nil, fmt.Errorf("open root: %w", err)
	}
	return &rootDir{dir: dir, tree: t, close: closeTree}, nil
}

func (r *rootDir) path(name string) string { return filepath.Join(r.dir, filepath.FromSlash(name)) }

// resolve follows the links in name, the last one too. What does not exist stays as it is named.
func (r *rootDir) resolve(name string) (string, error) {
	at, err := inode.Resolve(r.tree, name, true)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return at, err
}

// lstat returns nil for a missing file.
func (r *rootDir) lstat(name string) (*inode.Info, error) {
	i, err := inode.Lstat(r.path(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, r.bare(err)
	}
	return &i, nil
}

// bare takes the path of the mount out of an error: a Dockerfile knows nothing of it.
func (r *rootDir) bare(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		if rel, ok := cutDir(p.Path, r.dir); ok {
			return &fs.PathError{Op: p.Op, Path: rel, Err: p.Err}
		}
	}
	var l *os.LinkError
	if errors.As(err, &l) {
		if rel, ok := cutDir(l.New, r.dir); ok {
			return &fs.PathError{Op: l.Op, Path: rel, Err: l.Err}
		}
	}
	return err
}

func cutDir(p, dir string) (string, bool) {
	rel, err := filepath.Rel(dir, p)
	if err != nil || !filepath.IsLocal(rel) {
		return "", false
	}
	return path.Join("/", filepath.ToSlash(rel)), true
}

// newOwner returns the owner of a file made in the directory of name: that of o, else 0 and, below a
// setgid directory, its group, as the kernel has it.
func (r *rootDir) newOwner(o *owner, name string) (uid, gid int, err error) {
	if o != nil {
		return o.uid, o.gid, nil
	}
	parent, err := r.lstat(path.Dir(name))
	if err == nil && parent != nil && parent.Mode&0o2000 != 0 {
		gid = parent.GID
	}
	return 0, gid, err
}

// mkdir makes a directory that is not there, with these attributes.
func (r *rootDir) mkdir(name string, want inode.Info, mtime *int64) error {
	want.Mode = inode.TypeDir | want.Perm()
	if err := inode.Create(r.path(name), want); err != nil {
		return r.bare(err)
	}
	return r.setTime(name, mtime)
}

// mkdirAll makes a directory and its parents where they are missing, and returns the names of those that
// it made, outermost first.
func (r *rootDir) mkdirAll(name string, perm uint32, o *owner, mtime *int64) ([]string, error) {
	have, err := r.lstat(name)
	switch {
	case err != nil:
		return nil, err
	case have != nil && have.IsDir():
		return nil, nil
	case have != nil:
		return nil, &fs.PathError{Op: "mkdir", Path: path.Join("/", name), Err: syscall.ENOTDIR}
	}
	made, err := r.mkdirAll(path.Dir(name), perm, o, mtime)
	if err != nil {
		return nil, err
	}
	uid, gid, err := r.newOwner(o, name)
	if err != nil {
		return nil, err
	}
	if err := r.mkdir(name, inode.Info{Mode: perm & 0o777, UID: uid, GID: gid}, mtime); err != nil {
		return nil, err
	}
	return append(made, name), nil
}

// setTime sets the modification time where there is one to set.
func (r *rootDir) setTime(name string, mtime *int64) error {
	if mtime == nil {
		return nil
	}
	return r.bare(inode.SetTimes(r.path(name), *mtime))
}

// set gives a file attributes and time.
func (r *rootDir) set(name string, want inode.Info, mtime *int64) error {
	if err := inode.Set(r.path(name), want); err != nil {
		return r.bare(err)
	}
	return r.setTime(name, mtime)
}

// clear makes room for a file that is no directory. A directory is not removed for it.
func (r *rootDir) clear(name string) error {
	have, err := r.lstat(name)
	if err != nil || have == nil {
		return err
	}
	if have.IsDir() {
		return fmt.Errorf("cannot replace the directory %s with a file", path.Join("/", name))
	}
	return r.bare(os.Remove(r.path(name)))
}

// removeAll removes a file or a tree, if there is one.
func (r *rootDir) removeAll(name string) error { return r.bare(os.RemoveAll(r.path(name))) }

// writeFile makes the regular file name, which must not exist, with these attributes, from what content gives; nil is nothing.
func (r *rootDir) writeFile(name string, want inode.Info, mtime int64, content io.Reader) error {
	want.Mode = inode.TypeFile | want.Perm()
	write := func(f *os.File) error {
		// Between two files io.Copy lets the kernel copy, or share the extents.
		_, err := io.Copy(f, content)
		return err
	}
	if content == nil {
		write = nil
	}
	if err := inode.MakeFile(r.path(name), want, mtime, write); err != nil {
		return fmt.Errorf("write %s: %w", path.Join("/", name), r.bare(err))
	}
	return nil
}
