package inode

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Dir returns the tree of a real directory, for example a mounted chain of layers. No name and no
// symlink leads out of it. The caller calls the returned function when done.
func Dir(dir string) (Tree, func() error, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return dirTree{fd}, func() error { return unix.Close(fd) }, nil
}

// dirTree walks from the root, which it has open, one component at a time and follows none. os.Root
// would follow the links that stay inside, and has no extended attributes.
type dirTree struct{ root int }

func (t dirTree) Lstat(name string) (Info, error) {
	parent, base, done, err := t.parent("lstat", name)
	if err != nil {
		return Info{}, err
	}
	defer done()
	var st unix.Stat_t
	err = ignoringEINTR(func() error { return unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if err != nil {
		return Info{}, treeError("lstat", name, err)
	}
	// There are no descriptor based calls for the attributes of a symlink or an unreadable file before
	// Linux 6.13; the path through /proc names the same directory whatever is renamed meanwhile.
	return fromStat("/proc/self/fd/"+strconv.Itoa(parent)+"/"+base, &st)
}

func (t dirTree) ReadDir(name string) ([]string, error) {
	f, err := t.open("readdir", name, unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, treeError("readdir", name, err)
	}
	slices.Sort(names)
	return names, nil
}

func (t dirTree) Open(name string) (io.ReadCloser, error) {
	// Without O_NONBLOCK a fifo would block here; it makes no difference to a regular file.
	f, err := t.open("open", name, unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	regular := err == nil && fi.Mode().IsRegular()
	if regular && fi.Size() == 0 { // or a placeholder
		var i Info
		i, err = t.Lstat(name)
		regular = i.IsRegular()
	}
	if err == nil && !regular {
		err = &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// open opens the file of that name itself for reading.
func (t dirTree) open(op, name string, flags int) (*os.File, error) {
	parent, base, done, err := t.parent(op, name)
	if err != nil {
		return nil, err
	}
	defer done()
	fd, err := openAt(parent, base, unix.O_RDONLY|flags)
	if err != nil {
		return nil, treeError(op, name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// parent returns a descriptor of the directory that holds name, for the *at calls until done is called,
// and the last component.
func (t dirTree) parent(op, name string) (fd int, base string, done func(), err error) {
	if err := checkName(op, name); err != nil {
		return -1, "", nil, err
	}
	dir, base := path.Split(name)
	at := t.root
	done = func() {
		if at != t.root {
			unix.Close(at)
		}
	}
	for _, c := range components(dir) {
		next, err := openAt(at, c, unix.O_PATH|unix.O_DIRECTORY)
		done()
		if err != nil {
			return -1, "", nil, treeError(op, name, err)
		}
		at = next
	}
	return at, base, done, nil
}

func openAt(dir int, base string, flags int) (fd int, err error) {
	err = ignoringEINTR(func() error {
		fd, err = unix.Openat(dir, base, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		return err
	})
	return fd, err
}

// treeError makes what lies below a file or symlink a missing file, as [Tree] says.
func treeError(op, name string, err error) error {
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		err = fs.ErrNotExist
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}
