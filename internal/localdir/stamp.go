package localdir

import (
	"io/fs"
	"time"
)

// stamp is what lstat says of a file and what changes when its content does.
type stamp struct {
	size, mtime, ctime int64 // bytes, nanoseconds since 1970; ctime 0 where the system has none
	ino                uint64
	mode               uint32
	socket             bool
}

func stampOf(fi fs.FileInfo) stamp {
	ctime, ino := sysStamp(fi)
	return stamp{
		size: fi.Size(), mtime: fi.ModTime().UnixNano(), ctime: ctime, ino: ino,
		mode: uint32(fi.Mode()), socket: fi.Mode()&fs.ModeSocket != 0,
	}
}

// How long a file must have been left alone before it was read, so that a write after that shows in its
// times. Linux sets times from a clock that ticks each 1 to 10 ms; file systems that keep no fraction of a
// second have a granularity of up to 2 s (FAT).
const (
	tick       = 50 * time.Millisecond
	coarseTick = 2100 * time.Millisecond
)

// settled tells whether a write after the time read must have changed the stamp, which was taken before it.
func (s stamp) settled(read time.Time) bool {
	wait := tick
	if s.mtime%int64(time.Second) == 0 {
		wait = coarseTick
	}
	return max(s.mtime, s.ctime) < read.Add(-wait).UnixNano()
}
