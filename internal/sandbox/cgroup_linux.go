package sandbox

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// controlGroup is a group of a step's processes: one folder (cgroups(7), version 2), or one for each controller (version 1, where
// a machine has it still).
type controlGroup struct {
	v2   bool
	dirs map[string]string // controller → folder
}

// groupName is how the folders' names begin, by which those that a killed process left are known.
const groupName = "skiff-step-"

// newControlGroup makes a group with these controllers below, or beside, that of this process.
func newControlGroup(controllers []string) (*controlGroup, error) {
	h, err := readHierarchies()
	if err != nil {
		return nil, err
	}
	name := groupName + strconv.FormatUint(rand.Uint64(), 36)
	g := &controlGroup{dirs: map[string]string{}}
	parent, errV2 := h.delegated(controllers)
	if errV2 == nil {
		sweepGroups(parent)
		dir := filepath.Join(parent, name)
		if errV2 = os.Mkdir(dir, 0o755); errV2 == nil {
			g.v2 = true
			for _, c := range controllers {
				g.dirs[c] = dir
			}
			return g, nil
		}
	}
	for _, c := range controllers {
		own, ok := h.v1[c]
		if !ok {
			g.remove()
			return nil, errV2
		}
		if !slices.Contains(controllers[:slices.Index(controllers, c)], c) && g.dirOf(own, name) == "" {
			sweepGroups(own)
			if err := os.Mkdir(filepath.Join(own, name), 0o755); err != nil {
				g.remove()
				return nil, err
			}
		}
		g.dirs[c] = filepath.Join(own, name)
	}
	return g, nil
}

// dirOf is the folder if another controller of the same hierarchy has made it.
func (g *controlGroup) dirOf(own, name string) string {
	for _, d := range g.dirs {
		if d == filepath.Join(own, name) {
			return d
		}
	}
	return ""
}

// hierarchies are the folders of this process's own groups.
type hierarchies struct {
	v2, root string            // empty: not mounted; root is the mount point
	v1       map[string]string // controller → folder
}

func readHierarchies() (*hierarchies, error) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	h := &hierarchies{v1: map[string]string{}}
	for line := range strings.Lines(string(own)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		if f[0] == "0" {
			if dir, root := groupDir(string(mounts), "cgroup2", "", f[2]); dir != "" {
				h.v2, h.root = dir, root
			}
			continue
		}
		for _, c := range strings.Split(f[1], ",") {
			if dir, _ := groupDir(string(mounts), "cgroup", c, f[2]); dir != "" {
				h.v1[c] = dir
			}
		}
	}
	return h, nil
}

// groupDir finds the folder of a group in mountinfo (proc_pid_mountinfo(5)).
func groupDir(mounts, fsType, controller, group string) (dir, root string) {
	for line := range strings.Lines(mounts) {
		before, after, ok := strings.Cut(strings.TrimSpace(line), " - ")
		f, t := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(t) < 3 || t[0] != fsType || controller != "" && !slices.Contains(strings.Split(t[2], ","), controller) {
			continue
		}
		rel, err := filepath.Rel(f[3], group)
		if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
			continue
		}
		return path.Join(f[4], rel), f[4]
	}
	return "", ""
}

// delegated is the nearest folder of version 2, from this process's own up, in which groups with these controllers may be made.
func (h *hierarchies) delegated(controllers []string) (string, error) {
	if h.v2 == "" {
		return "", errors.New("no cgroup file system of version 2 is mounted")
	}
	err := fmt.Errorf("the controllers %s are not delegated to %s", strings.Join(controllers, ", "), h.v2)
	for dir := h.v2; ; dir = filepath.Dir(dir) {
		have, rerr := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
		if rerr != nil {
			return "", err
		}
		missing := slices.DeleteFunc(slices.Clone(controllers), func(c string) bool { return slices.Contains(strings.Fields(string(have)), c) })
		if len(missing) > 0 && dir == h.root {
			// The root of all may have processes and controllers for what is below.
			if os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+strings.Join(missing, " +")), 0) == nil {
				missing = nil
			}
		}
		if len(missing) == 0 {
			if werr := unix.Access(filepath.Join(dir, "cgroup.procs"), unix.W_OK); werr != nil {
				return "", fmt.Errorf("%s: %w", dir, werr)
			}
			return dir, nil
		}
		if dir == h.root || dir == "/" {
			return "", err
		}
	}
}

// sweepGroups removes groups that nobody is in and nobody is about to be.
func sweepGroups(parent string) {
	list, _ := filepath.Glob(filepath.Join(parent, groupName+"*"))
	for _, dir := range list {
		if st, err := os.Stat(dir); err == nil && time.Since(st.ModTime()) > time.Minute {
			_ = unix.Rmdir(dir) // refused where there are processes
		}
	}
}

func (g *controlGroup) write(controller, file, value string) error {
	dir, ok := g.dirs[controller]
	if !ok {
		return nil
	}
	if err := os.WriteFile(filepath.Join(dir, file), []byte(value), 0); err != nil {
		return fmt.Errorf("set %s to %s: %w", file, value, errors.Unwrap(err))
	}
	return nil
}

// set writes the limits. The names of files are those of the kernel's documentation (cgroup-v1, cgroup-v2).
func (g *controlGroup) set(l Limits) error {
	type setting struct{ controller, file, value string }
	num := func(n int64) string { return strconv.FormatInt(n, 10) }
	swap := l.MemorySwap
	if swap == 0 && l.Memory <= math.MaxInt64/2 {
		swap = 2 * l.Memory
	}
	period := uint64(100_000)
	if l.CPUPeriod > 0 {
		period = l.CPUPeriod
	}
	var list []setting
	if l.pids() > 0 {
		list = append(list, setting{"pids", "pids.max", num(l.pids())})
	}
	if g.v2 {
		if l.Memory > 0 {
			list = append(list, setting{"memory", "memory.max", num(l.Memory)}, setting{"memory", "memory.oom.group", "1"})
		}
		if l.CPUShares > 0 {
			list = append(list, setting{"cpu", "cpu.weight", num(1 + (int64(min(max(l.CPUShares, 2), 262144))-2)*9999/262142)})
		}
		if l.CPUQuota > 0 {
			list = append(list, setting{"cpu", "cpu.max", fmt.Sprint(l.CPUQuota, period)})
		}
	} else {
		if l.Memory > 0 {
			list = append(list, setting{"memory", "memory.limit_in_bytes", num(l.Memory)})
		}
		if l.CPUShares > 0 {
			list = append(list, setting{"cpu", "cpu.shares", fmt.Sprint(l.CPUShares)})
		}
		if l.CPUQuota > 0 {
			list = append(list, setting{"cpu", "cpu.cfs_period_us", fmt.Sprint(period)}, setting{"cpu", "cpu.cfs_quota_us", num(l.CPUQuota)})
		}
		if err := g.inheritCPUs(); err != nil {
			return err
		}
	}
	for file, value := range map[string]string{"cpuset.cpus": l.CPUs, "cpuset.mems": l.Mems} {
		if value != "" {
			list = append(list, setting{"cpuset", file, value})
		}
	}
	for _, s := range list {
		if err := g.write(s.controller, s.file, s.value); err != nil {
			return err
		}
	}
	return g.setSwap(l.Memory, swap)
}

// setSwap bounds what memory may go to the disk. A kernel that does not count swap has none to bound.
func (g *controlGroup) setSwap(memory, both int64) error {
	if memory <= 0 || both < 0 {
		return nil
	}
	file, value := "memory.memsw.limit_in_bytes", both
	if g.v2 {
		file, value = "memory.swap.max", both-memory
	}
	err := g.write("memory", file, strconv.FormatInt(value, 10))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return nil
	}
	return err
}

// inheritCPUs fills in what a new cpuset of version 1 lacks before a process may enter it.
func (g *controlGroup) inheritCPUs() error {
	dir := g.dirs["cpuset"]
	if dir == "" {
		return nil
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file))
		if err != nil {
			return err
		}
		if err := g.write("cpuset", file, strings.TrimSpace(string(value))); err != nil {
			return err
		}
	}
	return nil
}

// add puts a process, with all of its threads, into the group.
func (g *controlGroup) add(pid int) error {
	done := map[string]bool{}
	for c, dir := range g.dirs {
		if !done[dir] {
			if err := g.write(c, "cgroup.procs", strconv.Itoa(pid)); err != nil {
				return err
			}
			done[dir] = true
		}
	}
	return nil
}

// oomKilled says whether the kernel killed a process for the limit on memory.
func (g *controlGroup) oomKilled() bool {
	dir, ok := g.dirs["memory"]
	if !ok {
		return false
	}
	file := "memory.oom_control"
	if g.v2 {
		file = "memory.events"
	}
	text, _ := os.ReadFile(filepath.Join(dir, file))
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "oom_kill" && f[1] != "0" {
			return true
		}
	}
	return false
}

// remove removes the folders. The last processes have ended, and may still be on their way out of the group.
func (g *controlGroup) remove() {
	for _, dir := range g.dirs {
		for range 100 {
			if err := unix.Rmdir(dir); err != unix.EBUSY {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}
