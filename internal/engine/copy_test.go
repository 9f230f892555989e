package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client/llb"

	"github.com/skiff-build/skiff/internal/skifftest"
)

// tars are what the tar of a state's last layer is, with times and without, and that of a copy of all its files. Last is the id
// of the first.
func (b *bench) tars(st llb.State) (ids []string, last string) {
	b.t.Helper()
	again := llb.Scratch().File(llb.Copy(st, "/", "/"))
	for _, s := range []llb.State{st, again} {
		for _, o := range []LayerOptions{{}, {KeepTimes: true, Epoch: 1}} {
			e := b.engine(nil)
			ref, err := solve(b.t, e, s)
			var layers []Layer
			if err == nil {
				layers, err = e.Layers(b.t.Context(), ref, o)
			}
			e.Close()
			if err != nil {
				b.t.Fatal(err)
			}
			l := layers[len(layers)-1]
			ids = append(ids, fmt.Sprint(l.DiffID, l.Size, l.Files))
			if last == "" {
				last = l.ID
			}
		}
	}
	return ids, last
}

// TestCopyAgain changes a few files of a large context: the copy completes the layer that it made first, and everything that
// comes out is as if all had been copied.
func TestCopyAgain(t *testing.T) {
	skifftest.Long(t, "it copies thousands of files")
	b := newBench(t)
	for i := range wholeFiles {
		b.write(fmt.Sprintf("d%d/f%d", i%7, i), fmt.Sprint("text ", i))
	}
	b.write("link/x", "1", "old/a/b", "2", "old/c", "3", "go.mod", "module x")
	if err := os.Symlink("go.mod", filepath.Join(b.context, "sym")); err != nil {
		t.Fatal(err)
	}
	// Large enough for the digest of a tar to go on from the part that stays.
	b.write("d0/large", strings.Repeat("0123456789abcdef", 20<<16), "z", strings.Repeat("fedcba9876543210", 13<<16))
	then := llb.WithCreatedTime(time.Unix(3, 0))
	base := llb.Scratch().File(llb.Mkdir("/srv", 0o700, then).Mkfile("/srv/only", 0o600, nil, then).Mkfile("/srv/go.mod", 0o644, []byte("below"), then))
	st := base.File(llb.Copy(llb.Local("context"), "/", "/srv", &llb.CopyInfo{CopyDirContentsOnly: true, CreateDestPath: true},
		llb.WithUser("7:8")))
	_, first := b.tars(st)
	if below := b.store.LayerBelow(first); below != "" {
		t.Fatalf("the first copy completes layer %s", below)
	}

	at := func(name string) string { return filepath.Join(b.context, name) }
	path := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	steps := []struct {
		name   string
		change func()
		over   string // the layer that is completed
	}{
		{"content, new, gone, mode, link and time", func() {
			b.write("d3/f3", "other", "d3/new/file", "new", "zz", "last")
			path(os.RemoveAll(at("old")))
			path(os.Remove(at("d4/f4")))
			path(os.Chmod(at("d5/f5"), 0o4711))
			path(os.Remove(at("sym")))
			path(os.Symlink("zz", at("sym")))
			path(os.Chtimes(at("d6"), time.Unix(5, 0), time.Unix(5, 0)))
			path(os.Chtimes(at("d1/f1"), time.Unix(6, 0), time.Unix(6, 0)))
		}, first},
		{"content once more", func() { b.write("d3/f3", "yet another") }, first},
		{"what is below comes to light", func() { path(os.Remove(at("go.mod"))) }, ""},
	}
	for _, s := range steps {
		s.change()
		fresh := newBench(t)
		fresh.context = b.context
		got, last := b.tars(st)
		want, _ := fresh.tars(st)
		if !slices.Equal(got, want) {
			t.Errorf("%s: it gives other layers than a copy of everything:\ngot  %q\nwant %q", s.name, got, want)
		}
		if below := b.store.LayerBelow(last); below != s.over {
			t.Errorf("%s: the layer completes %q, want %q", s.name, below, s.over)
		}
	}
	if states, err := os.ReadDir(filepath.Join(b.store.Root(), "records", "hashstates")); err != nil || len(states) == 0 {
		t.Errorf("all tars were digested from their first byte on: %v", err)
	}
}

// TestCopyAgainAfterTrim takes the first layer away: what completed it is not known any more.
func TestCopyAgainAfterTrim(t *testing.T) {
	skifftest.Long(t, "it copies thousands of files")
	b := newBench(t)
	for i := range wholeFiles {
		b.write(fmt.Sprintf("f%d", i), "text")
	}
	st := llb.Scratch().File(llb.Copy(llb.Local("context"), "/", "/", &llb.CopyInfo{CopyDirContentsOnly: true}))
	_, first := b.tars(st)
	b.write("f1", "other")
	want, second := b.tars(st)
	if b.store.LayerBelow(second) != first {
		t.Fatal("the second copy does not complete the first")
	}
	e := b.engine(nil)
	if err := e.remove(t.Context(), []string{b.store.LayerDir(first)}); err != nil {
		t.Fatal(err)
	}
	e.Close()
	if b.store.HasLayer(second) {
		t.Error("half a layer counts as one")
	}
	if got, _ := b.tars(st); !slices.Equal(got, want) {
		t.Errorf("made again: %q, want %q", got, want)
	}
}
