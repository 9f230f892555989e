package gobin

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"sync"
)

// Limits on what a file may make this package hold. Real executables stay far below: Go's linker writes some 30 sections and
// 10 segments, and the longest function names (generic instances) have a few thousand bytes.
const (
	maxSections  = 4096
	maxSegments  = 256
	maxName      = 1 << 16
	maxPath      = 4096
	maxLibraries = 512
	maxDynamic   = 4096 // entries
	pageSize     = 1 << 18
	maxOverlap   = 32
)

// image is an ELF file as addresses and sections. debug/elf is not used for it: its section names are as long as a file
// pretends, once for each of 65,535 sections.
type image struct {
	r       io.ReaderAt
	size    int64
	machine elf.Machine
	order   binary.ByteOrder
	word    int // bytes of a pointer
	pie     bool

	segments []segment
	sections []section
	dynamic  map[elf.DynTag]uint64 // the last of each tag; needed has all of DT_NEEDED
	needed   []uint64
	interp   string
	table    section // of functions; of size 0 where it has no section
}

// segment is a part of the file that is mapped (PT_LOAD).
type segment struct {
	addr, off, size uint64 // size in the file
	exec, write     bool
}

// section is a named part of the file; size is 0 for those that have no bytes in it.
type section struct {
	name            string
	addr, off, size uint64
	alloc           bool
}

func readImage(r io.ReaderAt, size int64) (*image, error) {
	var ident [64]byte
	if n, err := r.ReadAt(ident[:min(size, 64)], 0); n < 4 || string(ident[:4]) != elf.ELFMAG {
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("read the ELF header: %w", err)
		}
		return nil, ErrNotGo
	}
	if size < 64 {
		return nil, fmt.Errorf("ELF header: cut off after %d bytes", size)
	}
	img := &image{r: r, size: size}
	switch elf.Data(ident[elf.EI_DATA]) {
	case elf.ELFDATA2LSB:
		img.order = binary.LittleEndian
	case elf.ELFDATA2MSB:
		img.order = binary.BigEndian
	default:
		return nil, fmt.Errorf("ELF header: byte order %d", ident[elf.EI_DATA])
	}
	switch elf.Class(ident[elf.EI_CLASS]) {
	case elf.ELFCLASS32:
		img.word = 4
	case elf.ELFCLASS64:
		img.word = 8
	default:
		return nil, fmt.Errorf("ELF header: class %d", ident[elf.EI_CLASS])
	}
	kind := elf.Type(img.order.Uint16(ident[16:]))
	if kind != elf.ET_EXEC && kind != elf.ET_DYN {
		return nil, ErrNotGo // an object file, a core dump
	}
	img.pie = kind == elf.ET_DYN
	img.machine = elf.Machine(img.order.Uint16(ident[18:]))
	phoff, shoff, counts := img.ptr(ident[28:]), img.ptr(ident[32:]), ident[42:]
	if img.word == 8 {
		phoff, shoff, counts = img.ptr(ident[32:]), img.ptr(ident[40:]), ident[54:]
	}
	half := func(i int) int { return int(img.order.Uint16(counts[2*i:])) }
	if err := img.readSegments(phoff, half(0), half(1)); err != nil {
		return nil, err
	}
	// Sections are optional: some tools strip their headers, and a bad table of them hides nothing that is needed.
	img.readSections(shoff, half(2), half(3), half(4))
	return img, nil
}

func (img *image) readSegments(off uint64, each, n int) error {
	want := 32
	if img.word == 8 {
		want = 56
	}
	if n == 0 || n > maxSegments || each < want {
		return fmt.Errorf("ELF header: %d segments of %d bytes", n, each)
	}
	table, err := img.bytesAt(off, uint64(each)*uint64(n))
	if err != nil {
		return fmt.Errorf("read the ELF segments: %w", err)
	}
	var mapped uint64
	for i := range n {
		p := table[i*each:]
		var off, addr, size uint64
		flags := elf.ProgFlag(img.order.Uint32(p[4:]))
		if img.word == 8 {
			off, addr, size = img.ptr(p[8:]), img.ptr(p[16:]), img.ptr(p[32:])
		} else {
			off, addr, size = img.ptr(p[4:]), img.ptr(p[8:]), img.ptr(p[16:])
			flags = elf.ProgFlag(img.order.Uint32(p[24:]))
		}
		off, size = img.clip(off, size)
		switch elf.ProgType(img.order.Uint32(p)) {
		case elf.PT_LOAD:
			if mapped += size; addr+size < addr || mapped > 2*uint64(img.size) {
				return fmt.Errorf("ELF segment %d: overlaps others, or ends beyond the end of memory", i)
			}
			img.segments = append(img.segments, segment{addr, off, size, flags&elf.PF_X != 0, flags&elf.PF_W != 0})
		case elf.PT_INTERP:
			b, err := img.bytesAt(off, min(size, maxPath))
			if err != nil {
				return fmt.Errorf("read the ELF interpreter: %w", err)
			}
			b, _, _ = bytes.Cut(b, []byte{0})
			img.interp = string(b)
		case elf.PT_DYNAMIC:
			img.readDynamic(off, size)
		}
	}
	return nil
}

func (img *image) readDynamic(off, size uint64) {
	b, err := img.bytesAt(off, min(size, uint64(maxDynamic*2*img.word)))
	if err != nil {
		return
	}
	img.dynamic = map[elf.DynTag]uint64{}
	for ; len(b) >= 2*img.word; b = b[2*img.word:] {
		tag, v := elf.DynTag(img.ptr(b)), img.ptr(b[img.word:])
		if tag == elf.DT_NULL {
			break
		}
		if tag == elf.DT_NEEDED && len(img.needed) < maxLibraries {
			img.needed = append(img.needed, v)
		}
		img.dynamic[tag] = v
	}
}

func (img *image) readSections(off uint64, each, n, names int) {
	want := 40
	if img.word == 8 {
		want = 64
	}
	if n == 0 || n > maxSections || each < want || names >= n {
		return
	}
	table, err := img.bytesAt(off, uint64(each)*uint64(n))
	if err != nil {
		return
	}
	img.sections = make([]section, n)
	for i := range img.sections {
		p := table[i*each:]
		s := &img.sections[i]
		var flags uint64
		if img.word == 8 {
			flags, s.addr, s.off, s.size = img.ptr(p[8:]), img.ptr(p[16:]), img.ptr(p[24:]), img.ptr(p[32:])
		} else {
			flags, s.addr, s.off, s.size = img.ptr(p[8:]), img.ptr(p[12:]), img.ptr(p[16:]), img.ptr(p[20:])
		}
		s.alloc = elf.SectionFlag(flags)&elf.SHF_ALLOC != 0
		if t := elf.SectionType(img.order.Uint32(p[4:])); t == elf.SHT_NOBITS || t == elf.SHT_NULL {
			s.size = 0
		}
		s.off, s.size = img.clip(s.off, s.size)
	}
	strings, err := img.bytesAt(img.sections[names].off, min(img.sections[names].size, 1<<20))
	if err != nil {
		return
	}
	for i := range img.sections {
		at := img.order.Uint32(table[i*each:])
		if uint64(at) < uint64(len(strings)) {
			name := strings[at:]
			name, _, _ = bytes.Cut(name[:min(len(name), 256)], []byte{0})
			img.sections[i].name = string(name)
		}
	}
}

// arch is GOARCH.
func (img *image) arch() string {
	switch little := img.order == binary.LittleEndian; img.machine {
	case elf.EM_X86_64:
		return "amd64"
	case elf.EM_AARCH64:
		return "arm64"
	case elf.EM_386:
		return "386"
	case elf.EM_ARM:
		return "arm"
	case elf.EM_RISCV:
		return "riscv64"
	case elf.EM_LOONGARCH:
		return "loong64"
	case elf.EM_S390:
		return "s390x"
	case elf.EM_PPC64:
		if little {
			return "ppc64le"
		}
		return "ppc64"
	case elf.EM_MIPS:
		name := "mips"
		if img.word == 8 {
			name = "mips64"
		}
		if little {
			name += "le"
		}
		return name
	}
	return fmt.Sprintf("ELF machine %d", uint16(img.machine))
}

// libraries are the names of DT_NEEDED.
func (img *image) libraries() []string {
	table := img.dynamic[elf.DT_STRTAB]
	var all []string
	for _, at := range img.needed {
		b := img.atMost(table+at, maxPath)
		if name, _, ok := bytes.Cut(b, []byte{0}); ok && len(name) > 0 {
			all = append(all, string(name))
		}
	}
	return all
}

// debugBytes counts the bytes of symbol tables and DWARF.
func (img *image) debugBytes() (n int64, stripped bool) {
	for _, s := range img.sections {
		if s.alloc {
			continue
		}
		if s.name == ".symtab" || s.name == ".strtab" || strings.HasPrefix(s.name, ".debug_") || strings.HasPrefix(s.name, ".zdebug_") {
			n += int64(s.size)
		}
	}
	return min(n, img.size), n == 0
}

// sectionNamed finds the first section of that name that has bytes.
func (img *image) sectionNamed(name string) (section, bool) {
	for _, s := range img.sections {
		if s.name == name && s.size > 0 {
			return s, true
		}
	}
	return section{}, false
}

// clip keeps a range of the file within it.
func (img *image) clip(off, size uint64) (uint64, uint64) {
	off = min(off, uint64(img.size))
	return off, min(size, uint64(img.size)-off)
}

// bytesAt reads size bytes at an offset of the file; size is checked before anything is allocated.
func (img *image) bytesAt(off, size uint64) ([]byte, error) {
	if o, n := img.clip(off, size); o != off || n != size {
		return nil, fmt.Errorf("%d bytes at offset %d: beyond the end of the file", size, off)
	}
	b := make([]byte, size)
	if n, err := img.r.ReadAt(b, int64(off)); n < len(b) {
		return nil, fmt.Errorf("%d bytes at offset %d: %w", size, off, err)
	}
	return b, nil
}

// offset is where an address lies in the file, and how many bytes its segment has from there.
func (img *image) offset(addr uint64) (off, left uint64, ok bool) {
	for _, s := range img.segments {
		if addr >= s.addr && addr-s.addr < s.size {
			return s.off + (addr - s.addr), s.size - (addr - s.addr), true
		}
	}
	return 0, 0, false
}

// at reads size bytes at an address; nil where they are not all in the file.
func (img *image) at(addr, size uint64) []byte {
	if b := img.atMost(addr, size); uint64(len(b)) == size {
		return b
	}
	return nil
}

// atMost reads up to size bytes at an address.
func (img *image) atMost(addr, size uint64) []byte {
	off, left, ok := img.offset(addr)
	if !ok {
		return nil
	}
	b, _ := img.bytesAt(off, min(size, left))
	return b
}

// ptr decodes a pointer.
func (img *image) ptr(b []byte) uint64 {
	if img.word == 4 {
		return uint64(img.order.Uint32(b))
	}
	return img.order.Uint64(b)
}

// pages are buffers for pieces of files. Those of a new size for each range cost more than what is looked for in them.
var pages = sync.Pool{New: func() any { return new([pageSize + maxOverlap]byte) }}

// pieces hands the bytes of a range of the file to f, one piece after the other, with the offset from the range's start. Each
// piece but the last has overlap bytes of the next. What f returns as false, or a read error, ends it.
func (img *image) pieces(off, size uint64, overlap int, f func(at uint64, piece []byte) bool) {
	off, size = img.clip(off, size)
	page := pages.Get().(*[pageSize + maxOverlap]byte)
	defer pages.Put(page)
	buf := page[:pageSize+overlap]
	for at := uint64(0); at < size; at += pageSize {
		piece := buf[:min(uint64(len(buf)), size-at)]
		if n, _ := img.r.ReadAt(piece, int64(off+at)); n < len(piece) {
			return
		}
		if !f(at, piece) {
			return
		}
	}
}
