package image

import (
	"bytes"
	"compress/gzip"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"

	"github.com/skiff-build/skiff/internal/store"

	"github.com/skiff-build/skiff/internal/skifftest"
)

// text is n bytes that compress to half.
func text(n int, seed byte) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	for i := range b {
		b[i] = "abcdefghijklmnop"[b[i]%16]
	}
	return b
}

// ways are those to compress in chunks.
var ways = map[string]Format{"gzip": {}, "zstd": {Compression: "zstd"}}

var gz, _ = ways["gzip"].chunking()

func gzipOf(t testing.TB, b []byte, known *knownChunks) ([]byte, []chunk) {
	return packedOf(t, gz, b, known)
}

func packedOf(t testing.TB, how chunking, b []byte, known *knownChunks) ([]byte, []chunk) {
	t.Helper()
	var out bytes.Buffer
	chunks, err := packChunks(t.Context(), streamSink{&out}, &streamPieces{cutter{r: iotestReader{bytes.NewReader(b)}}}, how, known)
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), chunks
}

// iotestReader gives odd pieces: where chunks end must not depend on them.
type iotestReader struct{ r io.Reader }

func (r iotestReader) Read(p []byte) (int, error) { return r.r.Read(p[:min(len(p), 100_003)]) }

func TestChunksReadBack(t *testing.T) {
	for name, f := range ways {
		t.Run(name, func(t *testing.T) { testReadBack(t, f) })
	}
}

func testReadBack(t *testing.T, f Format) {
	how, _ := f.chunking()
	unpack := func(b []byte) ([]byte, error) {
		if f.kind() == "zstd" {
			z, err := zstd.NewReader(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			defer z.Close()
			return io.ReadAll(z)
		}
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		z.Multistream(false)
		return io.ReadAll(z)
	}
	for _, n := range []int{0, 1, minChunk, maxChunk + 1, 5_000_000} {
		want := text(n, 1)
		packed, chunks := packedOf(t, how, want, nil)
		if len(packed) < 9 {
			t.Errorf("%d bytes become %x", n, packed)
		}
		got, err := unpack(packed)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %d came back, %v", n, len(got), err)
		}
		if n > 2*maxChunk && len(packed) > n*9/10 {
			t.Errorf("%d bytes become %d", n, len(packed))
		}
		if least := n / maxChunk; len(chunks) < least {
			t.Errorf("%d bytes: %d chunks", n, len(chunks))
		}
	}
	zeros, _ := packedOf(t, how, make([]byte, 3_000_000), nil)
	if len(zeros) > 20_000 {
		t.Errorf("3 MB of zeros become %d bytes", len(zeros))
	}
}

// TestChunksAreReused inserts a byte near the front: all but a few chunks are taken from the blob before, and the bytes are
// those of a layer that nothing was known of. A damaged blob gives nothing.
func TestChunksAreReused(t *testing.T) {
	for name, f := range ways {
		t.Run(name, func(t *testing.T) { testReused(t, f) })
	}
}

func testReused(t *testing.T, f Format) {
	how, _ := f.chunking()
	l := newLibrary(t)
	st := l.st
	old := text(8_000_000, 2)
	packed, chunks := packedOf(t, how, old, nil)
	h, _, err := st.WriteBlob(t.Context(), bytes.NewReader(packed), v1.Hash{}, -1)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.noteChunks(t.Context(), how, chunked{h, chunks}); err != nil {
		t.Fatal(err)
	}
	changed := slices.Insert(slices.Clone(old), 1000, 'x')
	want, _ := packedOf(t, how, changed, nil)

	taken := func() (n int) {
		known := l.knownChunks(how)
		defer known.close()
		got, chunks := packedOf(t, how, changed, known)
		if !bytes.Equal(got, want) {
			t.Error("what was known changes the bytes")
		}
		for _, c := range chunks {
			if b, err := known.get(c.hash); err == nil && b != nil {
				n++
			}
		}
		return n
	}
	if n := taken(); n < len(chunks)-3 {
		t.Errorf("%d of %d chunks were taken from the blob before", n, len(chunks))
	}
	path, _, err := st.Blob(h)
	if err != nil {
		t.Fatal(err)
	}
	damaged := slices.Clone(packed)
	for i := range damaged {
		damaged[i] ^= 1
	}
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	if n := taken(); n != 0 {
		t.Errorf("%d chunks were taken from a damaged blob", n)
	}
}

func TestJoinCRC(t *testing.T) {
	b := text(100_000, 4)
	for _, at := range []int{0, 1, 7, 4096, 65_537, len(b)} {
		if got, want := joinCRC(crc32.ChecksumIEEE(b[:at]), crc32.ChecksumIEEE(b[at:]), int64(len(b)-at)), crc32.ChecksumIEEE(b); got != want {
			t.Errorf("at %d: %08x, want %08x", at, got, want)
		}
	}
}

// TestCompressParts compresses tars that are put together of random parts of others: what comes out is, to the byte, what a store
// that knows nothing makes, and most of it is kept. Damage in what is kept is found, and the layer compressed anew.
func TestCompressParts(t *testing.T) {
	skifftest.Long(t, "it compresses hundreds of megabytes")
	for name, f := range ways {
		t.Run(name, func(t *testing.T) { testCompressParts(t, f) })
	}
}

func testCompressParts(t *testing.T, f Format) {
	how, _ := f.chunking()
	l := newLibrary(t)
	st := l.st
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	old := append(text(6_000_000, 5), make([]byte, 3_000_000)...) // chunks of each size
	base, _, err := st.WriteBlob(t.Context(), bytes.NewReader(old), v1.Hash{}, -1)
	must(err)
	packed, err := l.compress(t.Context(), storedTar{st, base}, f, nil)
	must(err)
	fresh := func(b []byte) []byte { got, _ := packedOf(t, how, b, nil); return got }
	read := func(h v1.Hash) []byte {
		r, err := st.OpenBlob(h)
		must(err)
		defer r.Close()
		b, err := io.ReadAll(r)
		must(err)
		return b
	}
	own := func(h v1.Hash) (n int64) {
		parts, err := st.Parts(h)
		if err != nil {
			return 1 << 30
		}
		for _, p := range parts {
			if p.Blob == (v1.Hash{}) {
				n += p.Size
			}
		}
		return n
	}
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 9))
		c, err := st.Compose(t.Context())
		must(err)
		var want bytes.Buffer
		at, changes := 0, r.IntN(4) // none is a tar that ends elsewhere
		for range changes {
			end := at + r.IntN(len(old)-at)
			must(c.Keep(base, int64(at), int64(end-at)))
			want.Write(old[at:end])
			b := text(r.IntN(3000), byte(seed))
			c.Write(b)
			want.Write(b)
			at = min(end+r.IntN(3000), len(old))
		}
		end := len(old) - r.IntN(2)*r.IntN(5000)
		if end > at {
			must(c.Keep(base, int64(at), int64(end-at)))
			want.Write(old[at:end])
		}
		c.Write([]byte("end"))
		want.WriteString("end")
		h, _, err := c.Commit()
		must(err)
		got, err := l.compress(t.Context(), storedTar{st, h}, f, nil)
		must(err)
		if !bytes.Equal(read(got.Digest), fresh(want.Bytes())) {
			t.Errorf("seed %d: the bytes are not those of a new compression", seed)
		}
		if n := own(got.Digest); n > int64(changes+1)*2*maxChunk {
			t.Errorf("seed %d: %d bytes were compressed for %d changes", seed, n, changes)
		}
	}

	path, _, err := st.Blob(packed.Digest)
	must(err)
	b, err := os.ReadFile(path)
	must(err)
	b[len(b)/2] ^= 1
	must(os.WriteFile(path, b, 0o600))
	c, err := st.Compose(t.Context())
	must(err)
	must(c.Keep(base, 0, int64(len(old))))
	c.Write([]byte("more"))
	h, _, err := c.Commit()
	must(err)
	got, err := l.compress(t.Context(), storedTar{st, h}, f, nil)
	must(err)
	if !bytes.Equal(read(got.Digest), fresh(append(slices.Clone(old), "more"...))) {
		t.Error("over a damaged blob: the bytes are not those of a new compression")
	}
}

func FuzzDecodeChunked(f *testing.F) {
	good := encodeChunked([]chunked{{v1.Hash{Algorithm: "sha256", Hex: string(bytes.Repeat([]byte("0a"), 32))}, []chunk{{size: 7, crc: 9}, {}}}})
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := decodeChunked(b)
		if err == nil && !bytes.Equal(encodeChunked(list), b) {
			t.Errorf("%x is read as %v", b, list)
		}
	})
}

// BenchmarkChunks compresses 16 MB; with everything known it copies.
func BenchmarkChunks(b *testing.B) {
	for name, f := range ways {
		b.Run(name, func(b *testing.B) { benchmarkChunks(b, f) })
	}
}

func benchmarkChunks(b *testing.B, f Format) {
	how, _ := f.chunking()
	st, err := store.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	l := NewLibrary(st)
	plain := text(16<<20, 3)
	packed, chunks := packedOf(b, how, plain, nil)
	h, _, err := st.WriteBlob(b.Context(), bytes.NewReader(packed), v1.Hash{}, -1)
	if err == nil {
		err = l.noteChunks(b.Context(), how, chunked{h, chunks})
	}
	if err != nil {
		b.Fatal(err)
	}
	known := l.knownChunks(how)
	defer known.close()
	for name, k := range map[string]*knownChunks{"new": nil, "known": known} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				if _, err := packChunks(b.Context(), streamSink{io.Discard}, &streamPieces{cutter{r: bytes.NewReader(plain)}}, how, k); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCompressParts compresses a tar of 16 MB that is one that was compressed but for a few bytes in the middle.
func BenchmarkCompressParts(b *testing.B) {
	st, err := store.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	l := NewLibrary(st)
	how, _ := Format{}.chunking()
	old := text(16<<20, 6)
	base, _, err := st.WriteBlob(b.Context(), bytes.NewReader(old), v1.Hash{}, -1)
	if err == nil {
		_, err = l.compressWhole(b.Context(), storedTar{st, base}, l.knownChunks(how), nil)
	}
	if err != nil {
		b.Fatal(err)
	}
	c, err := st.Compose(b.Context())
	if err == nil {
		err = c.Keep(base, 0, 8<<20)
	}
	if err == nil {
		_, err = c.Write([]byte("what changed"))
	}
	if err == nil {
		err = c.Keep(base, 8<<20, 8<<20)
	}
	if err != nil {
		b.Fatal(err)
	}
	h, _, err := c.Commit()
	if err != nil {
		b.Fatal(err)
	}
	for name, compress := range map[string]func(*knownChunks) error{
		"by content": func(k *knownChunks) error {
			_, err := l.compressWhole(b.Context(), storedTar{st, h}, k, nil)
			return err
		},
		"by place": func(k *knownChunks) error {
			_, err := l.compressParts(b.Context(), storedTar{st, h}, Format{}, k)
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(old)))
			for b.Loop() {
				k := l.knownChunks(how)
				err := compress(k)
				k.close()
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestChunksOfLayersSideBySide: layers that are compressed at once each keep their list. Both began with the list as it was before.
func TestChunksOfLayersSideBySide(t *testing.T) {
	l := newLibrary(t)
	how, _ := ways["gzip"].chunking()
	var wg sync.WaitGroup
	var blobs []v1.Hash
	for i := range 8 {
		packed, chunks := packedOf(t, how, text(600_000, byte(i)), nil)
		h, _, err := l.st.WriteBlob(t.Context(), bytes.NewReader(packed), v1.Hash{}, -1)
		if err != nil {
			t.Fatal(err)
		}
		blobs = append(blobs, h)
		wg.Go(func() {
			if err := l.noteChunks(t.Context(), how, chunked{h, chunks}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	known := l.knownChunks(how)
	for _, h := range blobs {
		if _, ok := known.of(h); !ok {
			t.Errorf("the chunks of %s are lost", h)
		}
	}
}
