//go:build !linux && !darwin

package gobuild

import "io/fs"

func sysStamp(fs.FileInfo) (ctime int64, ino uint64) { return 0, 0 }
