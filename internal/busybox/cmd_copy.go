package busybox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// copyHow is how cp copies.
type copyHow struct {
	recursive bool // folders too
	keep      bool // modes, owners, times
	follow    bool // links give what they point to
	force     bool // what cannot be opened is removed first
	noClobber bool
	update    bool // only what is newer
}

func copyTree(from, to string, how copyHow) error {
	stat := os.Lstat
	if how.follow {
		stat = os.Stat
	}
	info, err := stat(from)
	if err != nil {
		return err
	}
	if there, err := os.Stat(to); err == nil {
		if os.SameFile(info, there) {
			return errors.New("source and target are the same file")
		}
		if !info.IsDir() && (how.noClobber || how.update && !info.ModTime().After(there.ModTime())) {
			return nil
		}
	}
	switch {
	case info.IsDir():
		return copyFolder(from, to, info, how)
	case info.Mode()&fs.ModeSymlink != 0:
		return copyLink(from, to)
	case info.Mode().IsRegular() || !how.recursive:
		if err := copyFile(from, to, info, how.force); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%s: special files are not copied", from)
	}
	return keepAttributes(to, info, how.keep)
}

func copyFolder(from, to string, info fs.FileInfo, how copyHow) error {
	if !how.recursive {
		return errors.New("omitting directory (-r is not given)")
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err := os.Mkdir(to, info.Mode().Perm()|0o700); err != nil {
		if there, serr := os.Stat(to); serr != nil || !there.IsDir() {
			return err
		}
	}
	for _, e := range entries {
		if err := copyTree(filepath.Join(from, e.Name()), filepath.Join(to, e.Name()), how); err != nil {
			return fmt.Errorf("%s: %w", e.Name(), err)
		}
	}
	return keepAttributes(to, info, how.keep)
}

func copyLink(from, to string) error {
	target, err := os.Readlink(from)
	if err != nil {
		return err
	}
	if info, err := os.Lstat(to); err == nil && !info.IsDir() {
		if err := os.Remove(to); err != nil {
			return err
		}
	}
	return os.Symlink(target, to)
}

func copyFile(from, to string, info fs.FileInfo, force bool) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, info.Mode().Perm())
	if err != nil && force {
		if err := os.Remove(to); err != nil {
			return err
		}
		out, err = os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, info.Mode().Perm())
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	return err
}

// keepAttributes gives path the mode, owner and times of info. An owner that cannot be set is left, as cp does
// for those who are not root.
func keepAttributes(path string, info fs.FileInfo, keep bool) error {
	if !keep {
		return nil
	}
	if uid, gid, ok := ownerOf(info); ok {
		_ = os.Lchown(path, uid, gid)
	}
	if err := os.Chmod(path, info.Mode()&(fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)); err != nil {
		return err
	}
	return os.Chtimes(path, time.Now(), info.ModTime())
}
