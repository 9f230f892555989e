package sandbox

import (
	"fmt"
	"syscall"
)

// facts is what is known of a machine that refused a namespace; [cause] turns it into words. Numbers read from
// /proc/sys are -1 where the file is missing.
type facts struct {
	Step  string        // what was refused: "clone", "map" or "mount"
	Errno syscall.Errno // how

	MaxUserNS        int    // /proc/sys/user/max_user_namespaces
	UnprivClone      int    // /proc/sys/kernel/unprivileged_userns_clone (Debian, Ubuntu, Arch)
	AppArmorRestrict int    // /proc/sys/kernel/apparmor_restrict_unprivileged_userns (Ubuntu from 23.10 on)
	Profile          string // AppArmor's for this process: "unconfined" for none
	UnshareDenied    bool   // unshare(2) gives EPERM before the kernel looks at its arguments: a seccomp filter
	Container        string // "docker", "podman", "kubernetes", …; empty for none seen
	Chroot           bool   // the root directory is not the root of a mount
	NoProc           bool   // /proc is not mounted
	SysAdmin         bool   // CAP_SYS_ADMIN is held: no user namespace was asked for
	NoRootMap        bool   // it is root without CAP_SETFCAP, by which id 0 is mapped (since Linux 5.12)
	Nested           bool   // it is in a user namespace itself
	Kernel           [2]int // 5, 11; zero is unknown
	Exe              string // this program, for a profile
}

// The oldest kernel with overlayfs in user namespaces.
var oldestKernel = [2]int{5, 11}

// cause finds the reason, most certain first, and the command that mends it.
func cause(f facts) *Unavailable {
	switch {
	case f.NoProc:
		return &Unavailable{"/proc is not mounted", "run: mount -t proc proc /proc"}
	case f.Kernel != [2]int{} && older(f.Kernel, oldestKernel):
		return &Unavailable{
			fmt.Sprintf("this kernel is %d.%d, and the sandbox needs Linux %d.%d or newer", f.Kernel[0], f.Kernel[1], oldestKernel[0], oldestKernel[1]),
			"boot a newer kernel, or build on another machine",
		}
	case f.Errno == syscall.ENOSYS || f.Errno == syscall.EINVAL && f.Step == "clone" && f.MaxUserNS == -1:
		return &Unavailable{"this kernel is built without user namespaces (CONFIG_USER_NS)", "boot a kernel that has them, or run as root"}
	case f.SysAdmin:
		return privilegedCause(f)
	case f.MaxUserNS == 0:
		return &Unavailable{"user namespaces are switched off (user.max_user_namespaces = 0)",
			"run as root: sysctl -w user.max_user_namespaces=28633 (to keep it: a line in /etc/sysctl.d/)"}
	case f.UnprivClone == 0:
		return &Unavailable{"ordinary users may not make user namespaces (kernel.unprivileged_userns_clone = 0)",
			"run as root: sysctl -w kernel.unprivileged_userns_clone=1 (to keep it: a line in /etc/sysctl.d/)"}
	case f.Errno == syscall.ENOSPC && f.Nested:
		return &Unavailable{
			"the sandbox around this process allows no user namespace within its own (bwrap --disable-userns, or its user.max_user_namespaces)",
			"start that sandbox without --disable-userns, or run skiff outside of it"}
	case f.Errno == syscall.ENOSPC || f.Errno == syscall.EUSERS || f.Errno == syscall.EAGAIN:
		return &Unavailable{
			fmt.Sprintf("a limit on namespaces or processes is reached (%v; user.max_user_namespaces = %d, nesting ends at 32 levels)", f.Errno, f.MaxUserNS),
			"end other sandboxes, or run as root: sysctl -w user.max_user_namespaces=28633 user.max_mnt_namespaces=28633 user.max_pid_namespaces=28633"}
	case f.UnshareDenied:
		return seccompCause(f)
	case f.AppArmorRestrict == 1:
		return &Unavailable{"AppArmor keeps ordinary programs from using user namespaces (kernel.apparmor_restrict_unprivileged_userns = 1, the default of Ubuntu 24.04)",
			fmt.Sprintf("run as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or allow this program alone: "+
				`printf 'abi <abi/4.0>,\nprofile skiff %s flags=(unconfined) {\n  userns,\n}\n' > /etc/apparmor.d/skiff && apparmor_parser -r /etc/apparmor.d/skiff`, f.exe())}
	case f.Chroot:
		return &Unavailable{"this process runs in a chroot, where the kernel allows no user namespaces",
			"run it as root there, or in the place of chroot use one that makes a root of its own by pivot_root: " +
				"bwrap --bind DIRECTORY / --dev /dev --proc /proc, or systemd-nspawn -D DIRECTORY"}
	case f.NoRootMap && f.Errno == syscall.EPERM:
		return noRootMapCause(f)
	case f.Container != "":
		return &Unavailable{fmt.Sprintf("this container (%s) may not use user namespaces (%s: %v): its security profile forbids it", f.Container, f.Step, f.Errno),
			"start it with --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt label=disable"}
	}
	return &Unavailable{
		fmt.Sprintf("the kernel refused a user namespace (%s: %v)", f.Step, f.Errno),
		"a security module (SELinux: boolean user_namespace, AppArmor, systemd's RestrictNamespaces=) may forbid it; run as root to go without"}
}

// forbidden tells whether a user namespace is certain to be refused.
func (f facts) forbidden() bool {
	return f.NoProc || older(f.Kernel, oldestKernel) && f.Kernel != [2]int{} || f.MaxUserNS == 0 || f.UnprivClone == 0 && !f.SysAdmin ||
		f.UnshareDenied || f.Chroot || f.AppArmorRestrict == 1 && f.Profile == "unconfined" && !f.SysAdmin
}

func (f facts) exe() string {
	if f.Exe == "" {
		return "/usr/local/bin/skiff"
	}
	return f.Exe
}

// privilegedCause is for a process that has CAP_SYS_ADMIN and yet was refused.
func privilegedCause(f facts) *Unavailable {
	switch {
	case f.Errno == syscall.ENOSPC || f.Errno == syscall.EUSERS || f.Errno == syscall.EAGAIN:
		return &Unavailable{fmt.Sprintf("a limit on namespaces or processes is reached (%v)", f.Errno),
			"run as root: sysctl -w user.max_mnt_namespaces=28633 user.max_pid_namespaces=28633"}
	case f.Container != "" && f.Step == "mount":
		return &Unavailable{fmt.Sprintf("this container (%s) may not mount (%v): its AppArmor or SELinux profile forbids it", f.Container, f.Errno),
			"start it with --security-opt apparmor=unconfined --security-opt label=disable"}
	case f.Container != "" && (f.Errno == syscall.EPERM || f.Errno == syscall.EACCES || f.Errno == syscall.ENOSYS):
		return seccompCause(f)
	}
	return &Unavailable{fmt.Sprintf("the kernel refused a namespace to root (%s: %v)", f.Step, f.Errno),
		"a security module or systemd's RestrictNamespaces= may forbid it"}
}

// noRootMapCause is for root that may not make a namespace in which there is a root.
func noRootMapCause(f facts) *Unavailable {
	const cause = "root here lacks CAP_SETFCAP, without which the kernel maps no root into a user namespace (since Linux 5.12)"
	switch f.Container {
	case "":
		return &Unavailable{cause, "leave it that capability, or run skiff as another user: setpriv --reuid=1000 --regid=1000 --clear-groups skiff …"}
	case "kubernetes":
		return &Unavailable{cause, "set securityContext.capabilities.add: [SETFCAP], or securityContext.runAsUser: 1000"}
	}
	return &Unavailable{cause, fmt.Sprintf("start this container (%s) with --cap-add=SETFCAP", f.Container)}
}

// seccompCause is for a filter on the process, as Docker's default one.
func seccompCause(f facts) *Unavailable {
	switch f.Container {
	case "":
		return &Unavailable{"a seccomp filter of this process forbids namespaces",
			"run it without that filter (systemd: RestrictNamespaces=no, SystemCallFilter=@mount)"}
	case "kubernetes":
		return &Unavailable{"the seccomp profile of this pod forbids namespaces",
			"set securityContext.seccompProfile.type: Unconfined and, where the node has AppArmor, appArmorProfile.type: Unconfined"}
	}
	return &Unavailable{fmt.Sprintf("the seccomp profile of this container (%s) forbids namespaces", f.Container),
		"start it with --security-opt seccomp=unconfined --security-opt apparmor=unconfined"}
}

func older(a, b [2]int) bool {
	return a[0] < b[0] || a[0] == b[0] && a[1] < b[1]
}
