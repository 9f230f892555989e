//go:build !linux

package inode

import (
	"errors"
	"fmt"
	"os"
)

// Lstat returns the attributes of the file at path; a symlink is not followed. Owners are 0:0 and there
// are no records: other systems have no layers, only build contexts and archives.
func Lstat(path string) (Info, error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return Info{}, err
	}
	i := fromFileInfo(fi)
	if i.IsLink() {
		i.Link, err = os.Readlink(path)
	}
	return i, err
}

// Set needs Linux.
func Set(path string, want Info) error { return unsupported("set attributes", path) }

// SetTimes needs Linux.
func SetTimes(path string, mtime int64) error { return unsupported("set times", path) }

// MakeFile needs Linux.
func MakeFile(path string, want Info, mtime int64, write func(*os.File) error) error {
	return unsupported("make file", path)
}

// Create needs Linux.
func Create(path string, want Info) error { return unsupported("create file", path) }

func unsupported(step, path string) error {
	return fmt.Errorf("%s: %s: only on linux: %w", step, path, errors.ErrUnsupported)
}

func fromFileInfo(fi os.FileInfo) Info {
	i := Info{Mode: FromFileMode(fi.Mode()), Mtime: fi.ModTime().UnixNano()}
	if i.IsRegular() {
		i.Size = fi.Size()
	}
	return i
}
