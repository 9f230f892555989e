//go:build !linux

package inode

import (
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
)

// Dir returns the tree of a real directory. No name and no symlink leads out of it. The caller calls
// the returned function when done.
func Dir(dir string) (Tree, func() error, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, err
	}
	return &dirTree{root}, root.Close, nil
}

type dirTree struct{ root *os.Root }

func (t *dirTree) Lstat(name string) (Info, error) {
	if err := t.check("lstat", name); err != nil {
		return Info{}, err
	}
	fi, err := t.root.Lstat(name)
	if err != nil {
		return Info{}, err
	}
	i := fromFileInfo(fi)
	if i.IsLink() {
		i.Link, err = t.root.Readlink(name)
	}
	return i, err
}

func (t *dirTree) ReadDir(name string) ([]string, error) {
	i, err := t.Lstat(name)
	if err == nil && !i.IsDir() {
		err = &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	if err != nil {
		return nil, err
	}
	f, err := t.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func (t *dirTree) Open(name string) (io.ReadCloser, error) {
	i, err := t.Lstat(name)
	if err == nil && !i.IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if err != nil {
		return nil, err
	}
	return t.root.Open(name)
}

// check refuses names whose parents are not all directories: os.Root follows links that stay inside.
func (t *dirTree) check(op, name string) error {
	if err := checkName(op, name); err != nil {
		return err
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if fi, err := t.root.Lstat(dir); err != nil || !fi.IsDir() {
			return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
	}
	return nil
}
