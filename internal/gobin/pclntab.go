package gobin

import (
	"bytes"
	"errors"
	"fmt"
)

// The first words of the table: internal/abi/symtab.go of Go. Between them only names changed, and in Go 1.26 the header
// lost its address of the code.
const (
	magic118 = 0xfffffff0
	magic120 = 0xfffffff1
)

var errNoTable = fmt.Errorf("%w: no function table (packed, or older than Go 1.18)", ErrNotGo)

// pclntab is the runtime's table of functions.
type pclntab struct {
	addr  uint64
	text  uint64 // from the header; 0 in a PIE and from Go 1.26 on
	funcs []function
	end   uint32 // of the last function
	names string
}

// findPclntab looks in the sections where linkers put the table, then for its first bytes in all that is mapped.
func findPclntab(img *image) (*pclntab, error) {
	for _, name := range []string{".gopclntab", ".data.rel.ro.gopclntab"} {
		if s, ok := img.sectionNamed(name); ok {
			img.table = s
			return readPclntab(img, s.addr, s.off, s.size)
		}
	}
	var found *pclntab
	tries := 0
	magics := [2][6]byte{}
	for i, m := range []uint32{magic118, magic120} {
		img.order.PutUint32(magics[i][:], m)
	}
	for _, s := range img.segments {
		if found != nil {
			break
		}
		img.pieces(s.off, s.size, len(magics[0]), func(at uint64, piece []byte) bool {
			for _, magic := range magics {
				for from := 0; ; {
					i := bytes.Index(piece[from:], magic[:])
					if i < 0 {
						break
					}
					off := at + uint64(from+i)
					from += i + 1
					// A hostile file may hold nothing but first bytes: 32 of them are looked at.
					if off%4 != 0 || tries == 32 {
						continue
					}
					tries++
					if tab, err := readPclntab(img, s.addr+off, s.off+off, s.size-off); err == nil {
						found = tab
						return false
					}
				}
			}
			return true
		})
	}
	if found == nil {
		return nil, errNoTable
	}
	return found, nil
}

// readPclntab reads the table that begins at an offset of the file and has at most size bytes: its header (runtime.pcHeader),
// the names, and of each function its entry and name.
func readPclntab(img *image, addr, off, size uint64) (*pclntab, error) {
	head, err := img.bytesAt(off, min(size, uint64(8+8*img.word)))
	if err != nil {
		return nil, err
	}
	if len(head) < 8+8*img.word {
		return nil, errors.New("function table: cut off")
	}
	if m := img.order.Uint32(head); m != magic118 && m != magic120 || head[4] != 0 || head[5] != 0 || int(head[7]) != img.word {
		return nil, errNoTable
	}
	field := func(i int) uint64 { return img.ptr(head[8+i*img.word:]) }
	n, text, names, namesEnd, funcs := field(0), field(2), field(3), field(4), field(7)
	if n == 0 || n > size/8 || names > namesEnd || namesEnd > size || funcs > size || n > (size-funcs)/8 {
		return nil, errors.New("function table: sizes beyond its end")
	}
	tab := &pclntab{addr: addr, text: text, funcs: make([]function, n)}
	b, err := img.bytesAt(off+names, namesEnd-names)
	if err != nil {
		return nil, fmt.Errorf("function table: names: %w", err)
	}
	tab.names = string(b)
	// functab: pairs of entry and offset of the function's record, and at the end the end of the last one.
	rows, err := img.bytesAt(off+funcs, min(8*n+4, size-funcs))
	if err != nil {
		return nil, fmt.Errorf("function table: %w", err)
	}
	if uint64(len(rows)) < 8*n+4 {
		return nil, errors.New("function table: cut off")
	}
	records := window{img: img, off: off + funcs, size: size - funcs}
	for i := range tab.funcs {
		entry, at := img.order.Uint32(rows[8*i:]), img.order.Uint32(rows[8*i+4:])
		if i > 0 && entry < tab.funcs[i-1].entry {
			return nil, errors.New("function table: not in order")
		}
		b := records.at(uint64(at)+4, 8)
		if b == nil {
			return nil, fmt.Errorf("function table: function %d lies beyond its end", i)
		}
		name := img.order.Uint32(b)
		if uint64(name) >= uint64(len(tab.names)) {
			return nil, fmt.Errorf("function table: the name of function %d lies beyond its end", i)
		}
		tab.funcs[i] = function{entry, name, argWords(img.order.Uint32(b[4:]), img.word)}
	}
	tab.end = img.order.Uint32(rows[8*n:])
	return tab, nil
}

// argWords is the size of a function's arguments in words. The table has it in bytes, those in registers too, for which the caller leaves room
// (cmd/compile/abi-internal.md, spill space); it is negative for assembly that does not tell.
func argWords(bytes uint32, word int) uint8 {
	return uint8(min((uint64(bytes)+uint64(word)-1)/uint64(word), 255))
}

// window reads small pieces that lie near each other, in rising order, with few reads of the file.
type window struct {
	img       *image
	off, size uint64 // the range of the file
	start     uint64 // of buf in it
	buf       []byte
	read      uint64 // bytes so far
}

// at is nil beyond the range, and when so much was read that the pieces cannot be in order.
func (w *window) at(at, n uint64) []byte {
	if at+n > w.size {
		return nil
	}
	if at < w.start || at+n > w.start+uint64(len(w.buf)) {
		if w.read > 4*w.size {
			return nil
		}
		if w.buf == nil {
			w.buf = make([]byte, min(64<<10, w.size))
		}
		w.start, w.buf = at, w.buf[:min(uint64(cap(w.buf)), w.size-at)]
		if k, _ := w.img.r.ReadAt(w.buf, int64(w.off+at)); k < len(w.buf) {
			return nil
		}
		w.read += uint64(len(w.buf))
	}
	return w.buf[at-w.start:][:n]
}
