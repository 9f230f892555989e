//go:build !linux && !darwin

package localdir

import "io/fs"

// nonblock keeps an open from waiting for the other end of a fifo.
const nonblock = 0

func sysStamp(fs.FileInfo) (ctime int64, ino uint64) { return 0, 0 }

func deviceOf(fs.FileInfo) (major, minor uint32) { return 0, 0 }

// platformMode makes everything executable, as BuildKit does for contexts from Windows, which has no such bit.
func platformMode(m fs.FileMode) fs.FileMode { return m&^fs.ModePerm | (m.Perm()|0o111)&0o755 }
