//go:build linux

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The bomb starts processes that start processes, and none ever ends. They are copies that make system calls alone, since Go's
// runtime does not outlive a fork.
var _ = helper("bomb", func([]string) error {
	for {
		unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	}
})

// The hog takes memory in pieces of 1 MiB, and uses it.
var _ = helper("hog", func([]string) error {
	for range 1024 {
		b, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return err
		}
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
	}
	fmt.Println("took 1 GiB")
	return nil
})

// leftGroups are the control groups of steps that are there.
func leftGroups(t *testing.T) (list []string) {
	t.Helper()
	err := filepath.WalkDir("/sys/fs/cgroup", func(name string, e os.DirEntry, err error) error {
		if err == nil && e.IsDir() && strings.HasPrefix(e.Name(), groupName) {
			list = append(list, name)
		}
		return nil // what another run removes meanwhile
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// Issue 12, A4.
func TestForkBomb(t *testing.T) {
	if !pidMaxOfNamespace() {
		t.Skip("Linux before 6.14: a bomb in a test is held by a control group or by nothing")
	}
	modes(t, func(t *testing.T, c *Child) {
		_, err := runReq(t, c, runRequest{Spec: step(t, "bomb"), FakeIDs: c.Mode() == ModeOneID, Limits: Limits{Pids: 310}})
		var exit *ExitError
		if !errors.As(err, &exit) || exit.Code != 137 || !strings.Contains(exit.Message, "all of the 310 processes that a step may have") {
			t.Errorf("got %v", err)
		}
		if out := mustRun(t, c, step(t, "hello", "after")); out != "hello after\n" {
			t.Errorf("after it: %q", out)
		}
	})
}

// The crowd is one process of 280 threads, which do nothing.
var _ = helper("crowd", func([]string) error {
	for range 280 {
		go func() {
			runtime.LockOSThread()
			_ = unix.Pause()
		}()
	}
	return unix.Pause()
})

// Threads count as processes do.
func TestThreadBomb(t *testing.T) {
	if !pidMaxOfNamespace() {
		t.Skip("Linux before 6.14: as TestForkBomb")
	}
	c := enter(t)
	_, err := runReq(t, c, runRequest{Spec: step(t, "crowd"), FakeIDs: c.Mode() == ModeOneID, Limits: Limits{Pids: 310}})
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Code != 137 || !strings.Contains(exit.Message, "all of the 310 processes that a step may have") {
		t.Errorf("got %v", err)
	}
}

func TestMemoryLimit(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) {
		out, err := runReq(t, c, runRequest{Spec: step(t, "hog"), FakeIDs: c.Mode() == ModeOneID, Limits: Limits{Memory: 64 << 20, MemorySwap: 64 << 20}})
		var exit *ExitError
		held := strings.Contains(out, "told: the limit of 64MiB of memory holds for each process")
		switch {
		case !errors.As(err, &exit):
			t.Errorf("got %v, %s", err, out)
		case held && !strings.Contains(exit.Message, "each of its processes may use 64MiB"):
			t.Errorf("without a control group: %v", err)
		case !held && !strings.Contains(exit.Message, "memory ran out: the step may use 64MiB"):
			t.Errorf("with a control group: %v", err)
		}
		if out := mustRun(t, c, step(t, "hello", "after")); out != "hello after\n" {
			t.Errorf("after it: %q", out)
		}
		if left := leftGroups(t); len(left) > 0 {
			t.Errorf("left behind: %s", left)
		}
	})
}

var _ = helper("cpus", func([]string) error {
	var set unix.CPUSet
	err := unix.SchedGetaffinity(0, &set)
	fmt.Println("cpus", set.Count(), set.IsSet(0))
	return err
})

// CPUs are held, or asked for and that is said; a share of their time is held or an error.
func TestCPULimits(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) {
		out, err := runReq(t, c, runRequest{Spec: step(t, "cpus"), FakeIDs: c.Mode() == ModeOneID, Limits: Limits{CPUs: "0"}})
		if err != nil || !strings.HasSuffix(out, "cpus 1 true\n") {
			t.Errorf("got %q, %v", out, err)
		}
		_, err = runReq(t, c, runRequest{Spec: step(t, "hello", "x"), FakeIDs: c.Mode() == ModeOneID, Limits: Limits{CPUQuota: 50_000, CPUShares: 512}})
		if err != nil && !strings.Contains(err.Error(), "need a control group, and there is none to be had") {
			t.Errorf("got %v", err)
		}
		if left := leftGroups(t); len(left) > 0 {
			t.Errorf("left behind: %s", left)
		}
	})
}

// Folders of a group are found in every kind of mount: version 1 with several controllers in one, version 2, and a container's view
// of a part of it.
func TestGroupDir(t *testing.T) {
	const mounts = `31 24 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 24 0:27 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
33 24 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
`
	for _, test := range []struct{ fs, controller, group, dir, root string }{
		{"cgroup", "cpu", "/a/b", "/sys/fs/cgroup/cpu,cpuacct/a/b", "/sys/fs/cgroup/cpu,cpuacct"},
		{"cgroup", "memory", "/docker/abc/x", "/sys/fs/cgroup/memory/x", "/sys/fs/cgroup/memory"},
		{"cgroup", "memory", "/elsewhere", "", ""},
		{"cgroup", "pids", "/", "", ""},
		{"cgroup2", "", "/", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified"},
	} {
		if dir, root := groupDir(mounts, test.fs, test.controller, test.group); dir != test.dir || root != test.root {
			t.Errorf("%+v: got %s, %s", test, dir, root)
		}
	}
}
