package rootfs_test

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/skiff-build/skiff/internal/bounds"
	"github.com/skiff-build/skiff/internal/rootfs"
	"github.com/skiff-build/skiff/internal/skifftest"
)

func discard(*tar.Header, io.Reader) error { return nil }

// TestSpellings: however a layer spells a name, it is the same file for all who read it, and a whiteout of another spelling hides it.
func TestSpellings(t *testing.T) {
	for _, name := range skifftest.Spellings {
		dir, base, _ := strings.Cut(name, "passwd")
		low := skifftest.Layer(t, entry{Name: "etc/passwd", Body: "old"}, entry{Name: "etc/gone", Body: "x"})
		high := skifftest.Layer(t, entry{Name: name, Body: "root"}, entry{Name: "also", Hard: name}, entry{Name: dir + ".wh.gone" + base})
		img := skifftest.Image(t, v1.Config{}, low, high)
		var seen []string
		look := func(_ int, e rootfs.Entry, content io.Reader) (any, error) {
			seen = append(seen, e.Name)
			text, err := io.ReadAll(content)
			return string(text), err
		}
		f, err := rootfs.Open(t.Context(), img, rootfs.Options{Look: look})
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		file, err := f.Find("/etc/passwd")
		if err != nil || file.Note != "root" || file.Header.Name != "etc/passwd" {
			t.Errorf("%q: %+v, %v", name, file, err)
		}
		if also, err := f.Find("also"); err != nil || !also.Same(file) {
			t.Errorf("%q: hard link: %v", name, err)
		}
		if _, err := f.Find("etc/gone"); err == nil {
			t.Errorf("%q: the whiteout hides nothing", name)
		}
		if len(seen) < 3 || seen[2] != "etc/passwd" {
			t.Errorf("%q: looked at %q", name, seen)
		}
		var flat []string
		err = rootfs.Flatten(t.Context(), img, func(h *tar.Header, _ io.Reader) error { flat = append(flat, h.Name); return nil })
		if got := strings.Join(flat, " "); err != nil || got != "etc also etc/passwd" && got != "etc etc/passwd also" {
			t.Errorf("%q: flat %s, %v", name, got, err)
		}
	}
	for _, name := range skifftest.Climbing {
		for _, e := range []entry{{Name: name, Body: "x"}, {Name: "h", Hard: name}} {
			img := skifftest.Image(t, v1.Config{}, skifftest.Layer(t, e))
			if _, err := rootfs.Open(t.Context(), img, rootfs.Options{}); !errors.Is(err, bounds.ErrEscape) {
				t.Errorf("%+v: %v", e, err)
			}
			if err := rootfs.Flatten(t.Context(), img, discard); !errors.Is(err, bounds.ErrEscape) {
				t.Errorf("%+v: %v", e, err)
			}
		}
	}
}

// TestBounds: what no system can hold ends with an error, in no time.
func TestBounds(t *testing.T) {
	deep := strings.Repeat("d/", 250)
	links := []entry{{Name: deep}, {Name: "l0", Link: deep}}
	for i := range 30 {
		links = append(links, entry{Name: fmt.Sprintf("l%d/%s", i, deep)}, entry{Name: fmt.Sprintf("l%d", i+1), Link: fmt.Sprintf("l%d/%s", i, deep)})
	}
	for name, entries := range map[string][]entry{
		"deep": {{Name: strings.Repeat("d/", 20_000) + "f", Body: "x"}}, "deep by links": links, "long": {{Name: strings.Repeat("n", 300_000), Body: "x"}},
		"long link": {{Name: "l", Link: strings.Repeat("n/", 3000)}},
	} {
		start := time.Now()
		_, err := rootfs.Open(t.Context(), skifftest.Image(t, v1.Config{}, skifftest.Layer(t, entries...)), rootfs.Options{})
		if took := time.Since(start); !errors.Is(err, bounds.ErrLimit) || took > 40*time.Second {
			t.Errorf("%s: after %s: %.300v", name, took, err)
		}
	}
}

// TestPretendedSize: the gigabytes of holes that a few bytes claim are not written out; who only looks may know of them.
func TestPretendedSize(t *testing.T) {
	img := skifftest.Image(t, v1.Config{}, static.NewLayer(skifftest.Sparse(t, "f", []byte("x"), 8<<30-1), types.OCIUncompressedLayer))
	if _, err := rootfs.Open(t.Context(), img, rootfs.Options{}); err != nil {
		t.Error(err)
	}
	if err := rootfs.Flatten(t.Context(), img, discard); !errors.Is(err, bounds.ErrLimit) {
		t.Error(err)
	}
}

// TestManyOpaque: a layer that says for each of its files that its folders hide what lies below takes no time that grows with the square.
func TestManyOpaque(t *testing.T) {
	var entries []entry
	for i := range 20_000 {
		entries = append(entries, entry{Name: fmt.Sprintf("a/b/c/f%d", i)}, entry{Name: ".wh..wh..opq"}, entry{Name: "a/b/.wh..wh..opq"})
	}
	start := time.Now()
	if _, err := rootfs.Open(t.Context(), skifftest.Image(t, v1.Config{}, skifftest.Layer(t, entries...)), rootfs.Options{}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 40*time.Second {
		t.Errorf("it took %s", took)
	}
}
