package gobin

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"maps"
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
	maxResult = 4        // words of results that are followed: a string and an error
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
	fresh    // what runtime.newobject returned: n is where it was called
	result   // the first result of another function: n is its entry
	closure  // the function value that is called, in the context register (cmd/compile/abi-internal.md)
	captured // the word of it at the offset n
	begins   // a string that begins with a constant: n is its address, times 1<<beginBits, and its length
	loaded   // what the word of static data at the address n holds when it is read
	other    // another word of what a call returned, or of one of several calls: n is the set of those in [words]
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

// contextRegs hold the function value that is called: what a closure has of its surroundings lies behind its first word.
var contextRegs = map[elf.Machine]int{elf.EM_X86_64: 2, elf.EM_AARCH64: 26} // DX, R26

// state is what is known at a place in a function.
type state struct {
	regs  [numRegs]value
	stack map[int64]value // by offset from the stack pointer at entry; words
	heap  map[field]value // of objects that this function made
	words *words          // one for the whole function
}

// field is a word of an object, or its last byte. The one at -1 is the object's type, the one at -2 is there where the object was made on
// every way, and those from -3 down name the objects that were so when it was made.
type field struct {
	object uint64
	offset int64
}

func (s *state) clone() *state {
	c := *s
	c.stack, c.heap = maps.Clone(s.stack), maps.Clone(s.heap)
	return &c
}

// Objects that static data points to are known by the address of the pointer, and those pointers by a mark of their own. They are there on
// every way, and of no known type.
const (
	throughGlobal = 1 << 63
	ofGlobal      = 1 << 62
)

// put notes what is stored into an object.
func (s *state) put(object value, offset int64, v value) {
	if object.kind == loaded {
		object = value{fresh, throughGlobal | object.n}
	}
	if object.kind == fresh {
		if s.heap == nil {
			s.heap = map[field]value{}
		}
		s.heap[field{object.n, offset}] = s.keep(v)
	}
}

// words are words of results, each known by where its call is, times 256, and its number. At a place where ways through a function meet,
// a register may hold one of several.
type words struct {
	sets [][]uint64
	ids  map[string]uint64 // of sets
	kept map[uint64]bool   // those that are stored or handed on
}

const maxWords = 16 // of one set

func newWords() *words { return &words{ids: map[string]uint64{}, kept: map[uint64]bool{}} }

// value is that of a set of words; those that are kept already are of no interest. A large set is as good as kept.
func (w *words) value(set []uint64) value {
	set = slices.DeleteFunc(set, func(n uint64) bool { return w.kept[n] })
	slices.Sort(set)
	set = slices.Compact(set)
	if len(set) > maxWords {
		w.keep(set)
		return value{}
	} else if len(set) == 0 {
		return value{}
	}
	key := fmt.Sprint(set)
	id, ok := w.ids[key]
	if !ok {
		id = uint64(len(w.sets))
		w.sets, w.ids[key] = append(w.sets, set), id
	}
	return value{other, id}
}

func (w *words) keep(set []uint64) {
	for _, n := range set {
		w.kept[n] = true
	}
}

// keep notes that a value is put aside. Nothing else is known of another word of a result.
func (s *state) keep(v value) value {
	if v.kind != other {
		return v
	}
	s.words.keep(s.words.sets[v.n])
	return value{}
}

// lose forgets all, as after an instruction that is not understood.
func (s *state) lose() {
	for _, v := range s.regs {
		s.keep(v)
	}
	*s = state{stack: map[int64]value{}, words: s.words}
}

// meet is what a register holds where two ways meet: what both hold, or the words of results that either may hold.
func (s *state) meet(a, b value) value {
	if a == b {
		return a
	}
	var set []uint64
	for _, v := range []value{a, b} {
		if v.kind == other {
			set = append(set, s.words.sets[v.n]...)
		}
	}
	if len(set) == 0 {
		return value{}
	}
	return s.words.value(set)
}

// merge keeps what both hold, and reports whether s lost something.
func (s *state) merge(o *state) (changed bool) {
	for i, v := range s.regs {
		if met := s.meet(v, o.regs[i]); met != v {
			s.regs[i], changed = met, true
		}
	}
	for k, v := range s.stack {
		if o.stack[k] != v {
			delete(s.stack, k)
			changed = true
		}
	}
	return s.mergeHeap(o) || changed
}

// mergeHeap keeps what both hold of an object that both have, and what one holds of an object that the other does not have.
func (s *state) mergeHeap(o *state) (changed bool) {
	for k, v := range s.heap {
		if _, both := o.heap[field{k.object, -1}]; (both || k.offset == -2 || k.object >= ofGlobal) && o.heap[k] != v {
			delete(s.heap, k)
			changed = true
		}
	}
	news := map[field]value{}
	for k, v := range o.heap {
		if _, both := s.heap[field{k.object, -1}]; !both && k.offset != -2 && k.object < ofGlobal {
			news[k] = v
		}
	}
	if s.heap == nil {
		s.heap = map[field]value{}
	}
	maps.Copy(s.heap, news)
	return changed || len(news) > 0
}

// store writes size bytes at an offset of the stack.
func (s *state) store(off int64, size int, v value) {
	v = s.keep(v)
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
	for k, v := range s.stack {
		if v.kind == fresh || v.kind == result { // a pointer that was put aside: a callee that is given a buffer leaves it alone
			continue
		}
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
	callee  uint64 // of a direct call: its address
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
	panics   // a call that does not return
)

// values looks into functions and remembers what their calls are given.
type values struct {
	f      *File
	decode func(code []byte, addr uint64, taken map[int64]bool) []instr
	sp     int
	regs   []int // of arguments
	work   int   // bytes of code that were looked into
	known  map[Func]map[uint32][]value
	made   map[Func]map[field]value  // of objects, when a function returns
	ends   map[Func]map[uint32]value // the first result of each at its returns
	kept   map[Func]map[uint64]bool  // the values of kind other that each does something with
	types  typeNames
}

func newValues(f *File) *values {
	v := &values{f: f, regs: argRegs[f.image.machine], known: map[Func]map[uint32][]value{}, made: map[Func]map[field]value{}, kept: map[Func]map[uint64]bool{}, ends: map[Func]map[uint32]value{}}
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

// Ignored says that nothing is done with a word of what a call returned, as its function has it: it is not stored, not given to another
// call and not returned. A test for zero does nothing with it. Of an error, whose second word is asked for, it means that nobody gets to
// see it. Where it cannot be told it says no.
func (f *File) Ignored(call Ref, word int) bool {
	if call.Kind != Call || f.values == nil || word < 1 || word >= maxResult {
		return false
	}
	f.values.args(call, 0)
	kept, looked := f.values.kept[call.From]
	at := call.pc - f.funcs[call.From].entry
	return looked && f.values.known[call.From][at] != nil && !kept[uint64(at)<<8|uint64(word)]
}

// OnlyWithout says that the call b is come to only where the call a of the same function gave nothing: its first result, a string, is
// empty, or its second one, an error, is set, and the function goes on at once by that. Where it cannot be told it says no.
func (f *File) OnlyWithout(a, b Ref) bool {
	if a.From != b.From || f.values == nil {
		return false
	}
	code, addr := f.values.code(a.From)
	if code == nil {
		return false
	}
	blocks := split(f.values.decode(code, addr, map[int64]bool{}))
	start := f.funcs[a.From].entry
	from, to := blockAt(blocks, a.pc-start), blockAt(blocks, b.pc-start)
	if from < 0 || to < 0 || from == to {
		return false
	}
	without, with, ok := branches(blocks[from], code, a.pc-start, f.image.machine)
	return ok && reaches(blocks, without, to) && !reaches(blocks, with, to)
}

// branches are the blocks that follow a call whose results a test looks at: where it gave nothing, and where it gave something. Results
// lie in the registers that arguments do, a string in the first two, an error behind it in the next.
func branches(b block, code []byte, call uint32, machine elf.Machine) (without, with int, ok bool) {
	if len(b.next) != 2 { // the jump's target, then what comes behind it
		return 0, 0, false
	}
	var zeroJumps, tested, failed bool // that the jump is made on zero, that something is tested, that it is the error
	for _, in := range b.instrs {
		if in.pc <= call {
			continue
		}
		if in.call {
			return 0, 0, false // others' results
		}
		x := code[in.pc:in.end]
		switch machine {
		case elf.EM_X86_64:
			switch {
			case bytes.Equal(x, []byte{0x48, 0x85, 0xdb}): // TESTQ BX, BX
				tested, failed = true, false
			case bytes.Equal(x, []byte{0x48, 0x85, 0xc9}): // TESTQ CX, CX
				tested, failed = true, true
			case in.jump == conditional && (x[0] == 0x74 || x[0] == 0x0f && x[1] == 0x84): // JEQ
				zeroJumps = true
			case in.jump == conditional && (x[0] == 0x75 || x[0] == 0x0f && x[1] == 0x85): // JNE
			case in.jump == conditional:
				return 0, 0, false
			case !bytes.HasPrefix(x, []byte{0x48, 0x89}) && !bytes.HasPrefix(x, []byte{0x90}): // but for MOVQ, which keeps the flags
				tested = false
			}
		case elf.EM_AARCH64:
			w := binary.LittleEndian.Uint32(x)
			if in.jump == conditional && w&0x7e000000 == 0x34000000 && (w&31 == 1 || w&31 == 2) { // CBZ, CBNZ of R1 or R2
				tested, failed, zeroJumps = true, w&31 == 2, w&(1<<24) == 0
			}
		}
	}
	zero, other := b.next[0], b.next[1]
	if !zeroJumps {
		zero, other = other, zero
	}
	if failed { // an error that is zero is none
		zero, other = other, zero
	}
	return zero, other, tested
}

// reaches says that a block is one of those that follow another, or that itself.
func reaches(blocks []block, from, to int) bool {
	seen := make([]bool, len(blocks))
	for todo := []int{from}; len(todo) > 0; {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if at == to {
			return true
		}
		if !seen[at] {
			seen[at] = true
			todo = append(todo, blocks[at].next...)
		}
	}
	return false
}

// blockAt is the index of the block with the instruction at pc.
func blockAt(blocks []block, pc uint32) int {
	return slices.IndexFunc(blocks, func(b block) bool { return b.instrs[0].pc <= pc && pc < b.instrs[len(b.instrs)-1].end })
}

// code is that of a function, and its address; nil for what is not looked into.
func (v *values) code(fn Func) ([]byte, uint64) {
	start, end := v.f.funcs[fn].entry, v.f.size
	if int(fn)+1 < len(v.f.funcs) {
		end = v.f.funcs[fn+1].entry
	}
	if end <= start || end-start > maxCode || v.work+int(end-start) > maxWork {
		return nil, 0
	}
	v.work += int(end - start)
	addr := v.f.text + uint64(start)
	return v.f.image.at(addr, uint64(end-start)), addr
}

// follow runs through a function until no state changes any more, and returns the argument registers at its calls.
func (v *values) follow(fn Func) map[uint32][]value {
	code, addr := v.code(fn)
	if code == nil {
		return nil
	}
	taken := map[int64]bool{}
	instrs := v.decode(code, addr, taken)
	called := v.callees(instrs)
	blocks := split(instrs)
	var exits *state
	ends := map[uint32]value{}
	v.ends[fn] = ends
	words := newWords()
	v.kept[fn] = words.kept
	entry := &state{stack: map[int64]value{}, words: words}
	for i, r := range v.regs {
		entry.regs[r] = value{argument, uint64(i)}
	}
	entry.regs[v.sp] = value{kind: stackAddr}
	entry.regs[contextRegs[v.f.image.machine]] = value{kind: closure}
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
						if i < v.argsOf(in.callee) || in.jump == always {
							given[i] = s.keep(s.regs[r])
						}
					}
					at[in.pc] = given
				}
				if in.op != nil {
					in.op(s)
				}
				if in.call {
					v.returned(s, in, called[in.pc], taken)
				}
				if in.jump == leaves || in.jump == always && in.target < 0 {
					if ends[in.pc] = s.regs[v.regs[0]]; in.jump == always {
						ends[in.pc] = value{} // another function's result
					}
					for _, r := range v.regs {
						s.keep(s.regs[r])
					}
					if exits == nil {
						exits = s.clone()
					} else {
						exits.mergeHeap(s)
					}
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
	defer func() {
		if exits != nil {
			v.made[fn] = exits.heap
		}
	}()
	flow(0, entry)
	run()
	// What is reached by a jump through a register only, such as the cases of a switch, starts with the stack pointer as the
	// function's body has it.
	for i := range blocks {
		if !slices.ContainsFunc(blocks[i].instrs, func(in instr) bool { return in.op != nil || in.call || in.jump != noJump }) {
			continue // padding before the target of a jump
		}
		if i > 0 && blocks[i-1].instrs[len(blocks[i-1].instrs)-1].jump == panics {
			continue // an instruction for the sake of the return address that nobody returns to; such code stands at a function's end
		}
		if blocks[i].in == nil {
			s := &state{stack: map[int64]value{}, words: words}
			s.regs[v.sp] = bodySP(blocks, v.sp)
			flow(i, s)
			run()
		}
	}
	return at
}

// callees names the functions that are called, and marks the calls that do not return.
func (v *values) callees(instrs []instr) map[uint32]string {
	names := map[uint32]string{}
	for i := range instrs {
		in := &instrs[i]
		if !in.call || in.callee == 0 {
			continue
		}
		name := v.f.at(in.callee)
		if name == "os.Exit" || strings.HasPrefix(name, "log.Fatal") || strings.HasPrefix(name, "log.(*Logger).Fatal") {
			in.jump = panics
		}
		if !strings.HasPrefix(name, "runtime.") && name != cloneTransport && name != "fmt.Sprintf" {
			continue
		}
		names[in.pc] = name
		for _, stops := range []string{"runtime.panic", "runtime.goPanic", "runtime.gopanic", "runtime.throw", "runtime.fatal"} {
			if strings.HasPrefix(name, stops) {
				in.jump = panics
			}
		}
	}
	return names
}

// at is the name of the function that begins at an address, "" for none.
func (f *File) at(addr uint64) string {
	if fn, ok := f.funcAt(addr); ok {
		return f.Name(fn)
	}
	return ""
}

func (f *File) funcAt(addr uint64) (Func, bool) {
	if addr < f.text || addr-f.text >= uint64(f.size) {
		return 0, false
	}
	i, ok := slices.BinarySearchFunc(f.funcs, uint32(addr-f.text), func(fn function, at uint32) int { return cmp.Compare(fn.entry, at) })
	return Func(i), ok
}

// argsOf is how many words of arguments a function takes at most that is called at an address.
func (v *values) argsOf(addr uint64) int {
	if fn, ok := v.f.funcAt(addr); ok {
		return int(v.f.funcs[fn].args)
	}
	return len(v.regs)
}

// returned is what a call leaves behind.
func (v *values) returned(s *state, in instr, name string, taken map[int64]bool) {
	if strings.HasPrefix(name, "runtime.gcWriteBarrier") { // keeps all registers but the one that it returns in (cmd/compile/abi-internal.md)
		s.regs[map[elf.Machine]int{elf.EM_X86_64: 11, elf.EM_AARCH64: 25}[v.f.image.machine]] = value{}
		return
	}
	arg := s.regs[v.regs[0]]
	made := value{}
	if name == "fmt.Sprintf" {
		made = beginning(arg, s.regs[v.regs[1]])
	} else if strings.HasPrefix(name, "runtime.concatstring") && name != "runtime.concatstrings" { // behind a buffer
		made = beginning(s.regs[v.regs[1]], s.regs[v.regs[2]])
	}
	s.afterCall(v.sp, taken)
	if name == cloneTransport {
		arg = value{result, in.callee} // in the place of the type
	}
	switch {
	case strings.HasPrefix(name, "runtime.morestack"): // the function begins anew
		s.regs[contextRegs[v.f.image.machine]] = value{kind: closure}
	case name == "runtime.newobject" && arg.kind == constant, name == cloneTransport:
		id := uint64(in.pc) + 1
		for k := range s.heap { // of the time before
			if k.object == id {
				delete(s.heap, k)
			}
		}
		o := value{fresh, id}
		for k := range s.heap {
			if k.offset == -2 {
				s.put(o, -3-int64(k.object), value{})
			}
		}
		s.put(o, -1, arg)
		s.put(o, -2, value{})
		s.regs[v.regs[0]] = o
	case in.callee != 0:
		s.regs[v.regs[0]] = value{result, in.callee}
		for word := 1; word < maxResult; word++ {
			s.regs[v.regs[word]] = s.words.value([]uint64{uint64(in.pc)<<8 | uint64(word)})
		}
		if made.kind == begins {
			s.regs[v.regs[0]] = made
		}
	}
}

const beginBits = 16

// beginning is a string made of a constant and more behind it.
func beginning(at, n value) value {
	if at.kind != constant || n.kind != constant || n.n >= maxString || at.n >= 1<<(64-beginBits) {
		return value{}
	}
	return value{begins, at.n<<beginBits | n.n}
}

// Begin is the constant that a string argument of a call begins with: the first of those that are put together, or the format of
// fmt.Sprintf up to its first verb.
func (f *File) Begin(call Ref, word int) string {
	if call.Kind != Call || f.values == nil {
		return ""
	}
	at, _ := f.values.args(call, word)
	if at.kind != begins {
		return ""
	}
	text, _ := f.values.text(at.n>>beginBits, at.n&(1<<beginBits-1))
	text, _, _ = strings.Cut(text, "%")
	return text
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
