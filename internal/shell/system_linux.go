package shell

import (
	"io/fs"
	"syscall"
)

// mayExecute reports whether this process may run a file or enter a folder.
func mayExecute(file string) error { return access(file, 1) }

// access is faccessat(2) with the effective ids: 4 is reading, 2 writing, 1 running.
func access(file string, mode uint32) error {
	const atFDCWD, atEAccess = -100, 0x200
	return syscall.Faccessat(atFDCWD, file, mode, atEAccess)
}

// setUmask sets the umask and returns the one before.
func setUmask(mask int) int { return syscall.Umask(mask) }

func ownerOf(info fs.FileInfo) (uid, gid int) {
	s := info.Sys().(*syscall.Stat_t)
	return int(s.Uid), int(s.Gid)
}
