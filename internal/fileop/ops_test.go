package fileop

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/pb"
	"github.com/skiff-build/skiff/internal/inode"
)

func TestOtherActions(t *testing.T) {
	chown := func(u, g uint32) *pb.ChownOpt { return &pb.ChownOpt{User: byID(u), Group: byID(g)} }
	mkdir := func(a *pb.FileActionMkDir) *pb.FileAction {
		return &pb.FileAction{Action: &pb.FileAction_Mkdir{Mkdir: a}}
	}
	mkfile := func(a *pb.FileActionMkFile) *pb.FileAction {
		return &pb.FileAction{Action: &pb.FileAction_Mkfile{Mkfile: a}}
	}
	link := func(a *pb.FileActionSymlink) *pb.FileAction {
		return &pb.FileAction{Action: &pb.FileAction_Symlink{Symlink: a}}
	}
	rm := func(path string, wildcard, allow bool) *pb.FileAction {
		return &pb.FileAction{Action: &pb.FileAction_Rm{Rm: &pb.FileActionRm{Path: path, AllowWildcard: wildcard, AllowNotFound: allow}}}
	}
	for _, c := range []struct {
		name, dst string
		do        *pb.FileAction
		want      string
	}{
		{"mkdir", ``, mkdir(&pb.FileActionMkDir{Path: "/a", Mode: 0o750}), `d 0750 0:0 a`},
		{"mkdir parents, owned", `d 0700 1:1 a`, mkdir(&pb.FileActionMkDir{Path: "/a/b/c", Mode: 0o755, MakeParents: true, Owner: chown(5, 6)}), `
			d 0700 1:1 a
			d 0755 5:6 a/b
			d 0755 5:6 a/b/c`},
		{"mkdir without parent", ``, mkdir(&pb.FileActionMkDir{Path: "/a/b", Mode: 0o755}), `error: no such file`},
		{"mkdir exists", `d 0700 1:1 a`, mkdir(&pb.FileActionMkDir{Path: "/a", Mode: 0o755, Owner: chown(5, 6)}), `d 0700 1:1 a`},
		{"mkdir on a file", `f 0700 1:1 a`, mkdir(&pb.FileActionMkDir{Path: "/a", Mode: 0o755, MakeParents: true}), `error: not a directory`},
		{"mkdir through a link", `l 0777 0:0 a /x/y`, mkdir(&pb.FileActionMkDir{Path: "/a/b", Mode: 0o755, MakeParents: true}), `
			l 0777 0:0 a /x/y
			d 0755 0:0 x
			d 0755 0:0 x/y
			d 0755 0:0 x/y/b`},
		{"mkfile", ``, mkfile(&pb.FileActionMkFile{Path: "/a", Mode: 0o4644, Data: []byte("x"), Owner: chown(5, 6)}), `f 0644 5:6 a x`},
		{"mkfile replaces", `f 0600 1:1 a old`, mkfile(&pb.FileActionMkFile{Path: "a", Mode: 0o644, Data: []byte("x")}), `f 0644 0:0 a x`},
		{"mkfile keeps other hard links", `f 0600 1:1 a old
			h - - b a`, mkfile(&pb.FileActionMkFile{Path: "a", Mode: 0o644, Data: []byte("x")}), `f 0644 0:0 a x
			f 0600 1:1 b old`},
		{"mkfile replaces a device", `c 0666 0:0 a 1:3`, mkfile(&pb.FileActionMkFile{Path: "/a", Mode: 0o644, Data: []byte("x")}), `f 0644 0:0 a x`},
		{"mkfile through a link", `l 0777 0:0 a b`, mkfile(&pb.FileActionMkFile{Path: "/a", Mode: 0o644, Data: []byte("x")}), `l 0777 0:0 a b
			f 0644 0:0 b x`},
		{"mkfile on a directory", `d 0755 0:0 a`, mkfile(&pb.FileActionMkFile{Path: "/a", Mode: 0o644}), `error: directory`},
		{"mkfile on the root", ``, mkfile(&pb.FileActionMkFile{Path: "/", Mode: 0o644}), `error: directory`},
		{"mkfile without parent", ``, mkfile(&pb.FileActionMkFile{Path: "/a/b", Mode: 0o644}), `error: open /a/b: no such file`},
		{"symlink", ``, link(&pb.FileActionSymlink{Oldpath: "../x", Newpath: "/a", Owner: chown(5, 6)}), `l 0777 5:6 a ../x`},
		{"symlink exists", `f 0644 0:0 a x`, link(&pb.FileActionSymlink{Oldpath: "../x", Newpath: "/a"}), `error: symlink /a: file exists`},
		{"rm", `f 0644 0:0 d/e/f x
			f 0644 0:0 g y`, rm("/d", false, false), `f 0644 0:0 g y`},
		{"rm a link, not its target", `l 0777 0:0 l g
			f 0644 0:0 g y`, rm("/l", false, false), `f 0644 0:0 g y`},
		{"rm through a link", `l 0777 0:0 l d
			f 0644 0:0 d/f y`, rm("/l/f", false, false), `d 0755 0:0 d
			l 0777 0:0 l d`},
		{"rm missing", ``, rm("/g", false, false), `error: "/g": not found`},
		{"rm missing allowed", ``, rm("/g", false, true), ``},
		{"rm wildcard", `f 0644 0:0 a.go x
			f 0644 0:0 b.go x
			f 0644 0:0 c x`, rm("/*.go", true, false), `f 0644 0:0 c x`},
		{"rm the root", ``, rm("/", false, true), `error: root`},
		{"rm outside", `f 0644 0:0 f x`, rm("/../../f", false, false), ``},
	} {
		t.Run(c.name, func(t *testing.T) {
			setTimestamp(c.do, -1)
			if got, want := runAction(t, "", c.dst, c.do), lines(c.want); !matches(got, want) {
				t.Errorf("got:\n%swant:\n%s", got, want)
			}
		})
	}
}

func setTimestamp(a *pb.FileAction, ts int64) {
	switch a := a.Action.(type) {
	case *pb.FileAction_Mkdir:
		a.Mkdir.Timestamp = ts
	case *pb.FileAction_Mkfile:
		a.Mkfile.Timestamp = ts
	case *pb.FileAction_Symlink:
		a.Symlink.Timestamp = ts
	case *pb.FileAction_Copy:
		a.Copy.Timestamp = ts
	}
}

// TestTimes holds that copies keep the times of their sources, and that a timestamp wins everywhere.
func TestTimes(t *testing.T) {
	src, kept, stamped := t.TempDir(), t.TempDir(), t.TempDir()
	makeTree(t, src, `
		d 0755 0:0 t/s
		f 0644 0:0 t/s/f x`)
	tree, done, err := inode.Dir(src)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	// Making the file has changed its directory.
	if err := inode.SetTimes(filepath.Join(src, "t/s"), 1e18); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dir       string
		timestamp int64
		want      int64
		names     []string
	}{
		{kept, -1, 1e18, []string{"n/s", "n/s/f"}},
		{stamped, 5e9, 5e9, []string{"n", "n/s", "n/s/f"}},
	} {
		a := &pb.FileAction{Action: &pb.FileAction_Copy{Copy: dockerCopy("/t", "/n")}}
		setTimestamp(a, c.timestamp)
		if err := Apply(t.Context(), c.dir, a, tree, nil); err != nil {
			t.Fatal(err)
		}
		for _, name := range c.names {
			if i, err := inode.Lstat(filepath.Join(c.dir, name)); err != nil || i.Mtime != c.want {
				t.Errorf("timestamp %d: %s has time %d, %v; want %d", c.timestamp, name, i.Mtime, err, c.want)
			}
		}
	}
}

// TestManyFiles holds that 10,000 files in a folder are digested and copied, and in order.
func TestManyFiles(t *testing.T) {
	dst := t.TempDir()
	src := manyFiles{}
	for i := range 10_000 {
		src.names = append(src.names, fmt.Sprintf("%05d", i))
	}
	if err := Apply(t.Context(), dst, &pb.FileAction{Action: &pb.FileAction_Copy{Copy: dockerCopy("/", "/d/")}}, src, nil); err != nil {
		t.Fatal(err)
	}
	if names, err := os.ReadDir(filepath.Join(dst, "d")); err != nil || len(names) != 10_000 {
		t.Errorf("%d files, %v", len(names), err)
	}
	of := func(tree inode.Tree, path string) string {
		d, err := Digest(t.Context(), tree, Selector{Path: path, Contents: true}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	copied, done, err := inode.Dir(dst)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	if a, b := of(src, "/"), of(copied, "/d"); a != b {
		t.Errorf("digest %s of the source, %s of the copy", a, b)
	}
}

// manyFiles is a tree of empty links, the cheapest files to make.
type manyFiles struct {
	emptyTree
	names []string
}

func (m manyFiles) ReadDir(string) ([]string, error) { return m.names, nil }
func (m manyFiles) Lstat(name string) (inode.Info, error) {
	if name == "." {
		return emptyTree{}.Lstat(name)
	}
	return inode.Info{Mode: inode.TypeLink | 0o777, Link: name}, nil
}

// TestOutsideUntouched copies onto links that name a real directory outside of the root.
func TestOutsideUntouched(t *testing.T) {
	outside, dst := t.TempDir(), t.TempDir()
	makeTree(t, outside, `f 0644 0:0 f old`)
	makeTree(t, dst, strings.ReplaceAll(`
		l 0777 0:0 a OUT
		l 0777 0:0 b OUT/f
		l 0777 0:0 c ../../../../../../..OUT`, "OUT", outside))
	for _, dest := range []string{"/a/f", "/b", "/c/f", "/a/../c/f"} {
		a := &pb.FileActionMkFile{Path: dest, Mode: 0o644, Data: []byte("new"), Timestamp: -1}
		err := Apply(t.Context(), dst, &pb.FileAction{Action: &pb.FileAction_Mkfile{Mkfile: a}}, nil, nil)
		if err == nil && dest == "/a/f" {
			t.Errorf("%s: no error, though its directory does not exist in the root", dest)
		}
	}
	if got := showTree(t, outside); got != "f 0644 0:0 f old\n" {
		t.Errorf("outside of the root is now:\n%s", got)
	}
}
