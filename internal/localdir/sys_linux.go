package localdir

import (
	"io/fs"
	"syscall"
)

// nonblock keeps an open from waiting for the other end of a fifo.
const nonblock = syscall.O_NONBLOCK

func sysStamp(fi fs.FileInfo) (ctime int64, ino uint64) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0
	}
	return st.Ctim.Nano(), st.Ino
}

func platformMode(m fs.FileMode) fs.FileMode { return m }
