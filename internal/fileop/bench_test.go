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

// listed is a tree in memory: files and directories by name, and the names in each directory.
type listed struct {
	inode.Tree
	files map[string]inode.Info
	dirs  map[string][]string
}

func (l listed) Lstat(name string) (inode.Info, error) { return l.files[name], nil }
func (l listed) ReadDir(name string) ([]string, error) { return l.dirs[name], nil }

// BenchmarkDigestKnown digests 20,000 files whose contents are known.
func BenchmarkDigestKnown(b *testing.B) {
	tree := listed{files: map[string]inode.Info{".": {Mode: inode.TypeDir | 0o755}}, dirs: map[string][]string{}}
	for i := range 20_000 {
		dir, name := fmt.Sprintf("d%03d", i/100), fmt.Sprintf("file%06d", i)
		if i%100 == 0 {
			tree.dirs["."], tree.files[dir] = append(tree.dirs["."], dir), inode.Info{Mode: inode.TypeDir | 0o755}
		}
		tree.dirs[dir], tree.files[dir+"/"+name] = append(tree.dirs[dir], name), inode.Info{Mode: inode.TypeFile | 0o644}
	}
	sum := fmt.Sprintf("%064d", 0)
	for b.Loop() {
		if _, err := Digest(b.Context(), tree, Selector{}, func(string) (string, error) { return sum, nil }); err != nil {
			b.Fatal(err)
		}
	}
}
