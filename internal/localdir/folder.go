package localdir

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tonistiigi/fsutil/types"
)

// folder is a directory as fsutil's filters take it. Unlike fsutil's own it leaves extended attributes
// alone, asks for no attributes, and does not end at a directory that cannot be
// read, nor skip the rest of one from which a file vanished.
type folder struct {
	dir  string
	tree *Tree // told of what cannot be read
}

// errVanished must not be fs.ErrNotExist, at which fsutil's filter would skip the directory.
var errVanished = errors.New("file vanished")

// Walk implements fsutil.FS. Names are in the order of filepath.WalkDir.
func (f *folder) Walk(ctx context.Context, target string, fn fs.WalkDirFunc) error {
	target = strings.Trim(filepath.Clean(string(filepath.Separator)+target), string(filepath.Separator))
	if target == "" {
		return f.walkDir(ctx, ".", nil, fn)
	}
	fi, err := os.Lstat(filepath.Join(f.dir, target))
	if err != nil {
		err = fn(target, nil, err)
	} else {
		err = f.walkEntry(ctx, target, fs.FileInfoToDirEntry(fi), fn)
	}
	return ignoreSkip(err)
}

// walkEntry calls fn for a file and for all below it.
func (f *folder) walkEntry(ctx context.Context, name string, e fs.DirEntry, fn fs.WalkDirFunc) error {
	entry := &folderEntry{DirEntry: e, folder: f, name: name}
	if err := fn(name, entry, nil); err != nil {
		if errors.Is(err, errVanished) || e.IsDir() && skips(err) {
			return nil
		}
		return err
	}
	if !e.IsDir() {
		return nil
	}
	return f.walkDir(ctx, name, entry, fn)
}

func (f *folder) walkDir(ctx context.Context, name string, e fs.DirEntry, fn fs.WalkDirFunc) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	list, err := os.ReadDir(filepath.Join(f.dir, name))
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrPermission):
		f.deny(name, err)
	case name == ".":
		return err
	default:
		if err := fn(name, e, err); err != nil {
			return ignoreSkip(err)
		}
	}
	for _, child := range list {
		path := child.Name()
		if name != "." {
			path = name + string(filepath.Separator) + path
		}
		if err := f.walkEntry(ctx, path, child, fn); err != nil {
			return ignoreSkip(err)
		}
	}
	return nil
}

// skips tells whether fn asked to skip a directory: of a file, the rest of the one that holds it. A directory that is gone is
// skipped.
func skips(err error) bool {
	return errors.Is(err, filepath.SkipDir) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

func ignoreSkip(err error) error {
	if skips(err) || errors.Is(err, errVanished) {
		return nil
	}
	return err
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

// folderEntry gives attributes in the form that fsutil takes. Its filters look at no more than types and the targets of links,
// so that is all there is: [Tree.fill] asks for the rest, side by side.
type folderEntry struct {
	fs.DirEntry
	folder *folder
	name   string
}

func (e *folderEntry) Info() (fs.FileInfo, error) {
	st := &types.Stat{Path: e.name, Mode: uint32(contextMode(e.Type()))}
	if e.Type()&fs.ModeSymlink != 0 {
		var err error
		if st.Linkname, err = os.Readlink(filepath.Join(e.folder.dir, e.name)); err != nil {
			return nil, errVanished
		}
	}
	return statInfo{e, st}, nil
}

// contextMode is the mode of a file as the build sees it: a socket becomes an empty file.
func contextMode(m fs.FileMode) fs.FileMode { return platformMode(m &^ fs.ModeSocket) }

// statInfo is a FileInfo as fsutil's own: Sys holds a *types.Stat. It knows no more than that.
type statInfo struct {
	entry *folderEntry
	stat  *types.Stat
}

func (s statInfo) Name() string       { return s.entry.Name() }
func (s statInfo) Size() int64        { return 0 }
func (s statInfo) Mode() fs.FileMode  { return fs.FileMode(s.stat.Mode) }
func (s statInfo) ModTime() time.Time { return time.Time{} }
func (s statInfo) IsDir() bool        { return s.entry.IsDir() }
func (s statInfo) Sys() any           { return s.stat }
