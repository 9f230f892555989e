package gobuild

import (
	"encoding/binary"
	"io/fs"
	"time"
)

// stamp is what stat says of a file or folder, and what changes when its content does. The zero stamp is that of a file which is
// not there.
type stamp struct {
	size, mtime, ctime int64 // bytes, nanoseconds since 1970; ctime is 0 where the system has none
	ino                uint64
	mode               uint32
}

func stampOf(fi fs.FileInfo) stamp {
	ctime, ino := sysStamp(fi)
	return stamp{size: fi.Size(), mtime: fi.ModTime().UnixNano(), ctime: ctime, ino: ino, mode: uint32(fi.Mode())}
}

func (s stamp) absent() bool { return s == stamp{} }

// How long a file must have been left alone before it was read, so that a write after that shows in its times: Linux sets them
// from a clock that ticks each 1 to 10 ms; where a file system keeps no fraction of a second they may be 2 s apart (FAT).
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
	return s.absent() || max(s.mtime, s.ctime) < read.Add(-wait).UnixNano()
}

func (s stamp) append(b []byte) []byte {
	b = binary.AppendVarint(b, s.size)
	b = binary.AppendVarint(b, s.mtime)
	b = binary.AppendVarint(b, s.ctime)
	b = binary.AppendUvarint(b, s.ino)
	return binary.AppendUvarint(b, uint64(s.mode))
}
