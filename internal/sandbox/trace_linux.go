package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A step is traced by a seccomp filter that asks this process about each call that names a file (seccomp_unotify(2)). Every such
// call goes on as it would have: the answer is always to continue. It needs no privilege, no mount and no ptrace, and the step sees
// nothing of it. A call costs some 10 µs.
//
// What the path says is read out of the caller's memory. A hostile program could change it between the two readings; so a trace counts
// only for steps in which nothing but trusted programs run.

// methodTrace is the message of a step's init with the descriptor of its filter.
const methodTrace = "trace"

// tracedCall says where in a call's arguments paths are.
type tracedCall struct {
	paths  []pathArgs
	opens  bool // what it names, or gives it another name
	escape bool // after it the paths say no more what was read
}

// pathArgs are the numbers of arguments: of a directory's descriptor, -1 for the working directory, and of a path.
type pathArgs struct{ dir, path int }

var tracedCalls = func() map[string]tracedCall {
	calls := map[string]tracedCall{
		"open": {paths: []pathArgs{{-1, 0}}, opens: true}, "openat": {paths: []pathArgs{{0, 1}}, opens: true}, "openat2": {paths: []pathArgs{{0, 1}}, opens: true},
		"rename": {paths: []pathArgs{{-1, 0}, {-1, 1}}, opens: true}, "link": {paths: []pathArgs{{-1, 0}, {-1, 1}}, opens: true},
		"renameat": {paths: []pathArgs{{0, 1}, {2, 3}}, opens: true}, "renameat2": {paths: []pathArgs{{0, 1}, {2, 3}}, opens: true},
		"linkat": {paths: []pathArgs{{0, 1}, {2, 3}}, opens: true},
	}
	for _, name := range []string{
		"creat", "stat", "lstat", "access", "readlink", "chdir", "mkdir", "rmdir", "unlink", "truncate", "chmod", "chown", "lchown", "utime",
		"utimes", "mknod", "statfs", "getxattr", "lgetxattr", "setxattr", "lsetxattr", "listxattr", "llistxattr", "removexattr", "lremovexattr",
	} {
		calls[name] = tracedCall{paths: []pathArgs{{-1, 0}}}
	}
	for _, name := range []string{
		"newfstatat", "statx", "faccessat", "faccessat2", "readlinkat", "mkdirat", "unlinkat", "fchmodat", "fchmodat2", "fchownat", "utimensat",
		"futimesat", "mknodat",
	} {
		calls[name] = tracedCall{paths: []pathArgs{{0, 1}}}
	}
	// A link that the step makes leads to what no path names; the others reach files without one, or by names of another root.
	for _, name := range []string{
		"symlink", "symlinkat", "chroot", "mount", "pivot_root", "open_by_handle_at", "name_to_handle_at", "io_uring_setup", "setxattrat",
		"getxattrat", "listxattrat", "removexattrat", "open_tree", "move_mount", "fsopen", "unshare", "setns", "file_getattr", "file_setattr",
	} {
		calls[name] = tracedCall{escape: true}
	}
	return calls
}()

// newCalls are calls that the tables of this program may not have yet. Their numbers are the same on all architectures.
var newCalls = map[string]int{
	"openat2": 437, "faccessat2": 439, "fchmodat2": 452, "setxattrat": 463, "getxattrat": 464, "listxattrat": 465, "removexattrat": 466,
	"open_tree": 428, "move_mount": 429, "fsopen": 430, "io_uring_setup": 425, "file_getattr": 468, "file_setattr": 469,
}

// nativeABI is that of this program.
func nativeABI() (archABI, bool) {
	if len(nativeArchs) == 0 {
		return archABI{}, false
	}
	abi, ok := abis[nativeArchs[0]] // the machine's own
	return abi, ok
}

// traced are the calls of [tracedCalls] by number.
func traced(abi archABI) map[int]tracedCall {
	numbers := map[int]tracedCall{}
	for name, c := range tracedCalls {
		if nr, ok := abi.calls[name]; ok {
			numbers[nr] = c
		} else if nr, ok := newCalls[name]; ok {
			numbers[nr] = c
		}
	}
	return numbers
}

// traceFilter is the program that asks about these calls, and about every one of another architecture.
func traceFilter(abi archABI) []unix.SockFilter {
	var b program
	b.load(offArch)
	b.emit(unix.BPF_JMP|unix.BPF_K|unix.BPF_JEQ, 1, 0, abi.audit)
	b.ret(unix.SECCOMP_RET_USER_NOTIF)
	b.load(offNr)
	calls := map[int]*segment{}
	for nr := range traced(abi) {
		calls[nr] = &segment{first: uint32(nr), action: unix.SECCOMP_RET_USER_NOTIF}
	}
	b.search(join(calls, abi, unix.SECCOMP_RET_ALLOW))
	return b.prog
}

// canTrace says whether this kernel has what a trace needs: Linux 5.5 lets a call go on.
func canTrace() bool {
	_, ok := nativeABI()
	return ok && !older(kernelVersion(), [2]int{5, 5})
}

// startTrace puts the filter on this thread and gives its descriptor to the child. A kernel that refuses leaves the step untraced.
func startTrace(link link) error {
	abi, ok := nativeABI()
	if !ok {
		return nil
	}
	prog := traceFilter(abi)
	p := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	install := func(flags uintptr) (uintptr, unix.Errno) {
		fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags|unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&p)))
		return fd, errno
	}
	fd, errno := install(unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
	if errno == unix.EINVAL { // Linux before 5.19: a call is asked about anew when a signal comes
		fd, errno = install(0)
	}
	if errno != 0 {
		return nil
	}
	f := os.NewFile(fd, "trace")
	defer f.Close()
	return link.send(frame{Kind: methodTrace}, []*os.File{f})
}

// The structs of linux/seccomp.h.
type (
	notification struct {
		id         uint64
		pid, flags uint32
		nr         int32
		arch       uint32
		ip         uint64
		args       [6]uint64
	}
	notificationAnswer struct {
		id    uint64
		val   int64
		error int32
		flags uint32
	}
)

// ioctlSetFlags is SECCOMP_IOCTL_NOTIF_SET_FLAGS (Linux 6.6).
const ioctlSetFlags = 0x40082104

// follow answers until no process is left that could call. It closes f.
func (t *Trace) follow(f *os.File) {
	defer f.Close()
	fd := int(f.Fd())
	abi, _ := nativeABI()
	calls := traced(abi)
	// The one who asks and the one who answers take turns on one processor. An older kernel does without.
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), ioctlSetFlags, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
	buf := make([]byte, unix.PathMax)
	for {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); err == unix.EINTR {
			continue
		} else if err != nil {
			t.fail(err)
			return
		}
		if poll[0].Revents&unix.POLLIN == 0 {
			return // the last process has ended
		}
		var n notification
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n)))
		if errno != 0 {
			continue // the caller was interrupted, or is gone
		}
		if n.arch != abi.audit {
			t.fail(errors.New("a program of another architecture runs"))
		} else {
			t.look(&n, calls[int(n.nr)], buf)
		}
		answer := notificationAnswer{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
		_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&answer))) // likewise
	}
}

// look takes down the paths of a call.
func (t *Trace) look(n *notification, c tracedCall, buf []byte) {
	if c.escape || len(c.paths) == 0 {
		t.fail(fmt.Errorf("call %d, by which files are reached that no path names", n.nr))
		return
	}
	for _, p := range c.paths {
		path, err := readString(int(n.pid), uintptr(n.args[p.path]), buf)
		if errors.Is(err, unix.EFAULT) || err == nil && len(path) == 0 {
			continue // as for the kernel; an empty path is of a descriptor, which was opened by one
		}
		if err != nil {
			t.fail(fmt.Errorf("read a path of process %d: %w", n.pid, err))
			continue
		}
		t.add(path, c.opens, func() (string, error) {
			link := fmt.Sprintf("%d/cwd", n.pid)
			if fd := int32(n.args[max(p.dir, 0)]); p.dir >= 0 && fd != unix.AT_FDCWD {
				link = fmt.Sprintf("%d/fd/%d", n.pid, fd)
			}
			return readProcLink(link)
		})
	}
}

func readProcLink(name string) (string, error) {
	proc := ownProc()
	if proc == nil {
		return "", errors.New("a path that is not absolute, and no /proc of the sandbox can be mounted")
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(proc.Fd()), name, buf)
	if err != nil {
		return "", fmt.Errorf("read /proc/%s: %w", name, err)
	}
	return string(buf[:n]), nil
}

// ownProc is a procfs of the child's own pid namespace, in which the processes of all steps are, mounted where no name leads; nil
// where it cannot be.
var ownProc = sync.OnceValue(func() *os.File {
	fs, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil
	}
	m, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(m), "proc")
})

// readString reads a string of C, of at most len(buf) bytes, in the memory of a process. It goes from page to page: the next need not be
// there.
func readString(pid int, at uintptr, buf []byte) ([]byte, error) {
	const page = 4096
	for n := 0; n < len(buf); {
		want := min(len(buf)-n, page-int((at+uintptr(n))%page))
		local := []unix.Iovec{{Base: &buf[n]}}
		local[0].SetLen(want)
		got, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: at + uintptr(n), Len: want}}, 0)
		if err != nil {
			return nil, err
		}
		if i := bytes.IndexByte(buf[n:n+got], 0); i >= 0 {
			return buf[:n+i], nil
		}
		n += got
	}
	return nil, unix.ENAMETOOLONG
}
