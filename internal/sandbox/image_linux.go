package sandbox

import (
	"fmt"
	"io"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// initImage is this executable as a file in memory that nothing can write to: a step's init runs from it, so that
// what the step sees as /proc/PID/exe is never the program on the host's disk (CVE-2019-5736). It is made once.
var initImage = sync.OnceValues(func() (*os.File, error) {
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
	// Out of the way of os/exec: between fork and exec it moves its own descriptors to the numbers after the highest that
	// it was given (syscall.forkAndExecInChild1, "nextfd"), and the program is found by its number.
	if high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, imageFd); err == nil {
		unix.Close(fd)
		fd = high
	}
	return os.NewFile(uintptr(fd), "skiff"), nil
}

// imageFd is the least descriptor of an init's image: far above those in use, and below the usual limit of 1024.
const imageFd = 900

// siginfoPid reads si_pid, which x/sys/unix leaves in the union: it stands first there (sigaction(2)), and the union
// is aligned as a pointer.
func siginfoPid(info *unix.Siginfo) int {
	off := unsafe.Offsetof(info.Code) + unsafe.Sizeof(info.Code)
	if align := unsafe.Sizeof(uintptr(0)); off%align != 0 {
		off += align - off%align
	}
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(info), off)))
}
