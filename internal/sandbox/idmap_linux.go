package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// idRange is count ids from start on.
type idRange struct{ start, count uint32 }

// readSubIDs returns the ranges that path, /etc/subuid or /etc/subgid, holds for a user, by name or by number
// (subuid(5)): "name:start:count" a line. Lines that make no sense are passed over, as newuidmap does.
func readSubIDs(path, name, uid string) ([]idRange, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var ranges []idRange
	sc := bufio.NewScanner(bytes.NewReader(b))
	for sc.Scan() {
		fields := strings.Split(strings.TrimSpace(sc.Text()), ":")
		if len(fields) != 3 || fields[0] != uid && (name == "" || fields[0] != name) {
			continue
		}
		start, err1 := strconv.ParseUint(fields[1], 10, 32)
		count, err2 := strconv.ParseUint(fields[2], 10, 32)
		if err1 != nil || err2 != nil || count == 0 || start+count > math.MaxUint32 {
			continue
		}
		ranges = append(ranges, idRange{uint32(start), uint32(count)})
	}
	return ranges, sc.Err()
}

// subIDs are the helpers and ranges of [ModeSubIDs].
type subIDs struct {
	newuidmap, newgidmap string
	uids, gids           []idRange
}

// findSubIDs looks for what subids mode needs without running anything. The error says what is missing.
func findSubIDs() (*subIDs, error) {
	uid := strconv.Itoa(os.Geteuid())
	name := ""
	if u, err := user.LookupId(uid); err == nil {
		name = u.Username
	}
	s := &subIDs{}
	var err error
	if s.uids, err = readSubIDs("/etc/subuid", name, uid); err != nil {
		return nil, err
	}
	if s.gids, err = readSubIDs("/etc/subgid", name, uid); err != nil {
		return nil, err
	}
	if len(s.uids) == 0 || len(s.gids) == 0 {
		return nil, fmt.Errorf("/etc/subuid and /etc/subgid have no ids for user %s", cmpOr(name, uid))
	}
	if s.newuidmap, err = findHelper("newuidmap"); err != nil {
		return nil, err
	}
	if s.newgidmap, err = findHelper("newgidmap"); err != nil {
		return nil, err
	}
	return s, nil
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// findHelper finds a program that has to be setuid root, or to have file capabilities, and checks that it is so.
func findHelper(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		for _, dir := range []string{"/usr/bin", "/usr/local/bin", "/bin"} {
			if exists(filepath.Join(dir, name)) {
				path, err = filepath.Join(dir, name), nil
				break
			}
		}
		if err != nil {
			return "", fmt.Errorf("%s is not installed (package uidmap or shadow-utils)", name)
		}
	}
	st, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if n, err := unix.Getxattr(path, "security.capability", nil); st.Mode()&os.ModeSetuid == 0 && (err != nil || n == 0) {
		return "", fmt.Errorf("%s is neither setuid root nor has file capabilities (chmod u+s %s)", path, path)
	}
	var fs unix.Statfs_t
	if unix.Statfs(path, &fs) == nil && fs.Flags&unix.ST_NOSUID != 0 {
		return "", fmt.Errorf("%s lies on a file system mounted nosuid", path)
	}
	if v, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err == nil && v == 1 {
		return "", fmt.Errorf("no_new_privs is set, so %s cannot gain its privilege", name)
	}
	return path, nil
}

// apply maps uid and gid 0 of the user namespace of process pid to the caller, and 1 and up to its subordinate ids.
func (s *subIDs) apply(ctx context.Context, pid int) error {
	var wg sync.WaitGroup
	var uidErr, gidErr error
	wg.Go(func() { uidErr = runHelper(ctx, s.newuidmap, pid, os.Geteuid(), s.uids) })
	wg.Go(func() { gidErr = runHelper(ctx, s.newgidmap, pid, os.Getegid(), s.gids) })
	wg.Wait()
	if uidErr != nil {
		return uidErr
	}
	return gidErr
}

func runHelper(ctx context.Context, helper string, pid, self int, ranges []idRange) error {
	args := []string{strconv.Itoa(pid), "0", strconv.Itoa(self), "1"}
	next := uint64(1)
	for _, r := range ranges {
		args = append(args, strconv.FormatUint(next, 10), strconv.FormatUint(uint64(r.start), 10), strconv.FormatUint(uint64(r.count), 10))
		next += uint64(r.count)
	}
	out, err := exec.CommandContext(ctx, helper, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(helper), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// mappedIDs counts the ids of this process's user namespace.
func mappedIDs() uint64 {
	var n uint64
	for _, m := range ownMap("/proc/self/uid_map") {
		n += uint64(m.Size)
	}
	return n
}

// ownMap is the identity over all ids of this process's user namespace, for a child namespace.
func ownMap(path string) []syscall.SysProcIDMap {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var maps []syscall.SysProcIDMap
	for line := range strings.Lines(string(b)) {
		var inside, outside, size int
		if n, _ := fmt.Sscan(line, &inside, &outside, &size); n == 3 {
			maps = append(maps, syscall.SysProcIDMap{ContainerID: inside, HostID: inside, Size: size})
		}
	}
	return maps
}
