//go:build linux

package sandbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A group of version 2 is made with a controller that the machine has there, holds a process, and goes. Which controllers those are
// is the machine's affair: where it runs version 1 beside, only those that nobody has bound.
func TestGroupOfVersion2(t *testing.T) {
	h, err := readHierarchies()
	if err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile(filepath.Join(h.root, "cgroup.controllers"))
	if h.v2 == "" || err != nil || len(strings.Fields(string(have))) == 0 {
		t.Skip("no controller of version 2 is here")
	}
	const subtree = "cgroup.subtree_control"
	before, err := os.ReadFile(filepath.Join(h.root, subtree))
	if err != nil {
		t.Fatal(err)
	}
	controller := strings.Fields(string(have))[0]
	t.Cleanup(func() {
		if !slices.Contains(strings.Fields(string(before)), controller) {
			_ = os.WriteFile(filepath.Join(h.root, subtree), []byte("-"+controller), 0)
		}
	})
	g, err := newControlGroup([]string{controller})
	if err != nil && os.Geteuid() != 0 {
		t.Skip("nothing is delegated to this user: ", err)
	}
	if err != nil {
		t.Skip("no group can be made here: ", err)
	}
	defer g.remove()
	if !g.v2 {
		t.Fatalf("%s is of version 1: %v", controller, g.dirs)
	}
	cmd := exec.Command("sleep", "1h")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
		if g.remove(); exists(g.dirs[controller]) {
			t.Errorf("%s is left", g.dirs[controller])
		}
	}()
	if err := g.add(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	in, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/cgroup")
	if want := "/" + filepath.Base(g.dirs[controller]) + "\n"; err != nil || !strings.Contains(string(in), want) {
		t.Errorf("the process is in %s, %v", in, err)
	}
}

// What is written to a group of version 2, by the names and forms of cgroups(7) and the kernel's cgroup-v2.
func TestSettingsOfVersion2(t *testing.T) {
	for _, c := range []struct {
		name   string
		limits Limits
		want   map[string]string
	}{
		{"nothing but the number of processes", Limits{Pids: 500}, map[string]string{"pids.max": "500"}},
		{"no limit at all", Limits{Pids: -1}, map[string]string{}},
		{"memory, with as much of swap", Limits{Pids: -1, Memory: 64 << 20},
			map[string]string{"memory.max": "67108864", "memory.oom.group": "1", "memory.swap.max": "67108864"}},
		{"memory without swap", Limits{Pids: -1, Memory: 64 << 20, MemorySwap: 64 << 20},
			map[string]string{"memory.max": "67108864", "memory.oom.group": "1", "memory.swap.max": "0"}},
		{"memory and any swap", Limits{Pids: -1, Memory: 64 << 20, MemorySwap: -1},
			map[string]string{"memory.max": "67108864", "memory.oom.group": "1"}},
		{"half a processor", Limits{Pids: -1, CPUQuota: 50_000}, map[string]string{"cpu.max": "50000 100000"}},
		{"the usual share", Limits{Pids: -1, CPUShares: 1024}, map[string]string{"cpu.weight": "39"}}, // as runc has it
		{"the most", Limits{Pids: -1, CPUShares: 1 << 40}, map[string]string{"cpu.weight": "10000"}},
		{"processors and nodes", Limits{Pids: -1, CPUs: "0-1", Mems: "0"}, map[string]string{"cpuset.cpus": "0-1", "cpuset.mems": "0"}},
	} {
		dir := t.TempDir()
		g := &controlGroup{v2: true, dirs: map[string]string{"pids": dir, "memory": dir, "cpu": dir, "cpuset": dir}}
		if err := g.set(c.limits); err != nil {
			t.Fatal(c.name, err)
		}
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			file := filepath.Join(dir, f.Name())
			if err := os.Chmod(file, 0o600); err != nil { // the kernel's are there before they are written
				t.Fatal(err)
			}
			got, err := os.ReadFile(file)
			if err != nil || c.want[f.Name()] != string(got) {
				t.Errorf("%s: %s is %q, %v; want %q", c.name, f.Name(), got, err, c.want[f.Name()])
			}
		}
		if len(files) != len(c.want) {
			t.Errorf("%s: %d files were written, want %v", c.name, len(files), c.want)
		}
	}
}

// Controllers are asked for at the nearest folder that gives them, and not above what this process sees.
func TestDelegated(t *testing.T) {
	root := t.TempDir()
	own := filepath.Join(root, "user", "scope")
	if err := os.MkdirAll(own, 0o755); err != nil {
		t.Fatal(err)
	}
	for dir, subtree := range map[string]string{own: "", filepath.Join(root, "user"): "memory pids\n", root: "cpu memory pids\n"} {
		write(t, filepath.Join(dir, "cgroup.subtree_control"), subtree, 0o444)
		write(t, filepath.Join(dir, "cgroup.procs"), "", 0o644)
	}
	for _, c := range []struct{ controllers, want string }{
		{"pids", "user"}, {"memory pids", "user"}, {"cpu", "."}, {"cpu memory", "."},
	} {
		h := &hierarchies{v2: own, root: root}
		dir, err := h.delegated(strings.Fields(c.controllers))
		if want := filepath.Join(root, c.want); err != nil || dir != want {
			t.Errorf("%s: got %s, %v; want %s", c.controllers, dir, err, want)
		}
	}
	if os.Geteuid() == 0 {
		return // whom no mode of a file keeps out
	}
	h := &hierarchies{v2: own, root: root}
	if dir, err := h.delegated([]string{"io"}); err == nil {
		t.Errorf("io: got %s", dir)
	}
}

// That memory ran out is read from the group's own count.
func TestOutOfMemoryOfVersion2(t *testing.T) {
	dir := t.TempDir()
	g := &controlGroup{v2: true, dirs: map[string]string{"memory": dir}}
	for text, want := range map[string]bool{
		"low 0\nhigh 0\nmax 7\noom 1\noom_kill 0\noom_group_kill 0\n": false,
		"low 0\nhigh 0\nmax 7\noom 1\noom_kill 3\noom_group_kill 1\n": true,
	} {
		write(t, filepath.Join(dir, "memory.events"), text, 0o644)
		if got := g.oomKilled(); got != want {
			t.Errorf("%q: got %v", text, got)
		}
	}
}
