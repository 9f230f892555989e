//go:build !unix

package busybox

import "io/fs"

// The base's commands run on Linux only; these keep the package whole elsewhere.

func ownerOf(fs.FileInfo) (uid, gid int, ok bool) { return 0, 0, false }
func linksOf(fs.FileInfo) uint64                  { return 1 }
func crossDevice(error) bool                      { return false }

func currentUmask() int { return 0o022 }

func interrupt(int) {}
