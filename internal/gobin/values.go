package gobin

import (
	"debug/elf"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of following values. Callers of a wrapper are followed four deep: more was of use in none of the programs seen.
const (
	maxDepth  = 4
	maxString = 4096
	maxCode   = 1 << 20  // bytes of a function that is looked into
	maxWork   = 16 << 20 // bytes of code, over all questions on a file
)

// Strings are the values that a string argument was seen to have.
type Strings struct {
	// Values are constants, sorted, each once. "" is one, too.
	Values []string
	// Complete says that there are no others: no call was found whose argument is anything but a constant.
	Complete bool
}

// Args tells the values of a string argument of fn, over all its callers for which from is true (nil: all). The argument is
// given by its first word in Go's order of argument registers: 0 for F(s string), 2 for F(ctx context.Context, s string). A
// caller that passes on an argument of its own is followed to its callers in turn.
func (f *File) Args(fn Func, word int, from func(Func) bool) Strings {
	q := query{f: f, values: map[string]bool{}, complete: true, seen: map[param]bool{}}
	q.callers(fn, word, 0, from)
	return q.result()
}

// Arg tells the values of a string argument at one call.
func (f *File) Arg(call Ref, word int) Strings {
	q := query{f: f, values: map[string]bool{}, complete: true, seen: map[param]bool{}}
	q.call(call, word, 0)
	return q.result()
}

// param is a string argument of a function.
type param struct {
	fn   Func
	word int
}

// query collects strings.
type query struct {
	f        *File
	values   map[string]bool
	complete bool
	seen     map[param]bool
}

func (q *query) result() Strings {
	s := Strings{Complete: q.complete}
	for v := range q.values {
		s.Values = append(s.Values, v)
	}
	slices.Sort(s.Values)
	return s
}

func (q *query) callers(fn Func, word, depth int, from func(Func) bool) {
	if q.seen[param{fn, word}] {
		return
	}
	q.seen[param{fn, word}] = true
	refs := q.f.Refs(fn)
	if depth > maxDepth || q.f.Stored(fn) || len(refs) == 0 {
		q.complete = false
	}
	if depth > maxDepth {
		return
	}
	for _, r := range refs {
		if from != nil && !from(r.From) {
			continue
		}
		q.call(r, word, depth)
	}
}

func (q *query) call(r Ref, word, depth int) {
	if r.Kind != Call || q.f.values == nil {
		q.complete = false
		return
	}
	ptr, n := q.f.values.args(r, word)
	switch {
	case n == value{kind: constant}:
		q.values[""] = true
	case ptr.kind == argument && n.kind == argument && n.n == ptr.n+1:
		q.callers(r.From, int(ptr.n), depth+1, nil)
	case ptr.kind == constant && n.kind == constant && n.n <= maxString:
		if s, ok := q.f.values.text(ptr.n, n.n); ok {
			q.values[s] = true
			return
		}
		q.complete = false
	default:
		q.complete = false
	}
}

// value is what a register or a word of the stack holds.
type value struct {
	kind valueKind
	n    uint64 // the constant; the number of the argument word; the offset from the stack pointer at entry
}

type valueKind uint8

const (
	unknown valueKind = iota
	constant
	argument
	stackAddr
)

// Registers by number: 0 to 15 of amd64 in the order of the machine code, 0 to 30 of arm64, and its stack pointer.
const (
	numRegs = 32
	spAMD64 = 4
	spARM64 = 31
)

// argRegs are the registers of integer arguments (cmd/compile/abi-internal.md).
var argRegs = map[elf.Machine][]int{
	elf.EM_X86_64:  {0, 3, 1, 7, 6, 8, 9, 10, 11}, // AX BX CX DI SI R8 R9 R10 R11
	elf.EM_AARCH64: {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
}

// state is what is known at a place in a function.
type state struct {
	regs  [numRegs]value
	stack map[int64]value // by offset from the stack pointer at entry; words
}

func (s *state) clone() *state {
	c := *s
	c.stack = make(map[int64]value, len(s.stack))
	for k, v := range s.stack {
		c.stack[k] = v
	}
	return &c
}

// merge keeps what both hold, and reports whether s lost something.
func (s *state) merge(o *state) (changed bool) {
	for i := range s.regs {
		if s.regs[i].kind != unknown && s.regs[i] != o.regs[i] {
			s.regs[i], changed = value{}, true
		}
	}
	for k, v := range s.stack {
		if o.stack[k] != v {
			delete(s.stack, k)
			changed = true
		}
	}
	return changed
}

// store writes size bytes at an offset of the stack.
func (s *state) store(off int64, size int, v value) {
	for at := off - 7; at < off+int64(size); at++ {
		delete(s.stack, at)
	}
	if size == 8 && v.kind != unknown && off%8 == 0 {
		s.stack[off] = v
	}
}

// forget drops the words from an offset on.
func (s *state) forget(from int64) {
	for k := range s.stack {
		if k >= from {
			delete(s.stack, k)
		}
	}
}

// afterCall forgets what a call may change: all registers but the stack pointer, and the variables on the stack whose addresses
// were taken. Those are not told apart by size: 256 bytes from each address count, but not beyond the return address at offset
// 0, where arguments are kept.
func (s *state) afterCall(sp int, taken map[int64]bool) {
	keep := s.regs[sp]
	s.regs = [numRegs]value{}
	s.regs[sp] = keep
	for k := range s.stack {
		for t := range taken {
			if k >= t && k < t+256 && (k < 0) == (t < 0) {
				delete(s.stack, k)
				break
			}
		}
	}
}

// instr is an instruction as far as it matters here.
type instr struct {
	pc, end uint32 // offsets in the function
	op      func(*state)
	call    bool
	jump    jump
	target  int64 // of the jump; outside of the function for a tail call
}

type jump uint8

const (
	noJump      jump = iota
	conditional      // goes on, too
	always
	indirect // to an unknown place of the function
	leaves   // return, or a stop
)

// values looks into functions and remembers what their calls are given.
type values struct {
	f      *File
	decode func(code []byte, addr uint64, taken map[int64]bool) []instr
	sp     int
	regs   []int // of arguments
	work   int   // bytes of code that were looked into
	known  map[Func]map[uint32][]value
}

func newValues(f *File) *values {
	v := &values{f: f, regs: argRegs[f.image.machine], known: map[Func]map[uint32][]value{}}
	switch f.image.machine {
	case elf.EM_X86_64:
		v.decode, v.sp = decodeAMD64, spAMD64
	case elf.EM_AARCH64:
		v.decode, v.sp = decodeARM64, spARM64
	default:
		return nil
	}
	return v
}

// text reads a constant string.
func (v *values) text(addr, n uint64) (string, bool) {
	b := v.f.image.at(addr, n)
	if b == nil || !utf8.Valid(b) || strings.ContainsRune(string(b), 0) {
		return "", false
	}
	return string(b), true
}

// args are the values of two argument words at a call.
func (v *values) args(r Ref, word int) (value, value) {
	if word+1 >= len(v.regs) {
		return value{}, value{}
	}
	calls, ok := v.known[r.From]
	if !ok {
		calls = v.follow(r.From)
		v.known[r.From] = calls
	}
	given := calls[r.pc-v.f.funcs[r.From].entry]
	if given == nil {
		return value{}, value{}
	}
	return given[word], given[word+1]
}

// follow runs through a function until no state changes any more, and returns the argument registers at its calls.
func (v *values) follow(fn Func) map[uint32][]value {
	start := v.f.funcs[fn].entry
	end := v.f.size
	if int(fn)+1 < len(v.f.funcs) {
		end = v.f.funcs[fn+1].entry
	}
	if end <= start || end-start > maxCode || v.work+int(end-start) > maxWork {
		return nil
	}
	v.work += int(end - start)
	addr := v.f.text + uint64(start)
	code := v.f.image.at(addr, uint64(end-start))
	taken := map[int64]bool{}
	blocks := split(v.decode(code, addr, taken))
	entry := &state{stack: map[int64]value{}}
	for i, r := range v.regs {
		entry.regs[r] = value{argument, uint64(i)}
	}
	entry.regs[v.sp] = value{kind: stackAddr}
	at := map[uint32][]value{}
	var todo []int
	flow := func(to int, s *state) {
		if b := &blocks[to]; b.in == nil {
			b.in = s.clone()
			todo = append(todo, to)
		} else if b.in.merge(s) {
			todo = append(todo, to)
		}
	}
	run := func() {
		for len(todo) > 0 {
			b := &blocks[todo[len(todo)-1]]
			todo = todo[:len(todo)-1]
			s := b.in.clone()
			for _, in := range b.instrs {
				if in.call || in.jump == always && in.target < 0 {
					given := make([]value, len(v.regs))
					for i, r := range v.regs {
						given[i] = s.regs[r]
					}
					at[in.pc] = given
				}
				if in.op != nil {
					in.op(s)
				}
				if in.call {
					s.afterCall(v.sp, taken)
				}
			}
			for _, to := range b.next {
				flow(to, s)
			}
		}
	}
	if len(blocks) == 0 {
		return at
	}
	flow(0, entry)
	run()
	// What is reached by a jump through a register only, such as the cases of a switch, starts with the stack pointer as the
	// function's body has it.
	for i := range blocks {
		if blocks[i].in == nil {
			s := &state{stack: map[int64]value{}}
			s.regs[v.sp] = bodySP(blocks, v.sp)
			flow(i, s)
			run()
		}
	}
	return at
}

// block is a run of instructions that is entered at its first and left at its last.
type block struct {
	instrs []instr
	next   []int
	in     *state
}

// split makes blocks of a function's instructions.
func split(instrs []instr) []block {
	leads := map[uint32]bool{}
	for _, in := range instrs {
		if in.jump != noJump {
			leads[in.end] = true
			if in.target >= 0 {
				leads[uint32(in.target)] = true
			}
		}
	}
	var blocks []block
	byPC := map[uint32]int{}
	for i, in := range instrs {
		if i == 0 || leads[in.pc] {
			byPC[in.pc] = len(blocks)
			blocks = append(blocks, block{})
		}
		b := &blocks[len(blocks)-1]
		b.instrs = append(b.instrs, in)
	}
	for i := range blocks {
		b := &blocks[i]
		last := b.instrs[len(b.instrs)-1]
		if last.target >= 0 && (last.jump == conditional || last.jump == always) {
			if to, ok := byPC[uint32(last.target)]; ok {
				b.next = append(b.next, to)
			}
		}
		if (last.jump == conditional || last.jump == noJump) && i+1 < len(blocks) {
			b.next = append(b.next, i+1)
		}
	}
	return blocks
}

// bodySP is the stack pointer that most blocks of a function start with: the first that is not the entry's own.
func bodySP(blocks []block, sp int) value {
	for _, b := range blocks {
		if b.in != nil && b.in.regs[sp].kind == stackAddr && b.in.regs[sp].n != 0 {
			return b.in.regs[sp]
		}
	}
	return value{}
}
