package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skiff-build/skiff/internal/inode"
	"github.com/skiff-build/skiff/internal/inode/inodetest"
	"github.com/skiff-build/skiff/internal/whiteout"
)

// Overlayfs has no limit of some 40 layers here, as it has with absolute names in the mount options.
func TestChainsOfAnyLength(t *testing.T) {
	inodetest.Run(t, func(t *testing.T, mode string) {
		s := newTestSnapshots(t, t.TempDir())
		var chain []string
		for n := range MaxLayers {
			id := fmt.Sprintf("layer%03d", n)
			chain = append(chain, id)
			if n < 60 {
				write(t, s.layerDir(id), fmt.Sprintf("only%d", n), "")
			}
			write(t, s.layerDir(id), "top", fmt.Sprint(n))
			sealed(t, s, id)
		}
		for _, n := range []int{0, 1, 2, 60, 130, MaxLayers} {
			a := prepare(t, s, chain[:n])
			names := readNames(t, a.Root())
			if want := min(n, 60) + min(n, 1); len(names) != want {
				t.Errorf("%d layers: %d files, want %d", n, len(names), want)
			}
			if n > 0 {
				if top := read(t, a.Root(), "top"); top != fmt.Sprint(n-1) {
					t.Errorf("%d layers: top is %s", n, top)
				}
			}
			must(t, a.Discard())

			target := t.TempDir()
			unmount, err := s.Mount(context.Background(), chain[:n], target)
			must(t, err)
			if n <= 130 { // it takes a lookup per file and layer
				sameView(t, s, chain[:n], target)
			}
			if err := os.WriteFile(filepath.Join(target, "x"), nil, 0o600); !errors.Is(err, unix.EROFS) {
				t.Errorf("%d layers: write to a read-only view: %v", n, err)
			}
			must(t, unmount())
		}
		_, err := s.Prepare(context.Background(), append(chain, "one-more"))
		if err == nil || !strings.Contains(err.Error(), "at most 499") {
			t.Errorf("too many layers: %v", err)
		}
		checkNothingLeft(t, s)
	})
}

func TestCommit(t *testing.T) {
	inodetest.Run(t, func(t *testing.T, mode string) {
		s := newTestSnapshots(t, t.TempDir())
		testCommit(t, s)
		checkNothingLeft(t, s)
	})
}

// testCommit makes two layers and states what they hold.
func testCommit(t *testing.T, s *Snapshots) {
	ctx := context.Background()
	a := prepare(t, s, nil)
	root := a.Root()
	for _, d := range []string{"etc", "var", "var/lib", "gone", "swap", "kept"} {
		must(t, os.Mkdir(filepath.Join(root, d), 0o755))
	}
	for _, f := range []string{"etc/a", "etc/b", "var/lib/x", "gone/file", "swap/old", "file", "kept/f"} {
		write(t, root, f, f)
	}
	must(t, os.Chmod(filepath.Join(root, "var"), os.ModeSticky|0o777))
	commit(t, a, "one", false)
	checkLayer(t, s, "one", "etc", "etc/a", "etc/b", "file", "gone", "gone/file", "kept", "kept/f", "swap", "swap/old",
		"var", "var/lib", "var/lib/x")

	a = prepare(t, s, []string{"one"})
	root = a.Root()
	must(t, os.Remove(filepath.Join(root, "etc/a")))
	must(t, os.RemoveAll(filepath.Join(root, "gone")))
	must(t, os.RemoveAll(filepath.Join(root, "swap")))
	must(t, os.Mkdir(filepath.Join(root, "swap"), 0o700)) // the old content must not come back
	must(t, os.Mkdir(filepath.Join(root, "kept/new"), 0o755))
	write(t, root, "var/lib/temporary", "")
	must(t, os.Remove(filepath.Join(root, "var/lib/temporary"))) // leaves var/lib copied up for nothing
	must(t, inode.Create(filepath.Join(root, "owned"), inode.Info{Mode: inode.TypeDir | 0o750, UID: 1000, GID: 7}))
	must(t, inode.Set(filepath.Join(root, "kept/f"), inode.Info{Mode: inode.TypeFile | 0o4755, UID: 9, Xattrs: map[string]string{
		inode.CapabilityXattr: "\x01\x00\x00\x02" + strings.Repeat("\x00", 16)}}))
	must(t, inode.Create(filepath.Join(root, "null"), inode.Info{Mode: inode.TypeChar | 0o666, GID: 9, Major: 1, Minor: 3}))
	must(t, inode.Create(filepath.Join(root, "owned-link"), inode.Info{Mode: inode.TypeLink | 0o777, GID: 9, Link: "x"}))
	write(t, root, "linked", "same")
	must(t, os.Link(filepath.Join(root, "linked"), filepath.Join(root, "link")))
	before := view(t, dirTree(t, root))
	commit(t, a, "two", false)
	checkLayer(t, s, "two", "etc", "etc/a (whiteout)", "gone (whiteout)", "kept", "kept/f", "kept/new", "link", "linked", "null",
		"owned", "owned-link",
		"swap (opaque)")
	if !slices.ContainsFunc(before, func(l string) bool {
		return strings.Contains(l, "kept/f 104755 9:0") && strings.Contains(l, inode.CapabilityXattr)
	}) {
		t.Errorf("attributes did not hold:\n%s", strings.Join(before, "\n"))
	}
	after := view(t, chainTree(t, s, []string{"one", "two"}))
	compare(t, after, before)
	i, err := inode.Lstat(filepath.Join(s.layerDir("two"), "link"))
	if err != nil || i.Nlink != 2 {
		t.Errorf("hard link: %+v, %v", i, err)
	}

	chain := []string{"one", "two"}
	a = prepare(t, s, chain)
	write(t, a.Root(), "etc/new", "")
	must(t, os.Remove(filepath.Join(a.Root(), "etc/new")))
	commit(t, a, "none", true)
	if _, err := os.Lstat(filepath.Dir(s.layerDir("none"))); err == nil {
		t.Error("an empty layer was made")
	}
	a = prepare(t, s, chain)
	must(t, os.Chmod(a.Root(), 0o711)) // the root counts
	commit(t, a, "root", false)
	if i, err := chainTree(t, s, append(chain, "root")).Lstat("."); err != nil || i.Perm() != 0o711 {
		t.Errorf("root: %+v, %v", i, err)
	}

	// The layer exists: the one that is there stays.
	a = prepare(t, s, chain)
	write(t, a.Root(), "other", "")
	commit(t, a, "one", false)
	checkLayer(t, s, "one", "etc", "etc/a", "etc/b", "file", "gone", "gone/file", "kept", "kept/f", "swap", "swap/old",
		"var", "var/lib", "var/lib/x")

	var d *Damaged
	if _, err := s.Prepare(ctx, []string{"missing"}); !errors.As(err, &d) || d.Layers[0] != "missing" {
		t.Errorf("missing layer: %v", err)
	}
	if _, err := s.Prepare(ctx, []string{"../x"}); err == nil {
		t.Error("a layer outside")
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.Prepare(cancelled, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// In a container the store lies on an overlayfs, which can be no upper directory and hold no whiteouts.
func TestStoreOnOverlay(t *testing.T) {
	inodetest.Run(t, func(t *testing.T, mode string) {
		outer := newTestSnapshots(t, t.TempDir())
		a := prepare(t, outer, nil)
		store := filepath.Join(a.Root(), "store")
		must(t, os.Mkdir(store, 0o700))
		s := newTestSnapshots(t, store)
		testCommit(t, s)
		if !s.inRAM || !whiteout.Marked(s.layerDir("two")) {
			t.Errorf("upper in memory: %v, markers: %v; the test is no test", s.inRAM, whiteout.Marked(s.layerDir("two")))
		}
		chain := []string{"one", "two"}
		b := prepare(t, s, chain)
		sameView(t, s, chain, b.Root())
		// The kernel's own markers fail here: "directory not empty".
		must(t, os.RemoveAll(filepath.Join(b.Root(), "etc")))
		must(t, os.Mkdir(filepath.Join(b.Root(), "etc"), 0o755))
		before := view(t, dirTree(t, b.Root()))
		commit(t, b, "three", false)
		compare(t, view(t, chainTree(t, s, append(chain, "three"))), before)
		checkNothingLeft(t, s)
		must(t, a.Discard())
		checkNothingLeft(t, outer)
	})
}

func TestRemove(t *testing.T) {
	root := t.TempDir()
	s := New(root)
	dir := filepath.Join(root, "layers", "x")
	must(t, os.MkdirAll(filepath.Join(dir, "fs/a/b"), 0o755))
	write(t, filepath.Join(dir, "fs/a/b"), "file", "")
	must(t, os.Chmod(filepath.Join(dir, "fs/a/b"), 0))
	must(t, os.Chmod(filepath.Join(dir, "fs/a"), 0))
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.MkdirAll(outside, 0o755))
	must(t, os.Symlink(outside, filepath.Join(dir, "fs/link")))
	must(t, s.Remove([]string{dir, filepath.Join(root, "layers", "missing")}))
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left: %v", err)
	}
	if _, err := os.Lstat(outside); err != nil {
		t.Errorf("a link was followed: %v", err)
	}
	for _, p := range []string{root, outside, root + "/../x", "/"} {
		if err := s.Remove([]string{p}); err == nil {
			t.Errorf("removed %s", p)
		}
	}
}

func TestUnavailable(t *testing.T) {
	var u *Unavailable
	if err := unavailable("mount overlay", unix.EPERM); !errors.As(err, &u) || !errors.Is(err, unix.EPERM) || u.Mend == "" {
		t.Errorf("%v", err)
	}
	if err := unavailable("mount overlay", unix.ENODEV); !errors.As(err, &u) || !strings.Contains(u.Mend, "modprobe") {
		t.Errorf("%v", err)
	}
	if os.Geteuid() != 0 {
		if _, err := New(t.TempDir()).Prepare(context.Background(), nil); !errors.As(err, &u) {
			t.Errorf("without a namespace: %v", err)
		}
	}
}

func newTestSnapshots(t *testing.T, root string) *Snapshots {
	s := New(root)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

func prepare(t *testing.T, s *Snapshots, chain []string) *Active {
	t.Helper()
	a, err := s.Prepare(context.Background(), chain)
	must(t, err)
	return a
}

func commit(t *testing.T, a *Active, id string, wantEmpty bool) {
	t.Helper()
	empty, err := a.Commit(id)
	must(t, err)
	if empty != wantEmpty {
		t.Errorf("layer %s: empty is %v", id, empty)
	}
}

// checkLayer compares the names in a layer directory, with its marks.
func checkLayer(t *testing.T, s *Snapshots, id string, want ...string) {
	t.Helper()
	var got []string
	dir := s.layerDir(id)
	must(t, filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		name, _ := filepath.Rel(dir, p)
		if i, err := inode.Lstat(p); err == nil && whiteout.Is(p, i) {
			name += " (whiteout)"
		} else if e.IsDir() && whiteout.IsOpaque(p) {
			name += " (opaque)"
		}
		got = append(got, name)
		return nil
	}))
	if !slices.Equal(got, want) {
		t.Errorf("layer %s:\ngot  %q\nwant %q", id, got, want)
	}
}

// checkNothingLeft fails where temporary directories other than the one for all mounts are left.
func checkNothingLeft(t *testing.T, s *Snapshots) {
	t.Helper()
	must(t, s.Close())
	if names := readNames(t, filepath.Join(s.root, "tmp")); len(names) != 0 {
		t.Errorf("left in tmp: %q", names)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, s.root+"/") {
			t.Errorf("left mounted: %s", line)
		}
	}
}

func sameView(t *testing.T, s *Snapshots, chain []string, mounted string) {
	t.Helper()
	compare(t, view(t, chainTree(t, s, chain)), view(t, dirTree(t, mounted)))
}

func chainTree(t *testing.T, s *Snapshots, chain []string) inode.Tree {
	t.Helper()
	tree, done, err := s.Tree(chain)
	must(t, err)
	t.Cleanup(func() { must(t, done()) })
	return tree
}

// dirTree is the tree of a mounted directory.
func dirTree(t *testing.T, dir string) inode.Tree {
	t.Helper()
	tree, done, err := inode.Dir(dir)
	must(t, err)
	t.Cleanup(func() { must(t, done()) })
	return mountedTree{tree}
}

// mountedTree leaves out what the kernel lists and does not find: a whiteout in a directory that no layer
// below has.
type mountedTree struct{ inode.Tree }

func (m mountedTree) ReadDir(name string) ([]string, error) {
	names, err := m.Tree.ReadDir(name)
	return slices.DeleteFunc(names, func(n string) bool {
		_, err := m.Lstat(path.Join(name, n))
		return errors.Is(err, os.ErrNotExist)
	}), err
}

// view describes all files of a tree, a line each.
func view(t *testing.T, tree inode.Tree) []string {
	t.Helper()
	var lines []string
	var walk func(name string)
	walk = func(name string) {
		i, err := tree.Lstat(name)
		must(t, err)
		line := fmt.Sprintf("%s %o %d:%d %d:%d %q %q", name, i.Mode, i.UID, i.GID, i.Major, i.Minor, i.Link, i.Xattrs)
		switch {
		case i.IsDir():
			lines = append(lines, line)
			names, err := tree.ReadDir(name)
			must(t, err)
			for _, n := range names {
				walk(path.Join(name, n))
			}
			return
		case i.IsRegular():
			r, err := tree.Open(name)
			must(t, err)
			text, err := io.ReadAll(r)
			must(t, errors.Join(err, r.Close()))
			line += fmt.Sprintf(" %d %q links %d", i.Size, text, i.Nlink)
		default:
			if r, err := tree.Open(name); err == nil {
				r.Close()
				t.Errorf("%s: opened", name)
			}
		}
		lines = append(lines, line+fmt.Sprint(" ", i.Mtime))
	}
	walk(".")
	return lines
}

func compare(t *testing.T, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	for _, l := range got {
		if !slices.Contains(want, l) {
			t.Errorf("only in the first:  %s", l)
		}
	}
	for _, l := range want {
		if !slices.Contains(got, l) {
			t.Errorf("only in the second: %s", l)
		}
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	must(t, err)
	return string(text)
}

func readNames(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The kernel follows no link in what is mounted: a path that nobody has resolved leads nowhere, least of all out of the chain.
func TestLinksAreNotFollowed(t *testing.T) {
	inodetest.Run(t, func(t *testing.T, mode string) {
		s := newTestSnapshots(t, t.TempDir())
		outside := t.TempDir()
		write(t, outside, "file", "of the machine")
		must(t, os.MkdirAll(s.layerDir("links"), 0o755))
		must(t, os.Symlink(outside, filepath.Join(s.layerDir("links"), "out")))
		sealed(t, s, "links")
		a := prepare(t, s, []string{"links"})
		if b, err := os.ReadFile(filepath.Join(a.Root(), "out/file")); !errors.Is(err, unix.ELOOP) {
			t.Errorf("read through a link: %q, %v", b, err)
		}
		if err := os.WriteFile(filepath.Join(a.Root(), "out/new"), nil, 0o600); !errors.Is(err, unix.ELOOP) {
			t.Errorf("written through a link: %v", err)
		}
		if to, err := os.Readlink(filepath.Join(a.Root(), "out")); err != nil || to != outside {
			t.Errorf("the link itself: %q, %v", to, err)
		}
		must(t, a.Discard())
		checkNothingLeft(t, s)
	})
}
