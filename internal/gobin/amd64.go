package gobin

import "golang.org/x/arch/x86/x86asm"

// decodeAMD64 reads the instructions of a function that begins at addr. The addresses of variables on its stack that it takes go
// into taken, as offsets from the stack pointer at entry.
func decodeAMD64(code []byte, addr uint64, taken map[int64]bool) []instr {
	var all []instr
	for at := 0; at < len(code); {
		x, err := x86asm.Decode(code[at:], 64)
		if err != nil || x.Len <= 0 {
			// Not understood: nothing is known after it.
			all = append(all, instr{pc: uint32(at), end: uint32(at + 1), op: func(s *state) { s.lose() }, target: -1})
			at++
			continue
		}
		in := instr{pc: uint32(at), end: uint32(at + x.Len), target: -1}
		at += x.Len
		next := addr + uint64(at)
		switch x.Op {
		case x86asm.CALL:
			in.call = true
			if rel, ok := x.Args[0].(x86asm.Rel); ok {
				in.callee = next + uint64(int64(rel))
			}
		case x86asm.RET, x86asm.UD2:
			in.jump = leaves
		case x86asm.INT:
			in.op = nil // padding
		case x86asm.JMP:
			in.jump = indirect
			if rel, ok := x.Args[0].(x86asm.Rel); ok {
				in.jump, in.target = always, inside(int64(at)+int64(rel), len(code))
			}
		default:
			if rel, ok := x.Args[0].(x86asm.Rel); ok {
				in.jump, in.target = conditional, inside(int64(at)+int64(rel), len(code))
				break
			}
			in.op = operationAMD64(x, next, taken)
		}
		all = append(all, in)
	}
	return all
}

// inside is a jump's target within the function, or -1.
func inside(at int64, size int) int64 {
	if at < 0 || at >= int64(size) {
		return -1
	}
	return at
}

// regAMD64 is the number of an integer register, and its bytes.
func regAMD64(r x86asm.Reg) (n, size int, ok bool) {
	switch {
	case r >= x86asm.RAX && r <= x86asm.R15:
		return int(r - x86asm.RAX), 8, true
	case r >= x86asm.EAX && r <= x86asm.R15L:
		return int(r - x86asm.EAX), 4, true
	case r >= x86asm.AX && r <= x86asm.R15W:
		return int(r - x86asm.AX), 2, true
	case r >= x86asm.SPB && r <= x86asm.R15B:
		return int(r-x86asm.SPB) + 4, 1, true
	case r >= x86asm.AL && r <= x86asm.BL:
		return int(r - x86asm.AL), 1, true
	case r >= x86asm.AH && r <= x86asm.BH:
		return int(r - x86asm.AH), 1, true
	}
	return 0, 0, false
}

// operationAMD64 is what an instruction does to registers and stack; nil for nothing.
func operationAMD64(x x86asm.Inst, next uint64, taken map[int64]bool) func(*state) {
	switch x.Op {
	case x86asm.CMP, x86asm.TEST, x86asm.NOP, x86asm.UCOMISD, x86asm.UCOMISS, x86asm.BT, x86asm.PREFETCHNTA, x86asm.PREFETCHT0:
		return nil
	case x86asm.PUSH:
		src := sourceAMD64(x.Args[0], 8, next, nil)
		return func(s *state) {
			v := src(s)
			if sp := &s.regs[spAMD64]; sp.kind == stackAddr {
				sp.n -= 8
				s.store(int64(sp.n), 8, v)
			}
		}
	case x86asm.POP:
		r, _, ok := destinationAMD64(x)
		return func(s *state) {
			if sp := &s.regs[spAMD64]; sp.kind == stackAddr {
				sp.n += 8
			}
			if ok {
				s.regs[r] = value{}
			}
		}
	case x86asm.XCHG, x86asm.XADD, x86asm.CMPXCHG, x86asm.MUL, x86asm.IMUL, x86asm.DIV, x86asm.IDIV, x86asm.CDQ, x86asm.CQO, x86asm.CWD,
		x86asm.CPUID, x86asm.RDTSC, x86asm.MULX:
		return clobberAMD64(x)
	case x86asm.MOVSB, x86asm.MOVSD, x86asm.MOVSQ, x86asm.MOVSW, x86asm.STOSB, x86asm.STOSD, x86asm.STOSQ, x86asm.STOSW:
		if _, ok := x.Args[0].(x86asm.Reg); !ok { // not the SSE instruction of that name
			return func(s *state) {
				s.regs[1], s.regs[6], s.regs[7] = value{}, value{}, value{} // CX SI DI
				clear(s.stack)
			}
		}
	}
	if m, ok := x.Args[0].(x86asm.Mem); ok {
		return storeAMD64(x, m, next)
	}
	r, size, ok := destinationAMD64(x)
	if !ok {
		return nil
	}
	src := func(*state) value { return value{} }
	switch x.Op {
	case x86asm.MOV:
		src = sourceAMD64(x.Args[1], size, next, nil)
	case x86asm.LEA:
		src = sourceAMD64(x.Args[1], size, next, taken)
	case x86asm.XOR:
		if x.Args[0] == x.Args[1] {
			src = func(*state) value { return value{kind: constant} }
		}
	case x86asm.ADD, x86asm.SUB:
		by, ok := x.Args[1].(x86asm.Imm)
		if ok {
			if x.Op == x86asm.SUB {
				by = -by
			}
			src = func(s *state) value { return s.regs[r].add(int64(by)) }
		}
	case x86asm.INC:
		src = func(s *state) value { return s.regs[r].add(1) }
	case x86asm.DEC:
		src = func(s *state) value { return s.regs[r].add(-1) }
	}
	return func(s *state) {
		v := src(s)
		if size < 4 {
			v = value{}
		} else if size == 4 {
			if v.kind == constant {
				v.n = uint64(uint32(v.n))
			} else {
				v = value{}
			}
		}
		s.regs[r] = v
	}
}

// add moves a constant or an address on the stack.
func (v value) add(n int64) value {
	if v.kind == constant || v.kind == stackAddr {
		v.n += uint64(n)
		return v
	}
	return value{}
}

func destinationAMD64(x x86asm.Inst) (reg, size int, ok bool) {
	r, ok := x.Args[0].(x86asm.Reg)
	if !ok {
		return 0, 0, false
	}
	return regAMD64(r)
}

// clobberAMD64 forgets the registers that an instruction names, and AX and DX.
func clobberAMD64(x x86asm.Inst) func(*state) {
	return func(s *state) {
		s.regs[0], s.regs[2] = value{}, value{}
		if x.Op == x86asm.CPUID {
			s.regs[1], s.regs[3] = value{}, value{}
		}
		for _, a := range x.Args {
			switch a := a.(type) {
			case x86asm.Reg:
				if r, _, ok := regAMD64(a); ok {
					s.regs[r] = value{}
				}
			case x86asm.Mem:
				if at, ok := addressAMD64(s, a); ok {
					s.store(at, 16, value{})
				}
			}
		}
	}
}

// addressAMD64 is the offset on the stack that an operand means.
func addressAMD64(s *state, m x86asm.Mem) (int64, bool) {
	if m.Base == 0 || m.Segment != 0 || m.Index != 0 {
		return 0, false
	}
	if r, _, ok := regAMD64(m.Base); ok && s.regs[r].kind == stackAddr {
		return int64(s.regs[r].n) + m.Disp, true
	}
	return 0, false
}

// storeAMD64 is an instruction whose first operand is memory.
func storeAMD64(x x86asm.Inst, m x86asm.Mem, next uint64) func(*state) {
	src := func(*state) value { return value{} }
	size := x.MemBytes
	if x.Op == x86asm.MOV {
		src = sourceAMD64(x.Args[1], size, next, nil)
	}
	// X15 is zero throughout Go code.
	zeros := (x.Op == x86asm.MOVUPS || x.Op == x86asm.MOVAPS) && x.Args[1] == x86asm.X15
	return func(s *state) {
		at, ok := addressAMD64(s, m)
		if r, _, isReg := regAMD64(m.Base); isReg && m.Index == 0 && m.Segment == 0 && (s.regs[r].kind == fresh || s.regs[r].kind == loaded) {
			s.put(s.regs[r], m.Disp, src(s))
			return
		}
		if m.Base == x86asm.RIP && m.Index == 0 && m.Segment == 0 {
			s.put(value{fresh, ofGlobal | (next + uint64(m.Disp))}, 0, src(s))
			return
		}
		switch {
		case ok && zeros:
			s.store(at, 8, value{kind: constant})
			s.store(at+8, 8, value{kind: constant})
		case ok:
			s.store(at, size, src(s))
		case m.Index != 0 && m.Base != 0: // somewhere in an array, which may be on the stack
			if r, _, ok := regAMD64(m.Base); ok && s.regs[r].kind == stackAddr {
				s.forget(int64(s.regs[r].n) + m.Disp)
			}
		}
	}
}

// sourceAMD64 is the value of an operand; with taken, the address that it means (LEA).
func sourceAMD64(a x86asm.Arg, size int, next uint64, taken map[int64]bool) func(*state) value {
	switch a := a.(type) {
	case x86asm.Imm:
		return func(*state) value { return value{constant, uint64(a)} }
	case x86asm.Reg:
		if r, n, ok := regAMD64(a); ok && n == size {
			return func(s *state) value { return s.regs[r] }
		}
	case x86asm.Mem:
		switch {
		case taken != nil && a.Base == x86asm.RIP:
			return func(*state) value { return value{constant, next + uint64(a.Disp)} }
		case taken != nil:
			return func(s *state) value {
				at, ok := addressAMD64(s, a)
				if ok {
					if at >= int64(s.regs[spAMD64].n) { // below lies what the prologue compares with the stack's end
						taken[at] = true
					}
					return value{stackAddr, uint64(at)}
				}
				if r, _, isReg := regAMD64(a.Base); isReg && a.Index == 0 && a.Segment == 0 && s.regs[r].kind == constant {
					return s.regs[r].add(a.Disp)
				}
				return value{}
			}
		case size == 8 && a.Base == x86asm.RIP && a.Index == 0 && a.Segment == 0:
			return func(*state) value { return value{loaded, next + uint64(a.Disp)} }
		case size == 8:
			return func(s *state) value {
				if at, ok := addressAMD64(s, a); ok {
					return s.stack[at]
				}
				if r, _, isReg := regAMD64(a.Base); isReg && a.Index == 0 && a.Segment == 0 && s.regs[r].kind == closure {
					return value{captured, uint64(a.Disp)}
				}
				return value{}
			}
		}
	}
	return func(*state) value { return value{} }
}
