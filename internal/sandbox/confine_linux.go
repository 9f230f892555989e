package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// place is a directory and the mount that it is seen through.
type place struct{ mount, dev, ino uint64 }

// placeAt looks at what name leads to, from the directory fd.
func placeAt(fd int, name string) (p place, mode uint16, err error) {
	var st unix.Statx_t
	err = unix.Statx(fd, name, unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE|unix.STATX_INO|unix.STATX_MNT_ID, &st)
	return place{st.Mnt_id, unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}, st.Mode & unix.S_IFMT, err
}

// confined checks that no thread, working directory, descriptor and mount of this process leads out of its root; known tells
// the mount points that there may be. A step's init calls it before it looks at the first name that an image or a Dockerfile
// has chosen, and again in the step's root. What it finds would be a mistake in this package.
func (st *stage) confined(known func(at string) bool) error {
	root, _, err := placeAt(unix.AT_FDCWD, "/")
	if err != nil {
		return err
	}
	proc := int(st.proc.Fd())
	tasks, err := list(proc, "self/task")
	if err != nil {
		return err
	}
	for _, task := range tasks {
		for _, link := range []string{"root", "cwd"} {
			at, _, err := placeAt(proc, "self/task/"+task+"/"+link)
			if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
				continue // the thread has ended
			}
			if err != nil {
				return fmt.Errorf("look at the %s of a thread: %w", link, err)
			}
			if at != root {
				return fmt.Errorf("the %s of a thread of the init is outside of the step", link)
			}
		}
	}
	if err := st.confinedFiles(proc); err != nil {
		return err
	}
	return confinedMounts(proc, known)
}

// confinedFiles refuses every descriptor by which something else could be reached than its own end: all but pipes, sockets
// and the kernel's anonymous files. Descriptors 0 to 2 are the program's and may be a terminal or the null device, too.
func (st *stage) confinedFiles(proc int) error {
	fds, err := list(proc, "self/fd")
	if err != nil {
		return err
	}
	for _, name := range fds {
		fd, err := strconv.Atoi(name)
		if err != nil {
			return err
		}
		if fd == proc || fd == int(st.root.Fd()) {
			continue
		}
		var at unix.Stat_t
		if err := unix.Fstat(fd, &at); err != nil {
			continue // what listed them has it closed
		}
		switch at.Mode & unix.S_IFMT {
		case 0, unix.S_IFIFO, unix.S_IFSOCK:
			continue
		case unix.S_IFCHR:
			if fd <= 2 {
				continue
			}
		}
		to, _ := os.Readlink("/proc/self/fd/" + name)
		return fmt.Errorf("descriptor %d of the init leads out of the step, to %s", fd, to)
	}
	return nil
}

func confinedMounts(proc int, known func(at string) bool) error {
	f, err := openAt(proc, "self/mountinfo")
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		return fmt.Errorf("read mounts: %w", err)
	}
	roots := 0
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 6 {
			return fmt.Errorf("read mounts: %q", line)
		}
		at := path.Clean(unescape.Replace(fields[4]))
		if at == "/" {
			roots++
		}
		if roots > 1 || !known(at) {
			return fmt.Errorf("a mount at %s is none of the step's", at)
		}
	}
	return nil
}

// unescape undoes what proc(5) says of the names in mountinfo.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

func openAt(dir int, name string) (*os.File, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

func list(dir int, name string) ([]string, error) {
	f, err := openAt(dir, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}
