//go:build unix

package busybox

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
)

func ownerOf(info fs.FileInfo) (uid, gid int, ok bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return int(st.Uid), int(st.Gid), true
}

func linksOf(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Nlink)
	}
	return 1
}

func crossDevice(err error) bool { return errors.Is(err, syscall.EXDEV) }

// currentUmask is the umask of this process: to set it and set it back would show to what makes files at the same time.
func currentUmask() int {
	data, err := os.ReadFile("/proc/self/status")
	if err == nil {
		for line := range strings.Lines(string(data)) {
			if v, ok := strings.CutPrefix(line, "Umask:"); ok {
				if n, err := strconv.ParseUint(strings.TrimSpace(v), 8, 16); err == nil {
					return int(n)
				}
			}
		}
	}
	return 0o022
}

// interrupt asks a process to end, as Ctrl-C does. One that is gone is no matter.
func interrupt(pid int) { _ = syscall.Kill(pid, syscall.SIGINT) }
