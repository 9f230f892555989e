package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/skiff-build/skiff/internal/inode"
	"github.com/skiff-build/skiff/internal/whiteout"
)

// WithoutMounts returns the snapshots of the store at root for a process that may not mount. [Snapshots.Prepare] copies the files of
// the chain there, and finds by their stamps which were written to. [Snapshots.Mount] fails.
func WithoutMounts(root string) *Snapshots {
	s := New(root)
	s.bare = true
	return s
}

// stamp tells whether a file is still what it was: whatever changes it changes its ctime. A folder is the one that it was as long as
// its time of birth is the same.
type stamp struct {
	ino  uint64
	time unix.StatxTimestamp
}

func stampOf(file string) (stamp, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, file, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_INO|unix.STATX_TYPE|unix.STATX_CTIME|unix.STATX_BTIME, &st)
	if err != nil {
		return stamp{}, &os.PathError{Op: "statx", Path: file, Err: err}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return stamp{st.Ino, st.Btime}, nil // zero on a file system that has none: the number alone counts then
	}
	return stamp{st.Ino, st.Ctime}, nil
}

// fill copies the chain to the root of a, with all attributes.
func (a *Active) fill(ctx context.Context) error {
	below, done, err := a.s.Tree(a.chain)
	if err != nil {
		return err
	}
	defer done()
	a.stamps = map[string]stamp{}
	f := filler{a: a, below: below, links: map[[2]uint64]string{}}
	if err := f.dir(ctx, "."); err != nil {
		return err
	}
	for name := range a.stamps { // a link that came later changed what it links to
		if a.stamps[name], err = stampOf(filepath.Join(a.Root(), name)); err != nil {
			return err
		}
	}
	return a.pass()
}

// pass waits until the clock of the file system has moved on: a file that takes the place of another within one tick may have its
// number and its times.
func (a *Active) pass() error {
	probe := filepath.Join(a.temp.path, "clock")
	var first stamp
	for {
		err := os.WriteFile(probe, nil, 0o600)
		if err == nil {
			err = os.Chmod(probe, 0o600)
		}
		if err != nil {
			return err
		}
		now, err := stampOf(probe)
		if err != nil {
			return err
		}
		if first == (stamp{}) {
			first = now
		}
		if now.time != first.time {
			return os.Remove(probe)
		}
	}
}

type filler struct {
	a     *Active
	below inode.Tree
	links map[[2]uint64]string
}

// dir fills the directory of that name, which is there. Its attributes come last, since they may forbid to write in it.
func (f *filler) dir(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	names, err := f.below.ReadDir(name)
	if err != nil {
		return err
	}
	for _, base := range names {
		if err := f.entry(ctx, path.Join(name, base)); err != nil {
			return err
		}
	}
	info, err := f.below.Lstat(name)
	if err != nil {
		return err
	}
	to := filepath.Join(f.a.Root(), name)
	if err := inode.Set(to, info); err != nil {
		return err
	}
	return inode.SetTimes(to, info.Mtime)
}

func (f *filler) entry(ctx context.Context, name string) error {
	info, err := f.below.Lstat(name)
	if err != nil {
		return err
	}
	to := filepath.Join(f.a.Root(), name)
	f.a.stamps[name] = stamp{}
	if info.IsDir() {
		if err := os.Mkdir(to, 0o700); err != nil {
			return err
		}
		return f.dir(ctx, name)
	}
	if info.Nlink > 1 {
		key := [2]uint64{info.Dev, info.Ino}
		if first, ok := f.links[key]; ok {
			return os.Link(filepath.Join(f.a.Root(), first), to)
		}
		f.links[key] = name
	}
	if !info.IsRegular() {
		err = inode.Create(to, info)
	} else if err = f.content(name, to); err == nil {
		err = inode.Set(to, info)
	}
	if err == nil {
		err = inode.SetTimes(to, info.Mtime)
	}
	return err
}

func (f *filler) content(name, to string) error {
	r, err := f.below.Open(name)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Close())
}

// strip makes of the files in Root what an upper directory would hold: what is as it was goes, and what is gone leaves a mark.
func (a *Active) strip(below inode.Tree) error {
	// All are looked at before the first goes: that one of several names of a file goes changes the others' stamp.
	for name, was := range a.stamps {
		now, err := stampOf(filepath.Join(a.Root(), name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			return err
		}
		if err != nil || now != was {
			delete(a.stamps, name)
		}
	}
	_, err := a.stripDir(".", below, false)
	if err != nil {
		return fmt.Errorf("find what was written: %w", err)
	}
	return nil
}

// stripDir strips the directory of that name, which may be another one than what is below it. left is how many entries stay.
func (a *Active) stripDir(name string, below inode.Tree, another bool) (left int, err error) {
	dir := filepath.Join(a.Root(), name)
	info, err := inode.Lstat(dir)
	if err != nil {
		return 0, err
	}
	var was []string
	if old, err := below.Lstat(name); err == nil && old.IsDir() && another {
		if err := whiteout.SetOpaque(dir, true); err != nil {
			return 0, err
		}
	} else if err == nil && old.IsDir() {
		if was, err = below.ReadDir(name); err != nil {
			return 0, err
		}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
		stays, err := a.stripEntry(path.Join(name, e.Name()), e.IsDir(), below)
		if err != nil {
			return 0, err
		}
		if stays {
			left++
		}
	}
	for _, base := range was {
		if !slices.Contains(names, base) {
			if err := whiteout.Make(a.Root(), path.Join(name, base)); err != nil {
				return 0, err
			}
			left++
		}
	}
	return left, inode.SetTimes(dir, info.Mtime) // taking files out of it was not the writer's doing
}

func (a *Active) stripEntry(name string, isDir bool, below inode.Tree) (stays bool, err error) {
	file := filepath.Join(a.Root(), name)
	if !isDir {
		if _, same := a.stamps[name]; !same {
			return true, nil
		}
		return false, os.Remove(file)
	}
	now, err := inode.Lstat(file)
	if err != nil {
		return false, err
	}
	_, same := a.stamps[name]
	left, err := a.stripDir(name, below, !same)
	if err != nil || left > 0 || !same {
		return true, err
	}
	was, err := below.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true, nil
	case err != nil:
		return false, err
	case !was.IsDir() || !now.SameAttributes(was) || a.over != "" && now.Mtime != was.Mtime:
		return true, nil
	}
	return false, os.Remove(file)
}

// commitBare makes the layer id of what is in Root.
func (a *Active) commitBare(id string) (empty bool, err error) {
	below, done, err := a.s.Tree(a.chain)
	if err != nil {
		return false, err
	}
	defer done()
	if err := a.strip(below); err != nil {
		return false, err
	}
	if empty, err := prune(a.Root(), below, a.over != ""); empty || err != nil {
		return empty, err
	}
	layer := filepath.Join(a.temp.path, "layer")
	if err := os.Mkdir(layer, 0o700); err != nil {
		return false, err
	}
	if err := os.Rename(a.Root(), filepath.Join(layer, "fs")); err != nil {
		return false, err
	}
	_, err = a.s.place(layer, id, a.over)
	return false, err
}
