package layer

import (
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
	below []byte
}

func (p *pieces) Keep(from, to int64) error {
	p.Write(p.below[from:to])
	return nil
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
		got := pieces{below: below}
		files, err := PackOver(t.Context(), &got, diffDir, bytes.NewReader(below), int64(len(below)), PackOptions{Epoch: 7})
		if err != nil || files != wantPacked.Files || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("seed %d: %v\ngot  %q\nwant %q\nbelow %q", seed, err, list(t, got.Bytes()), list(t, want), list(t, below))
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
	got := pieces{below: below}
	if _, err := PackOver(t.Context(), &got, diff, bytes.NewReader(below), int64(len(below)), PackOptions{}); err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%v: %q, want %q", err, list(t, got.Bytes()), list(t, want))
	}
	must(t, whiteout.SetOpaque(filepath.Join(diff, "a"), true))
	if _, err := PackOver(t.Context(), &got, diff, bytes.NewReader(below), int64(len(below)), PackOptions{}); err == nil {
		t.Error("an opaque directory: no error")
	}
	if _, err := PackOver(t.Context(), &got, now, bytes.NewReader(below[:700]), 700, PackOptions{}); err == nil {
		t.Error("half a tar: no error")
	}
}
