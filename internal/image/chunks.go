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
	"os"
	"runtime"
	"runtime/debug"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/flate"
	"golang.org/x/sync/errgroup"

	"github.com/skiff-build/skiff/internal/store"
)

// A layer is compressed in chunks, side by side, into one gzip member: each chunk is deflated by itself, up to a byte, and so
// can be put between others. Where a chunk ends depends on the bytes before the end, so an insertion moves no more than the
// ends near it; chunks that a layer shares with one that was compressed before are copied from there. What comes out depends
// on the content and the level alone, whatever was known.

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
	hash chunkHash
	size uint32 // bytes, compressed
	crc  uint32 // of the compressed bytes, Castagnoli: what comes from the disk is not trusted
}

// chunked is a compressed blob and its chunks in order. The first begins behind the header of gzip.
type chunked struct {
	blob   v1.Hash
	chunks []chunk
}

// gzipHeader has no time and no name, and an unknown system.
var gzipHeader = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}

// lastBlock is an empty block that says that it is the last.
var lastBlock = []byte{0x03, 0x00}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// gzipChunks compresses r to w and returns the chunks. Known ones are taken from there.
func gzipChunks(ctx context.Context, w io.Writer, r io.Reader, level int, known *knownChunks) ([]chunk, error) {
	if level == 0 {
		level = flate.DefaultCompression
	}
	if _, err := w.Write(gzipHeader); err != nil {
		return nil, err
	}
	workers := min(max(2, runtime.GOMAXPROCS(0)), 8)
	free := make(chan []byte, workers+2) // buffers bound what is under way
	for range cap(free) {
		free <- nil
	}
	type job struct {
		plain, packed []byte
		made          chunk
		done          chan struct{}
	}
	work, order := make(chan *job), make(chan *job, cap(free))
	g, ctx := errgroup.WithContext(ctx)
	sum, total := crc32.NewIEEE(), uint32(0)
	g.Go(func() error {
		defer close(order)
		defer close(work)
		c := cutter{r: r}
		for {
			var buf []byte
			select {
			case buf = <-free:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			plain, err := c.next(buf)
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			sum.Write(plain)
			total += uint32(len(plain)) // modulo 2^32, as the format has it
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
			var d deflater
			for j := range work {
				j.made.hash = sha256.Sum256(j.plain)
				var err error
				if j.packed, err = known.get(j.made.hash); j.packed == nil && err == nil {
					j.packed, err = d.deflate(j.plain, level)
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
	g.Go(func() error {
		for j := range order {
			select {
			case <-j.done:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if _, err := w.Write(j.packed); err != nil {
				return err
			}
			chunks = append(chunks, j.made)
			free <- j.plain[:0]
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	end := binary.LittleEndian.AppendUint32(slices.Clone(lastBlock), sum.Sum32())
	_, err := w.Write(binary.LittleEndian.AppendUint32(end, total))
	return chunks, err
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
	blobs []chunked
	at    map[chunkHash]chunkAt
	files []*os.File // by blob, opened when needed
}

type chunkAt struct {
	blob   int
	offset int64
	chunk
}

// The list of chunks is one record for each level: of the blobs that were made last.
const (
	recordChunks = "chunks"
	maxChunked   = 64 // blobs that are listed; of 1 GB, one takes 100 kB there
)

// chunksKey also says which compressor made them: another version may give other bytes.
func chunksKey(level int) store.Key {
	version := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == "github.com/klauspost/compress" {
				version = d.Version
			}
		}
	}
	return sha256.Sum256(fmt.Appendf(nil, "chunks 1\n%d\n%s\n", level, version))
}

// knownChunks reads the list of a level. The caller closes it.
func (l *Library) knownChunks(level int) *knownChunks {
	k := &knownChunks{st: l.st, at: map[chunkHash]chunkAt{}}
	data, err := l.st.GetData(recordChunks, chunksKey(level))
	if err != nil {
		return k
	}
	if k.blobs, err = decodeChunked(data); err != nil {
		k.blobs = nil
	}
	for i, b := range k.blobs {
		offset := int64(len(gzipHeader))
		for _, c := range b.chunks {
			k.at[c.hash] = chunkAt{i, offset, c}
			offset += int64(c.size)
		}
	}
	k.files = make([]*os.File, len(k.blobs))
	for i, b := range k.blobs {
		if path, _, err := l.st.Blob(b.blob); err == nil {
			k.files[i], _ = os.Open(path) // nil: it is gone, and what was in it is not known
		}
	}
	return k
}

// get returns a chunk as it was compressed, nil if it is not known.
func (k *knownChunks) get(h chunkHash) ([]byte, error) {
	if k == nil {
		return nil, nil
	}
	at, ok := k.at[h]
	if !ok || k.files[at.blob] == nil {
		return nil, nil
	}
	b := make([]byte, at.size)
	if _, err := k.files[at.blob].ReadAt(b, at.offset); err != nil || crc32.Checksum(b, castagnoli) != at.crc {
		return nil, nil // damaged: it is made again
	}
	return b, nil
}

func (k *knownChunks) close() {
	for _, f := range k.files {
		if f != nil {
			f.Close()
		}
	}
}

// noteChunks puts a blob at the front of the list. Processes that do it at once lose each other's, which costs time only.
func (l *Library) noteChunks(level int, known *knownChunks, made chunked) error {
	list := []chunked{made}
	for _, b := range known.blobs {
		if _, _, err := l.st.Blob(b.blob); err == nil && b.blob != made.blob && len(list) < maxChunked {
			list = append(list, b)
		}
	}
	return l.st.PutData(recordChunks, chunksKey(level), struct{}{}, encodeChunked(list))
}

func encodeChunked(list []chunked) []byte {
	var b []byte
	for _, c := range list {
		b = append(b, c.blob.Hex...)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(c.chunks)))
		for _, one := range c.chunks {
			b = append(b, one.hash[:]...)
			b = binary.LittleEndian.AppendUint32(b, one.size)
			b = binary.LittleEndian.AppendUint32(b, one.crc)
		}
	}
	return b
}

func decodeChunked(b []byte) (list []chunked, err error) {
	const head, each = 2*sha256.Size + 4, sha256.Size + 8
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
			one := chunk{hash: chunkHash(b[:sha256.Size]), size: binary.LittleEndian.Uint32(b[sha256.Size:]), crc: binary.LittleEndian.Uint32(b[sha256.Size+4:])}
			if one.size > 2*maxChunk {
				return nil, broken
			}
			c.chunks, b = append(c.chunks, one), b[each:]
		}
		list = append(list, c)
	}
	return list, nil
}
