package localdir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// statDir asks for files by their names in one directory, which the kernel finds faster than by whole paths, and without what
// [os.Lstat] allocates. The zero value is ready for change.
type statDir struct {
	path string
	open bool
	fd   int
	gone bool
}

// change goes to another directory. One that is gone holds no file.
func (d *statDir) change(path string) error {
	if d.path == path {
		return nil
	}
	d.close()
	fd, err := ignoringEINTR(func() (int, error) {
		return unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if vanished(err) {
		d.path, d.gone = path, true
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	*d = statDir{path: path, open: true, fd: fd}
	return nil
}

func (d *statDir) close() {
	if d.open {
		unix.Close(d.fd)
	}
	*d = statDir{}
}

func (d *statDir) lstat(name string) (s stamp, device [2]uint32, err error) {
	if d.gone {
		return s, device, errVanished
	}
	var st unix.Stat_t
	_, err = ignoringEINTR(func() (int, error) { return 0, unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if vanished(err) {
		return s, device, errVanished
	}
	if err != nil {
		return s, device, &fs.PathError{Op: "lstat", Path: filepath.Join(d.path, name), Err: err}
	}
	mode := fileMode(st.Mode)
	if mode&fs.ModeDevice != 0 {
		device = [2]uint32{unix.Major(st.Rdev), unix.Minor(st.Rdev)}
	}
	return stamp{
		size: st.Size, mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano(), ino: st.Ino,
		mode: uint32(mode), socket: mode&fs.ModeSocket != 0,
	}, device, nil
}

func (d *statDir) readlink(name string) (string, error) {
	return os.Readlink(filepath.Join(d.path, name))
}

func vanished(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) }

func ignoringEINTR(fn func() (int, error)) (int, error) {
	for {
		if n, err := fn(); err != unix.EINTR {
			return n, err
		}
	}
}

// fileMode is what package os makes of st_mode.
func fileMode(m uint32) fs.FileMode {
	mode := fs.FileMode(m & 0o777)
	switch m & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	case unix.S_IFIFO:
		mode |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		mode |= fs.ModeSocket
	case unix.S_IFCHR:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFBLK:
		mode |= fs.ModeDevice
	}
	if m&unix.S_ISUID != 0 {
		mode |= fs.ModeSetuid
	}
	if m&unix.S_ISGID != 0 {
		mode |= fs.ModeSetgid
	}
	if m&unix.S_ISVTX != 0 {
		mode |= fs.ModeSticky
	}
	return mode
}
