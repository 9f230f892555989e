package store

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func large(size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{7}).Read(b)
	return b
}

// composed composes a blob of head, what h has behind it up to to, and a few bytes of its own.
func composed(t testing.TB, s *Store, h v1.Hash, head string, to int64, also ...io.Writer) v1.Hash {
	t.Helper()
	c, err := s.Compose(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, head)
	at := int64(len(head))
	for _, end := range []int64{min(max(at, 1000), to), to} {
		if err := c.Keep(h, at, end-at, also...); err != nil {
			t.Fatal(err)
		}
		at = end
	}
	io.WriteString(c, "own")
	got, n, err := c.Commit()
	if err != nil || n != to+3 {
		t.Fatal(n, err)
	}
	return got
}

func TestDigestIsResumed(t *testing.T) {
	text := large(statesFrom + stateStride/2)
	size := int64(len(text))
	s := open(t, t.TempDir())
	h := putBlob(t, s, string(text))
	known := func() int64 {
		_, at := s.resume(h, size)
		return at
	}
	check := func(what string, lengths ...int64) {
		t.Helper()
		head := string(text[:10])
		for _, to := range lengths {
			want := hashOf(string(text[:to]) + "own")
			var seen bytes.Buffer
			if a, b := composed(t, s, h, "", to), composed(t, s, h, head, to, &seen); a != want || b != want || !bytes.Equal(seen.Bytes(), text[10:to]) {
				t.Errorf("%s: up to %d: %s and %s, want %s", what, to, a, b, want)
			}
			if got := composed(t, s, h, "0123456789", to); got != hashOf("0123456789"+string(text[10:to])+"own") {
				t.Errorf("%s: another head: %s", what, got)
			}
		}
	}
	check("of a few bytes", 100, stateStride-1)
	if at := known(); at != 0 {
		t.Errorf("for a few bytes all was read, up to %d", at)
	}
	check("at first", stateStride+1)
	if at := known(); at != statesFrom {
		t.Errorf("then it is known up to %d", at)
	}
	check("later", 100, stateStride-1, stateStride, stateStride+1, size)
	record := s.recordPath(kindStates, blobKey(h))
	data, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 40, 170, len(data) - 1} {
		broken := bytes.Clone(data)
		broken[i] ^= 1
		write(t, record, string(broken))
		if at := known(); at != 0 {
			t.Errorf("byte %d of the record was changed, and it counts", i)
		}
	}
	check("with a broken record", stateStride+1)
	if at := known(); at != statesFrom {
		t.Errorf("it is not mended, but known up to %d", at)
	}
}

// TestResumedDigestIsTheContents: what is not read for a digest cannot change it.
func TestResumedDigestIsTheContents(t *testing.T) {
	s := open(t, t.TempDir())
	text := large(statesFrom)
	h := putBlob(t, s, string(text))
	path, _, _ := s.Blob(h)
	damage := func() {
		text[5] ^= 1
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		text[5] ^= 1
	}
	damage()
	c, err := s.Compose(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var damaged *DigestError
	if err := errors.Join(c.Keep(h, 0, stateStride), func() error { _, _, err := c.Commit(); return err }()); !errors.As(err, &damaged) {
		t.Errorf("states of damaged content: %v", err)
	}
	if _, err := s.BlobSize(h); !errors.Is(err, ErrMiss) {
		t.Errorf("the damaged blob is still there: %v", err)
	}
	putBlob(t, s, string(text))
	composed(t, s, h, "", stateStride)
	damage()
	got := composed(t, s, h, "", statesFrom-1)
	if want := hashOf(string(text[:statesFrom-1]) + "own"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	r, err := s.OpenBlob(got)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err == nil {
		t.Error("damaged content was read as the blob's")
	}
}

func TestSmallBlobsKeepNoStates(t *testing.T) {
	s := open(t, t.TempDir())
	h := putBlob(t, s, string(large(statesFrom-1)))
	composed(t, s, h, "", stateStride)
	if _, err := s.GetData(kindStates, blobKey(h)); err == nil {
		t.Error("states of a small blob are kept")
	}
}

// BenchmarkCompose composes a blob of 128 MB of which a few bytes in the middle are its own.
func BenchmarkCompose(b *testing.B) {
	s, err := Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	const size = 128 << 20
	h, _, err := s.WriteBlob(b.Context(), bytes.NewReader(large(size)), v1.Hash{}, -1)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	for b.Loop() {
		c, err := s.Compose(b.Context())
		if err == nil {
			err = c.Keep(h, 0, size/2)
		}
		if err == nil {
			_, err = io.WriteString(c, "own")
		}
		if err == nil {
			err = c.Keep(h, size/2, size/2)
		}
		if err == nil {
			_, _, err = c.Commit()
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
