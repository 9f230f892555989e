package snapshot

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkPrepare is what a step pays: mount, commit nothing, unmount, remove.
func BenchmarkPrepare(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root to mount")
	}
	s := New(b.TempDir())
	defer s.Close()
	var chain []string
	for n := range 10 {
		chain = append(chain, fmt.Sprint("l", n))
		if err := os.MkdirAll(s.layerDir(chain[n]), 0o755); err != nil {
			b.Fatal(err)
		}
		sealed(b, s, chain[n])
	}
	for b.Loop() {
		a, err := s.Prepare(context.Background(), chain)
		if err != nil {
			b.Fatal(err)
		}
		if empty, err := a.Commit("x"); err != nil || !empty {
			b.Fatal(empty, err)
		}
	}
}

// BenchmarkCommit is the commit of a step that looked at 2,000 files and wrote one.
func BenchmarkCommit(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root to mount")
	}
	s := New(b.TempDir())
	defer s.Close()
	below := s.layerDir("below")
	for i := range 2000 {
		file := filepath.Join(below, fmt.Sprint(i%100), fmt.Sprint(i))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	sealed(b, s, "below")
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		a, err := s.Prepare(b.Context(), []string{"below"})
		if err != nil {
			b.Fatal(err)
		}
		err = filepath.WalkDir(a.Root(), func(_ string, e fs.DirEntry, err error) error {
			if err == nil {
				_, err = e.Info()
			}
			return err
		})
		if err == nil {
			err = os.WriteFile(filepath.Join(a.Root(), "new"), nil, 0o644)
		}
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if empty, err := a.Commit(fmt.Sprint("n", i)); err != nil || empty {
			b.Fatal(empty, err)
		}
	}
}
