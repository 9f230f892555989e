package gobin

import (
	"cmp"
	"debug/elf"
	"encoding/binary"
	"math/bits"
	"slices"
)

// RefKind says how code refers to a function.
type RefKind uint8

const (
	// Call is a direct call, or a jump in the place of one.
	Call RefKind = iota
	// Taken is where the function's value is made: to be stored, passed on, or called at once through a register.
	Taken
)

// Ref is a place in the code that refers to a function.
type Ref struct {
	From, To Func
	Kind     RefKind
	pc       uint32 // of the instruction, from File.text
}

// calls are all references of a file.
type calls struct {
	refs   []Ref    // by To, then as they lie in the code
	first  []uint32 // of each function in refs, and at the end their number
	stored []uint64 // a bit for each function whose value lies in static data
	named  []uint64 // a bit for each function whose entry does
}

// Refs are the places that refer to fn, its own recursion left out. Do not modify them.
func (f *File) Refs(fn Func) []Ref {
	if !f.CallGraph {
		return nil
	}
	return f.calls.refs[f.calls.first[fn]:f.calls.first[fn+1]]
}

// Stored says that the value of fn lies in static data: a variable that starts as this function, a table. Who calls it from
// there is not known.
func (f *File) Stored(fn Func) bool {
	return f.CallGraph && f.calls.stored[fn/64]&(1<<(fn%64)) != 0
}

// InData says that the entry of fn lies in static data: as its value, or in the table of methods by which a type is an interface
// (internal/abi, ITab). A method that reflection alone can reach is in neither: the tables of types hold offsets.
func (f *File) InData(fn Func) bool {
	return f.CallGraph && f.calls.named[fn/64]&(1<<(fn%64)) != 0
}

// readCalls fills the call graph, or says why it cannot.
func (f *File) readCalls(tab *pclntab) {
	img := f.image
	var scan func(*scanner, uint32, []byte, int)
	switch {
	case img.machine == elf.EM_X86_64 && img.word == 8:
		scan = (*scanner).amd64
	case img.machine == elf.EM_AARCH64 && img.word == 8 && img.order == binary.LittleEndian:
		scan = (*scanner).arm64
	default:
		f.NoCallGraph = "calls are read for amd64 and arm64 only, not for " + f.Arch
		return
	}
	relocs := relocations{img}
	text, ok := findText(img, tab, relocs)
	if !ok {
		f.NoCallGraph = "the start of the code was not found"
		return
	}
	off, left, ok := img.offset(text)
	if !ok || left < uint64(tab.end) {
		f.NoCallGraph = "the functions lie outside of the file"
		return
	}
	f.text, f.size = text, tab.end
	s := &scanner{f: f, entries: newEntries(f.funcs, tab.end), refs: make([]Ref, 0, tab.end/48)}
	s.readFuncvals(relocs)
	// Real code has a reference for each 40 bytes, and four for each function. Far more, or fewer, mean that addresses and code
	// do not belong together.
	most := int(tab.end)/12 + 1024
	img.pieces(off, uint64(tab.end), scanOverlap, func(at uint64, piece []byte) bool {
		scan(s, uint32(at), piece, min(len(piece), pageSize))
		return len(s.refs) < most
	})
	if len(s.refs) < len(f.funcs)/4 || len(s.refs) >= most {
		f.NoCallGraph = "code and function table do not fit together"
		return
	}
	f.CallGraph = true
	f.calls = calls{stored: s.readStored(relocs), named: make([]uint64, len(f.funcs)/64+1)}
	for _, v := range s.funcvals {
		f.calls.named[v.to/64] |= 1 << (v.to % 64)
	}
	f.calls.refs, f.calls.first = sortRefs(s.refs, len(f.funcs))
	f.values = newValues(f)
}

// scanOverlap is more than an instruction, or a pair that belongs together, is long.
const scanOverlap = 16

// sortRefs orders by target: a counting sort, which is stable.
func sortRefs(refs []Ref, funcs int) (sorted []Ref, first []uint32) {
	first = make([]uint32, funcs+1)
	for _, r := range refs {
		first[r.To+1]++
	}
	for i := range funcs {
		first[i+1] += first[i]
	}
	next := slices.Clone(first)
	sorted = make([]Ref, len(refs))
	for _, r := range refs {
		sorted[next[r.To]] = r
		next[r.To]++
	}
	return sorted, first
}

// findText finds the address to which the entries of functions are relative: from the header up to Go 1.25, else from the
// module data (runtime.moduledata), which has a section of its own from Go 1.26 on, and otherwise is the words that begin with
// the address of the function table.
func findText(img *image, tab *pclntab, relocs relocations) (uint64, bool) {
	const (
		minpcWord = 20
		textWord  = 22
	)
	valid := func(text uint64) bool {
		for _, s := range img.segments {
			if s.exec && text >= s.addr && text-s.addr < s.size && uint64(tab.end) <= s.size-(text-s.addr) {
				return true
			}
		}
		return false
	}
	if tab.text != 0 && valid(tab.text) {
		return tab.text, true
	}
	first := uint64(tab.funcs[0].entry)
	inModule := func(addr uint64) (uint64, bool) {
		text, minpc := relocs.word(addr+textWord*8), relocs.word(addr+minpcWord*8)
		return text, valid(text) && minpc == text+first
	}
	if s, ok := img.sectionNamed(".go.module"); ok {
		if text, ok := inModule(s.addr); ok {
			return text, true
		}
	}
	var text uint64
	found := false
	tries := 0
	relocs.words(tab.addr, 1, func(at, _ uint64) bool {
		tries++
		text, found = inModule(at)
		return !found && tries < 16
	})
	if found {
		return text, true
	}
	// Without module data there is the section, which C code may precede in.
	if s, ok := img.sectionNamed(".text"); ok && valid(s.addr) {
		return s.addr, true
	}
	return 0, false
}

// relocations reads pointers in static data. In a position independent executable the file may hold them in its relocation
// table alone.
type relocations struct{ img *image }

const relocSize = 24 // Elf64_Rela

// relative calls f for each word that the loader sets to an address of the executable itself.
func (r relocations) relative(f func(at, value uint64) bool) {
	table, size := r.img.dynamic[elf.DT_RELA], r.img.dynamic[elf.DT_RELASZ]
	off, left, ok := r.img.offset(table)
	if !ok {
		return
	}
	kind := uint32(elf.R_X86_64_RELATIVE)
	if r.img.machine == elf.EM_AARCH64 {
		kind = uint32(elf.R_AARCH64_RELATIVE)
	}
	r.img.pieces(off, min(size, left), relocSize, func(at uint64, b []byte) bool {
		// Entries are not aligned to pieces.
		for i := int((relocSize - at%relocSize) % relocSize); i < pageSize && i+relocSize <= len(b); i += relocSize {
			if binary.LittleEndian.Uint32(b[i+8:]) == kind {
				if !f(binary.LittleEndian.Uint64(b[i:]), binary.LittleEndian.Uint64(b[i+16:])) {
					return false
				}
			}
		}
		return true
	})
}

// words calls f for each aligned word of the data that is mapped and not executable, then for each relocation, whose value is one
// of the n from low on. Where f returns false it ends.
func (r relocations) words(low, n uint64, f func(at, value uint64) bool) {
	goOn := true
	for _, s := range r.img.segments {
		if s.exec || !goOn {
			continue
		}
		// The function table, two thirds of this in many programs, holds offsets and no pointers.
		end, next := s.off+s.size, s.off+s.size
		if t := r.img.table; t.size > 0 && t.off >= s.off && t.off+t.size <= end {
			end, next = t.off, t.off+t.size
		}
		goOn = wordsOf(r.img, s, s.off, end, low, n, f) && wordsOf(r.img, s, next, s.off+s.size, low, n, f)
	}
	if goOn {
		r.relative(func(at, value uint64) bool { return value-low >= n || f(at, value) })
	}
}

// wordsOf is words for what a segment has in a range of the file. It returns what f did last.
func wordsOf(img *image, s segment, from, to, low, n uint64, f func(at, value uint64) bool) (goOn bool) {
	from += -(s.addr + from - s.off) % 8 // words are aligned in memory
	if from >= to {
		return true
	}
	goOn = true
	img.pieces(from, to-from, 0, func(at uint64, b []byte) bool {
		for i := 0; i+8 <= len(b); i += 8 {
			if v := binary.LittleEndian.Uint64(b[i:]); v-low < n {
				if goOn = f(s.addr+from-s.off+at+uint64(i), v); !goOn {
					return false
				}
			}
		}
		return true
	})
	return goOn
}

// word is the pointer at an address.
func (r relocations) word(addr uint64) uint64 {
	var v uint64
	if b := r.img.at(addr, 8); b != nil {
		v = binary.LittleEndian.Uint64(b)
	}
	if r.img.pie {
		r.relative(func(at, value uint64) bool {
			if at == addr {
				v = value
			}
			return at != addr
		})
	}
	return v
}

// entries answers whether a function begins at an offset of the code, fast for the many that are none.
type entries struct {
	bit   []uint64
	rank  []uint32 // entries before each word of bit
	funcs []Func   // the first function of each entry
}

func newEntries(funcs []function, end uint32) entries {
	e := entries{make([]uint64, end/64+1), make([]uint32, end/64+1), make([]Func, 0, len(funcs))}
	for i, fn := range funcs {
		if w, bit := fn.entry/64, uint64(1)<<(fn.entry%64); fn.entry < end && e.bit[w]&bit == 0 {
			e.bit[w] |= bit
			e.funcs = append(e.funcs, Func(i))
		}
	}
	n := uint32(0)
	for i, w := range e.bit {
		e.rank[i] = n
		n += uint32(bits.OnesCount64(w))
	}
	return e
}

func (e entries) at(off uint64) (Func, bool) {
	if off/64 >= uint64(len(e.bit)) || e.bit[off/64]&(1<<(off%64)) == 0 {
		return 0, false
	}
	return e.funcs[int(e.rank[off/64])+bits.OnesCount64(e.bit[off/64]&(1<<(off%64)-1))], true
}

// funcval is a word of static data that holds a function's entry: what a function value points to.
type funcval struct {
	addr uint64
	to   Func
}

// scanner collects references from the code.
type scanner struct {
	f        *File
	entries  entries
	funcvals []funcval // by addr
	low      uint64    // the first address
	size     uint64    // up to behind the last one
	maybe    []uint64  // a bit for each word of the data, those of large data share them: 0 is no funcval
	cur      Func      // function at the place of the scan
	refs     []Ref
}

func (s *scanner) readFuncvals(relocs relocations) {
	text, end := s.f.text, uint64(s.f.size)
	// At most one for each three words of the file: real files have one or two for each function.
	limit := 8*len(s.f.funcs) + 1024
	relocs.words(text, end, func(at, value uint64) bool {
		if to, ok := s.entries.at(value - text); ok {
			s.funcvals = append(s.funcvals, funcval{at, to})
		}
		return len(s.funcvals) < limit
	})
	slices.SortFunc(s.funcvals, func(a, b funcval) int { return cmp.Compare(a.addr, b.addr) })
	if n := len(s.funcvals); n > 0 {
		s.low, s.size = s.funcvals[0].addr, s.funcvals[n-1].addr-s.funcvals[0].addr+1
	}
	s.maybe = make([]uint64, maybeBits/64)
	for _, v := range s.funcvals {
		bit := v.addr / 8 % maybeBits
		s.maybe[bit/64] |= 1 << (bit % 64)
	}
}

// maybeBits are those of [scanner.maybe]: with them, data of 8 MB, which large programs have, is told apart word by word.
const maybeBits = 1 << 20

// at finds the function whose value lies at an address of the static data. It is asked for each word that may be a pointer.
func (s *scanner) at(addr uint64) (Func, bool) {
	bit := addr / 8 % maybeBits
	if addr-s.low >= s.size || s.maybe[bit/64]&(1<<(bit%64)) == 0 {
		return 0, false
	}
	i, ok := slices.BinarySearchFunc(s.funcvals, addr, func(v funcval, addr uint64) int { return cmp.Compare(v.addr, addr) })
	if !ok {
		return 0, false
	}
	return s.funcvals[i].to, true
}

// funcval finds the function whose value is at an address: in data, or its entry itself, which closures hold.
func (s *scanner) funcval(addr uint64) (Func, bool) {
	if to, ok := s.at(addr); ok {
		return to, true
	}
	return s.entries.at(addr - s.f.text)
}

// readStored marks the functions whose values other static data points to.
func (s *scanner) readStored(relocs relocations) []uint64 {
	stored := make([]uint64, len(s.f.funcs)/64+1)
	relocs.words(s.low, s.size, func(_, value uint64) bool {
		if to, ok := s.at(value); ok {
			stored[to/64] |= 1 << (to % 64)
		}
		return true
	})
	return stored
}

func (s *scanner) add(pc uint32, to Func, kind RefKind) {
	for int(s.cur)+1 < len(s.f.funcs) && s.f.funcs[s.cur+1].entry <= pc {
		s.cur++
	}
	if to != s.cur {
		s.refs = append(s.refs, Ref{s.cur, to, kind, pc})
	}
}

// amd64 scans bytes, not instructions: CALL and JMP with a 32-bit distance (E8, E9), and LEA of an address relative to the next
// instruction (8D after 48 or 4C). That such bytes in the midst of an instruction hit an entry is rare: one entry in some 500 bytes,
// and a distance of four bytes. Eight bytes are looked at together: most hold none of the three.
func (s *scanner) amd64(at uint32, code []byte, n int) {
	const ones = 0x0101010101010101
	for i := 0; i <= n; i += 8 { // the 8D of the last LEA may be at n
		var w uint64
		if i+8 <= len(code) {
			w = binary.LittleEndian.Uint64(code[i:])
		} else {
			var last [8]byte // zeros at its end are no hits
			copy(last[:], code[i:])
			w = binary.LittleEndian.Uint64(last[:])
		}
		for hits := zeroBytes((w|ones)^0xe9*ones) | zeroBytes(w^0x8d*ones); hits != 0; hits &= hits - 1 {
			s.instructionAMD64(at, code, n, i+bits.TrailingZeros64(hits)/8)
		}
	}
}

// zeroBytes sets the highest bit of each byte that is 0, and of some that follow one.
func zeroBytes(w uint64) uint64 { return (w - 0x0101010101010101) &^ w & 0x8080808080808080 }

// instructionAMD64 notes what the instruction with the opcode at i refers to, where it begins among the first n bytes.
func (s *scanner) instructionAMD64(at uint32, code []byte, n, i int) {
	distance := func() int64 { return int64(int32(binary.LittleEndian.Uint32(code[i:]))) }
	switch op := code[i]; {
	case op|1 == 0xe9 && i < n && i+5 <= len(code):
		i++
		if fn, ok := s.entries.at(uint64(int64(at) + int64(i) + 4 + distance())); ok {
			s.add(at+uint32(i)-1, fn, Call)
		}
	case op == 0x8d && 0 < i && i <= n && i+6 <= len(code) && code[i-1]&^4 == 0x48 && code[i+1]&0xc7 == 0x05:
		i += 2
		if fn, ok := s.funcval(s.f.text + uint64(int64(at)+int64(i)+4+distance())); ok {
			s.add(at+uint32(i)-3, fn, Taken)
		}
	}
}

// arm64 scans for BL and B, and for ADRP with ADD, or ADR, of an address.
func (s *scanner) arm64(at uint32, code []byte, n int) {
	for i := 0; i < n && i+4 <= len(code); i += 4 {
		w := binary.LittleEndian.Uint32(code[i:])
		pc := s.f.text + uint64(at) + uint64(i)
		switch {
		case w&0x7c000000 == 0x14000000:
			to := int64(at) + int64(i) + int64(int32(w<<6)>>6)*4
			if fn, ok := s.entries.at(uint64(to)); ok {
				s.add(at+uint32(i), fn, Call)
			}
		case w&0x9f000000 == 0x90000000 && i+8 <= len(code):
			w2 := binary.LittleEndian.Uint32(code[i+4:])
			if w2&0xffc00000 == 0x91000000 && w2>>5&31 == w&31 {
				if fn, ok := s.funcval(adrp(w, pc) + uint64(w2>>10&0xfff)); ok {
					s.add(at+uint32(i), fn, Taken)
				}
			}
		case w&0x9f000000 == 0x10000000:
			if fn, ok := s.funcval(adr(w, pc)); ok {
				s.add(at+uint32(i), fn, Taken)
			}
		}
	}
}

// adrp is the page address that the instruction at pc makes.
func adrp(w uint32, pc uint64) uint64 { return (pc &^ 0xfff) + uint64(pageOffset(w)<<12) }

// adr is the address that the instruction at pc makes.
func adr(w uint32, pc uint64) uint64 { return pc + uint64(pageOffset(w)) }

func pageOffset(w uint32) int64 { return int64(int32(w<<8)>>13)<<2 | int64(w>>29&3) }
