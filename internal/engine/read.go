package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/skiff-build/skiff/internal/inode"
)

// readFile reads a file, or a range of it, following symlinks within t.
func readFile(t inode.Tree, req readReq) (data []byte, err error) {
	name, err := inode.Resolve(t, req.Path, true)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: req.Path, Err: bare(err)}
	}
	info, err := t.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: req.Path, Err: errors.New("not a regular file")}
	}
	r, err := t.Open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if _, err := io.CopyN(io.Discard, r, int64(req.Offset)); err != nil && err != io.EOF {
		return nil, fmt.Errorf("read %s: %w", req.Path, err)
	}
	var src io.Reader = r
	if req.Length > 0 {
		src = io.LimitReader(r, int64(req.Length))
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(src); err != nil {
		return nil, fmt.Errorf("read %s: %w", req.Path, err)
	}
	return b.Bytes(), nil
}

// statFile says what a path is, following symlinks within t, as BuildKit's gateway does.
func statFile(t inode.Tree, req readReq) (statResp, error) {
	name, err := inode.Resolve(t, req.Path, true)
	if err != nil {
		return statResp{}, &fs.PathError{Op: "lstat", Path: req.Path, Err: bare(err)}
	}
	return statOf(t, name)
}

// listDir describes the entries of a directory, of those that match the pattern if there is one.
func listDir(t inode.Tree, req readReq) ([]statResp, error) {
	name, err := inode.Resolve(t, req.Path, true)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: req.Path, Err: bare(err)}
	}
	names, err := t.ReadDir(name)
	if err != nil {
		return nil, err
	}
	list := []statResp{}
	for _, base := range names {
		if req.Pattern != "" {
			ok, err := path.Match(req.Pattern, base)
			if err != nil {
				return nil, fmt.Errorf("pattern %q: %w", req.Pattern, err)
			}
			if !ok {
				continue
			}
		}
		st, err := statOf(t, path.Join(name, base))
		if err != nil {
			return nil, err
		}
		list = append(list, st)
	}
	return list, nil
}

func statOf(t inode.Tree, name string) (statResp, error) {
	i, err := t.Lstat(name)
	if err != nil {
		return statResp{}, err
	}
	base := path.Base(name)
	return statResp{Path: base, Mode: uint32(i.FileMode()), UID: uint32(i.UID), GID: uint32(i.GID), Size: i.Size,
		ModTime: i.Mtime, Linkname: i.Link, Major: int64(i.Major), Minor: int64(i.Minor)}, nil
}

// bare is what went wrong without the path, which the caller names as the user wrote it.
func bare(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
