package snapshot

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/skiff-build/skiff/internal/inode"
	"github.com/skiff-build/skiff/internal/inode/inodetest"
	"github.com/skiff-build/skiff/internal/whiteout"
)

// What is saved and loaded is vouched for by its content: owners, records of owners, whiteouts, links, modes that forbid all.
func TestSaveAndLoad(t *testing.T) {
	inodetest.Run(t, func(t *testing.T, mode string) {
		root := t.TempDir()
		s := New(root)
		fullLayer(t, s, "one")
		a := prepare(t, s, []string{"one"})
		must(t, os.Remove(filepath.Join(a.Root(), "d/two")))
		must(t, os.RemoveAll(filepath.Join(a.Root(), "empty")))
		must(t, os.Mkdir(filepath.Join(a.Root(), "empty"), 0o700))
		write(t, a.Root(), "owned", "owned")
		must(t, inode.Set(filepath.Join(a.Root(), "owned"), inode.Info{Mode: inode.TypeFile | 0o4711, UID: 1000, GID: 70000}))
		must(t, os.Symlink("x", filepath.Join(a.Root(), "link")))
		must(t, inode.Set(filepath.Join(a.Root(), "link"), inode.Info{Mode: inode.TypeLink | 0o777, UID: 33, GID: 44}))
		must(t, inode.Create(filepath.Join(a.Root(), "device"), inode.Info{Mode: inode.TypeChar | 0o600, Major: 1, Minor: 3}))
		must(t, os.Mkdir(filepath.Join(a.Root(), "shut"), 0o755))
		write(t, a.Root(), "shut/in", "in")
		must(t, os.Chmod(filepath.Join(a.Root(), "shut"), 0))
		commit(t, a, "two", false)
		must(t, s.Close())
		write(t, root, "tmp/left", "not saved")
		var b bytes.Buffer
		must(t, s.Save(t.Context(), &b, []string{"tmp"}))

		to := t.TempDir()
		must(t, os.Mkdir(filepath.Join(to, "layers"), 0o700))
		loaded := newTestSnapshots(t, to)
		must(t, loaded.Load(t.Context(), bytes.NewReader(b.Bytes())))
		must(t, loaded.Vouch("one", "two"))
		chain := []string{"one", "two"}
		compare(t, view(t, chainTree(t, loaded, chain)), view(t, chainTree(t, s, chain)))
		if _, err := os.Lstat(filepath.Join(to, "tmp/left")); err == nil {
			t.Error("what was to be left out is there")
		}
		if !whiteout.IsOpaque(filepath.Join(loaded.layerDir("two"), "empty")) {
			t.Error("the test has no opaque directory")
		}
	})
}

// An archive of somebody else touches nothing outside of the state.
func TestLoadStaysInside(t *testing.T) {
	outside := t.TempDir()
	for what, entries := range map[string][]tar.Header{
		"above":                 {{Name: "../x", Typeflag: tar.TypeReg}},
		"absolute":              {{Name: outside + "/x", Typeflag: tar.TypeReg}},
		"through a link":        {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: outside}, {Name: "l/x", Typeflag: tar.TypeReg}},
		"a folder over a link":  {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: outside}, {Name: "l/", Typeflag: tar.TypeDir}},
		"a link over a folder":  {{Name: "d/", Typeflag: tar.TypeDir}, {Name: "d", Typeflag: tar.TypeSymlink, Linkname: outside}},
		"a hard link to above":  {{Name: "h", Typeflag: tar.TypeLink, Linkname: "../x"}},
		"a hard link by a link": {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: outside}, {Name: "h", Typeflag: tar.TypeLink, Linkname: "l/x"}},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range entries {
			h.Mode, h.Uid, h.Gid, h.Format = 0o755, os.Getuid(), os.Getgid(), tar.FormatPAX
			must(t, w.WriteHeader(&h))
		}
		must(t, w.Close())
		if err := New(t.TempDir()).Load(t.Context(), &b); err == nil {
			t.Errorf("%s: it was loaded", what)
		}
	}
	if names := readNames(t, outside); len(names) != 0 {
		t.Errorf("outside: %q", names)
	}
}
