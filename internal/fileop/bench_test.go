package fileop

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/buildkit/solver/pb"
	"github.com/skiff-build/skiff/internal/inode"
)

// BenchmarkCopy copies 2,000 files of 4 kB in 20 folders, as COPY . . does.
func BenchmarkCopy(b *testing.B) {
	src, dst := b.TempDir(), b.TempDir()
	data := make([]byte, 4096)
	for i := range 2000 {
		p := filepath.Join(src, fmt.Sprint(i%20), "sub", fmt.Sprint(i))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(p, data, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	tree, done, err := inode.Dir(src)
	if err != nil {
		b.Fatal(err)
	}
	defer done()
	a := &pb.FileAction{Action: &pb.FileAction_Copy{Copy: dockerCopy("/", "/d/")}}
	for b.Loop() {
		if err := Apply(b.Context(), dst, a, tree, nil); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		os.RemoveAll(filepath.Join(dst, "d"))
		b.StartTimer()
	}
}

// BenchmarkDigest digests the same, reading every file.
func BenchmarkDigest(b *testing.B) {
	src := b.TempDir()
	for i := range 2000 {
		p := filepath.Join(src, fmt.Sprint(i%20), "sub", fmt.Sprint(i))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(p, make([]byte, 4096), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	tree, done, err := inode.Dir(src)
	if err != nil {
		b.Fatal(err)
	}
	defer done()
	for b.Loop() {
		if _, err := Digest(b.Context(), tree, Selector{}, nil); err != nil {
			b.Fatal(err)
		}
	}
}
