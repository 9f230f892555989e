package rootfs

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

func TestSkimmer(t *testing.T) {
	want := make([]byte, 20_000)
	rand.NewChaCha8([32]byte{1}).Read(want)
	if got, err := io.ReadAll(iotest.OneByteReader(&skimmer{r: bytes.NewReader(want), buf: make([]byte, 2048)})); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	s := &skimmer{r: bytes.NewReader(want), buf: make([]byte, 2048)}
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 2))
		at, p := r.IntN(len(want)+100), make([]byte, 1+r.IntN(5000))
		if _, err := s.Seek(int64(at), io.SeekStart); err != nil {
			t.Fatal(err)
		}
		n, err := io.ReadFull(s, p)
		left := want[min(at, len(want)):]
		if n != min(len(p), len(left)) || !bytes.Equal(p[:n], left[:n]) || (err == nil) != (n == len(p)) {
			t.Fatalf("%d bytes at %d: %d, %v", len(p), at, n, err)
		}
	}
	if _, err := s.Seek(-1, io.SeekStart); err == nil {
		t.Error("before the beginning: no error")
	}
}
