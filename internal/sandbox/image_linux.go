package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// initImage is what a step's init runs: this executable, in such a way that what the step sees as /proc/PID/exe cannot be
// written to (CVE-2019-5736).
//
// Usually that is the file itself, opened by way of a mount of its own that is read only and lies in no namespace: no name leads
// to it, and to lift the flag would take CAP_SYS_ADMIN. For a step that has it, and where there can be no such mount, it is a
// sealed copy in memory, which costs 15 ms and the size of the file.
func initImage(sysAdmin bool) (*os.File, error) {
	if !sysAdmin {
		if f, err := imageMount(); err == nil {
			return f, nil
		}
	}
	return imageCopy()
}

// imageMount is made once. It fails before Linux 5.12, and where the file has been replaced or removed.
var imageMount = sync.OnceValues(func() (*os.File, error) {
	// By its name, because /proc/self/exe leads to a mount of the parent's namespace, which cannot be cloned.
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "skiff")
	err = unix.MountSetattr(int(f.Fd()), "", unix.AT_EMPTY_PATH, &unix.MountAttr{
		Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV, Propagation: unix.MS_PRIVATE,
	})
	if err == nil {
		err = isThisProgram(f)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
})

// isThisProgram refuses a file that is not the one that this process runs, or that can be written to.
func isThisProgram(f *os.File) error {
	var exe, at unix.Stat_t
	var fs unix.Statfs_t
	if err := errors.Join(unix.Stat("/proc/self/exe", &exe), unix.Fstat(int(f.Fd()), &at), unix.Fstatfs(int(f.Fd()), &fs)); err != nil {
		return err
	}
	if exe.Dev != at.Dev || exe.Ino != at.Ino {
		return errors.New("another file has the name of this program")
	}
	if fs.Flags&unix.ST_RDONLY == 0 {
		return errors.New("its mount can be written to")
	}
	return nil
}

// imageCopy is made once.
var imageCopy = sync.OnceValues(func() (*os.File, error) {
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, fmt.Errorf("open executable: %w", err)
	}
	defer exe.Close()
	f, err := newMemfd()
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(f, exe); err != nil {
		f.Close()
		return nil, fmt.Errorf("copy executable into memory: %w", err)
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal executable in memory: %w", err)
	}
	return f, nil
})

func newMemfd() (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("skiff", flags|unix.MFD_EXEC)
	if err == unix.EINVAL { // before Linux 6.3
		fd, err = unix.MemfdCreate("skiff", flags)
	}
	if err == unix.EACCES {
		return nil, &Unavailable{"programs may not be started from memory (vm.memfd_noexec = 2)", "run as root: sysctl -w vm.memfd_noexec=1"}
	}
	if err != nil {
		return nil, fmt.Errorf("make memory file: %w", err)
	}
	return os.NewFile(uintptr(fd), "skiff"), nil
}

// imagePath names an image for a process that is about to be started, by the descriptor of this process: between fork and exec
// Go's own descriptors may take the number (syscall.forkAndExecInChild1, "nextfd"). A number out of its way would be
// above 64, and the first such one costs a process with threads 15 ms (the kernel's expand_fdtable waits for RCU).
func imagePath(f *os.File) (string, error) {
	self, err := os.Readlink("/proc/self") // not the pid of this namespace: /proc is another's
	if err != nil {
		return "", fmt.Errorf("name the image of a step's init: %w", err)
	}
	return fmt.Sprintf("/proc/%s/fd/%d", self, f.Fd()), nil
}

// siginfoPid reads si_pid, which x/sys/unix leaves in the union: it stands first there (sigaction(2)), and the union
// is aligned as a pointer.
func siginfoPid(info *unix.Siginfo) int {
	off := unsafe.Offsetof(info.Code) + unsafe.Sizeof(info.Code)
	if align := unsafe.Sizeof(uintptr(0)); off%align != 0 {
		off += align - off%align
	}
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(info), off)))
}
