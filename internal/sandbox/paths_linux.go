package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/skiff-build/skiff/internal/inode"
	"golang.org/x/sys/unix"
)

// procPath names what f refers to, for calls that take a path.
func procPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// OpenIn opens name as a path (O_PATH) inside root, an open directory, and follows symbolic links as a process would whose
// root directory it is. The kernel holds the lookup inside of root, and refuses the links of /proc that lead to where a
// process or descriptor is (openat2(2), RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS): the error of those is ELOOP. Where a
// filter of an outer container does not know the call, the components are walked one by one to the same end.
func OpenIn(root *os.File, name string) (*os.File, error) { return openHow(root, name, unix.O_PATH, 0) }

// openPlain is [OpenIn] for a name without symbolic links: with one on the way the error is ELOOP.
func openPlain(root *os.File, name string) (*os.File, error) {
	return openHow(root, name, unix.O_PATH, unix.RESOLVE_NO_SYMLINKS)
}

// readIn opens a regular file for reading. Whatever else is there is not waited for.
func readIn(root *os.File, name string) (*os.File, error) {
	f, err := openHow(root, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		f.Close()
		return nil, &os.PathError{Op: "read", Path: name, Err: errors.New("not a regular file")}
	}
	return f, nil
}

func openHow(root *os.File, name string, flags int, resolve uint64) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags) | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | resolve,
	}
	for range 128 { // a rename anywhere on the machine may cost a try (EAGAIN)
		fd, err := unix.Openat2(int(root.Fd()), name, &how)
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), name), nil
		case unix.EAGAIN, unix.EINTR:
			continue
		case unix.ENOSYS, unix.EPERM:
			return walkIn(root, name, flags, resolve)
		}
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return nil, &os.PathError{Op: "open", Path: name, Err: unix.EAGAIN}
}

// walkIn stands for openat2 where that is missing.
func walkIn(root *os.File, name string, flags int, resolve uint64) (*os.File, error) {
	if resolve&unix.RESOLVE_NO_SYMLINKS == 0 {
		at, err := resolveIn(root, name)
		if err != nil {
			return nil, err
		}
		name = at
	}
	f, err := walk(root, name, flags)
	if err != nil || flags&unix.O_PATH == 0 {
		return f, err
	}
	if fi, err := f.Stat(); err != nil || fi.Mode()&os.ModeSymlink != 0 {
		f.Close()
		return nil, errors.Join(err, &os.PathError{Op: "open", Path: name, Err: unix.ELOOP})
	}
	return f, nil
}

// walk opens a name without following any link; one on the way gives ELOOP, one at the end is opened itself, with O_PATH.
func walk(root *os.File, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(root.Fd()), ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	parts := strings.FieldsFunc(name, func(c rune) bool { return c == '/' })
	for i, part := range parts {
		if err != nil {
			break
		}
		mode := unix.O_PATH | unix.O_DIRECTORY
		if i == len(parts)-1 {
			mode = flags
		}
		at := fd
		fd, err = unix.Openat(at, part, mode|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		var st unix.Stat_t
		if err == unix.ENOTDIR && unix.Fstatat(at, part, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
			err = unix.ELOOP
		}
		unix.Close(at)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// resolveIn resolves the links of name inside root and returns an absolute path as seen from there. What does not exist is
// where it would be.
func resolveIn(root *os.File, name string) (string, error) {
	at, err := inode.Resolve(lookup{root}, name, true)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return path.Join("/", at), err
}

// lookup is the files below a directory as [inode.Resolve] wants them.
type lookup struct{ root *os.File }

// Lstat makes lookup an [inode.Lstater].
func (l lookup) Lstat(name string) (inode.Info, error) {
	f, err := walk(l.root, name, unix.O_PATH)
	if err != nil {
		return inode.Info{}, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return inode.Info{}, err
	}
	info := inode.Info{Mode: st.Mode}
	if info.IsLink() {
		var buf [unix.PathMax]byte
		n, err := unix.Readlinkat(int(f.Fd()), "", buf[:])
		if err != nil {
			return inode.Info{}, err
		}
		info.Link = string(buf[:n])
	}
	return info, nil
}

// makeIn makes a directory of mode 0755, or an empty file, at name, a path of root without links, and the directories that
// are missing above it. It follows no link: one that has come there meanwhile is an error. made, which may be nil, gets each
// directory that was made.
func makeIn(root *os.File, name string, dir bool, made func(*os.File) error) error {
	at, parts := root, strings.FieldsFunc(name, func(c rune) bool { return c == '/' })
	defer func() {
		if at != root {
			at.Close()
		}
	}()
	for i, part := range parts {
		if part == "." || part == ".." {
			return &os.PathError{Op: "make", Path: name, Err: unix.EINVAL}
		}
		if i == len(parts)-1 && !dir {
			fd, err := unix.Openat(int(at.Fd()), part, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_WRONLY, 0o644)
			if err != nil {
				return &os.PathError{Op: "make", Path: name, Err: err}
			}
			return unix.Close(fd)
		}
		missing := unix.Mkdirat(int(at.Fd()), part, 0o755)
		if missing != nil && missing != unix.EEXIST {
			return &os.PathError{Op: "make", Path: name, Err: missing}
		}
		fd, err := unix.Openat(int(at.Fd()), part, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "make", Path: name, Err: err}
		}
		if at != root {
			at.Close()
		}
		at = os.NewFile(uintptr(fd), part)
		if missing == nil && made != nil {
			if err := made(at); err != nil {
				return err
			}
		}
	}
	return nil
}

// ledAway explains the ELOOP by which [OpenIn] refuses a link of /proc. A loop of ordinary links is no less an error.
func ledAway(err error) error {
	if errors.Is(err, unix.ELOOP) {
		return fmt.Errorf("%w, or one of the links of /proc to what a process has, which are not followed", err)
	}
	return err
}
