package gobin

import (
	"encoding/binary"
	"math/bits"
)

// decodeARM64 reads the instructions of a function that begins at addr, as [decodeAMD64] does. The encodings are those of the
// Arm Architecture Reference Manual, chapter C4.
func decodeARM64(code []byte, addr uint64, taken map[int64]bool) []instr {
	all := make([]instr, 0, len(code)/4)
	for at := 0; at+4 <= len(code); at += 4 {
		w := binary.LittleEndian.Uint32(code[at:])
		in := instr{pc: uint32(at), end: uint32(at + 4), target: -1}
		to := func(offset int64) int64 { return inside(int64(at)+offset, len(code)) }
		switch {
		case w&0xfc000000 == 0x94000000: // BL
			in.call, in.callee = true, addr+uint64(int64(at)+int64(int32(w<<6)>>6)*4)
		case w&0xfffffc1f == 0xd63f0000: // BLR
			in.call = true
		case w&0xfc000000 == 0x14000000: // B
			in.jump, in.target = always, to(int64(int32(w<<6)>>6)*4)
		case w&0xff000010 == 0x54000000, w&0x7e000000 == 0x34000000: // B.cond, CBZ
			in.jump, in.target = conditional, to(int64(int32(w<<8)>>13)*4)
		case w&0x7e000000 == 0x36000000: // TBZ
			in.jump, in.target = conditional, to(int64(int32(w<<13)>>18)*4)
		case w&0xfffffc1f == 0xd61f0000: // BR
			in.jump = indirect
		case w&0xfffffc1f == 0xd65f0000, w&0xffe0001f == 0xd4200000, w&0xffff0000 == 0: // RET, BRK, UDF
			in.jump = leaves
		default:
			in.op = operationARM64(w, addr+uint64(at), taken)
		}
		all = append(all, in)
	}
	return all
}

// operationARM64 is what the instruction w at pc does to registers and stack.
func operationARM64(w uint32, pc uint64, taken map[int64]bool) func(*state) {
	rd, rn, rt2, rm := int(w&31), int(w>>5&31), int(w>>10&31), int(w>>16&31)
	set := func(r int, v value) func(*state) { return func(s *state) { s.set(r, v) } }
	switch {
	case w&0x9f000000 == 0x90000000: // ADRP
		return set(rd, value{constant, adrp(w, pc)})
	case w&0x9f000000 == 0x10000000: // ADR
		return set(rd, value{constant, adr(w, pc)})
	case w&0xff800000 == 0x91000000, w&0xff800000 == 0xd1000000: // ADD, SUB immediate, 64 bit: register 31 is the stack pointer
		by := int64(w>>10&0xfff) << (12 * (w >> 22 & 1))
		if w&0x40000000 != 0 {
			by = -by
		}
		return func(s *state) {
			v := s.regs[rn].add(by)
			if v.kind == stackAddr && rd != spARM64 && int64(v.n) >= int64(s.regs[spARM64].n) {
				taken[int64(v.n)] = true
			}
			s.regs[rd] = v
		}
	case w&0x7f800000 == 0x52800000: // MOVZ
		return set(rd, value{constant, uint64(w>>5&0xffff) << (16 * (w >> 21 & 3))})
	case w&0x7f800000 == 0x72800000: // MOVK
		shift := 16 * (w >> 21 & 3)
		return func(s *state) {
			v := s.regs[rd]
			if v.kind == constant {
				v.n = v.n&^(0xffff<<shift) | uint64(w>>5&0xffff)<<shift
			} else {
				v = value{}
			}
			s.set(rd, v)
		}
	case w&0xffe0ffe0 == 0xaa0003e0: // MOV register, 64 bit
		return func(s *state) { s.set(rd, s.get(rm)) }
	case w&0x7f8003e0 == 0x320003e0: // MOV bit mask
		v := bitmask(w)
		return func(s *state) {
			if rd == spARM64 {
				v = value{}
			}
			s.regs[rd] = v
		}
	case w&0x3b000000 == 0x39000000: // LDR, STR, unsigned offset
		size := 1 << (w >> 30)
		return memoryARM64(w, rd, rn, int64(w>>10&0xfff)*int64(size), size)
	case w&0x3b200c00 == 0x38000000, w&0x3b200400 == 0x38000400: // LDUR, STUR; before and after the address is changed
		size := 1 << (w >> 30)
		offset := int64(int32(w<<11) >> 23)
		mode := w >> 10 & 3 // 0 plain, 1 after, 3 before
		used := offset
		if mode == 1 {
			used = 0
		}
		op := memoryARM64(w, rd, rn, used, size)
		if mode == 0 {
			return op
		}
		return func(s *state) {
			op(s)
			s.regs[rn] = s.regs[rn].add(offset)
		}
	case w&0x3b200c00 == 0x38200800: // LDR, STR with a register as offset: somewhere in an array
		return func(s *state) {
			if v := s.regs[rn]; w>>22&3 != 0 {
				s.set(rd, value{})
			} else if v.kind == stackAddr {
				s.forget(int64(v.n))
			}
		}
	case w&0x3a000000 == 0x28000000: // LDP, STP
		return pairARM64(w, rd, rt2, rn)
	case w&0x3f000000 == 0x08000000: // exclusive and ordered: a load sets its register
		return func(s *state) { s.set(rd, value{}); s.set(rm, value{}) }
	}
	return set(rd, value{})
}

// set writes a register; number 31 is the zero register.
func (s *state) set(r int, v value) {
	if r != 31 {
		s.regs[r] = v
	}
}

func (s *state) get(r int) value {
	if r == 31 {
		return value{kind: constant}
	}
	return s.regs[r]
}

// memoryARM64 is a load or store of one register of size bytes, of integers (rd is theirs) or floating point (bit 26).
func memoryARM64(w uint32, rt, rn int, offset int64, size int) func(*state) {
	float := w&(1<<26) != 0
	load := w>>22&3 != 0
	if float {
		load = w>>22&1 != 0
		if w>>30 == 0 && w>>23&1 != 0 { // a vector register of 16 bytes; the offset counts in those
			offset, size = offset*16, 16
		}
	}
	return func(s *state) {
		at := int64(s.regs[rn].n) + offset
		onStack := s.regs[rn].kind == stackAddr
		switch {
		case load && float:
		case load && onStack && size == 8 && w>>22&3 == 1:
			s.set(rt, s.stack[at])
		case load && size == 8 && w>>22&3 == 1 && s.regs[rn].kind == constant:
			s.set(rt, value{loaded, s.regs[rn].n + uint64(offset)})
		case load && size == 8 && w>>22&3 == 1 && s.regs[rn].kind == closure:
			s.set(rt, value{captured, uint64(offset)})
		case load:
			s.set(rt, value{})
		case onStack && float:
			s.store(at, size, value{})
		case onStack:
			s.store(at, size, s.get(rt))
		case float:
			s.put(s.regs[rn], offset, value{})
		case s.regs[rn].kind == constant && size == 8:
			s.put(value{fresh, ofGlobal | (s.regs[rn].n + uint64(offset))}, 0, s.get(rt))
		default:
			s.put(s.regs[rn], offset, s.get(rt))
		}
	}
}

// pairARM64 is a load or store of two registers.
func pairARM64(w uint32, rt, rt2, rn int) func(*state) {
	float := w&(1<<26) != 0
	size := 4
	if w>>31 != 0 {
		size = 8
	}
	if float {
		size = 4 << (w >> 30)
	}
	offset := int64(int32(w<<10)>>25) * int64(size)
	mode := w >> 23 & 3 // 1 after, 2 plain, 3 before
	used := offset
	if mode == 1 {
		used = 0
	}
	load := w>>22&1 != 0
	return func(s *state) {
		at := int64(s.regs[rn].n) + used
		onStack := s.regs[rn].kind == stackAddr
		switch {
		case load && float:
		case load && onStack && size == 8:
			a, b := s.stack[at], s.stack[at+8]
			s.set(rt, a)
			s.set(rt2, b)
		case load:
			s.set(rt, value{})
			s.set(rt2, value{})
		case onStack && float:
			s.store(at, 2*size, value{})
		case onStack:
			s.store(at, size, s.get(rt))
			s.store(at+int64(size), size, s.get(rt2))
		case !float && size == 8:
			s.put(s.regs[rn], used, s.get(rt))
			s.put(s.regs[rn], used+8, s.get(rt2))
		}
		if mode&1 != 0 {
			s.regs[rn] = s.regs[rn].add(offset)
		}
	}
}

// bitmask decodes the logical immediate of ORR (C3.4.2, DecodeBitMasks).
func bitmask(w uint32) value {
	n, immr, imms := w>>22&1, uint(w>>16&63), uint(w>>10&63)
	size := uint(64)
	if n == 0 {
		if size = 1 << bits.Len(^imms&63) / 2; size < 2 {
			return value{}
		}
	}
	ones, rotate := imms&(size-1)+1, immr&(size-1)
	if ones == size {
		return value{}
	}
	element := uint64(1)<<ones - 1
	element = (element>>rotate | element<<(size-rotate)) & (^uint64(0) >> (64 - size))
	for z := size; z < 64; z *= 2 {
		element |= element << z
	}
	if w>>31 == 0 {
		element &= 0xffffffff
	}
	return value{constant, element}
}
