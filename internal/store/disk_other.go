//go:build unix && !linux

package store

import (
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

type unixStat = syscall.Stat_t

// bootID identifies the running boot; "" where the system has no such thing.
func bootID() string {
	if runtime.GOOS != "darwin" {
		return ""
	}
	id, _ := unix.Sysctl("kern.bootsessionuuid")
	return id
}

// syncDisk writes all file systems to their disks.
func syncDisk(string) error {
	unix.Sync()
	return nil
}
