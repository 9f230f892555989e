package localdir

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/tonistiigi/fsutil/types"
)

// folder is a directory as fsutil's filters take it. Unlike fsutil's own it leaves extended attributes
// alone, keeps what the index needs to know of each file, and does not end at a directory that cannot be
// read, nor skip the rest of one from which a file vanished.
type folder struct {
	dir    string
	tree   *Tree            // told of what cannot be read
	stamps map[string]stamp // of the files whose attributes were asked for
}

// errVanished must not be fs.ErrNotExist, at which fsutil's filter would skip the directory.
var errVanished = errors.New("file vanished")

// Walk implements fsutil.FS.
func (f *folder) Walk(ctx context.Context, target string, fn fs.WalkDirFunc) error {
	return filepath.WalkDir(filepath.Join(f.dir, target), func(p string, e fs.DirEntry, err error) error {
		name, relErr := filepath.Rel(f.dir, p)
		if relErr != nil {
			return relErr
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fs.ErrPermission) && e != nil:
			f.deny(name, err)
			return nil
		case name == "." && err != nil:
			return err
		case name == ".":
			return nil
		}
		var entry fs.DirEntry
		if e != nil {
			entry = &folderEntry{DirEntry: e, folder: f, name: name, path: p}
		}
		err = fn(name, entry, err)
		switch {
		case errors.Is(err, errVanished):
			return nil
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
			return filepath.SkipDir
		}
		return err
	})
}

// Open implements fsutil.FS. Its filters never call it.
func (f *folder) Open(name string) (io.ReadCloser, error) {
	return os.OpenInRoot(f.dir, name)
}

func (f *folder) deny(name string, err error) {
	if f.tree.denied == nil {
		f.tree.denied = map[string]error{}
	}
	name = filepath.ToSlash(name)
	f.tree.denied[name] = f.tree.named(name, err)
}

// folderEntry gives attributes in the form that fsutil takes.
type folderEntry struct {
	fs.DirEntry
	folder     *folder
	name, path string
}

func (e *folderEntry) Info() (fs.FileInfo, error) {
	fi, err := e.DirEntry.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errVanished
	}
	if err != nil {
		return nil, err
	}
	st := &types.Stat{Path: e.name, Mode: uint32(contextMode(fi.Mode())), ModTime: fi.ModTime().UnixNano()}
	if fi.Mode().IsRegular() {
		st.Size = fi.Size()
	}
	if fi.Mode()&fs.ModeSymlink != 0 {
		if st.Linkname, err = os.Readlink(e.path); err != nil {
			return nil, errVanished
		}
	}
	if fi.Mode()&fs.ModeDevice != 0 {
		major, minor := deviceOf(fi)
		st.Devmajor, st.Devminor = int64(major), int64(minor)
	}
	e.folder.stamps[e.name] = stampOf(fi)
	return statInfo{fi, st}, nil
}

// contextMode is the mode of a file as the build sees it: a socket becomes an empty file.
func contextMode(m fs.FileMode) fs.FileMode { return platformMode(m &^ fs.ModeSocket) }

// statInfo is a FileInfo as fsutil's own: Sys holds a *types.Stat.
type statInfo struct {
	fs.FileInfo
	stat *types.Stat
}

func (s statInfo) Sys() any { return s.stat }
