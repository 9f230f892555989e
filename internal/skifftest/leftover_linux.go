package skifftest

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// marker is the variable by which processes that a test started are known, whoever their parent is by then.
const marker = "SKIFF_TEST_MARK"

// NoLeftovers fails the test when, after it and all that it cleans up later than this call, a process that it started
// still runs, or a mount in its temporary directories is there. Processes get five seconds to end. They are known by a
// variable, NAME=VALUE, which is set for the test and returned for those whose environment does not come from it.
func NoLeftovers(t testing.TB) (mark string) {
	t.Helper()
	mark = marker + "=" + rand.Text()
	// Where t.TempDir lies, of subtests too. Elsewhere the machine and the tests of other packages mount what they like.
	below := filepath.Join(os.TempDir(), strings.ReplaceAll(t.Name(), "/", ""))
	// Registered before Setenv: cleanups run last in, first out, and the environment is back by then.
	t.Cleanup(func() {
		deadline := time.Now().Add(5 * time.Second)
		left := Processes(mark)
		for len(left) > 0 && time.Now().Before(deadline) {
			time.Sleep(20 * time.Millisecond)
			left = Processes(mark)
		}
		for _, p := range left {
			t.Errorf("left behind: process %s", p)
		}
		for _, m := range mounts(t, below) {
			t.Errorf("left behind: mount %s", m)
		}
	})
	name, value, _ := strings.Cut(mark, "=")
	t.Setenv(name, value)
	return mark
}

// mounts are the mount points of this process's namespace that begin with prefix.
func mounts(t testing.TB, prefix string) []string {
	t.Helper()
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var points []string
	for line := range strings.Lines(string(info)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], prefix) {
			points = append(points, f[4])
		}
	}
	return points
}

// Processes finds those that have mark in their environment. One whose environment may not be read is not seen.
func Processes(mark string) []string {
	var found []string
	envs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range envs {
		dir := filepath.Dir(file)
		env, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(env, []byte(mark)) || filepath.Base(dir) == fmt.Sprint(os.Getpid()) {
			continue
		}
		line, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		found = append(found, filepath.Base(dir)+" "+strings.ReplaceAll(string(line), "\x00", " "))
	}
	return found
}
