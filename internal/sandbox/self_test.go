//go:build linux

package sandbox

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestCopySelf(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bin")
	first, err := copySelf(dir)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(first)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Stat("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if st.Size() != exe.Size() || st.Mode() != 0o755 {
		t.Errorf("%d bytes, mode %v; the executable has %d", st.Size(), st.Mode(), exe.Size())
	}
	again, err := copySelf(dir)
	if err != nil || again != first {
		t.Fatalf("%s, %v; before: %s", again, err, first)
	}
	if now, err := os.Stat(again); err != nil || !os.SameFile(st, now) {
		t.Error("it was copied again")
	}

	// A copy cut short, one of an older build, and one still in use.
	if err := os.Truncate(first, 10); err != nil {
		t.Fatal(err)
	}
	old, recent := filepath.Join(dir, "skiff-old"), filepath.Join(dir, "skiff-recent")
	write(t, old, "", 0o755)
	write(t, recent, "", 0o755)
	long := time.Now().Add(-2 * unusedCopies)
	if err := os.Chtimes(old, long, long); err != nil {
		t.Fatal(err)
	}
	if _, err := copySelf(dir); err != nil {
		t.Fatal(err)
	}
	// A byte changed by a failing disk, which leaves the times alone; then a copy of a state that was moved.
	good, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(first)
	if err != nil {
		t.Fatal(err)
	}
	write(t, first, string(good[:5000])+"X"+string(good[5001:]), 0o755)
	if err := os.Chtimes(first, time.Time{}, before.ModTime()); err != nil {
		t.Fatal(err)
	}
	if _, err := copySelf(dir); err != nil {
		t.Fatal(err)
	}
	if now, err := os.ReadFile(first); err != nil || !bytes.Equal(now, good) {
		t.Errorf("a damaged copy is used: %v", err)
	}
	if err := os.Remove(first + ".seal"); err != nil {
		t.Fatal(err)
	}
	moved, err := os.Stat(first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := copySelf(dir); err != nil {
		t.Fatal(err)
	}
	if now, err := os.Stat(first); err != nil || !os.SameFile(moved, now) {
		t.Errorf("an equal copy was made again: %v", err)
	}
	if st, err := os.Stat(first); err != nil || st.Size() != exe.Size() {
		t.Error("a copy cut short was taken for a good one")
	}
	if exists(old) || !exists(recent) {
		t.Errorf("old copy there: %v, recent copy there: %v", exists(old), exists(recent))
	}
}
