package inode_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skiff-build/skiff/internal/inode"
	"github.com/skiff-build/skiff/internal/inode/inodetest"
)

// caps is a version 2 file capability, cap_net_bind_service=ep.
const caps = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

var withCaps = map[string]string{inode.CapabilityXattr: caps}

// kinds are the attributes that every mode must hold. Ids above 65535 exist in no mode but root.
var kinds = map[string]inode.Info{
	"file":        {Mode: inode.TypeFile | 0o644},
	"file-owned":  {Mode: inode.TypeFile | 0o600, UID: 1000, GID: 1001},
	"file-group":  {Mode: inode.TypeFile | 0o640, GID: 42},
	"file-suid":   {Mode: inode.TypeFile | 0o6755, UID: 5, GID: 6},
	"file-suid0":  {Mode: inode.TypeFile | 0o4755},
	"file-zero":   {Mode: inode.TypeFile, UID: 7},
	"file-big":    {Mode: inode.TypeFile | 0o444, UID: 3000000000, GID: 4294967294},
	"file-caps":   {Mode: inode.TypeFile | 0o755, Xattrs: withCaps},
	"file-caps-o": {Mode: inode.TypeFile | 0o4755, UID: 33, GID: 33, Xattrs: withCaps},
	"dir":         {Mode: inode.TypeDir | 0o755},
	"dir-tmp":     {Mode: inode.TypeDir | 0o1777},
	"dir-owned":   {Mode: inode.TypeDir | 0o2750, UID: 1000, GID: 50},
	"dir-zero":    {Mode: inode.TypeDir, UID: 3},
	"link":        {Mode: inode.TypeLink | 0o777, Link: "../somewhere"},
	"link-owned":  {Mode: inode.TypeLink | 0o777, Link: "x", UID: 1000, GID: 70000},
	"fifo":        {Mode: inode.TypeFIFO | 0o622},
	"fifo-owned":  {Mode: inode.TypeFIFO | 0o660, UID: 8, GID: 9},
	"socket":      {Mode: inode.TypeSocket | 0o755},
	"sock-owned":  {Mode: inode.TypeSocket | 0o755, UID: 8},
	"null":        {Mode: inode.TypeChar | 0o666, Major: 1, Minor: 3},
	"disk":        {Mode: inode.TypeBlock | 0o660, GID: 6, Major: 259, Minor: 70000},
	"zero":        {Mode: inode.TypeChar | 0o600, Major: 0, Minor: 0},
	"huge":        {Mode: inode.TypeChar | 0o600, Major: 5000, Minor: 1 << 30},
}

func TestLstatGivesWhatSetAndCreateGot(t *testing.T) {
	inodetest.Run(t, func(t *testing.T, mode string) {
		for name, want := range kinds {
			t.Run(name, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "f")
				make1(t, path, want)
				check(t, path, want)
				// Without an intermediate state that hides errors: again, and back to plain attributes.
				must(t, inode.Set(path, want))
				check(t, path, want)
				must(t, inode.SetTimes(path, 1234567890123456789))
				check(t, path, want)
				plain := want
				plain.UID, plain.GID, plain.Xattrs = 0, 0, nil
				if !want.IsLink() {
					plain.Mode = want.Type() | 0o700
				}
				must(t, inode.Set(path, plain))
				check(t, path, plain)
				if want.IsRegular() || want.IsDir() {
					if n, err := unix.Lgetxattr(path, inode.RecordXattr, nil); err != unix.ENODATA {
						t.Errorf("a stale record of %d bytes is left: %v", n, err)
					}
				}
			})
		}
	})
}

// The modes differ in what they can hold; the test above would prove less if they did not.
func TestMakeFile(t *testing.T) {
	for _, umask := range []int{0o022, 0o077} {
		inodetest.Run(t, func(t *testing.T, mode string) {
			defer unix.Umask(unix.Umask(umask))
			for name, want := range kinds {
				if !want.IsRegular() {
					continue
				}
				for text, write := range map[string]func(*os.File) error{"": nil, "text": func(f *os.File) error { _, err := f.WriteString("text"); return err }} {
					path := filepath.Join(t.TempDir(), "f")
					must(t, inode.MakeFile(path, want, 1234567890123456789, write))
					check(t, path, want)
					i, err := inode.Lstat(path)
					must(t, err)
					if i.Mtime != 1234567890123456789 || i.Size != int64(len(text)) {
						t.Errorf("%s: time %d, size %d", name, i.Mtime, i.Size)
					}
					if err := inode.MakeFile(path, want, 0, nil); !errors.Is(err, fs.ErrExist) {
						t.Errorf("%s: made twice: %v", name, err)
					}
				}
			}
		})
	}
}

func TestModesDiffer(t *testing.T) {
	inodetest.Run(t, func(t *testing.T, mode string) {
		dir := t.TempDir()
		file, dev, link := filepath.Join(dir, "f"), filepath.Join(dir, "d"), filepath.Join(dir, "l")
		make1(t, file, inode.Info{Mode: inode.TypeFile | 0o644, UID: 5})
		make1(t, dev, kinds["null"])
		make1(t, link, kinds["link-owned"])
		_, err := unix.Lgetxattr(file, inode.RecordXattr, nil)
		if kept := err == nil; kept != (mode == inodetest.OneID) {
			t.Errorf("mode %s: owner recorded: %v", mode, kept)
		}
		fi, err := os.Lstat(dev)
		must(t, err)
		if real := !fi.Mode().IsRegular(); real != (mode == inodetest.Root) {
			t.Errorf("mode %s: real device: %v", mode, real)
		}
	})
}

func make1(t *testing.T, path string, want inode.Info) {
	t.Helper()
	if want.IsRegular() {
		must(t, os.WriteFile(path, []byte("text"), 0o600))
		must(t, inode.Set(path, want))
		return
	}
	must(t, inode.Create(path, want))
}

func check(t *testing.T, path string, want inode.Info) {
	t.Helper()
	got, err := inode.Lstat(path)
	must(t, err)
	if !got.SameAttributes(want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	tree, done, err := inode.Dir(filepath.Dir(path))
	must(t, err)
	defer done()
	inTree, err := tree.Lstat(filepath.Base(path))
	must(t, err)
	if !reflect.DeepEqual(inTree, got) {
		t.Errorf("in tree %+v\nalone   %+v", inTree, got)
	}
}

func TestRecordIsVoidOnceTheFileChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	must(t, os.WriteFile(path, nil, 0o600))
	uid, gid := os.Getuid(), os.Getgid()
	set := func(text string) { must(t, unix.Lsetxattr(path, inode.RecordXattr, []byte(text), 0)) }
	get := func() inode.Info {
		i, err := inode.Lstat(path)
		must(t, err)
		return i
	}
	set(fmt.Sprintf("1 owner=5:6,%d:%d mode=4755,600", uid, gid))
	if i := get(); i.UID != 5 || i.GID != 6 || i.Mode != inode.TypeFile|0o4755 {
		t.Errorf("record not applied: %+v", i)
	}
	must(t, os.Chmod(path, 0o640))
	if i := get(); i.UID != 5 || i.Mode != inode.TypeFile|0o640 {
		t.Errorf("after chmod: %+v", i)
	}
	set(fmt.Sprintf("1 owner=5:6,%d:%d", uid+1, gid))
	if i := get(); i.UID != uid || i.GID != gid {
		t.Errorf("chowned since: %+v", i)
	}
	set("1 type=20000:1:3")
	if i := get(); i.Type() != inode.TypeChar || i.Major != 1 || i.Minor != 3 {
		t.Errorf("placeholder: %+v", i)
	}
	must(t, os.WriteFile(path, []byte("text"), 0))
	if i := get(); !i.IsRegular() || i.Size != 4 {
		t.Errorf("placeholder written to: %+v", i)
	}
	set("1 owner=rubbish")
	if i := get(); i.UID != uid {
		t.Errorf("rubbish: %+v", i)
	}
}

func TestSymlinkTimes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "l")
	must(t, os.Symlink("x", path))
	must(t, inode.SetTimes(path, (1<<32+77)*1e9)) // not to be taken for an owner
	i, err := inode.Lstat(path)
	must(t, err)
	if i.UID != os.Getuid() || i.GID != os.Getgid() || i.Mtime != (1<<32-1)*1e9 {
		t.Errorf("%+v", i)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the link was followed")
	}
}

func TestSetErrors(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "f"), filepath.Join(dir, "l")
	must(t, os.WriteFile(file, nil, 0o640))
	must(t, os.Symlink("f", link))
	for name, err := range map[string]error{
		"missing":      inode.Set(filepath.Join(dir, "x"), inode.Info{}),
		"wrong type":   inode.Set(file, inode.Info{Mode: inode.TypeDir | 0o755}),
		"negative id":  inode.Set(file, inode.Info{UID: -1}),
		"id too large": inode.Set(file, inode.Info{GID: 1<<32 - 1}),
		"exists":       inode.Create(file, kinds["fifo"]),
		"regular":      inode.Create(filepath.Join(dir, "y"), inode.Info{Mode: inode.TypeFile | 0o644}),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	must(t, inode.Set(link, inode.Info{UID: os.Getuid(), GID: os.Getgid(), Mode: 0o777}))
	if fi, err := os.Lstat(file); err != nil || fi.Mode().Perm() != 0o640 {
		t.Errorf("Set of a link changed its target: %v %v", fi, err)
	}
}

func TestHardLinksAreSeen(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	must(t, os.WriteFile(a, nil, 0o600))
	must(t, os.Link(a, b))
	ia, err := inode.Lstat(a)
	must(t, err)
	ib, err := inode.Lstat(b)
	must(t, err)
	if ia.Ino != ib.Ino || ia.Dev != ib.Dev || ia.Nlink != 2 || ia.Ino == 0 {
		t.Errorf("%+v\n%+v", ia, ib)
	}
}

func TestFileMode(t *testing.T) {
	for name, i := range kinds {
		if got := inode.FromFileMode(i.FileMode()); got != i.Mode {
			t.Errorf("%s: %o -> %v -> %o", name, i.Mode, i.FileMode(), got)
		}
	}
	if m := (inode.Info{Mode: inode.TypeChar | 0o1666}).FileMode(); m != fs.ModeDevice|fs.ModeCharDevice|fs.ModeSticky|0o666 {
		t.Errorf("%v", m)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
