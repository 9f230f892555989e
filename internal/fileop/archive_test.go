package fileop

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/moby/buildkit/solver/pb"
	"github.com/skiff-build/skiff/internal/inode"
	"github.com/skiff-build/skiff/internal/skifftest"
	"github.com/ulikunitz/xz"
)

// bzippedTar is a tar archive with the file "f" (0644, 0:0) of one "x", compressed by bzip2, which Go
// cannot write.
const bzippedTar = "QlpoOTFBWSZTWaiBV7QAAG1bgMmAYABlAAAA4QAeQAgIIABUMpo0AA0CSaoMjBNNH15jQg1uCEUjxyK9z5QIgIKMTgRdoK++UoiKe64zN6RJA+LuSKcKEhUQKvaA"

func tarOf(t *testing.T, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		data := []byte(nil)
		if h.Typeflag == tar.TypeReg {
			data = []byte("x")
			h.Size = 1
		}
		h.Format = tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// add applies ADD of an archive to the tree dst, as runAction.
func add(t *testing.T, archive []byte, dst, dest string, opts ...func(*pb.FileActionCopy)) string {
	t.Helper()
	src, dstDir := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(src, "in"), archive, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := inode.Set(filepath.Join(src, "in"), inode.Info{Mode: inode.TypeFile | 0o644}); err != nil {
		t.Fatal(err)
	}
	makeTree(t, dstDir, dst)
	tree, done, err := inode.Dir(src)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	a := dockerCopy("/in", dest, append(opts, unpacking)...)
	if err := Apply(t.Context(), dstDir, &pb.FileAction{Action: &pb.FileAction_Copy{Copy: a}}, tree, nil); err != nil {
		return "error: " + err.Error() + "\n"
	}
	return showTree(t, dstDir)
}

// TestPretendedSize: ADD does not write the gigabytes of holes that a few bytes claim.
func TestPretendedSize(t *testing.T) {
	if got := add(t, skifftest.Sparse(t, "f", []byte("x"), 8<<30-1), "", "/"); !strings.Contains(got, "it is a bomb") {
		t.Error(got)
	}
}

// TestSpellings: however an archive spells a name, it is the same file, and names that climb out are refused alike.
func TestSpellings(t *testing.T) {
	for _, name := range skifftest.Spellings {
		entries := []tar.Header{
			{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o600}, {Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: 1},
			{Typeflag: tar.TypeLink, Name: "etc/p", Linkname: name, Mode: 0o644},
		}
		want := lines("d 0755 0:0 etc\nf 0644 0:0 etc/p x\nh - - etc/passwd etc/p")
		if got := add(t, tarOf(t, entries...), "", "/"); !matches(got, want) {
			t.Errorf("%q: got:\n%swant:\n%s", name, got, want)
		}
	}
	for _, name := range skifftest.Climbing {
		for _, e := range []tar.Header{{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: 1}, {Typeflag: tar.TypeLink, Name: "h", Linkname: name}} {
			if got := add(t, tarOf(t, e), "", "/t"); !strings.Contains(got, "leads outside the root") {
				t.Errorf("%q: %s", name, got)
			}
		}
	}
}

func TestUnpack(t *testing.T) {
	file := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644} }
	link := func(name, target string) tar.Header {
		return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}
	}
	for _, c := range []struct {
		name    string
		entries []tar.Header
		dst     string
		dest    string
		opts    []func(*pb.FileActionCopy)
		want    string
	}{
		{"all types", []tar.Header{
			{Typeflag: tar.TypeDir, Name: "./", Mode: 0o700, Uid: 9},
			{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o2750, Uid: 1, Gid: 2},
			{Typeflag: tar.TypeReg, Name: "d/f", Mode: 0o4755, Uid: 3, Gid: 4,
				PAXRecords: map[string]string{"SCHILY.xattr.security.capability": testCap, "SCHILY.xattr.user.skiff.inode": "1 owner=1:1,0:0"}},
			{Typeflag: tar.TypeLink, Name: "d/h", Linkname: "d/f", Mode: 0o755, Uid: 3, Gid: 4},
			link("l", "/nowhere"),
			{Typeflag: tar.TypeChar, Name: "c", Mode: 0o600, Devmajor: 1, Devminor: 3},
			{Typeflag: tar.TypeBlock, Name: "b", Mode: 0o660, Gid: 6, Devmajor: 8, Devminor: 1},
			{Typeflag: tar.TypeFifo, Name: "p", Mode: 0o600},
		}, ``, "/t", nil, `
			d 0755 0:0 t
			b 0660 0:6 t/b 8:1
			c 0600 0:0 t/c 1:3
			d 2750 1:2 t/d
			f+cap 0755 3:4 t/d/f x
			h - - t/d/h t/d/f
			l 0777 0:0 t/l /nowhere
			p 0600 0:0 t/p`},
		{"implied parents are 0755 0:0", []tar.Header{file("a/b/f")}, ``, "/", []func(*pb.FileActionCopy){withOwner(byID(5), nil)}, `
			d 0755 0:0 a
			d 0755 0:0 a/b
			f 0644 5:5 a/b/f x`},
		{"destination is a directory", []tar.Header{file("f")}, ``, "/g/h.tar", nil, `
			d 0755 0:0 g
			d 0755 0:0 g/h.tar
			f 0644 0:0 g/h.tar/f x`},
		{"destination is a file", []tar.Header{file("f")}, `f 0644 0:0 g x`, "/g", nil, `error: not a directory`},
		{"chmod does not count", []tar.Header{file("f")}, ``, "/", []func(*pb.FileActionCopy){withMode(0o600)}, `f 0644 0:0 f x`},
		{"replaces, merges directories", []tar.Header{
			{Typeflag: tar.TypeDir, Name: "d", Mode: 0o700, Uid: 1},
			file("d/f"), file("e"),
			{Typeflag: tar.TypeDir, Name: "f", Mode: 0o700},
		}, `
			f 0600 2:2 d/f old
			f 0600 2:2 d/g old
			f 0600 2:2 e/f old
			f 0600 2:2 f old`, "/", nil, `
			d 0700 1:0 d
			f 0644 0:0 d/f x
			f 0600 2:2 d/g old
			f 0644 0:0 e x
			d 0700 0:0 f`},
		{"through an absolute link", []tar.Header{file("var/run/f")}, `l 0777 0:0 var/run /run
			d 0755 0:0 run`, "/", nil, `d 0755 0:0 run
			f 0644 0:0 run/f x
			d 0755 0:0 var
			l 0777 0:0 var/run /run`},
		{"links end at the destination", []tar.Header{link("l", "../../x"), file("l/f")}, `d 0755 0:0 x`, "/t", nil, `
			d 0755 0:0 t
			l 0777 0:0 t/l ../../x
			d 0755 0:0 t/x
			f 0644 0:0 t/x/f x
			d 0755 0:0 x`},
		{"outside", []tar.Header{file("../f")}, ``, "/t", nil, `error: the name leads outside the root`},
		{"absolute", []tar.Header{file("/f")}, ``, "/t", nil, `d 0755 0:0 t
			f 0644 0:0 t/f x`},
		{"hard link to outside", []tar.Header{{Typeflag: tar.TypeLink, Name: "h", Linkname: "../f"}}, `f 0644 0:0 f x`, "/t", nil, `error: hard link to "../f"`},
		{"hard link to a link", []tar.Header{link("l", "f"), {Typeflag: tar.TypeLink, Name: "h", Linkname: "l", Mode: 0o777}}, ``, "/", nil, `
			l 0777 0:0 h f
			l 0777 0:0 l f`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, want := add(t, tarOf(t, c.entries...), c.dst, c.dest, c.opts...), lines(c.want)
			if !matches(got, want) {
				t.Errorf("got:\n%swant:\n%s", got, want)
			}
		})
	}
}

// TestUnpackByContent holds that it is the content that makes an archive.
func TestUnpackByContent(t *testing.T) {
	plain := tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "f", Mode: 0o644})
	compress := func(data []byte, open func(w io.Writer) (io.WriteCloser, error)) []byte {
		var b bytes.Buffer
		w, err := open(&b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	gz := func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }
	bz, err := base64.StdEncoding.DecodeString(bzippedTar)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"tar":   plain,
		"gzip":  compress(plain, gz),
		"xz":    compress(plain, func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) }),
		"zstd":  compress(plain, func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }),
		"bzip2": bz,
	} {
		if got, want := add(t, data, "", "/d"), "d 0755 0:0 d\nf 0644 0:0 d/f x\n"; got != want {
			t.Errorf("%s: got:\n%s", name, got)
		}
	}
	for name, data := range map[string][]byte{
		"text":            []byte("hello"),
		"a gzipped file":  compress([]byte("hello"), gz),
		"an empty file":   nil,
		"an empty tar":    make([]byte, 1024),
		"half a gzip":     {0x1f, 0x8b, 8},
		"a broken header": bytes.Repeat([]byte("x"), 2048),
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "in"), data, 0o644); err != nil {
			t.Fatal(err)
		}
		tree, done, err := inode.Dir(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer done()
		dst := t.TempDir()
		a := dockerCopy("/in", "/d", unpacking)
		if err := Apply(t.Context(), dst, &pb.FileAction{Action: &pb.FileAction_Copy{Copy: a}}, tree, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := os.ReadFile(filepath.Join(dst, "d")); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: copied as %q, %v", name, got, err)
		}
	}
	if got := add(t, plain[:512], "", "/d"); !matches(got, "error: unpack") {
		t.Errorf("a cut archive: %s", got)
	}
}
