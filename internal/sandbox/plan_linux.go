package sandbox

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// plan is one way to enter.
type plan struct {
	mode  Mode
	flags uintptr                // clone flags beside NEWNS and NEWPID
	uids  []syscall.SysProcIDMap // written by us
	gids  []syscall.SysProcIDMap
	subs  *subIDs // written by the helpers
}

// plans lists the ways to enter that look possible, best first. note says why a better mode was left out.
func plans() (list []plan, note string) {
	rootCaps := os.Geteuid() == 0 && hasCaps(unix.CAP_SYS_ADMIN)
	oneUser := plan{mode: ModeOneID, flags: unix.CLONE_NEWUSER,
		uids: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		gids: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}}
	many := mappedIDs() > 1
	if rootCaps {
		if err := tryMount(); err != nil {
			note = fmt.Sprintf("root may not mount here: %v", err)
		} else if many {
			list = append(list, plan{mode: ModeRoot})
		} else {
			// Root of a namespace with one id, as from `unshare -r`: no further one is needed.
			return append(list, plan{mode: ModeOneID}), "this user namespace has one id"
		}
	}
	if os.Geteuid() == 0 && many && hasCaps(unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_SETFCAP) {
		// Root of a container without CAP_SYS_ADMIN: all its ids, mapped to themselves.
		list = append(list, plan{mode: ModeSubIDs, flags: unix.CLONE_NEWUSER, uids: ownMap("/proc/self/uid_map"), gids: ownMap("/proc/self/gid_map")})
	} else if subs, err := findSubIDs(); err == nil {
		list = append(list, plan{mode: ModeSubIDs, flags: unix.CLONE_NEWUSER, subs: subs})
	} else if len(list) == 0 && note == "" {
		note = err.Error()
	}
	return append(list, oneUser), note
}

// tryMount tells whether this process may make a mount namespace and mount in it.
func tryMount() error {
	return onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return err
		}
		_ = enterNamespaceRoot() // in a chroot "/" is no mount; whoever may not leave it is told by what follows
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		return unix.Mount("skiff", "/", "tmpfs", 0, "size=4k")
	})
}

// onOwnThread runs fn on a thread that ends with it, and with it what fn did to the thread alone.
func onOwnThread(fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread never ends, and /proc/self shows what it sees. While it is held here, another is taken.
			done <- onOwnThread(fn)
			runtime.UnlockOSThread()
			return
		}
		done <- fn() // never unlocked: Go ends the thread
	}()
	return <-done
}

// Probe tells the best mode that the machine seems to allow, without starting a process. [Enter] may still have to
// take a lesser one, see [Child.Note]. The error is [*Unavailable].
func Probe() (Mode, error) {
	f := gather()
	list, _ := plans()
	if list[0].flags&unix.CLONE_NEWUSER == 0 && !f.NoProc && !older(f.Kernel, oldestKernel) {
		return list[0].mode, nil
	}
	f.Step, f.Errno = "clone", syscall.EPERM
	if f.forbidden() {
		return "", cause(f)
	}
	return list[0].mode, nil
}

// ProbeNote says why [Probe] did not find a better mode; empty where it found the best.
func ProbeNote() string {
	list, note := plans()
	if list[0].mode == ModeRoot || list[0].mode == ModeSubIDs {
		return ""
	}
	return note
}
