//go:build !linux

package localdir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// statDir asks for files by their names in one directory. The zero value is ready for change.
type statDir struct{ path string }

func (d *statDir) change(path string) error {
	d.path = path
	return nil
}

func (d *statDir) close() {}

func (d *statDir) lstat(name string) (s stamp, device [2]uint32, err error) {
	fi, err := os.Lstat(filepath.Join(d.path, name))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return s, device, errVanished
	}
	if err != nil {
		return s, device, err
	}
	if fi.Mode()&fs.ModeDevice != 0 {
		device[0], device[1] = deviceOf(fi)
	}
	return stampOf(fi), device, nil
}

func (d *statDir) readlink(name string) (string, error) {
	return os.Readlink(filepath.Join(d.path, name))
}
