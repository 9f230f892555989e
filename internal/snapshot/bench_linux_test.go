package snapshot

import (
	"context"
	"fmt"
	"os"
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
