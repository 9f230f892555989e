//go:build unix

package store

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

var errWouldBlock = unix.EWOULDBLOCK

// flock locks f as a whole until it is closed or unlocked. Each open of a file is a party of its own, so it
// works between goroutines as between processes. Without wait a lock held by others is errWouldBlock.
func flock(f *os.File, exclusive, wait bool) error {
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	if !wait {
		how |= unix.LOCK_NB
	}
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// relock changes the lock that f holds. It is not atomic: without success f may hold no lock.
func relock(f *os.File, exclusive, wait bool) error { return flock(f, exclusive, wait) }

func diskSize(path string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, err
	}
	return int64(st.Blocks) * int64(st.Bsize), nil
}

// inode tells files of one file system apart.
type inode struct{ dev, ino uint64 }

// linked reports whether a file, no folder, has several names, and which one it is.
func linked(i os.FileInfo) (key inode, many bool) {
	st, ok := i.Sys().(*unixStat)
	if !ok || i.IsDir() || st.Nlink < 2 {
		return key, false
	}
	return inode{uint64(st.Dev), uint64(st.Ino)}, true
}

// ownerOf returns the id of the user whose file it is.
func ownerOf(i os.FileInfo) (id int, ok bool) {
	st, ok := i.Sys().(*unixStat)
	if !ok {
		return 0, false
	}
	return int(st.Uid), true
}

// onDisk returns the bytes that a file takes on the disk, sparse files counted as what they hold.
func onDisk(i os.FileInfo) int64 {
	if st, ok := i.Sys().(*unixStat); ok {
		return st.Blocks * 512
	}
	return i.Size()
}
