package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
	"runtime/debug"
	"slices"
	"sort"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"github.com/skiff-build/skiff/internal/store"
)

// A layer is compressed in chunks, side by side. Each is deflated by itself, up to a byte, and so can be put between others in one
// gzip member; with zstd it is a frame of its own. Where a chunk ends depends on the bytes before the end, so an insertion moves
// no more than the ends near it; chunks that a layer shares with one that was compressed before are copied from there. What comes
// out depends on the content and the level alone, whatever was known.

// Sizes of chunks, in bytes. Without a dictionary from the chunk before, the output is 1 to 2 % larger than that of one run.
const (
	minChunk = 128 << 10
	maxChunk = 1 << 20
	cutMask  = 1<<18 - 1 // ends on average 256 KiB behind the least
)

// chunkHash is the sha256 of a chunk before compression.
type chunkHash [sha256.Size]byte

// chunk is where one lies in a compressed blob.
type chunk struct {
	hash  chunkHash
	plain uint32 // bytes before compression
	sum   uint32 // CRC-32 of them, as gzip has it
	size  uint32 // bytes, compressed
	crc   uint32 // of the compressed bytes, Castagnoli: what comes from the disk is not trusted
}

// chunked is a compressed blob and its chunks in order. The first begins behind the header of gzip.
type chunked struct {
	blob   v1.Hash
	chunks []chunk
}

// gzipHeader has no time and no name, and an unknown system.
var gzipHeader = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}

// chunking is a way to compress in chunks: with gzip, or with zstd, where each is a frame.
type chunking struct {
	kind   string
	level  int
	header []byte // before the first chunk
}

// chunking tells whether layers are compressed in chunks. With zstd that makes a Go program 1.3 % larger at the usual level and
// below, which the chunks taken over are worth, and 2.3 to 2.8 % at those above: who asks for one wants few bytes.
func (f Format) chunking() (chunking, bool) {
	switch {
	case f.kind() == "gzip" && f.Level == 0:
		return chunking{"gzip", flate.DefaultCompression, gzipHeader}, true
	case f.kind() == "gzip":
		return chunking{"gzip", f.Level, gzipHeader}, true
	case f.kind() == "zstd" && zstdLevel(f.Level) <= zstd.SpeedDefault:
		return chunking{"zstd", f.Level, nil}, true
	}
	return chunking{}, false
}

// packer returns a function that compresses chunks, for one goroutine.
func (c chunking) packer() (func([]byte) ([]byte, error), error) {
	if c.kind == "gzip" {
		d := &deflater{}
		return func(b []byte) ([]byte, error) { return d.deflate(b, c.level) }, nil
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstdLevel(c.level)), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(maxChunk))
	if err != nil {
		return nil, err
	}
	return func(b []byte) ([]byte, error) { return z.EncodeAll(b, make([]byte, 0, len(b)/2+1024)), nil }, nil
}

// end is what follows on the last chunk. sum is the CRC-32 of all that was compressed, total how many bytes that was.
func (c chunking) end(sum, total uint32) []byte {
	if c.kind == "zstd" {
		if total == 0 {
			return []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0, 1, 0, 0} // a frame of nothing: nothing at all would not be zstd
		}
		return nil
	}
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(slices.Clone(lastBlock), sum), total)
}

// lastBlock is an empty block that says that it is the last.
var lastBlock = []byte{0x03, 0x00}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// pieces gives what is to be compressed chunk by chunk, io.EOF after the last. A chunk that lies in a compressed blob, as the
// stream's own place of it tells, comes as that; else its bytes come, in buf where that is large enough.
type pieces interface {
	next(buf []byte) (plain []byte, kept *keptChunk, err error)
}

// keptChunk is a chunk that is taken from a compressed blob, unread.
type keptChunk struct {
	blob   v1.Hash
	offset int64
	chunk
}

// packedSink takes what is compressed: bytes, and parts of blobs of the store.
type packedSink interface {
	io.Writer
	Keep(blob v1.Hash, offset, size int64, also ...io.Writer) error
}

// packChunks compresses what r gives to w and returns the chunks. Known ones are taken from there.
func packChunks(ctx context.Context, w packedSink, r pieces, how chunking, known *knownChunks) ([]chunk, error) {
	if _, err := w.Write(how.header); err != nil {
		return nil, err
	}
	workers := min(max(2, runtime.GOMAXPROCS(0)), 8)
	free := make(chan []byte, workers+2) // buffers bound what is under way
	for range cap(free) {
		free <- nil
	}
	type job struct {
		plain, packed []byte
		kept          *keptChunk
		made          chunk
		done          chan struct{}
	}
	work, order := make(chan *job), make(chan *job, cap(free))
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(order)
		defer close(work)
		for {
			var buf []byte
			select {
			case buf = <-free:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			plain, kept, err := r.next(buf)
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			if kept != nil {
				order <- &job{kept: kept, plain: buf}
				continue
			}
			j := &job{plain: plain, done: make(chan struct{})}
			order <- j
			select {
			case work <- j:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
	for range workers {
		g.Go(func() error {
			pack, err := how.packer()
			if err != nil {
				return err
			}
			for j := range work {
				j.made = chunk{hash: sha256.Sum256(j.plain), plain: uint32(len(j.plain)), sum: crc32.ChecksumIEEE(j.plain)}
				if j.packed, err = known.get(j.made.hash); j.packed == nil && err == nil {
					j.packed, err = pack(j.plain)
				}
				if err != nil {
					return err
				}
				j.made.size, j.made.crc = uint32(len(j.packed)), crc32.Checksum(j.packed, castagnoli)
				close(j.done)
			}
			return nil
		})
	}
	var chunks []chunk
	sum, total := uint32(0), uint32(0)
	g.Go(func() error {
		for j := range order {
			if j.kept != nil {
				if err := keep(w, j.kept); err != nil {
					return err
				}
				j.made = j.kept.chunk
			} else {
				select {
				case <-j.done:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
				if _, err := w.Write(j.packed); err != nil {
					return err
				}
			}
			chunks = append(chunks, j.made)
			sum = joinCRC(sum, j.made.sum, int64(j.made.plain))
			total += j.made.plain // modulo 2^32, as the format has it
			free <- j.plain[:0]
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	_, err := w.Write(how.end(sum, total))
	return chunks, err
}

// errDamaged says that a chunk is not what it was when it was compressed.
var errDamaged = errors.New("a compressed chunk is damaged")

func keep(w packedSink, k *keptChunk) error {
	crc := crc32.New(castagnoli)
	if err := w.Keep(k.blob, k.offset, int64(k.size), crc); err != nil {
		return err
	}
	if crc.Sum32() != k.crc {
		return errDamaged
	}
	return nil
}

// joinCRC is the CRC-32 of two texts in a row of which it is known, the second n bytes long. In the field of polynomials that the
// checksum is a remainder in, the first has to be multiplied by x^8n.
func joinCRC(first, second uint32, n int64) uint32 {
	shift := uint32(1 << 31) // x^0: the highest bit is the lowest power
	for square := powerOf8; n > 0; n >>= 1 {
		if n&1 != 0 {
			shift = mulCRC(shift, square)
		}
		square = mulCRC(square, square)
	}
	return mulCRC(first, shift) ^ second
}

const powerOf8 uint32 = 1 << 23 // x^8

func mulCRC(a, b uint32) (product uint32) {
	for ; a != 0; a <<= 1 {
		if a&(1<<31) != 0 {
			product ^= b
		}
		b = b>>1 ^ crc32.IEEE&-(b&1)
	}
	return product
}

// streamPieces compresses a stream of which nothing is known by place.
type streamPieces struct{ cutter }

func (s *streamPieces) next(buf []byte) ([]byte, *keptChunk, error) {
	plain, err := s.cutter.next(buf)
	return plain, nil, err
}

// placedPieces is a composed tar. Where one of the tars that it is made of was compressed, its chunks are found by their places: a
// chunk depends on nothing outside of it, so one that begins where a chunk began and lies in a part as a whole is the same.
type placedPieces struct {
	tar   io.ReaderAt
	at    int64 // where the next chunk begins
	parts []store.Part
	ends  []int64 // where each part ends
	from  map[v1.Hash]*placed
}

// placed is a tar that was compressed, with where each chunk begins in the tar and in the compressed blob.
type placed struct {
	chunked
	starts, offsets []int64
}

func place(c chunked, how chunking) (p placed, size int64) {
	p.chunked = c
	offset := int64(len(how.header))
	for _, one := range c.chunks {
		p.starts, p.offsets = append(p.starts, size), append(p.offsets, offset)
		size, offset = size+int64(one.plain), offset+int64(one.size)
	}
	return p, size
}

func (p *placedPieces) next(buf []byte) ([]byte, *keptChunk, error) {
	size := p.ends[len(p.ends)-1]
	if p.at == size {
		return nil, nil, io.EOF
	}
	if k := p.kept(); k != nil {
		p.at += int64(k.plain)
		return nil, k, nil
	}
	if cap(buf) < maxChunk {
		buf = make([]byte, maxChunk)
	}
	buf = buf[:min(maxChunk, size-p.at)]
	if n, err := p.tar.ReadAt(buf, p.at); n < len(buf) {
		return nil, nil, errors.Join(err, io.ErrUnexpectedEOF)
	}
	buf = buf[:cut(buf)]
	p.at += int64(len(buf))
	return buf, nil, nil
}

func (p *placedPieces) kept() *keptChunk {
	i := sort.Search(len(p.ends), func(i int) bool { return p.ends[i] > p.at })
	part := p.parts[i]
	from := p.from[part.Blob]
	if from == nil {
		return nil
	}
	in := p.at - (p.ends[i] - part.Size)
	n, ok := slices.BinarySearch(from.starts, part.Offset+in)
	// The last chunk ended with the tar, which says nothing of where it ends with more behind it.
	if !ok || n == len(from.chunks)-1 || in+int64(from.chunks[n].plain) > part.Size {
		return nil
	}
	return &keptChunk{from.blob, from.offsets[n], from.chunks[n]}
}

// cutter cuts a stream into chunks.
type cutter struct {
	r    io.Reader
	rest []byte // read, and behind the last cut
	err  error  // at the end of rest
}

// next returns the next chunk, in buf where that is large enough; io.EOF after the last.
func (c *cutter) next(buf []byte) ([]byte, error) {
	if cap(buf) < maxChunk {
		buf = make([]byte, 0, maxChunk)
	}
	buf = append(buf[:0], c.rest...)
	for c.err == nil && len(buf) < maxChunk {
		var n int
		n, c.err = c.r.Read(buf[len(buf):maxChunk])
		buf = buf[:len(buf)+n]
	}
	if c.err != nil && c.err != io.EOF {
		return nil, c.err
	}
	if len(buf) == 0 {
		return nil, io.EOF
	}
	end := cut(buf)
	c.rest = append(c.rest[:0], buf[end:]...)
	return buf[:end], nil
}

// cut returns where the first chunk of b ends: where a hash of the 64 bytes before has zeros at its end ("gear hash", Xia et
// al., FastCDC, USENIX ATC 2016).
func cut(b []byte) int {
	var h uint64
	for i := min(minChunk, len(b)); i < len(b); i++ {
		h = h<<1 + gear[b[i]]
		if h>>20&cutMask == 0 { // the upper bits depend on more bytes
			return i + 1
		}
	}
	return len(b)
}

// gear are numbers without pattern, the same for ever: SplitMix64.
var gear = func() (t [256]uint64) {
	x := uint64(0)
	for i := range t {
		x += 0x9e3779b97f4a7c15
		z := x
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		t[i] = z ^ z>>31
	}
	return t
}()

// deflater compresses one chunk after the other.
type deflater struct{ w *flate.Writer }

func (d *deflater) deflate(b []byte, level int) ([]byte, error) {
	var out bytes.Buffer
	out.Grow(len(b)/2 + 1024)
	if d.w == nil {
		w, err := flate.NewWriter(&out, level)
		if err != nil {
			return nil, err
		}
		d.w = w
	}
	d.w.Reset(&out)
	if _, err := d.w.Write(b); err != nil {
		return nil, err
	}
	err := d.w.Flush() // up to a byte, and not the last block
	return out.Bytes(), err
}

// knownChunks finds chunks in blobs of the store. A nil one knows nothing.
type knownChunks struct {
	st    *store.Store
	how   chunking
	blobs []chunked

	index sync.Once // of the two below: nobody needs them while all is found by place
	at    map[chunkHash]chunkAt
	files []store.BlobAt // by blob; nil: it is gone
}

type chunkAt struct {
	blob   int
	offset int64
	chunk
}

// The list of chunks is one record for each way to compress: of the blobs that were made last.
const (
	recordChunks = store.KindChunks
	maxChunked   = 64 // blobs that are listed; of 1 GB, one takes 100 kB there
)

// chunksKey also says which compressor made them: another version may give other bytes.
func chunksKey(how chunking) store.Key {
	version := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == "github.com/klauspost/compress" {
				version = d.Version
			}
		}
	}
	return sha256.Sum256(fmt.Appendf(nil, "chunks 3\n%s\n%d\n%s\n", how.kind, how.level, version))
}

// knownChunks reads the list of a way to compress. The caller closes it.
func (l *Library) knownChunks(how chunking) *knownChunks {
	k := &knownChunks{st: l.st, how: how}
	data, err := l.st.GetData(recordChunks, chunksKey(how))
	if err != nil {
		return k
	}
	if k.blobs, err = decodeChunked(data); err != nil {
		k.blobs = nil
	}
	return k
}

func (k *knownChunks) load() {
	k.at, k.files = map[chunkHash]chunkAt{}, make([]store.BlobAt, len(k.blobs))
	for i, b := range k.blobs {
		if f, err := k.st.OpenBlobAt(b.blob); err == nil {
			k.files[i] = f
		}
		offset := int64(len(k.how.header))
		for _, c := range b.chunks {
			k.at[c.hash] = chunkAt{i, offset, c}
			offset += int64(c.size)
		}
	}
}

// get returns a chunk as it was compressed, nil if it is not known.
func (k *knownChunks) get(h chunkHash) ([]byte, error) {
	if k == nil {
		return nil, nil
	}
	k.index.Do(k.load)
	at, ok := k.at[h]
	if !ok || k.files[at.blob] == nil {
		return nil, nil
	}
	b := make([]byte, at.size)
	if n, _ := k.files[at.blob].ReadAt(b, at.offset); n < len(b) || crc32.Checksum(b, castagnoli) != at.crc {
		return nil, nil // damaged: it is made again
	}
	return b, nil
}

// of finds the list of a blob.
func (k *knownChunks) of(blob v1.Hash) (chunked, bool) {
	i := slices.IndexFunc(k.blobs, func(c chunked) bool { return c.blob == blob })
	if i < 0 {
		return chunked{}, false
	}
	return k.blobs[i], true
}

func (k *knownChunks) close() {
	for _, f := range k.files {
		if f != nil {
			f.Close()
		}
	}
}

// noteChunks puts a blob at the front of the list as it is now: others, here and in other processes, add to it meanwhile.
func (l *Library) noteChunks(ctx context.Context, how chunking, made chunked) error {
	key := chunksKey(how)
	unlock, err := l.st.Lock(ctx, "chunks "+key.String())
	if err != nil {
		return err
	}
	defer unlock()
	list := []chunked{made}
	for _, b := range l.knownChunks(how).blobs {
		if _, err := l.st.BlobSize(b.blob); err == nil && b.blob != made.blob && len(list) < maxChunked {
			list = append(list, b)
		}
	}
	return l.st.PutData(recordChunks, key, struct{}{}, encodeChunked(list))
}

func encodeChunked(list []chunked) []byte {
	var b []byte
	for _, c := range list {
		b = append(b, c.blob.Hex...)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(c.chunks)))
		for _, one := range c.chunks {
			b = append(b, one.hash[:]...)
			for _, n := range []uint32{one.plain, one.sum, one.size, one.crc} {
				b = binary.LittleEndian.AppendUint32(b, n)
			}
		}
	}
	return b
}

func decodeChunked(b []byte) (list []chunked, err error) {
	const head, each = 2*sha256.Size + 4, sha256.Size + 16
	broken := errors.New("broken list of chunks")
	for len(b) > 0 {
		if len(b) < head {
			return nil, broken
		}
		c := chunked{blob: v1.Hash{Algorithm: "sha256", Hex: string(b[:head-4])}}
		if _, err := hex.DecodeString(c.blob.Hex); err != nil {
			return nil, broken
		}
		n := int(binary.LittleEndian.Uint32(b[head-4:]))
		b = b[head:]
		if n > len(b)/each {
			return nil, broken
		}
		for range n {
			number := func(i int) uint32 { return binary.LittleEndian.Uint32(b[sha256.Size+4*i:]) }
			one := chunk{hash: chunkHash(b[:sha256.Size]), plain: number(0), sum: number(1), size: number(2), crc: number(3)}
			if one.size > 2*maxChunk || one.plain > maxChunk {
				return nil, broken
			}
			c.chunks, b = append(c.chunks, one), b[each:]
		}
		list = append(list, c)
	}
	return list, nil
}
