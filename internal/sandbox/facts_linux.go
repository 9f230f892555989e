package sandbox

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// findCause asks the machine why step was refused with err.
func findCause(step string, err error) *Unavailable {
	f := gather()
	f.Step = step
	errors.As(err, &f.Errno)
	return cause(f)
}

func gather() facts {
	f := facts{
		MaxUserNS:        readNumber("/proc/sys/user/max_user_namespaces"),
		UnprivClone:      readNumber("/proc/sys/kernel/unprivileged_userns_clone"),
		AppArmorRestrict: readNumber("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
		UnshareDenied:    unshareDenied(),
		Container:        container(),
		SysAdmin:         hasCaps(unix.CAP_SYS_ADMIN),
		NoRootMap:        os.Geteuid() == 0 && !hasCaps(unix.CAP_SETFCAP),
		Nested:           mappedIDs() < math.MaxUint32,
		Kernel:           kernelVersion(),
	}
	if b, err := os.ReadFile("/proc/self/attr/current"); err == nil {
		f.Profile = strings.TrimRight(string(b), "\x00\n")
	}
	if _, err := os.Lstat("/proc/self/status"); err != nil {
		f.NoProc = true
	} else {
		f.Chroot = chrooted()
	}
	if exe, err := os.Executable(); err == nil {
		f.Exe, _ = filepath.EvalSymlinks(exe)
	}
	return f
}

// readNumber is -1 where there is no such file.
func readNumber(path string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return -1
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return -1
	}
	return n
}

// unshareDenied tells a seccomp filter from the kernel's own refusal: a process with several threads, as any Go
// program is, gets EINVAL for CLONE_NEWUSER (unshare(2)) before the kernel looks at permissions.
func unshareDenied() bool {
	err := unix.Unshare(unix.CLONE_NEWUSER)
	return err == unix.EPERM || err == unix.EACCES || err == unix.ENOSYS
}

func container() string {
	switch {
	case os.Getenv("KUBERNETES_SERVICE_HOST") != "":
		return "kubernetes"
	case exists("/run/.containerenv"):
		return "podman"
	case exists("/.dockerenv"):
		return "docker"
	}
	return os.Getenv("container") // systemd-nspawn, lxc and others set it
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// chrooted: mountinfo shows mount points as seen from the process's root, so in a chroot that is no mount point
// itself no line names "/" (proc(5)).
func chrooted() bool {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) > 4 && fields[4] == "/" {
			return false
		}
	}
	return true
}

func kernelVersion() [2]int {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return [2]int{}
	}
	major, rest, _ := strings.Cut(unix.ByteSliceToString(u.Release[:]), ".")
	minor := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	if err1 != nil || err2 != nil {
		return [2]int{}
	}
	return [2]int{a, b}
}
