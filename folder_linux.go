package skiff

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// folderID tells a folder from any other that has stood, or will stand, at its path: its file system, its inode and, since
// numbers of inodes come again, when it was made (where the file system keeps that). "" where there is none.
func folderID(dir string) string {
	var st unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_INO|unix.STATX_BTIME, &st) != nil {
		return ""
	}
	return fmt.Sprintf("%d:%d %d %d.%d", st.Dev_major, st.Dev_minor, st.Ino, st.Btime.Sec, st.Btime.Nsec)
}
