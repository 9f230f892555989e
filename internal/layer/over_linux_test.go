package layer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skiff-build/skiff/internal/whiteout"
)

// files is a tree by name: a directory ends with a slash, others have a content.
type files map[string]string

// change changes a tree at random, and never makes a directory of a file.
func (f files) change(r *rand.Rand, n int) files {
	out := files{}
	for name, text := range f {
		out[name] = text
	}
	for range n {
		// Names that sort around the slash, and one that needs an extended header.
		dirs := []string{"", "a/", "a-/", "a/b/", "a/b.c/", "ü/", strings.Repeat("long", 40) + "/"}
		name := dirs[r.IntN(len(dirs))]
		file := name + []string{"f", "a!", "b-", "zz", "ab"}[r.IntN(5)]
		switch {
		case r.IntN(3) == 0:
			delete(out, file)
		case out[file+"/"] == "":
			for dir := path.Dir(file); dir != "."; dir = path.Dir(dir) {
				out[dir+"/"] = "dir"
			}
			out[file] = fmt.Sprint(r.IntN(5), strings.Repeat("x", r.IntN(1200)))
		}
	}
	return out
}

func (f files) write(t *testing.T, dir string) {
	t.Helper()
	for name, text := range f {
		p := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		if strings.HasSuffix(name, "/") {
			must(t, os.MkdirAll(p, 0o755))
		} else {
			must(t, os.WriteFile(p, []byte(text), 0o644))
		}
	}
}

// pieces puts a tar together.
type pieces struct {
	bytes.Buffer
	*Below
}

// packOver packs dir over a tar, and returns the bytes of all files.
func packOver(t *testing.T, below []byte, dir string, o PackOptions) ([]byte, int64, error) {
	t.Helper()
	index, err := ReadIndex(t.Context(), bytes.NewReader(below), int64(len(below)))
	if err != nil {
		return nil, 0, err
	}
	var out pieces
	if out.Below, err = index.Over(func(from, to int64) error {
		out.Write(below[from:to])
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	files, err := PackOver(t.Context(), &out, dir, o)
	return out.Bytes(), files + out.Files, err
}

// TestPackOver holds that a layer that completes another one packs as the directory that has all of it.
func TestPackOver(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 1))
		old := files{}.change(r, r.IntN(60))
		now := old.change(r, 1+r.IntN(20))
		diff := files{}
		var gone []string
		for name, text := range now {
			if old[name] != text {
				diff[name] = text
				for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
					diff[dir+"/"] = "dir"
				}
			}
		}
		for name := range old {
			if now[name] == "" {
				gone = append(gone, name)
			}
		}
		oldDir, nowDir, diffDir := t.TempDir(), t.TempDir(), t.TempDir()
		old.write(t, oldDir)
		now.write(t, nowDir)
		diff.write(t, diffDir)
		for _, name := range gone {
			must(t, os.MkdirAll(filepath.Join(diffDir, path.Dir(name)), 0o755))
			must(t, whiteout.Make(diffDir, name))
		}
		below, _ := pack(t, oldDir, PackOptions{Epoch: 7})
		want, wantPacked := pack(t, nowDir, PackOptions{Epoch: 7})
		got, files, err := packOver(t, below, diffDir, PackOptions{Epoch: 7})
		if err != nil || files != wantPacked.Files || !bytes.Equal(got, want) {
			t.Errorf("seed %d: %v\ngot  %q\nwant %q\nbelow %q", seed, err, list(t, got), list(t, want), list(t, below))
		}
	}
}

// TestPackOverRemovesDirectories: a whiteout takes away what the directory held, and no neighbour.
func TestPackOverRemovesDirectories(t *testing.T) {
	old, now, diff := t.TempDir(), t.TempDir(), t.TempDir()
	files{"a/b/c": "1", "a/b/d/e": "2", "a/b-": "3", "a/bb": "4"}.write(t, old)
	files{"a/b-": "3", "a/bb": "4"}.write(t, now)
	files{"a/": ""}.write(t, diff)
	must(t, whiteout.Make(diff, "a/b"))
	below, _ := pack(t, old, PackOptions{})
	want, _ := pack(t, now, PackOptions{})
	if got, _, err := packOver(t, below, diff, PackOptions{}); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v: %q, want %q", err, list(t, got), list(t, want))
	}
	must(t, whiteout.SetOpaque(filepath.Join(diff, "a"), true))
	if _, _, err := packOver(t, below, diff, PackOptions{}); err == nil {
		t.Error("an opaque directory: no error")
	}
	if _, _, err := packOver(t, below[:700], now, PackOptions{}); err == nil {
		t.Error("half a tar: no error")
	}
}

// TestReadIndex holds that what is no tar of Pack has no index, and that one which is broken is no index.
func TestReadIndex(t *testing.T) {
	made := func(names ...string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, name := range names {
			must(t, w.WriteHeader(&tar.Header{Name: name, Size: 3, Typeflag: tar.TypeReg}))
			_, err := w.Write([]byte("abc"))
			must(t, err)
		}
		must(t, w.Close())
		return b.Bytes()
	}
	read := func(b []byte) (Index, error) { return ReadIndex(t.Context(), bytes.NewReader(b), int64(len(b))) }
	for _, names := range [][]string{{"b", "a"}, {"a", "a"}, {"a-", "a/b"}, {"a/.wh.b"}, {".wh..wh..opq"}} {
		if x, err := read(made(names...)); err == nil {
			t.Errorf("%q: %q", names, x)
		}
	}
	x, err := read(made("a/b", "a-", "b"))
	must(t, err)
	whole := func(x Index) (to, files int64, err error) {
		b, err := x.Over(func(_, end int64) error { to = end; return nil })
		if err == nil {
			err = b.Rest()
		}
		return to, b.Files, err
	}
	if to, files, err := whole(x); to != 3*1024 || files != 9 || err != nil {
		t.Errorf("%d, %d, %v", to, files, err)
	}
	for i := range x {
		_, _, err := whole(x[:i])
		if between := i == 0 || i == 6 || i == 11; (err == nil) != between { // between two entries it is an index of fewer
			t.Errorf("cut at %d of %q: %v", i, x, err)
		}
	}
	if _, _, err := whole(Index(bytes.Repeat([]byte{0xff}, 40))); err == nil {
		t.Error("no index: no error")
	}
}
