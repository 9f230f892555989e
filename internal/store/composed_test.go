package store

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// compose makes a blob of random pieces of others and of bytes of its own, and returns what it has to be.
func compose(t *testing.T, s *Store, r *rand.Rand, of map[v1.Hash]string) (v1.Hash, string) {
	t.Helper()
	c, err := s.Compose(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	for range 1 + r.IntN(12) {
		for h, text := range of {
			from := r.IntN(len(text))
			size := r.IntN(len(text) - from + 1)
			var seen bytes.Buffer
			if err := c.Keep(h, int64(from), int64(size), &seen); err != nil {
				t.Fatal(err)
			}
			if seen.String() != text[from:from+size] {
				t.Error("what is kept is not what was read")
			}
			want.WriteString(text[from : from+size])
			own := strings.Repeat("own", r.IntN(3))
			io.WriteString(c, own)
			want.WriteString(own)
			break
		}
	}
	h, n, err := c.Commit()
	if err != nil || h != hashOf(want.String()) || n != int64(want.Len()) {
		t.Fatalf("Commit: %s, %d, %v, want %s, %d", h, n, err, hashOf(want.String()), want.Len())
	}
	return h, want.String()
}

func TestComposed(t *testing.T) {
	s := open(t, t.TempDir())
	text := strings.Repeat("0123456789abcdefghijklmnopqrstuvwxyz", 20)
	of := map[v1.Hash]string{putBlob(t, s, text): text, putBlob(t, s, "a small one"): "a small one"}
	plain := len(of)
	for seed := range uint64(40) {
		h, want := compose(t, s, rand.New(rand.NewPCG(seed, 3)), of) // of what was composed before, too
		if size, err := s.BlobSize(h); err != nil || size != int64(len(want)) {
			t.Errorf("BlobSize: %d, %v, want %d", size, err, len(want))
		}
		if got := readBlob(t, s, h); got != want {
			t.Errorf("%d bytes are read, want %d", len(got), len(want))
		}
		at, err := s.OpenBlobAt(h)
		if err != nil {
			t.Fatal(err)
		}
		if len(want) > 0 {
			if err := iotest.TestReader(io.NewSectionReader(at, 0, at.Size()), []byte(want)); err != nil {
				t.Error(err)
			}
			of[h] = want
		}
		at.Close()
		parts, err := s.Parts(h)
		for _, p := range parts {
			if _, err := s.Parts(p.Blob); p.Blob != (v1.Hash{}) && !errors.Is(err, ErrMiss) {
				t.Errorf("it is made of a composed blob (%v)", err)
			}
		}
		if err != nil && len(want) > 11 {
			t.Error(err)
		}
	}
	if len(of) < plain+10 {
		t.Error("hardly anything was composed")
	}
	for h, want := range of { // whoever wants a file gets one
		path, size, err := s.Blob(h)
		b, rerr := os.ReadFile(path)
		if err != nil || rerr != nil || string(b) != want || size != int64(len(want)) {
			t.Errorf("Blob: %d bytes, %v, %v", size, err, rerr)
		}
	}
}

func composeOne(t *testing.T, s *Store, of v1.Hash, size int64) v1.Hash {
	t.Helper()
	c, err := s.Compose(t.Context())
	if err == nil {
		err = c.Keep(of, 0, size)
	}
	if err == nil {
		_, err = io.WriteString(c, "own")
	}
	if err != nil {
		t.Fatal(err)
	}
	h, _, err := c.Commit()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestComposedOfWhatIsGone: a composed blob that cannot be read is a miss or damaged, never other content.
func TestComposedOfWhatIsGone(t *testing.T) {
	s := open(t, t.TempDir())
	base := putBlob(t, s, "the base of it")
	h := composeOne(t, s, base, 8)
	path, _, _ := s.Blob(base)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(path, []byte("the bAse of it"), 0o600))
	r, err := s.OpenBlob(h)
	must(err)
	var damaged *DigestError
	if _, err := io.ReadAll(r); !errors.As(err, &damaged) {
		t.Errorf("a damaged base: %v", err)
	}
	r.Close()
	if _, err := s.BlobSize(h); !errors.Is(err, ErrMiss) {
		t.Errorf("a damaged blob is still there: %v", err)
	}
	if _, err := s.BlobSize(base); !errors.Is(err, ErrMiss) {
		t.Errorf("what it was made of is still there: %v", err)
	}
	for name, change := range map[string]func(){
		"base gone":       func() { must(os.Remove(path)) },
		"base short":      func() { must(os.WriteFile(path, []byte("the"), 0o600)) },
		"end cut":         func() { must(os.Truncate(s.composedPath(h), 60)) },
		"empty":           func() { must(os.Truncate(s.composedPath(h), 0)) },
		"another's bytes": func() { must(os.WriteFile(s.composedPath(h), bytes.Repeat([]byte{0xff}, 500), 0o600)) },
	} {
		must(os.WriteFile(path, []byte("the base of it"), 0o600))
		os.Remove(s.composedPath(h))
		composeOne(t, s, base, 8)
		change()
		if _, err := s.BlobSize(h); !errors.Is(err, ErrMiss) {
			t.Errorf("%s: BlobSize: %v", name, err)
		}
		if _, err := s.OpenBlob(h); !errors.Is(err, ErrMiss) {
			t.Errorf("%s: OpenBlob: %v", name, err)
		}
		if _, _, err := s.Blob(h); !errors.Is(err, ErrMiss) {
			t.Errorf("%s: Blob: %v", name, err)
		}
	}
	if c, err := s.Compose(t.Context()); err != nil || c.Keep(hashOf("nothing"), 0, 1) == nil || c.Keep(base, 0, 1000) == nil {
		t.Error("what is not there was kept", err)
	} else {
		c.Abort()
	}
	if left, _ := filepath.Glob(filepath.Join(s.Root(), "tmp", "*composed*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestTrimKeepsParts: what a composed blob is made of stays as long as it does, and goes with it.
func TestTrimKeepsParts(t *testing.T) {
	s := open(t, t.TempDir())
	base := putBlob(t, s, "the base of it")
	h := composeOne(t, s, base, 8)
	k := Key{1}
	if err := s.Put("k", k, refs{Blobs: []v1.Hash{h}}); err != nil {
		t.Fatal(err)
	}
	if f := trim(t, s, 1<<30); f.Blobs != 0 {
		t.Errorf("%d blobs went", f.Blobs)
	}
	readBlob(t, s, h)
	if err := s.Delete("k", k); err != nil {
		t.Fatal(err)
	}
	if f := trim(t, s, 1<<30); f.Blobs != 2 {
		t.Errorf("%d blobs went, want 2", f.Blobs)
	}
	if u, err := s.DiskUsage(); err != nil || u.BlobCount != 0 {
		t.Errorf("%d blobs are left, %v", u.BlobCount, err)
	}
}
