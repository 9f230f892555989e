package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func manyFiles(t testing.TB, dir string, n int) {
	t.Helper()
	for i := range n {
		sub := filepath.Join(dir, fmt.Sprintf("cache/x/data/%02x", i%256))
		if i < 256 {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprint(i)), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRemoveAllAndSize(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tree")
	manyFiles(t, dir, 1000)
	outside := filepath.Join(t.TempDir(), "outside")
	write(t, filepath.Join(outside, "file"), "stays")
	if err := os.Symlink(outside, filepath.Join(dir, "cache/x/data/00/link")); err != nil {
		t.Fatal(err)
	}
	for i := range 5 { // which count once
		if err := os.Link(filepath.Join(dir, "cache/x/data/00/0"), filepath.Join(dir, fmt.Sprintf("cache/x/data/01/linked%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	var want int64
	err := filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if i, ierr := e.Info(); err == nil && ierr == nil && !strings.Contains(e.Name(), "linked") {
			want += onDisk(i)
		}
		return err
	})
	if got := treeSize(dir); err != nil || got != want {
		t.Errorf("size %d, want %d, %v", got, want, err)
	}
	for range 2 {
		if err := RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		t.Errorf("it is there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(outside, "file")); err != nil {
		t.Errorf("a link was followed: %v", err)
	}
}

func BenchmarkRemoveAll(b *testing.B) {
	for name, remove := range map[string]func(string) error{"os": os.RemoveAll, "store": RemoveAll} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				dir := filepath.Join(b.TempDir(), "tree")
				manyFiles(b, dir, 30_000)
				b.StartTimer()
				if err := remove(dir); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
