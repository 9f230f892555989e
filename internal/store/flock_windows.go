package store

import (
	"os"

	"golang.org/x/sys/windows"
)

var errWouldBlock error = windows.ERROR_LOCK_VIOLATION

// flock locks f as a whole until it is closed or unlocked. Each open of a file is a party of its own, so it
// works between goroutines as between processes. Without wait a lock held by others is errWouldBlock.
func flock(f *os.File, exclusive, wait bool) error {
	var how uint32
	if exclusive {
		how |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	if !wait {
		how |= windows.LOCKFILE_FAIL_IMMEDIATELY
	}
	return windows.LockFileEx(windows.Handle(f.Fd()), how, 0, 1, 0, new(windows.Overlapped))
}

// relock changes the lock that f holds. It is not atomic: without success f may hold no lock.
func relock(f *os.File, exclusive, wait bool) error {
	// Windows locks pile up: the old one has to go first.
	windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, new(windows.Overlapped))
	return flock(f, exclusive, wait)
}

func diskSize(path string) (int64, error) {
	p, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, err
	}
	var total uint64
	if err := windows.GetDiskFreeSpaceEx(p, nil, &total, nil); err != nil {
		return 0, err
	}
	return int64(total), nil
}

func onDisk(i os.FileInfo) int64 { return i.Size() }

func bootID() string { return "" }

func syncDisk(string) error { return nil }

// ownerOf knows nothing here: files have no user id.
func ownerOf(os.FileInfo) (id int, ok bool) { return 0, false }

type inode struct{}

// linked knows nothing here.
func linked(os.FileInfo) (key inode, many bool) { return key, false }
