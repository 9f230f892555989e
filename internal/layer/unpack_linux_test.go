package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skiff-build/skiff/internal/bounds"
	"github.com/skiff-build/skiff/internal/inode"
	"github.com/skiff-build/skiff/internal/inode/inodetest"
	"github.com/skiff-build/skiff/internal/skifftest"
	"github.com/skiff-build/skiff/internal/whiteout"
)

// entry makes a tar entry from a line such as "file name text", "dir name/", "link name target", "hard name
// target", "char name", "fifo name".
func entry(line string) (*tar.Header, string) {
	words := strings.SplitN(line, " ", 3)
	h := &tar.Header{Name: words[1], Mode: 0o644, ModTime: time.Unix(7, 0)}
	rest := ""
	if len(words) == 3 {
		rest = words[2]
	}
	switch words[0] {
	case "file":
		h.Typeflag, h.Size = tar.TypeReg, int64(len(rest))
		return h, rest
	case "dir":
		h.Typeflag, h.Mode = tar.TypeDir, 0o711
	case "link":
		h.Typeflag, h.Linkname = tar.TypeSymlink, rest
	case "hard":
		h.Typeflag, h.Linkname = tar.TypeLink, rest
	case "char":
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, 1, 3
	case "fifo":
		h.Typeflag = tar.TypeFifo
	}
	return h, ""
}

func makeTar(t testing.TB, lines ...string) []byte {
	t.Helper()
	data, err := tryTar(lines)
	must(t, err)
	return data
}

func tryTar(lines []string) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, line := range lines {
		h, text := entry(line)
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write([]byte(text)); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

// makeLower makes what the layers of the table lie on.
func makeLower(t testing.TB) inode.Tree {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"usr/lib", "etc/conf", "tmp"} {
		must(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	must(t, inode.Set(filepath.Join(dir, "tmp"), inode.Info{Mode: inode.TypeDir | 0o1777}))
	must(t, inode.Set(filepath.Join(dir, "etc"), inode.Info{Mode: inode.TypeDir | 0o750, UID: 3, GID: 4}))
	must(t, os.WriteFile(filepath.Join(dir, "usr/lib/libc"), []byte("libc"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "etc/conf/a"), []byte("a"), 0o644))
	for name, target := range map[string]string{"lib": "usr/lib", "abs": "/usr/lib", "out": "../../../../..", "loop": "loop"} {
		must(t, os.Symlink(target, filepath.Join(dir, name)))
	}
	tree, done, err := inode.Dir(dir)
	must(t, err)
	t.Cleanup(func() { done() })
	return tree
}

// contents describes a layer directory, a word each file.
func contents(t testing.TB, dir string) []string {
	t.Helper()
	var words []string
	seen := map[uint64]string{}
	must(t, filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		name, _ := filepath.Rel(dir, p)
		i, err := inode.Lstat(p)
		must(t, err)
		switch {
		case whiteout.Is(p, i):
			name = "-" + name
		case i.IsDir():
			name += "/"
			if whiteout.IsOpaque(p) {
				name += "!"
			}
		case i.IsLink():
			name += "->" + i.Link
		case i.IsRegular() && i.Nlink > 1 && seen[i.Ino] != "":
			name += "==" + seen[i.Ino]
		case i.IsRegular():
			text, err := os.ReadFile(p)
			must(t, err)
			seen[i.Ino] = name
			name += "=" + string(text)
		case i.IsDevice():
			name += fmt.Sprintf(":%d:%d", i.Major, i.Minor)
		default:
			name += "|"
		}
		words = append(words, name)
		return nil
	}))
	return words
}

var unpackCases = []struct {
	name    string
	entries []string
	want    string // as contents gives it
	err     error
}{
	{"plain", []string{"dir a/", "file a/b text", "link l b", "char c", "fifo f"}, "a/ a/b=text c:1:3 f| l->b", nil},
	{"dot names", []string{"dir ./", "dir ./a/", "file ./a/./b x"}, "a/ a/b=x", nil},
	{"absolute", []string{"file /a/b x"}, "a/ a/b=x", nil},
	{"dots inside", []string{"file a/../b x"}, "b=x", nil},
	{"dots out", []string{"file ../b x"}, "", ErrEscape},
	{"dots out later", []string{"file a/../../b x"}, "", ErrEscape},
	{"dots out, absolute", []string{"file /../b x"}, "", ErrEscape},
	{"dots out, dir", []string{"dir ../b"}, "", ErrEscape},
	{"whiteout of dots", []string{"file a/.wh... x"}, "", ErrEscape},
	{"whiteout of dot", []string{"file a/.wh.. x"}, "", ErrEscape},
	{"whiteout of nothing", []string{"file .wh. x"}, "", ErrEscape},

	{"own link to outside", []string{"link a /etc", "file a/passwd x"}, "a->/etc etc/ etc/passwd=x", nil},
	{"own link up", []string{"link a ../../..", "file a/b x"}, "a->../../.. b=x", nil},
	{"own dangling link", []string{"link a none/x", "file a/b x"}, "a->none/x none/ none/x/ none/x/b=x", nil},
	{"link of the layer below", []string{"file lib/x x"}, "usr/ usr/lib/ usr/lib/x=x", nil},
	{"absolute link below", []string{"file abs/y/x x"}, "usr/ usr/lib/ usr/lib/y/ usr/lib/y/x=x", nil},
	{"link out below", []string{"file out/x x"}, "x=x", nil},
	{"link loop", []string{"file loop/x x"}, "", syscall.ELOOP},
	{"link replaced", []string{"dir lib/", "file lib/x x"}, "lib/ lib/x=x", nil},
	{"link hidden", []string{"file .wh.lib", "file lib/x x"}, "lib/! lib/x=x", nil},
	{"below a file", []string{"file a x", "file a/b x"}, "", syscall.ENOTDIR},
	{"below a file below", []string{"file usr/lib/libc/b x"}, "", syscall.ENOTDIR},

	{"hard link", []string{"file a x", "hard b a", "hard c/d /a"}, "a=x b==a c/ c/d==a", nil},
	{"hard link out", []string{"hard b ../../etc/passwd"}, "", ErrEscape},
	{"hard link missing", []string{"hard b etc/passwd"}, "", fs.ErrNotExist},
	{"hard link through a link", []string{"link l /", "file a x", "hard b l/a"}, "a=x b==a l->/", nil},
	{"hard link through a link out", []string{"hard b out/etc/passwd"}, "", fs.ErrNotExist},
	{"hard link to a link", []string{"link l /etc/passwd", "hard b l"}, "b->/etc/passwd l->/etc/passwd", nil},
	{"hard link below", []string{"hard b lib/libc"}, "b=libc usr/ usr/lib/ usr/lib/libc==b", nil},
	{"hard link to itself", []string{"file a x", "hard a a"}, "a=x", nil},
	{"hard link to a directory", []string{"dir d/", "hard a d"}, "", errAny},
	{"hard link to a whiteout", []string{"file usr/lib/.wh.libc", "hard a usr/lib/libc"}, "", fs.ErrNotExist},

	{"last wins", []string{"file a 1", "file a 22", "link a x", "file a 3"}, "a=3", nil},
	{"written through no link", []string{"file t x", "link a t", "file a y"}, "a=y t=x", nil},
	{"hard link rewritten", []string{"file a x", "hard b a", "file b y"}, "a=x b=y", nil},
	{"directory over file", []string{"file a x", "dir a/", "file a/b x"}, "a/ a/b=x", nil},
	{"file over directory", []string{"dir a/", "file a/b x", "file a y", "file c/d x"}, "a=y c/ c/d=x", nil},
	{"back and forth", []string{"dir a/", "dir a/b/", "file a y", "file a/b x"}, "", syscall.ENOTDIR},
	{"below again", []string{"dir a/b/", "file a y", "dir a/", "file a/b/c x"}, "a/ a/b/ a/b/c=x", nil},
	{"directory twice", []string{"dir a/", "file a/b x", "dir a/"}, "a/ a/b=x", nil},
	{"root is a file", []string{"file . x"}, "", errAny},

	{"whiteout", []string{"file usr/lib/.wh.libc"}, "usr/ usr/lib/ -usr/lib/libc", nil},
	{"whiteout through a link", []string{"file lib/.wh.libc"}, "usr/ usr/lib/ -usr/lib/libc", nil},
	{"whiteout twice", []string{"file .wh.etc", "file .wh.etc"}, "-etc", nil},
	{"whiteout of what is not there", []string{"file usr/.wh.none", "file new/.wh.none"}, "new/ usr/", nil},
	{"whiteout, then file", []string{"file usr/lib/.wh.libc", "file usr/lib/libc new"}, "usr/ usr/lib/ usr/lib/libc=new", nil},
	{"file, then whiteout", []string{"file usr/lib/libc new", "file usr/lib/.wh.libc"}, "usr/ usr/lib/ usr/lib/libc=new", nil},
	{"whiteout, then directory", []string{"file .wh.etc", "dir etc/", "file etc/x x"}, "etc/! etc/x=x", nil},
	{"whiteout, then below", []string{"file .wh.etc", "file etc/x x"}, "etc/! etc/x=x", nil},
	{"directory, then whiteout", []string{"dir etc/", "file etc/x x", "file .wh.etc"}, "etc/! etc/x=x", nil},
	{"file, then directory over a directory", []string{"file etc x", "dir etc/"}, "etc/!", nil},
	{"opaque", []string{"dir etc/", "file etc/.wh..wh..opq", "file etc/x x"}, "etc/! etc/x=x", nil},
	{"opaque last", []string{"file etc/x x", "file etc/.wh..wh..opq"}, "etc/! etc/x=x", nil},
	{"opaque drops whiteouts", []string{"file etc/conf/.wh.a", "file etc/.wh.conf2", "file etc/.wh..wh..opq"}, "etc/! etc/conf/", nil},
	{"whiteout in opaque", []string{"file etc/.wh..wh..opq", "file etc/conf/.wh.a"}, "etc/! etc/conf/", nil},
	{"whiteouts of aufs", []string{"file .wh..wh.aufs", "dir .wh..wh.orph/", "file .wh..wh.plnk/1.2 x"}, "", nil},
}

// A directory that became a link to somewhere else keeps its time to itself.
func TestTimesStayInside(t *testing.T) {
	top := t.TempDir()
	dir, outside := filepath.Join(top, "layer"), filepath.Join(top, "outside", "b")
	must(t, errors.Join(os.Mkdir(dir, 0o755), os.MkdirAll(outside, 0o755)))
	data := makeTar(t, "dir a/", "dir a/b/", "dir c/", "link a ../outside", "file c x", "dir d/")
	_, err := Unpack(context.Background(), bytes.NewReader(data), dir, UnpackOptions{})
	must(t, err)
	if i, err := os.Stat(outside); err != nil || i.ModTime().Unix() == 7 {
		t.Errorf("time set outside: %v, %v", i, err)
	}
	if i, err := os.Stat(filepath.Join(dir, "d")); err != nil || i.ModTime().Unix() != 7 {
		t.Errorf("%v, %v", i, err)
	}
}

// The tar command's ways of writing: its own format and PAX, with holes, long names and large ids.
func TestUnpackOfTarCommand(t *testing.T) {
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("there is no tar command")
	}
	src := t.TempDir()
	deep := strings.Repeat("deep-directory/", 20)
	must(t, os.MkdirAll(filepath.Join(src, deep), 0o755))
	must(t, os.WriteFile(filepath.Join(src, deep, strings.Repeat("n", 200)), []byte("long"), 0o644))
	f, err := os.Create(filepath.Join(src, "sparse"))
	must(t, err)
	for _, at := range []int64{0, 1 << 20, 5<<20 + 77} {
		_, err := f.WriteAt([]byte("data"), at)
		must(t, err)
	}
	must(t, errors.Join(f.Truncate(8<<20), f.Close()))
	must(t, os.Symlink(deep, filepath.Join(src, "long-link")))
	must(t, os.Link(filepath.Join(src, "sparse"), filepath.Join(src, "hard")))
	for _, format := range []string{"gnu", "posix"} {
		data, err := exec.Command("tar", "-C", src, "--format="+format, "--sparse", "--owner=3000000", "--group=0", "-cf", "-", ".").Output()
		must(t, err)
		if len(data) > 1<<20 {
			t.Fatalf("%s: %d bytes, not sparse; the test is no test", format, len(data))
		}
		inside := t.TempDir()
		_, err = Unpack(context.Background(), bytes.NewReader(data), inside, UnpackOptions{MaxBytes: 20 << 20})
		must(t, err)
		if got, want := contents(t, inside), contents(t, src); !slices.Equal(got, want) {
			t.Errorf("%s: files differ", format)
		}
		if i, err := inode.Lstat(filepath.Join(inside, "sparse")); err != nil || i.UID != 3000000 || i.Size != 8<<20 || i.Nlink != 2 {
			t.Errorf("%s: %+v, %v", format, i, err)
		}
	}
}

var errAny = errors.New("any error")

func TestUnpack(t *testing.T) {
	inodetest.Run(t, func(t *testing.T, mode string) {
		lower := makeLower(t)
		for _, c := range unpackCases {
			top := t.TempDir()
			dir := filepath.Join(top, "layer")
			must(t, os.Mkdir(dir, 0o755))
			_, err := Unpack(context.Background(), bytes.NewReader(makeTar(t, c.entries...)), dir, UnpackOptions{Lower: lower})
			if c.err == errAny && err != nil || c.err != nil && errors.Is(err, c.err) {
				continue
			}
			if err != nil || c.err != nil {
				t.Errorf("%s: %v, want %v", c.name, err, c.err)
				continue
			}
			if got := strings.Join(contents(t, dir), " "); got != c.want {
				t.Errorf("%s:\ngot  %s\nwant %s", c.name, got, c.want)
			}
			if entries, _ := os.ReadDir(top); len(entries) != 1 {
				t.Errorf("%s: wrote outside: %v", c.name, entries)
			}
		}
	})
}

func TestUnpackAttributes(t *testing.T) {
	inodetest.Run(t, func(t *testing.T, mode string) {
		dir := t.TempDir()
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range []*tar.Header{
			{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}},
			{Typeflag: tar.TypeReg, Name: "etc/x", Mode: 0o6755, Uid: 1, Gid: 3000000, ModTime: time.Unix(9, 5), Format: tar.FormatPAX,
				PAXRecords: map[string]string{capsRecord: caps, "SCHILY.xattr.user.x": "dropped", "SCHILY.xattr.user.overlay.opaque": "y"}},
			{Typeflag: tar.TypeDir, Name: "tmp/a", Mode: 0o555, ModTime: time.Unix(8, 0)},
			{Typeflag: tar.TypeReg, Name: "tmp/a/b", ModTime: time.Unix(1<<40, 0), Format: tar.FormatPAX},
			{Typeflag: tar.TypeDir, Name: "./", Mode: 0o700, Uid: 4},
		} {
			must(t, w.WriteHeader(h))
		}
		must(t, w.Close())
		_, err := Unpack(context.Background(), &b, dir, UnpackOptions{Lower: makeLower(t)})
		must(t, err)
		for name, want := range map[string]inode.Info{
			".":       {Mode: inode.TypeDir | 0o700, UID: 4},         // else 0755
			"etc":     {Mode: inode.TypeDir | 0o750, UID: 3, GID: 4}, // as below
			"etc/x":   {Mode: inode.TypeFile | 0o6755, UID: 1, GID: 3000000, Xattrs: map[string]string{inode.CapabilityXattr: caps}},
			"tmp":     {Mode: inode.TypeDir | 0o1777},
			"tmp/a":   {Mode: inode.TypeDir | 0o555},
			"tmp/a/b": {Mode: inode.TypeFile},
		} {
			got, err := inode.Lstat(filepath.Join(dir, name))
			must(t, err)
			if !got.SameAttributes(want) {
				t.Errorf("%s: %+v, want %+v", name, got, want)
			}
		}
		for name, want := range map[string]int64{"etc/x": 9_000000005, "tmp/a": 8_000000000} {
			if got, _ := inode.Lstat(filepath.Join(dir, name)); got.Mtime != want {
				t.Errorf("%s: time %d, want %d", name, got.Mtime, want)
			}
		}
		if names, err := listXattrs(filepath.Join(dir, "etc/x")); err != nil || strings.Contains(names, "user.overlay") || strings.Contains(names, "user.x") {
			t.Errorf("xattrs %q, %v", names, err)
		}
	})
}

func listXattrs(path string) (string, error) {
	b := make([]byte, 1000)
	n, err := syscall.Listxattr(path, b)
	return string(b[:max(0, n)]), err
}

// Without Lower all whiteouts count.
func TestUnpackAlone(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o700))
	_, err := Unpack(context.Background(), bytes.NewReader(makeTar(t, "file a/.wh.x", "file .wh.y", "dir y/")), dir, UnpackOptions{})
	if got, want := contents(t, dir), []string{"a/", "-a/x", "y/!"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	if i, err := inode.Lstat(dir); err != nil || i.Mode != inode.TypeDir|0o755 || i.UID != 0 || i.GID != 0 {
		t.Errorf("root: %+v, %v", i, err)
	}
}

// deepByLinks are entries of which each goes on where a link to the one before ends: each name is short, the path is not.
func deepByLinks(n, depth int) (lines []string) {
	at := ""
	for i := range n {
		lines = append(lines, "dir "+at+strings.Repeat("d/", depth), fmt.Sprintf("link l%d %s", i, at+strings.Repeat("d/", depth)))
		at = fmt.Sprintf("l%d/", i)
	}
	return lines
}

// TestSpellings: however a layer spells a name, it is the same file, and names that climb out are refused alike.
func TestSpellings(t *testing.T) {
	for _, name := range skifftest.Spellings {
		dir := t.TempDir()
		_, err := Unpack(t.Context(), bytes.NewReader(makeTar(t, "file etc/passwd old", "file "+name+" root", "hard etc/p "+name)), dir, UnpackOptions{})
		if got := strings.Join(contents(t, dir), " "); err != nil || got != "etc/ etc/p=root etc/passwd==etc/p" {
			t.Errorf("%q: %s, %v", name, got, err)
		}
	}
	for _, name := range skifftest.Climbing {
		for _, entry := range []string{"file " + name + " x", "hard h " + name} {
			if _, err := Unpack(t.Context(), bytes.NewReader(makeTar(t, entry)), t.TempDir(), UnpackOptions{}); !errors.Is(err, ErrEscape) {
				t.Errorf("%q: %v", entry, err)
			}
		}
	}
}

func TestLimits(t *testing.T) {
	big := makeTar(t, "file a "+strings.Repeat("x", 1000), "file b "+strings.Repeat("x", 1000))
	deep := makeTar(t, "file "+strings.Repeat("d/", 100)+"f x")
	trailing := append(makeTar(t, "file a x"), make([]byte, 5000)...)
	for name, c := range map[string]struct {
		data []byte
		o    UnpackOptions
		err  error
	}{
		"bytes":               {big, UnpackOptions{MaxBytes: 1999}, ErrLimit},
		"bytes enough":        {big, UnpackOptions{MaxBytes: 2000}, nil},
		"entries":             {big, UnpackOptions{MaxEntries: 1}, ErrLimit},
		"entries enough":      {big, UnpackOptions{MaxEntries: 2}, nil},
		"implicit parents":    {deep, UnpackOptions{MaxEntries: 100}, ErrLimit},
		"parents enough":      {deep, UnpackOptions{MaxEntries: 101}, nil},
		"trailing":            {trailing, UnpackOptions{MaxBytes: 4000}, ErrLimit},
		"trailing enough":     {trailing, UnpackOptions{MaxBytes: 9000}, nil},
		"sparse, 8 EB":        {sparse(t), UnpackOptions{MaxBytes: 1 << 20}, ErrLimit},
		"cut short":           {big[:1500], UnpackOptions{}, errAny},
		"not a tar":           {[]byte(strings.Repeat("text", 1000)), UnpackOptions{}, errAny},
		"nothing":             {nil, UnpackOptions{}, nil},
		"very long name":      {makeTar(t, "file "+strings.Repeat("n", 300)+" x"), UnpackOptions{}, bounds.ErrLimit},
		"very long path":      {makeTar(t, "file "+strings.Repeat("n/", 3000)+"f x"), UnpackOptions{}, bounds.ErrLimit},
		"deep by links":       {makeTar(t, deepByLinks(3, 200)...), UnpackOptions{}, bounds.ErrLimit},
		"empty link":          {makeTar(t, "link l "), UnpackOptions{}, errAny},
		"below a placeholder": {makeTar(t, "char c", "file c/x x"), UnpackOptions{}, syscall.ENOTDIR},
	} {
		dir := t.TempDir()
		packed, err := Unpack(context.Background(), bytes.NewReader(c.data), dir, c.o)
		if c.err == errAny && err == nil || c.err != errAny && !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", name, err, c.err)
		}
		if err == nil && packed.Size != int64(len(c.data)) {
			t.Errorf("%s: %d of %d bytes read", name, packed.Size, len(c.data))
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Unpack(ctx, bytes.NewReader(big), t.TempDir(), UnpackOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// sparse is a tar of a file that claims 8 EB, in GNU's PAX format 1.0, with one block of content.
func sparse(t *testing.T) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	content := append([]byte(fmt.Sprintf("1\n%d\n0\n", int64(1<<62))), make([]byte, 512)...)[:512]
	h := &tar.Header{Typeflag: tar.TypeReg, Name: "GNUSparseFile.0/x", Size: 512, Format: tar.FormatPAX, PAXRecords: map[string]string{
		"SKIFF.sparse.major": "1", "SKIFF.sparse.minor": "0", "SKIFF.sparse.name": "sparsefile", "SKIFF.sparse.realsize": fmt.Sprint(int64(1 << 62)),
	}}
	must(t, w.WriteHeader(h))
	_, err := w.Write(content)
	must(t, err)
	must(t, w.Close())
	// The writer refuses these records by their true name, which is two bytes shorter.
	return fixSparse(b.Bytes())
}

func fixSparse(data []byte) []byte {
	text := string(data[512:1024])
	var records strings.Builder
	for line := range strings.Lines(strings.TrimRight(text, "\x00")) {
		_, rest, _ := strings.Cut(line, " ")
		rest = strings.Replace(rest, "SKIFF.sparse", "GNU.sparse", 1)
		n := len(rest) + 3
		if n > 99 {
			n++
		}
		fmt.Fprintf(&records, "%d %s", n, rest)
	}
	block := make([]byte, 512)
	copy(block, records.String())
	out := bytes.Clone(data)
	copy(out[512:], block)
	copy(out[124:], fmt.Sprintf("%011o\x00", records.Len()))
	copy(out[148:], "        ")
	sum := 0
	for _, c := range out[:512] {
		sum += int(c)
	}
	copy(out[148:], fmt.Sprintf("%06o\x00 ", sum))
	return out
}
