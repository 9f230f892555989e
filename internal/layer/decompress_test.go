package layer

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/skiff-build/skiff/internal/bounds"
	"github.com/skiff-build/skiff/internal/skifftest"
)

// bzip2Hello is "hello\n" by the bzip2 command: there is no compressor in Go.
const bzip2Hello = "425a6839314159265359c1c080e2000001410000100244a00030cd00c3462997177245385090c1c080e2"

// compressed returns text in every compression.
func compressed(t testing.TB, text string) map[Compression][]byte {
	t.Helper()
	all := map[Compression][]byte{None: []byte(text)}
	for kind, open := range map[Compression]func(io.Writer) (io.WriteCloser, error){
		Gzip: func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
		XZ:   func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) },
		Zstd: func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
	} {
		var b bytes.Buffer
		w, err := open(&b)
		if err == nil {
			_, err = io.WriteString(w, text)
		}
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		all[kind] = b.Bytes()
	}
	if text == "hello\n" {
		all[Bzip2], _ = hex.DecodeString(bzip2Hello)
	}
	return all
}

func TestDecompress(t *testing.T) {
	for kind, data := range compressed(t, "hello\n") {
		s, err := Decompress(bytes.NewReader(data))
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		text, err := io.ReadAll(s)
		if err = errors.Join(err, s.Close()); err != nil || string(text) != "hello\n" || s.Kind != kind {
			t.Errorf("%s: %q as %s, %v", kind, text, s.Kind, err)
		}
		if kind == None {
			continue
		}
		s, err = Decompress(bytes.NewReader(data[:len(data)-3]))
		if err == nil {
			_, err = io.ReadAll(s)
			s.Close()
		}
		if err == nil {
			t.Errorf("%s: cut short, no error", kind)
		}
	}
	for _, text := range []string{"", "x", "\x1f\x8b"} {
		s, err := Decompress(strings.NewReader(text))
		if err != nil || s.Kind != None {
			t.Errorf("%q: %+v, %v", text, s, err)
			continue
		}
		if got, err := io.ReadAll(s); err != nil || string(got) != text {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

// Two gzip streams in a row are one, as for the gzip command; pigz and bgzip write so.
func TestDecompressConcatenated(t *testing.T) {
	data := compressed(t, "hello\n")[Gzip]
	s, err := Decompress(bytes.NewReader(append(bytes.Clone(data), data...)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if text, err := io.ReadAll(s); err != nil || string(text) != "hello\nhello\n" {
		t.Errorf("%q, %v", text, err)
	}
}

// A header that asks for a window of gigabytes is refused, not served.
func TestZstdWindow(t *testing.T) {
	s, err := Decompress(strings.NewReader("\x28\xb5\x2f\xfd\x00\xa0" + strings.Repeat("\x00", 50))) // 1 GB
	if err == nil {
		_, err = io.ReadAll(s)
		s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "window") {
		t.Errorf("%v", err)
	}
}

func TestIsArchive(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "x"}), w.Close()); err != nil {
		t.Fatal(err)
	}
	for kind, data := range compressed(t, b.String()) {
		if !IsArchive(bytes.NewReader(data)) {
			t.Errorf("%s: no archive", kind)
		}
	}
	for kind, data := range compressed(t, "hello\n") {
		if IsArchive(bytes.NewReader(data)) {
			t.Errorf("text, %s: an archive", kind)
		}
	}
	for _, text := range []string{"", "\x1f\x8b\x08", strings.Repeat("\x00", 2048)} {
		if IsArchive(strings.NewReader(text)) {
			t.Errorf("%q: an archive", text)
		}
	}
}

// TestBomb: what becomes more than its bytes allow ends with an error, before a disk or a day is full.
func TestBomb(t *testing.T) {
	data := skifftest.Bomb(t, 1<<40)
	s, err := Decompress(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n, err := io.Copy(io.Discard, s)
	if !errors.Is(err, bounds.ErrLimit) || n > bounds.Unpacked(int64(len(data))) {
		t.Errorf("%d bytes of %d, %v", n, len(data), err)
	}
}
