package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func imageOf(t *testing.T, layers ...[]file) v1.Image {
	t.Helper()
	var tars [][]byte
	for _, files := range layers {
		tars = append(tars, makeTar(t, files...))
	}
	return assemble(t, newLibrary(t), tars...)
}

var flattenCases = []struct {
	name   string
	layers [][]file
	want   string
}{
	{"one layer", [][]file{{dir("d"), {name: "d/f", content: "x"}, symlink("l", "d/f")}}, "d/\nd/f=x\nl->d/f"},
	{"replaced", [][]file{{{name: "f", content: "1"}}, {{name: "f", content: "2"}}}, "f=2"},
	{"whiteout", [][]file{{{name: "a", content: "1"}, {name: "b", content: "1"}}, {{name: ".wh.a"}}}, "b=1"},
	{"whiteout of a folder", [][]file{{dir("d"), {name: "d/f", content: "1"}}, {{name: ".wh.d"}}}, ""},
	{"whiteout, then new", [][]file{{{name: "a", content: "1"}}, {{name: ".wh.a"}, {name: "a", content: "2"}}}, "a=2"},
	{"new, then whiteout", [][]file{{{name: "a", content: "1"}}, {{name: "a", content: "2"}, {name: ".wh.a"}}}, "a=2"},
	{"opaque", [][]file{{dir("d"), {name: "d/old", content: "1"}, dir("d/sub"), {name: "d/sub/f", content: "1"}},
		{dir("d"), {name: "d/new", content: "2"}, {name: "d/.wh..wh..opq"}}}, "d/\nd/new=2"},
	{"opaque keeps what is new below", [][]file{{dir("d"), dir("d/s"), {name: "d/s/old", content: "1"}},
		{{name: "d/s/new", content: "2"}, {name: "d/.wh..wh..opq"}}}, "d/\nd/s/\nd/s/new=2"},
	{"hard link", [][]file{{{name: "b", content: "x"}, hardlink("a", "b")}}, "a=x\nb==a"},
	{"hard link into a lower layer, which goes", [][]file{{{name: "a", content: "x"}}, {hardlink("b", "a"), {name: ".wh.a"}}}, "b=x"},
	{"hard link, its file replaced later", [][]file{{{name: "a", content: "x"}, hardlink("b", "a")}, {{name: "a", content: "y"}}}, "a=y\nb=x"},
	{"file becomes folder", [][]file{{{name: "a", content: "x"}}, {dir("a"), {name: "a/f", content: "y"}}}, "a/\na/f=y"},
	{"folder becomes file", [][]file{{dir("a"), {name: "a/f", content: "y"}}, {{name: "a", content: "x"}}}, "a=x"},
	{"folder gets new attributes", [][]file{{dir("a"), {name: "a/f", content: "y"}}, {dir("a")}}, "a/\na/f=y"},
	{"parents that are not listed", [][]file{{{name: "a/b/f", content: "x"}}}, "a/\na/b/\na/b/f=x"},
	{"through a symlink", [][]file{{dir("usr"), dir("usr/lib"), symlink("lib", "usr/lib")}, {{name: "lib/f", content: "x"}}},
		"lib->usr/lib\nusr/\nusr/lib/\nusr/lib/f=x"},
	{"through an absolute symlink", [][]file{{dir("usr"), symlink("lib", "/usr")}, {{name: "lib/f", content: "x"}}}, "lib->/usr\nusr/\nusr/f=x"},
	{"a symlink that leads out stays inside", [][]file{{symlink("up", "../../..")}, {{name: "up/f", content: "x"}}}, "f=x\nup->../../.."},
	{"absolute and dotted names", [][]file{{{name: "/etc/f", content: "x"}, {name: "./g", content: "y"}}}, "etc/\netc/f=x\ng=y"},
	{"the root itself", [][]file{{dir("."), {name: "f", content: "x"}}}, "f=x"},
	{"empty", nil, ""},
}

func TestFlatten(t *testing.T) {
	for _, c := range flattenCases {
		t.Run(c.name, func(t *testing.T) {
			var buf bytes.Buffer
			if err := WriteTar(t.Context(), &buf, imageOf(t, c.layers...)); err != nil {
				t.Fatal(err)
			}
			if got := tree(t, &buf); got != c.want {
				t.Errorf("tree\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestFlattenRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		files []file
		want  string
	}{
		{"climbs out", []file{{name: "../f", content: "x"}}, "leads outside"},
		{"climbs out later", []file{{name: "a/../../f", content: "x"}}, "leads outside"},
		{"hard link outside", []file{hardlink("a", "../../etc/passwd")}, "leads outside"},
		{"hard link to nothing", []file{hardlink("a", "b")}, "no file in the image"},
		{"hard link to a folder", []file{dir("d"), hardlink("a", "d")}, "no file in the image"},
		{"symlinks in a circle", []file{symlink("a", "b"), symlink("b", "a"), {name: "a/f", content: "x"}}, "too many symbolic links"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := WriteTar(t.Context(), &bytes.Buffer{}, imageOf(t, c.files))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// onDisk lists a folder as tree lists a tar, hard links as files.
func onDisk(t *testing.T, dir string) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		line := filepath.ToSlash(rel)
		switch {
		case e.IsDir():
			line += "/"
		case e.Type()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += "->" + to
		default:
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += "=" + string(b)
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

func TestLocal(t *testing.T) {
	for _, c := range flattenCases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := WriteLocal(t.Context(), dir, imageOf(t, c.layers...), func(s string) { t.Error(s) }); err != nil {
				t.Fatal(err)
			}
			want := strings.ReplaceAll(c.want, "b==a", "b=x")
			if got := onDisk(t, dir); got != want {
				t.Errorf("files\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// Links in the destination lead nowhere else, and what is there is replaced or stays.
func TestLocalStaysInside(t *testing.T) {
	outside := t.TempDir()
	keep := filepath.Join(outside, "keep")
	if err := os.WriteFile(keep, []byte("safe"), 0o600); err != nil {
		t.Fatal(err)
	}
	dest := t.TempDir()
	for name, to := range map[string]string{"dir": outside, "f": keep, "gone": "/nonexistent/x"} {
		if err := os.Symlink(to, filepath.Join(dest, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dest, "mine"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	img := imageOf(t, []file{dir("dir"), {name: "dir/keep", content: "evil"}, {name: "f", content: "evil"}, {name: "gone", content: "new"}, symlink("out", outside)},
		[]file{symlink("s", "../../../../../tmp")})
	if err := WriteLocal(t.Context(), dest, img, nil); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(keep); string(b) != "safe" {
		t.Errorf("a file outside holds %q", b)
	}
	want := fmt.Sprintf("dir/\ndir/keep=evil\nf=evil\ngone=new\nmine=mine\nout->%s\ns->../../../../../tmp", outside)
	if got := onDisk(t, dest); got != want {
		t.Errorf("files\n%s\nwant\n%s", got, want)
	}
}

func TestLocalAttributes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes")
	}
	when := *at("2001-02-03T04:05:06Z")
	closed := file{name: "d/", header: tar.Header{Typeflag: tar.TypeDir, Mode: 0o555, ModTime: when, Uid: 1234}}
	exe := file{name: "d/exe", content: "x", header: tar.Header{Mode: 0o4750, ModTime: when, Uid: 1234, Gid: 99}}
	node := file{name: "d/null", header: tar.Header{Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}}
	dest := t.TempDir()
	var said []string
	if err := WriteLocal(t.Context(), dest, imageOf(t, []file{closed, exe, node}), func(s string) { said = append(said, s) }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(filepath.Join(dest, "d"), 0o700) })
	if len(said) != 1 || !strings.HasPrefix(said[0], "d/null is left out") {
		t.Errorf("said %q", said)
	}
	for name, want := range map[string]fs.FileMode{"d": fs.ModeDir | 0o555, "d/exe": fs.ModeSetuid | 0o750} {
		i, err := os.Lstat(filepath.Join(dest, name))
		if err != nil {
			t.Fatal(err)
		}
		if i.Mode() != want || !i.ModTime().Equal(when) {
			t.Errorf("%s: mode %v, want %v; time %v", name, i.Mode(), want, i.ModTime())
		}
	}
}

// The image of each platform of an index has a folder.
func TestTarOfIndex(t *testing.T) {
	l := newLibrary(t)
	img := assemble(t, l, makeTar(t, file{name: "f", content: "x"}, hardlink("g", "f")))
	ix, err := AssembleIndex([]PlatformImage{{Platform: v1.Platform{OS: "linux", Architecture: "amd64"}, Image: img}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := WriteTar(t.Context(), &buf, ix); err != nil {
		t.Fatal(err)
	}
	if got, want := tree(t, &buf), "linux_amd64/\nlinux_amd64/f=x\nlinux_amd64/g==linux_amd64/f"; got != want {
		t.Errorf("tree\n%s\nwant\n%s", got, want)
	}
	dest := t.TempDir()
	if err := WriteLocal(t.Context(), dest, ix, nil); err != nil {
		t.Fatal(err)
	}
	if got, want := onDisk(t, dest), "linux_amd64/\nlinux_amd64/f=x\nlinux_amd64/g=x"; got != want {
		t.Errorf("files\n%s\nwant\n%s", got, want)
	}
}

func FuzzFlatten(f *testing.F) {
	for _, c := range flattenCases {
		for _, files := range c.layers {
			f.Add(makeTar(f, files...))
		}
	}
	base := makeTar(f, dir("a"), file{name: "a/b", content: "x"}, symlink("l", "a"), hardlink("h", "a/b"))
	l := newLibrary(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		outside := t.TempDir()
		dest := filepath.Join(outside, "dest")
		img := assemble(t, l, base, b)
		if WriteLocal(t.Context(), dest, img, nil) != nil {
			return
		}
		if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
			t.Errorf("files outside: %v %v", entries, err)
		}
		// So that the folder can be removed. Links are left alone: chmod follows them out of it.
		filepath.WalkDir(dest, func(path string, d fs.DirEntry, _ error) error {
			if d != nil && d.IsDir() {
				os.Chmod(path, 0o700)
			}
			return nil
		})
	})
}

// TestLocalMany holds that files which are made side by side are those of the image, whatever stands in their way, and that links and
// large files find them.
func TestLocalMany(t *testing.T) {
	dest := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dest, "d1", "f7", "below"), 0o700); err != nil {
		t.Fatal(err)
	}
	large := strings.Repeat("x", smallFile+1)
	files := []file{dir("d0"), dir("d1"), dir("d1/d2")}
	want := []string{"d0/", "d1/", "d1/d2/"}
	add := func(name, content string) {
		files = append(files, file{name: name, content: content})
		want = append(want, name+"="+content)
	}
	for i := range 300 {
		add(fmt.Sprintf("%s/f%d", []string{"d0", "d1", "d1/d2"}[i/10%3], i), fmt.Sprint(i%3*i))
		if i%100 == 50 {
			add(fmt.Sprintf("d0/large%d", i), large)
		}
	}
	add("d1/f7", "in the way")
	files = append(files, file{name: "hard", header: tar.Header{Typeflag: tar.TypeLink, Linkname: "d1/d2/f299"}})
	want = append(want, "hard=598")
	if err := WriteLocal(t.Context(), dest, imageOf(t, files), nil); err != nil {
		t.Fatal(err)
	}
	sort.Strings(want)
	if got := onDisk(t, dest); got != strings.Join(want, "\n") {
		t.Errorf("files\n%.2000s", got)
	}
}
