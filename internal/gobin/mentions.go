package gobin

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"maps"
	"slices"
)

// Mentions are the functions whose code has a constant that is the path dir or lies below it, each once, by address. inData says that
// a variable starts with such a constant. What code does with it is not known: it may be a default, a part of a structure, or what a
// longer path is made of. A constant that code only compares with is mostly part of the instructions, and no mention.
func (f *File) Mentions(dir string) (in []Func, inData bool) {
	if !f.CallGraph {
		return nil, false
	}
	exact := map[uint64]bool{} // the address of each text that begins so: whether only its length tells that it is a path
	for _, s := range f.image.segments {
		if s.exec {
			continue
		}
		f.image.pieces(s.off, s.size, len(dir)+1, func(at uint64, piece []byte) bool {
			for from := 0; ; {
				i := bytes.Index(piece[from:], []byte(dir))
				if i < 0 || len(exact) > maxMentions {
					break
				}
				end := from + i + len(dir)
				exact[s.addr+at+uint64(from+i)] = end >= len(piece) || piece[end] != '/'
				from = end
			}
			return true
		})
	}
	if len(exact) == 0 {
		return nil, false
	}
	found := func(pc uint32) {
		i, _ := slices.BinarySearchFunc(f.funcs, pc+1, func(fn function, at uint32) int { return int(int64(fn.entry) - int64(at)) })
		if fn := Func(i - 1); fn >= 0 && !slices.Contains(in, fn) {
			in = append(in, fn)
		}
	}
	off, _, _ := f.image.offset(f.text)
	f.image.pieces(off, uint64(f.size), scanOverlap, func(at uint64, piece []byte) bool {
		f.addresses(uint32(at), piece, func(pc uint32, addr uint64) {
			if byLength, ok := exact[addr]; ok && (!byLength || f.hasLength(pc, len(dir))) {
				found(pc)
			}
		})
		return true
	})
	low, high := slices.Min(slices.Collect(maps.Keys(exact))), slices.Max(slices.Collect(maps.Keys(exact)))
	relocs := relocations{f.image}
	relocs.words(low, high-low+1, func(at, addr uint64) bool {
		if byLength, ok := exact[addr]; ok {
			n := relocs.word(at + 8)
			inData = n == uint64(len(dir)) || !byLength && n > uint64(len(dir)) && n < maxString
		}
		return !inData
	})
	slices.Sort(in)
	return in, inData
}

// maxMentions are the texts that are looked for: real programs have some dozens.
const maxMentions = 4096

// addresses hands on the addresses that code makes: LEA of amd64, ADRP with ADD of arm64.
func (f *File) addresses(at uint32, code []byte, hand func(pc uint32, addr uint64)) {
	switch f.image.machine {
	case elf.EM_X86_64:
		for i := 1; i+6 <= len(code) && i <= pageSize; i++ {
			skip := bytes.IndexByte(code[i:], 0x8d)
			if skip < 0 {
				return
			}
			if i += skip; i+6 <= len(code) && i <= pageSize && code[i-1]&^4 == 0x48 && code[i+1]&0xc7 == 0x05 {
				pc := int64(at) + int64(i) - 1
				hand(uint32(pc), uint64(int64(f.text)+pc+7+int64(int32(binary.LittleEndian.Uint32(code[i+2:])))))
			}
		}
	case elf.EM_AARCH64:
		for i := 0; i+8 <= len(code) && i < pageSize; i += 4 {
			w, w2 := binary.LittleEndian.Uint32(code[i:]), binary.LittleEndian.Uint32(code[i+4:])
			if w&0x9f000000 == 0x90000000 && w2&0xffc00000 == 0x91000000 && w2>>5&31 == w&31 {
				hand(at+uint32(i), adrp(w, f.text+uint64(at)+uint64(i))+uint64(w2>>10&0xfff))
			}
		}
	}
}

// hasLength says that code near to pc makes the number n, as it does the length of a text whose address it makes.
func (f *File) hasLength(pc uint32, n int) bool {
	const near = 40
	start := uint64(max(int64(pc)-near, 0))
	code := f.image.atMost(f.text+start, 2*near)
	if f.image.machine == elf.EM_X86_64 { // an immediate of four bytes
		return bytes.Contains(code, []byte{byte(n), 0, 0, 0})
	}
	for i := 0; i+4 <= len(code); i += 4 { // MOVZ, or ORR with a bit mask
		w := binary.LittleEndian.Uint32(code[i:])
		if w&0x7f800000 == 0x52800000 && w>>5&0xffff == uint32(n) || w&0x7f8003e0 == 0x320003e0 && bitmask(w) == (value{constant, uint64(n)}) {
			return true
		}
	}
	return false
}
