package skifftest

import (
	"archive/tar"
	"bytes"
	"fmt"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// Sparse is a tar of one executable, of which the file stored is the beginning, and that pretends to have size bytes: the old format of
// GNU (tar(5), "GNU tar archives"), which archive/tar reads and does not write.
func Sparse(t testing.TB, name string, head []byte, size int64) []byte {
	t.Helper()
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(head)), Format: tar.FormatGNU}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(head); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	h := b.Bytes()[:512]
	h[156] = 'S'
	copy(h[386:], fmt.Sprintf("%011o\x00%011o\x00%011o\x00%011o\x00", 0, len(head), size, 0))
	copy(h[483:], fmt.Sprintf("%011o\x00", size))
	copy(h[148:], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b.Bytes()
}

// Bomb is a short stream of zstd that unpacks to size bytes of zeros.
func Bomb(t testing.TB, size int64) []byte {
	t.Helper()
	const frame = 8 << 20
	w, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(false))
	if err != nil {
		t.Fatal(err)
	}
	one := w.EncodeAll(make([]byte, frame), nil)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return bytes.Repeat(one, int((size+frame-1)/frame))
}
