package snapshot

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skiff-build/skiff/internal/inode"
	"github.com/skiff-build/skiff/internal/inode/inodetest"
	"github.com/skiff-build/skiff/internal/whiteout"
)

// Layers made of random files and marks look the same in Tree as they do mounted.
func TestTreeAgreesWithOverlayfs(t *testing.T) {
	inodetest.Run(t, func(t *testing.T, mode string) {
		s := newTestSnapshots(t, t.TempDir())
		for seed := range uint64(20) {
			r := rand.New(rand.NewPCG(seed, 1))
			var chain []string
			for n := range 1 + r.IntN(5) {
				id := fmt.Sprintf("s%d-%d", seed, n)
				chain = append(chain, id)
				dir := s.layerDir(id)
				must(t, os.MkdirAll(dir, 0o755))
				fill(t, r, dir, ".", 0)
				sealed(t, s, id)
			}
			target := t.TempDir()
			unmount, err := s.Mount(context.Background(), chain, target)
			must(t, err)
			sameView(t, s, chain, target)
			must(t, unmount())
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	})
}

// fill makes random entries below the directory dir of a layer.
func fill(t *testing.T, r *rand.Rand, root, dir string, depth int) {
	t.Helper()
	for _, name := range []string{"a", "b", "c", "d"} {
		name = filepath.Join(dir, name)
		path := filepath.Join(root, name)
		info := inode.Info{UID: r.IntN(2) * 1000, GID: r.IntN(2) * 70000, Mode: uint32([]int{0o755, 0o600, 0o6711}[r.IntN(3)])}
		switch r.IntN(10) {
		case 0, 1:
			must(t, os.WriteFile(path, []byte(root)[:r.IntN(9)], 0o600))
			must(t, inode.Set(path, info))
		case 2:
			must(t, whiteout.Make(root, name))
		case 3: // as on a file system that holds no whiteouts
			must(t, makeMarker(root, path))
		case 4:
			info.Mode, info.Link = inode.TypeLink|0o777, "../a/b"
			must(t, inode.Create(path, info))
		case 5:
			info.Mode, info.Major, info.Minor = info.Mode|inode.TypeChar, 1, uint32(r.IntN(2))
			must(t, inode.Create(path, info))
		case 6, 7:
			must(t, os.Mkdir(path, 0o755))
			if depth < 3 {
				fill(t, r, root, name, depth+1)
			}
			must(t, whiteout.SetOpaque(path, r.IntN(4) == 0))
			must(t, inode.Set(path, info))
		}
	}
}

func makeMarker(root, path string) error {
	return errors.Join(unix.Setxattr(root, whiteout.MarkedXattr, []byte("y"), 0), os.WriteFile(path, nil, 0o600),
		unix.Setxattr(path, whiteout.MarkerXattr, []byte("y"), 0))
}

// Whatever is done to a chain, the committed layer shows what was there.
func TestCommitKeepsTheView(t *testing.T) { testCommitKeepsTheView(t, false) }

// So does one of a chain that was copied in the place of mounting it.
func TestCommitWithoutMounts(t *testing.T) { testCommitKeepsTheView(t, true) }

func testCommitKeepsTheView(t *testing.T, bare bool) {
	inodetest.Run(t, func(t *testing.T, mode string) {
		s := newTestSnapshots(t, t.TempDir())
		s.bare = bare
		var chain []string
		for n := range 20 {
			r := rand.New(rand.NewPCG(uint64(n), 2))
			a := prepare(t, s, chain)
			for range 1 + r.IntN(30) {
				change(r, a.Root(), bare)
			}
			before := view(t, dirTree(t, a.Root()))
			id := fmt.Sprint("r", n)
			empty, err := a.Commit(id)
			must(t, err)
			if !empty {
				chain = append(chain, id)
			}
			compare(t, view(t, chainTree(t, s, chain)), before)
			if t.Failed() {
				t.Fatalf("round %d", n)
			}
		}
		checkNothingLeft(t, s)
	})
}

// change does one random thing, which may fail: the kernel is the judge of what is there. Overlayfs refuses to rename a folder of a layer.
func change(r *rand.Rand, root string, bare bool) {
	random := func() string {
		p := root
		for range 1 + r.IntN(3) {
			p = filepath.Join(p, string(rune('a'+r.IntN(4))))
		}
		return p
	}
	p := random()
	switch r.IntN(10) {
	case 0, 1:
		os.MkdirAll(p, 0o755)
	case 2, 3:
		os.WriteFile(p, []byte(p[len(root):]), 0o644)
	case 4:
		os.RemoveAll(p)
	case 5:
		os.Symlink("a/b", p)
	case 6:
		if fi, err := os.Lstat(p); err == nil && (!bare || !fi.IsDir()) {
			os.Rename(p, random())
		}
	case 7:
		os.RemoveAll(p)
		os.Mkdir(p, 0o700)
	case 8:
		if i, err := inode.Lstat(p); err == nil {
			i.UID, i.Mode = r.IntN(3), i.Type()|0o711
			inode.Set(p, i)
		}
	case 9:
		os.Link(p, random())
	}
}
