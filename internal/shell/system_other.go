//go:build !linux

package shell

import "io/fs"

// The shell runs in steps, and those are on Linux: elsewhere its text is only read.

func mayExecute(string) error { return nil }

func access(string, uint32) error { return nil }

func setUmask(mask int) int { return mask }

func ownerOf(fs.FileInfo) (uid, gid int) { return 0, 0 }
