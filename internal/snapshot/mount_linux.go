package snapshot

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// overlay is the arguments of one overlayfs mount.
type overlay struct {
	lowers      []string // topmost first, at least two without upper
	upper, work string   // both or none
	readonly    bool
}

// mountOverlay mounts o at target.
//
// The options of mount(2) are cut at one page: with absolute names some 40 layers fit, and the failure is
// an ELOOP from the name that was cut. So directories are named by descriptors, which also need no escaping:
// /proc/self/fd/N for some 200 layers, and N alone, from a thread that changes there, for more. (The newer
// fsconfig(2) has no such limit, but not before Linux 6.5.)
func mountOverlay(target string, o overlay) error {
	var fds descriptors
	defer fds.close()
	where, err := fds.open(target, 0)
	if err != nil {
		return err
	}
	options, err := o.options(&fds)
	if err != nil {
		return err
	}
	// Whoever writes or reads here by a path has resolved it before, within the chain: a link that is still on the way is
	// refused by the kernel, wherever it leads. A step, which follows links, gets the mount without the flag.
	flags := uintptr(unix.MS_NODEV | unix.MS_NOSYMFOLLOW)
	if o.readonly {
		flags |= unix.MS_RDONLY
	}
	const dir = "/proc/self/fd/"
	pageSize := os.Getpagesize()
	if long := options(dir); len(long) < pageSize {
		err = unix.Mount("overlay", dir+where, "overlay", flags, long)
	} else if short := options(""); len(short) < pageSize {
		err = inDir(dir, func() error { return unix.Mount("overlay", where, "overlay", flags, short) })
	} else {
		return fmt.Errorf("mount overlay: options of %d bytes for %d layers do not fit a page", len(short), len(o.lowers))
	}
	if err != nil {
		return unavailable("mount overlay", err)
	}
	return nil
}

// options opens the directories and returns what makes the mount options, given the directory of descriptors
// with a slash, or "".
//
// With userxattr redirects and metacopy are off, unless asked for; "redirect_dir=off" is refused with it, as
// it can mean to follow redirects (overlayfs.rst). A step's layer is thrown away when anything goes wrong
// before the commit, so it is volatile: there is no need to sync.
func (o overlay) options(fds *descriptors) (func(dir string) string, error) {
	var names []string
	for _, path := range slices.Concat(o.lowers, o.writable()) {
		fd, err := fds.open(path, unix.O_NOFOLLOW)
		if err != nil {
			return nil, err
		}
		names = append(names, fd)
	}
	return func(dir string) string {
		n := len(o.lowers)
		s := "userxattr,redirect_dir=nofollow,metacopy=off,index=off,lowerdir=" + dir + strings.Join(names[:n], ":"+dir)
		if o.upper != "" {
			s += ",volatile,upperdir=" + dir + names[n] + ",workdir=" + dir + names[n+1]
		}
		return s
	}, nil
}

func (o overlay) writable() []string {
	if o.upper == "" {
		return nil
	}
	return []string{o.upper, o.work}
}

// descriptors are directories open for their names in /proc/self/fd.
type descriptors []int

func (d *descriptors) open(path string, flags int) (string, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: path, Err: err}
	}
	*d = append(*d, fd)
	return strconv.Itoa(fd), nil
}

func (d *descriptors) close() {
	for _, fd := range *d {
		unix.Close(fd)
	}
}

// inDir calls f with another working directory on a thread of its own, which ends with it.
func inDir(dir string, f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked, so that the thread is not used again
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = unix.Chdir(dir)
		}
		if err != nil {
			result <- fmt.Errorf("change to %s: %w", dir, err)
			return
		}
		result <- f()
	}()
	return <-result
}

// unmount detaches what is mounted at path and below. What still uses it keeps it until it ends.
func unmount(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return &os.PathError{Op: "unmount", Path: path, Err: err}
	}
	return nil
}

// unavailable explains the errors of mount(2) that have to do with the machine and not with the layers.
func unavailable(step string, err error) error {
	switch {
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
		return &Unavailable{
			Cause: step + " is not allowed here",
			Mend:  "in a container it takes --privileged, or a seccomp and AppArmor profile that permits mount",
			Err:   err,
		}
	case errors.Is(err, unix.ENODEV):
		return &Unavailable{
			Cause: "this kernel has no such file system (" + step + ")",
			Mend:  "load it with: sudo modprobe overlay",
			Err:   err,
		}
	}
	return fmt.Errorf("%s: %w", step, err)
}
