package sandbox

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// enterNamespaceRoot takes the calling thread, which must share its root with no other (CLONE_FS), to the root of its mount
// namespace, out of whatever chroot it is in (setns(2), in the kernel's mntns_install).
func enterNamespaceRoot() error {
	ns, err := os.Open("/proc/thread-self/ns/mnt")
	if err != nil {
		return err
	}
	defer ns.Close()
	return unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS)
}

// rootChroot makes the root of this process the root of its mount namespace, if it is in a chroot. From a chroot a step with
// CAP_SYS_CHROOT, as all have it, could climb out, whatever pivot_root(2) says: it exchanges the mount, but not what that is
// mounted on. Only root comes here in one, since nobody makes a user namespace in a chroot (user_namespaces(7)). moved says
// that it was in one: what this process has mapped still has names of before.
func rootChroot() (moved bool, err error) {
	dir, err := openDir("/")
	if err != nil {
		return false, err
	}
	defer dir.Close()
	var tree *os.File
	err = onOwnThread(func() (err error) {
		if err = unix.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
		if enterNamespaceRoot() != nil {
			return nil // no CAP_SYS_CHROOT: then no step has it either
		}
		root, _, err1 := placeAt(unix.AT_FDCWD, "/")
		here, _, err2 := placeAt(int(dir.Fd()), ".")
		if err := errors.Join(err1, err2); err != nil || root == here {
			return err
		}
		tree, err = exchangeFor(dir)
		return err
	})
	if err != nil {
		return false, &Unavailable{
			fmt.Sprintf("this process runs in a chroot that cannot be made a root of its own (%v)", err),
			"enter the directory otherwise: systemd-nspawn -D DIRECTORY, or bwrap --bind DIRECTORY / --dev /dev --proc /proc",
		}
	}
	if tree == nil {
		return false, nil
	}
	defer tree.Close()
	if err := errors.Join(unix.Fchdir(int(tree.Fd())), unix.Chroot("."), unix.Chdir("/")); err != nil {
		return false, fmt.Errorf("enter root: %w", err)
	}
	return true, nil
}

// exchangeFor mounts a directory onto itself and makes it the root of the namespace, whose root the calling thread has.
func exchangeFor(dir *os.File) (*os.File, error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, err
	}
	// By descriptors: there may be no /proc where this thread is.
	fd, err := unix.OpenTree(int(dir.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_EMPTY_PATH)
	if err != nil {
		return nil, os.NewSyscallError("open_tree", err)
	}
	tree := os.NewFile(uintptr(fd), "/")
	err = unix.MoveMount(fd, "", int(dir.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if err == nil {
		err = exchangeRoot(tree)
	}
	if err != nil {
		tree.Close()
		return nil, err
	}
	return tree, nil
}
