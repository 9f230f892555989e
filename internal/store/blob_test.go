package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func hashOf(s string) v1.Hash {
	sum := sha256.Sum256([]byte(s))
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

func descriptor(h v1.Hash) v1.Descriptor {
	return v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: h, Size: 7}
}

func putBlob(t *testing.T, s *Store, content string) v1.Hash {
	t.Helper()
	h, n, err := s.WriteBlob(t.Context(), strings.NewReader(content), hashOf(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	if h != hashOf(content) || n != int64(len(content)) {
		t.Fatalf("WriteBlob returned %s, %d", h, n)
	}
	return h
}

func readBlob(t *testing.T, s *Store, h v1.Hash) string {
	t.Helper()
	r, err := s.OpenBlob(h)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// endless yields zeros for ever, and counts.
type endless struct{ n int64 }

func (e *endless) Read(p []byte) (int, error) {
	clear(p)
	e.n += int64(len(p))
	return len(p), nil
}

func TestWriteBlobRefuses(t *testing.T) {
	good := "what was announced"
	long := &endless{}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		r    io.Reader
		want v1.Hash
		size int64
		err  string
	}{
		{"other content", t.Context(), strings.NewReader("what was announceD"), hashOf(good), int64(len(good)), "content has the digest"},
		{"cut short", t.Context(), strings.NewReader(good[:5]), hashOf(good), int64(len(good)), "ends after 5 of the 18 bytes"},
		{"too long", t.Context(), strings.NewReader(good + "!"), hashOf(good), int64(len(good)), "longer than the 18 bytes"},
		{"endless", t.Context(), long, hashOf(good), 1000, "longer than the 1000 bytes"},
		{"broken off", t.Context(), io.MultiReader(strings.NewReader("ab"), iotest.ErrReader(io.ErrUnexpectedEOF)), hashOf(good), -1, "unexpected EOF"},
		{"cancelled", cancelled, strings.NewReader(good), hashOf(good), -1, "context canceled"},
		{"sha512", t.Context(), strings.NewReader(good), v1.Hash{Algorithm: "sha512", Hex: strings.Repeat("a", 128)}, -1, "only sha256"},
		{"a path", t.Context(), strings.NewReader(good), v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("../", 21) + "x"}, -1, "not a digest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, t.TempDir())
			_, _, err := s.WriteBlob(c.ctx, c.r, c.want, c.size)
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v, want one with %q", err, c.err)
			}
			nothingLeft(t, s)
		})
	}
	if long.n > 1<<20 {
		t.Errorf("%d bytes of an endless blob were read", long.n)
	}
}

func nothingLeft(t *testing.T, s *Store) {
	t.Helper()
	for _, dir := range []string{"tmp", "oci/blobs/sha256"} {
		entries, err := os.ReadDir(filepath.Join(s.Root(), dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			t.Errorf("%s/%s was left behind", dir, e.Name())
		}
	}
}

func TestWriteBlobAny(t *testing.T) {
	s := open(t, t.TempDir())
	h, n, err := s.WriteBlob(t.Context(), strings.NewReader("abc"), v1.Hash{}, -1)
	if err != nil || n != 3 || h != hashOf("abc") {
		t.Errorf("%s %d %v", h, n, err)
	}
	if h, _, err = s.WriteBlob(t.Context(), strings.NewReader(""), v1.Hash{}, 0); err != nil || h != hashOf("") {
		t.Errorf("empty: %s %v", h, err)
	}
	if !s.Made(hashOf("abc")) || !s.Made(hashOf("")) || s.Made(hashOf("abcd")) {
		t.Error("the store does not know which blobs it wrote")
	}
}

func TestMakeBlob(t *testing.T) {
	s := open(t, t.TempDir())
	want := strings.Repeat("a piece of it", 30_000)
	h, n, err := s.MakeBlob(t.Context(), func(w io.Writer) error {
		for from := 0; from < len(want); from += 1000 {
			if _, err := io.WriteString(w, want[from:min(from+1000, len(want))]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || n != int64(len(want)) || h != hashOf(want) || readBlob(t, s, h) != want || !s.Made(h) {
		t.Errorf("%s %d %v", h, n, err)
	}
	failed := errors.New("no more")
	if _, _, err := s.MakeBlob(t.Context(), func(w io.Writer) error { io.WriteString(w, "half"); return failed }); !errors.Is(err, failed) {
		t.Errorf("a writer that fails: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(failed)
	if _, _, err := s.MakeBlob(ctx, func(w io.Writer) error { io.WriteString(w, "half"); return nil }); !errors.Is(err, failed) {
		t.Errorf("a context that ended: %v", err)
	}
	h, err = s.FillBlob(func(f *os.File) (v1.Hash, error) {
		_, err := f.WriteString("filled")
		return hashOf("filled"), err
	})
	if err != nil || h != hashOf("filled") || readBlob(t, s, h) != "filled" || !s.Made(h) {
		t.Errorf("a file that was filled: %s %v", h, err)
	}
	if _, err := s.FillBlob(func(f *os.File) (v1.Hash, error) { f.WriteString("half"); return v1.Hash{}, failed }); !errors.Is(err, failed) {
		t.Errorf("a file that was not filled: %v", err)
	}
	if left, err := os.ReadDir(s.path("tmp")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestWriteBlobOnceOnly(t *testing.T) {
	s := open(t, t.TempDir())
	h := putBlob(t, s, "abc")
	if _, n, err := s.WriteBlob(t.Context(), iotest.ErrReader(errors.New("was read")), h, 3); err != nil || n != 3 {
		t.Errorf("%d %v", n, err)
	}
}

func TestWrongBlobIsFoundAndGoes(t *testing.T) {
	for _, bad := range []string{"abX", "ab", "abcd", ""} {
		s := open(t, t.TempDir())
		h := putBlob(t, s, "abc")
		path, _, err := s.Blob(h)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, bad)
		r, err := s.OpenBlob(h)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(r)
		r.Close()
		var de *DigestError
		if !errors.As(err, &de) {
			t.Errorf("%q: error %v", bad, err)
		}
		if _, err := s.OpenBlob(h); !errors.Is(err, ErrMiss) {
			t.Errorf("%q: afterwards %v, want a miss", bad, err)
		}
		if got := readBlob(t, s, putBlob(t, s, "abc")); got != "abc" {
			t.Errorf("%q: written again it reads %q", bad, got)
		}
	}
}

func TestCutBlobIsWrittenAgain(t *testing.T) {
	s := open(t, t.TempDir())
	h := putBlob(t, s, "abc")
	path, _, _ := s.Blob(h)
	write(t, path, "a")
	if got := readBlob(t, s, putBlob(t, s, "abc")); got != "abc" {
		t.Errorf("%q", got)
	}
}

func TestBlobMiss(t *testing.T) {
	s := open(t, t.TempDir())
	if _, _, err := s.Blob(hashOf("x")); !errors.Is(err, ErrMiss) {
		t.Errorf("Blob: %v", err)
	}
	if _, err := s.OpenBlob(hashOf("x")); !errors.Is(err, ErrMiss) {
		t.Errorf("OpenBlob: %v", err)
	}
}
