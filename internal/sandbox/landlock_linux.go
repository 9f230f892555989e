package sandbox

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// scopeABI is the version of Landlock from which a domain can restrict signals and nothing else (Linux 6.12): one that
// restricts files also forbids mounts, and costs a walk for each file that is opened.
const scopeABI = 6

// ownDomain puts the calling thread, which has no_new_privs, into a Landlock domain of the step's own. From within a domain
// the kernel lets nobody look at processes outside of it: their memory, and their files, root and directory in /proc
// (https://docs.kernel.org/userspace-api/landlock.html, "Ptrace restrictions"). Usually no such process is seen. Where the
// machine gives no fresh /proc (kernelFS) those of the steps beside this one are, with the same user and capabilities.
// Kernels without it, and filters that forbid it, leave it at that.
func ownDomain() error {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 || version < scopeABI {
		return nil
	}
	attr := [3]uint64{2: unix.LANDLOCK_SCOPE_SIGNAL} // struct landlock_ruleset_attr as of that version
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return fmt.Errorf("make a Landlock domain: %w", errno)
	}
	defer unix.Close(int(fd))
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return fmt.Errorf("enter a Landlock domain: %w", errno)
	}
	return nil
}
