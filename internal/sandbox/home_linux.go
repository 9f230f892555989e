package sandbox

import (
	"io"
	"os"
	"strconv"
	"strings"
)

// homeOf is the home directory that the image's /etc/passwd gives a user, "/" where it gives none, as runc has it. The file
// may be anything, and a link to anything: only a regular file of the root is read, and 1 MiB of it.
func homeOf(root *os.File, uid uint32) string {
	f, err := readIn(root, "/etc/passwd")
	if err != nil {
		return "/"
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return "/"
	}
	want := strconv.FormatUint(uint64(uid), 10)
	for line := range strings.Lines(string(b)) {
		if fields := strings.Split(strings.TrimSpace(line), ":"); len(fields) >= 6 && fields[2] == want && fields[5] != "" {
			return fields[5]
		}
	}
	return "/"
}
