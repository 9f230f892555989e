package snapshot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/skiff-build/skiff/internal/inode"
	"github.com/skiff-build/skiff/internal/whiteout"
)

// selection is what copyTree copies.
type selection int

const (
	everything    selection = iota
	onlyWhiteouts           // and the directories that hold them
)

// copyTree copies a layer directory to another file system, into the existing directory to: attributes,
// times, hard links, whiteouts and opaque marks.
func copyTree(from, to string, what selection) error {
	c := copier{from: from, to: to, what: what, links: map[[2]uint64]string{}}
	if _, err := c.dir("."); err != nil {
		return fmt.Errorf("copy layer: %w", err)
	}
	return nil
}

type copier struct {
	from, to string
	what     selection
	links    map[[2]uint64]string // device and inode of a file with several names -> first name
}

// dir copies the directory and reports whether there was anything to copy. The directory itself exists
// in c.to; it gets its attributes last, since they may forbid to write in it and writing changes its time.
func (c *copier) dir(name string) (used bool, err error) {
	from, to := filepath.Join(c.from, name), filepath.Join(c.to, name)
	entries, err := os.ReadDir(from)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		one, err := c.entry(path.Join(name, e.Name()))
		if err != nil {
			return false, err
		}
		used = used || one
	}
	info, err := inode.Lstat(from)
	if err != nil {
		return false, err
	}
	if c.what == everything && whiteout.IsOpaque(from) {
		if err := whiteout.SetOpaque(to, true); err != nil {
			return false, err
		}
	}
	if err := inode.Set(to, info); err != nil {
		return false, err
	}
	return used || c.what == everything, inode.SetTimes(to, info.Mtime)
}

func (c *copier) entry(name string) (used bool, err error) {
	from, to := filepath.Join(c.from, name), filepath.Join(c.to, name)
	info, err := inode.Lstat(from)
	if err != nil {
		return false, err
	}
	switch {
	case whiteout.Is(from, info):
		return true, whiteout.Make(c.to, name)
	case info.IsDir():
		if err := os.Mkdir(to, 0o700); err != nil {
			return false, err
		}
		used, err := c.dir(name)
		if err == nil && !used {
			err = os.Remove(to)
		}
		return used, err
	case c.what == onlyWhiteouts:
		return false, nil
	}
	if info.Nlink > 1 {
		key := [2]uint64{info.Dev, info.Ino}
		if first, ok := c.links[key]; ok {
			return true, os.Link(filepath.Join(c.to, first), to)
		}
		c.links[key] = name
	}
	if !info.IsRegular() {
		err = inode.Create(to, info)
	} else if err = copyContent(from, to); err == nil {
		err = inode.Set(to, info)
	}
	if err == nil {
		err = inode.SetTimes(to, info.Mtime)
	}
	return true, err
}

func copyContent(from, to string) error {
	r, err := os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW, 0)
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
