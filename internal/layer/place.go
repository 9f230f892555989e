package layer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/skiff-build/skiff/internal/bounds"
	"github.com/skiff-build/skiff/internal/inode"
	"github.com/skiff-build/skiff/internal/whiteout"
)

// place returns the name under which an entry goes into the layer: symlinks in its parents are resolved,
// within the layer on top of Lower, and the parents exist.
func (u *unpacker) place(name string) (string, error) {
	dir, base := path.Dir(name), path.Base(name)
	if name == "." || u.known[dir] {
		return name, nil
	}
	if to, ok := u.resolved[dir]; ok {
		name = path.Join(to, base)
		return name, bounds.Path(name)
	}
	if err := u.wait(); err != nil {
		return "", err
	}
	spelled := dir
	dir, err := inode.Resolve(&u.view, dir, true)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if i, err := u.view.Lstat(dir); err == nil && !i.IsDir() {
		return "", &fs.PathError{Op: "enter", Path: dir, Err: syscall.ENOTDIR}
	}
	name = path.Join(dir, base)
	if err := bounds.Path(name); err != nil {
		return "", err
	}
	if err := u.makeParents(dir); err != nil {
		return "", err
	}
	if spelled != dir {
		u.resolved[spelled] = dir
	}
	return name, nil
}

// makeParents makes a directory that has no entry of its own (yet), and its parents. None of its components
// is a symlink. It is like the one below, if there is one.
func (u *unpacker) makeParents(dir string) error {
	if u.known[dir] {
		return nil
	}
	if err := u.makeParents(path.Dir(dir)); err != nil {
		return err
	}
	fi, err := os.Lstat(u.path(dir))
	if err == nil && fi.IsDir() {
		u.known[dir] = true
		return nil
	}
	if err := u.count(1, 0); err != nil {
		return err
	}
	was := err == nil // a whiteout, else place had refused
	info := inode.Info{Mode: inode.TypeDir | 0o755}
	if was {
		if err := os.Remove(u.path(dir)); err != nil {
			return err
		}
	} else if lower, err := u.view.below(dir); err == nil && lower.IsDir() {
		info = lower
		u.times[dir] = lower.Mtime
	}
	if err := inode.Create(u.path(dir), info); err != nil {
		return err
	}
	u.known[dir] = true
	if was {
		return whiteout.SetOpaque(u.path(dir), true)
	}
	return nil
}

// clear removes what the layer has at name, with all below it.
func (u *unpacker) clear(name string) error {
	fi, err := os.Lstat(u.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	clear(u.resolved)
	if !fi.IsDir() {
		return os.Remove(u.path(name))
	}
	if err := u.wait(); err != nil {
		return err
	}
	clear(u.known)
	u.known["."] = true
	u.replaced = true
	return os.RemoveAll(u.path(name))
}

// whiteout hides what lies below at dir/base. What this layer itself has there stays, in whatever order
// they come: whiteouts concern lower layers only (image-spec, layer.md).
func (u *unpacker) whiteout(dir, base string) error {
	if base == "" || base == "." || base == ".." {
		return fmt.Errorf("whiteout of %q: %w", base, ErrEscape)
	}
	name := path.Join(dir, base)
	// One that hides nothing would be listed by the kernel and not be found (seen in Linux 6.18).
	if u.o.Lower != nil || u.view.hidden(dir) {
		if _, err := u.view.below(name); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	if err := u.wait(); err != nil {
		return err
	}
	u.files.leads(name)
	fi, err := os.Lstat(u.path(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return whiteout.Make(u.view.dir, name)
	case err != nil:
		return err
	case fi.IsDir():
		return u.opaque(name)
	}
	return nil
}

// opaque hides all that lies below in the directory, which exists in the layer.
func (u *unpacker) opaque(dir string) error {
	if err := u.wait(); err != nil {
		return err
	}
	if whiteout.IsOpaque(u.path(dir)) {
		return nil
	}
	if err := u.dropWhiteouts(dir); err != nil {
		return err
	}
	return whiteout.SetOpaque(u.path(dir), true)
}

// dropWhiteouts removes the whiteouts in a directory that becomes opaque, where they hide nothing.
func (u *unpacker) dropWhiteouts(dir string) error {
	return filepath.WalkDir(u.path(dir), func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		i, err := inode.Lstat(file)
		if err == nil && whiteout.Is(file, i) {
			err = os.Remove(file)
		}
		return err
	})
}

// view is the layer, as far as it is unpacked, on top of Lower.
type view struct {
	dir   string
	lower inode.Tree // may be nil
}

// Lstat makes a view something that names can be resolved in.
func (v *view) Lstat(name string) (inode.Info, error) {
	info, inLayer, err := v.find(name)
	if err != nil || inLayer {
		return info, err
	}
	return v.lower.Lstat(name)
}

// find looks in the layer. Where neither that nor, as far as the layer hides it, Lower can have the file, the
// error is fs.ErrNotExist; else it is for Lower to say.
func (v *view) find(name string) (info inode.Info, inLayer bool, err error) {
	missing := &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
	hidden := v.lower == nil
	at := "."
	parts := strings.Split(name, "/")
	for n := range len(parts) + 1 {
		if n > 0 {
			at = path.Join(at, parts[n-1])
		}
		file := filepath.Join(v.dir, at)
		info, err = inode.Lstat(file)
		switch {
		case errors.Is(err, fs.ErrNotExist) && hidden, err == nil && whiteout.Is(file, info):
			return inode.Info{}, false, missing
		case errors.Is(err, fs.ErrNotExist):
			return inode.Info{}, false, nil
		case err != nil:
			return inode.Info{}, false, err
		case at == name:
			return info, true, nil
		case !info.IsDir():
			return inode.Info{}, false, missing
		}
		hidden = hidden || whiteout.IsOpaque(file)
	}
	return info, true, nil
}

// below returns what Lower shows at name through the directories of the layer above it, whatever the layer
// itself has there.
func (v *view) below(name string) (inode.Info, error) {
	if v.lower == nil || v.hidden(path.Dir(name)) {
		return inode.Info{}, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
	}
	return v.lower.Lstat(name)
}

// hidden tells whether the layer hides what lies below in the directory dir, in which no component is a
// symlink.
func (v *view) hidden(dir string) bool {
	for {
		if whiteout.IsOpaque(filepath.Join(v.dir, dir)) {
			return true
		}
		if dir == "." {
			return false
		}
		dir = path.Dir(dir)
	}
}
