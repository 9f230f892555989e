package snapshot

import (
	"errors"
	"fmt"
	"os"
	"runtime"
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
// an ELOOP from the name that was cut. The names that we give are descriptors relative to /proc/self/fd,
// four bytes a layer, which also need no escaping. (The newer fsconfig(2) has no such limit, but not
// before Linux 6.5.)
func mountOverlay(target string, o overlay) error {
	var opened []int
	defer func() {
		for _, fd := range opened {
			unix.Close(fd)
		}
	}()
	open := func(path string) (string, error) {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return "", &os.PathError{Op: "open", Path: path, Err: err}
		}
		opened = append(opened, fd)
		return strconv.Itoa(fd), nil
	}
	names := make([]string, len(o.lowers))
	for i, dir := range o.lowers {
		var err error
		if names[i], err = open(dir); err != nil {
			return err
		}
	}
	// With userxattr redirects and metacopy are off, unless asked for; "redirect_dir=off" is refused with
	// it, as it can mean to follow redirects (overlayfs.rst).
	options := "userxattr,redirect_dir=nofollow,metacopy=off,index=off,lowerdir=" + strings.Join(names, ":")
	if o.upper != "" {
		upper, err := open(o.upper)
		if err != nil {
			return err
		}
		work, err := open(o.work)
		if err != nil {
			return err
		}
		// A step's layer is thrown away when anything goes wrong before the commit: no need to sync.
		options += ",volatile,upperdir=" + upper + ",workdir=" + work
	}
	if len(options) >= os.Getpagesize() {
		return fmt.Errorf("mount overlay: options of %d bytes for %d layers do not fit a page", len(options), len(o.lowers))
	}
	flags := uintptr(unix.MS_NODEV)
	if o.readonly {
		flags |= unix.MS_RDONLY
	}
	dir, err := unix.Open(target, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: target, Err: err}
	}
	opened = append(opened, dir)
	err = inDir("/proc/self/fd", func() error {
		return unix.Mount("overlay", strconv.Itoa(dir), "overlay", flags, options)
	})
	if err != nil {
		return unavailable("mount overlay", err)
	}
	return nil
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
