package gobin

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"slices"
	"strings"
)

// Object is a place where code makes a value of a type on the heap.
type Object struct {
	In   Func
	Type string // as in source, with the last element of the package's path: "tls.Config"
	id   uint64
	made map[field]value
	f    *File
}

// Held is what a field of an object holds whenever the function returns that made it.
type Held struct {
	Set      bool   // something was stored on every way to a return
	Known    bool   // one value on every way to a return; false: there is none, it differs, or it comes from elsewhere
	Const    bool   // it is the constant N: a number, or an address in static data
	N        uint64 //
	Object   string // it is an object that the same function made, of this type
	Of       Object // that one
	ResultOf string // it is the first result of this function
	Static   bool   // it is read from a variable that points to static data when the program starts
	Var      uint64 // the address of that variable, or of another one that it is read from
	value    value
	in       Func
}

// Objects are the objects of a type that functions make for which from is true, where code can be read. A value that does not leave its
// function lies on the stack and is none.
func (f *File) Objects(typ string, from func(Func) bool) []Object {
	if f.values == nil || !f.CallGraph {
		return nil
	}
	var all []Object
	for _, fn := range f.values.types.makers(f)[typ] {
		if !from(fn) {
			continue
		}
		for _, o := range f.objectsOf(fn) {
			if o.Type == typ {
				all = append(all, o)
			}
		}
	}
	return all
}

// makers are the functions that make values of each type. To follow all code would cost seconds; that a type's address is made shortly
// before the call is seen at once.
func (t *typeNames) makers(f *File) map[string][]Func {
	if t.by != nil {
		return t.by
	}
	t.by = map[string][]Func{}
	fn, ok := f.Lookup("runtime.newobject")
	if !ok {
		return t.by
	}
	names := map[uint64]string{}
	types := map[Ref]uint64{}
	var distinct []uint64
	for _, r := range f.Refs(fn) {
		if typ, ok := f.typeBefore(r); ok {
			types[r] = typ
			distinct = append(distinct, typ)
		}
	}
	slices.Sort(distinct)
	t.base = f.typesBase(slices.Compact(distinct))
	for _, r := range f.Refs(fn) {
		typ, ok := types[r]
		if !ok {
			continue
		}
		name, known := names[typ]
		if !known {
			name = strings.TrimPrefix(t.name(f, typ), "*")
			names[typ] = name
		}
		if all := t.by[name]; name != "" && (len(all) == 0 || all[len(all)-1] != r.From) {
			t.by[name] = append(all, r.From)
		}
	}
	if clone, ok := f.Lookup(cloneTransport); ok {
		for _, r := range f.Refs(clone) {
			if all := t.by["http.Transport"]; r.Kind == Call && !slices.Contains(all, r.From) {
				t.by["http.Transport"] = append(all, r.From)
			}
		}
	}
	return t.by
}

// typeBefore is the last address that is put into the register of the first argument in the 48 bytes before a call.
func (f *File) typeBefore(r Ref) (typ uint64, ok bool) {
	const back = 48
	start := max(int64(r.pc)-back, int64(f.funcs[r.From].entry))
	code := f.image.at(f.text+uint64(start), uint64(int64(r.pc)-start))
	pc := func(i int) uint64 { return f.text + uint64(start) + uint64(i) }
	for i := len(code) - 1; i >= 0 && !ok; i-- {
		switch {
		case f.image.machine == elf.EM_X86_64 && i+7 <= len(code) && code[i] == 0x48 && code[i+1] == 0x8d && code[i+2] == 0x05: // LEAQ to AX
			typ, ok = pc(i)+7+uint64(int64(int32(binary.LittleEndian.Uint32(code[i+3:])))), true
		case f.image.machine == elf.EM_AARCH64 && i%4 == 0 && i+8 <= len(code): // ADRP, ADD to R0
			w, w2 := binary.LittleEndian.Uint32(code[i:]), binary.LittleEndian.Uint32(code[i+4:])
			if w&0x9f00001f == 0x90000000 && w2&0xffc003ff == 0x91000000 {
				typ, ok = adrp(w, pc(i))+uint64(w2>>10&0xfff), true
			}
		}
	}
	return typ, ok
}

func (f *File) objectsOf(fn Func) []Object {
	v := f.values
	if _, ok := v.known[fn]; !ok {
		v.known[fn] = v.follow(fn)
	}
	var all []Object
	for k, t := range v.made[fn] {
		if k.offset == -1 {
			all = append(all, Object{In: fn, Type: f.typeOf(t), id: k.object, made: v.made[fn], f: f})
		}
	}
	return all
}

// cloneTransport makes a new object as runtime.newobject does: of the type that it copies.
const cloneTransport = "net/http.(*Transport).Clone"

// typeOf is the name of an object's type: t is its description, or the function that makes it.
func (f *File) typeOf(t value) string {
	if t.kind == result {
		return "http.Transport"
	}
	return strings.TrimPrefix(f.values.types.name(f, t.n), "*")
}

// Field is what an object's field at an offset holds.
func (o Object) Field(offset int64) Held {
	v, ok := o.made[field{o.id, offset}]
	if !ok {
		return Held{}
	}
	return o.f.held(o.In, o.made, v)
}

func (f *File) held(in Func, made map[field]value, v value) Held {
	h := Held{Set: true, value: v, in: in}
	switch v.kind {
	case constant:
		h.Known, h.Const, h.N = true, true, v.n
	case fresh:
		h.Of = Object{In: in, id: v.n, made: made, f: f, Type: f.typeOf(made[field{v.n, -1}])}
		h.Known, h.Object = true, h.Of.Type
	case result:
		h.Known, h.ResultOf = true, f.at(v.n)
	case loaded:
		h.Var = v.n
	}
	return h
}

// Global is what a function, whenever it returns, has put into a variable that lies at an address, or into a field of what such a
// variable points to.
type Global struct {
	Var    uint64
	Field  bool // of what it points to, at Offset
	Offset int64
	Held   Held
}

// Globals are what a function has put into variables and what they point to.
func (f *File) Globals(fn Func) []Global {
	if f.values == nil {
		return nil
	}
	f.objectsOf(fn)
	var all []Global
	made := f.values.made[fn]
	for k, v := range made {
		if k.object < ofGlobal || k.offset < 0 {
			continue
		}
		all = append(all, Global{k.object &^ (throughGlobal | ofGlobal), k.object&throughGlobal != 0, k.offset, f.held(fn, made, v)})
	}
	return all
}

// Origin is where values of a type come from.
type Origin struct {
	Type    string   // objects of that type
	Results []string // first results of these functions
}

// From says that what a field holds, or a call is given, is of an origin and not nil: by itself, as the first result of a function of
// which that is true at each of its returns (it may return nil where its callers look at its error), as an argument that all callers give
// so, or as what a closure has of its surroundings. Where it cannot be told it says no.
func (f *File) From(h Held, from Origin) bool {
	return f.from(h.in, h.value, from, 0)
}

func (f *File) from(fn Func, v value, from Origin, depth int) bool {
	if depth > maxDepth {
		return false
	}
	switch v.kind {
	case fresh:
		for _, o := range f.objectsOf(fn) {
			if o.id == v.n {
				return o.Type == from.Type
			}
		}
	case result:
		to, ok := f.funcAt(v.n)
		if !ok {
			return false
		}
		if slices.Contains(from.Results, f.Name(to)) {
			return true
		}
		f.objectsOf(to)
		made := false
		for _, end := range f.values.ends[to] {
			switch {
			case end == value{kind: constant} && f.failsLoudly(fn, to):
			case !f.from(to, end, from, depth+1):
				return false
			default:
				made = true
			}
		}
		return made
	case argument:
		if f.Stored(fn) || f.InData(fn) || len(f.Refs(fn)) == 0 {
			return false
		}
		for _, r := range f.Refs(fn) {
			if r.Kind != Call {
				return false
			}
			if given, _ := f.values.args(r, int(v.n)); !f.from(r.From, given, from, depth+1) {
				return false
			}
		}
		return true
	case captured:
		made := 0
		for _, r := range f.Refs(fn) {
			if r.Kind != Taken {
				return false
			}
			for _, o := range f.objectsOf(r.From) {
				if entry := o.Field(0); entry.Const && entry.N == f.text+uint64(f.funcs[fn].entry) {
					if !f.From(o.Field(int64(v.n)), from) {
						return false
					}
					made++
				}
			}
		}
		return made > 0
	}
	return false
}

// failsLoudly says that a function looks at the second result of each of its calls of another one at once: at whether there is an error.
func (f *File) failsLoudly(in, to Func) bool {
	code, addr := f.values.code(in)
	if code == nil {
		return false
	}
	blocks := split(f.values.decode(code, addr, map[int64]bool{}))
	for _, r := range f.Refs(to) {
		if r.From != in {
			continue
		}
		at := r.pc - f.funcs[in].entry
		if i := blockAt(blocks, at); i < 0 || f.Ignored(r, 1) && !f.testsNext(blocks[i], code, at) {
			return false
		}
	}
	return true
}

// testsNext says that the block with a call ends in a jump by the second word of its result.
func (f *File) testsNext(b block, code []byte, call uint32) bool {
	_, _, ok := branches(b, code, call, f.image.machine)
	return ok
}

// Text is the constant string in an object's field at an offset.
func (o Object) Text(offset int64) (string, bool) {
	at, n := o.Field(offset), o.Field(offset+8)
	if !at.Const || !n.Const || n.N > maxString {
		return "", false
	}
	return o.f.values.text(at.N, n.N)
}

// After says that an object of a type was made on every way to where o is.
func (o Object) After(typ string) bool {
	for k := range o.made {
		if k.object != o.id || k.offset > -3 {
			continue
		}
		of := o.made[field{uint64(-k.offset - 3), -1}]
		if o.f.typeOf(of) == typ {
			return true
		}
	}
	return false
}

// Holds are the objects that fields of o hold which the same function made.
func (o Object) Holds() []Object {
	var all []Object
	for k, v := range o.made {
		if k.object == o.id && k.offset >= 0 && v.kind == fresh {
			all = append(all, o.Field(k.offset).Of)
		}
	}
	return all
}

// TypeOf is the type of an interface's value whose first word is the constant n: the address of a table (internal/abi, ITab).
func (f *File) TypeOf(n uint64) string {
	if f.values == nil {
		return ""
	}
	return f.values.types.name(f, relocations{f.image}.word(n+8))
}

// Receiver is what the first argument of a call is.
func (f *File) Receiver(call Ref) Held {
	if call.Kind != Call || f.values == nil {
		return Held{}
	}
	return f.ArgHeld(call, 0)
}

// ArgHeld is what a word of the arguments of a call is.
func (f *File) ArgHeld(call Ref, word int) Held {
	if call.Kind != Call || f.values == nil || word+1 >= len(f.values.regs) {
		return Held{}
	}
	v, _ := f.values.args(call, word)
	h := Held{value: v, in: call.From}
	switch v.kind {
	case constant:
		h.Known, h.Const, h.N = true, true, v.n
	case fresh:
		for _, o := range f.objectsOf(call.From) {
			if o.id == v.n {
				h.Known, h.Object, h.Of = true, o.Type, o
			}
		}
	case result:
		h.Known, h.ResultOf = true, f.at(v.n)
	case argument:
		h.Known = true
	case loaded:
		h.Known, h.Static, h.Var = true, relocations{f.image}.word(v.n) != 0, v.n
	}
	return h
}

// Word is the pointer, or number, that a word of static data holds when the program starts.
func (f *File) Word(addr uint64) uint64 { return relocations{f.image}.word(addr) }

// Byte is a byte of static data.
func (f *File) Byte(addr uint64) byte {
	if b := f.image.at(addr, 1); b != nil {
		return b[0]
	}
	return 0
}

// Inside says that the first argument of a call is no variable of the calling function: neither one on its stack nor a constant.
func (f *File) Inside(call Ref) bool {
	v, _ := f.values.args(call, 0)
	return v.kind != stackAddr && v.kind != constant
}

// Nil says that an argument of a call, a pointer in one word, is nil.
func (f *File) Nil(call Ref, word int) bool {
	if call.Kind != Call || f.values == nil || word+1 >= len(f.values.regs) {
		return false
	}
	v, _ := f.values.args(call, word)
	return v == value{kind: constant}
}

// typeNames reads the names of types off their descriptions (internal/abi, Type). A name is told by its distance from where types
// begin, which is found by the one distance that makes a type tls.Config, or exec.Cmd, and gives the others names as well.
type typeNames struct {
	base uint64 // 0: not found
	by   map[string][]Func
}

const (
	nameOffset = 40 // of Type.Str, where a word has eight bytes
	tflagAt    = 20
	extraStar  = 2
)

func (t *typeNames) name(f *File, typ uint64) string {
	t.makers(f)
	if t.base == 0 || typ == 0 {
		return ""
	}
	name, ok := f.nameAt(t.base, typ)
	if !ok {
		return ""
	}
	return name
}

// nameAt reads the name of a type, which has a star before it that may be meant for the pointer to it.
func (f *File) nameAt(base, typ uint64) (string, bool) {
	head := f.image.at(typ, nameOffset+4)
	if head == nil {
		return "", false
	}
	at := base + uint64(int64(int32(binary.LittleEndian.Uint32(head[nameOffset:]))))
	b := f.image.at(at, 2)
	if b == nil || b[0] > 0x0f || b[1] == 0 {
		return "", false
	}
	if b[1] >= 0x80 { // a long one: that of no type that is asked for
		return "-", true
	}
	text := f.image.at(at+2, uint64(b[1]))
	if text == nil || slices.ContainsFunc(text, func(c byte) bool { return c < ' ' }) {
		return "", false
	}
	if head[tflagAt]&extraStar != 0 {
		return strings.TrimPrefix(string(text), "*"), true
	}
	return string(text), true
}

// typesBase is where the names of types are counted from; 0 where that cannot be told.
func (f *File) typesBase(types []uint64) uint64 {
	for _, name := range []string{"*tls.Config", "*exec.Cmd"} {
		if base := f.typesBaseBy(types, append([]byte{byte(len(name))}, name...)); base != 0 {
			return base
		}
	}
	return 0
}

// typesBaseBy looks for the name of one type, with its length before it.
func (f *File) typesBaseBy(types []uint64, record []byte) uint64 {
	var names []uint64
	for _, s := range f.image.segments {
		if s.exec {
			continue
		}
		f.image.pieces(s.off, s.size, len(record), func(at uint64, piece []byte) bool {
			for from := 0; ; {
				i := bytes.Index(piece[from:], record)
				if i < 0 || len(names) > 8 {
					break
				}
				names = append(names, s.addr+at+uint64(from+i)-1)
				from += i + 1
			}
			return len(names) <= 8
		})
	}
	sample := types[:min(len(types), 32)]
	for _, typ := range types {
		head := f.image.at(typ, nameOffset+4)
		if head == nil {
			continue
		}
		for _, name := range names {
			base := name - uint64(int64(int32(binary.LittleEndian.Uint32(head[nameOffset:]))))
			if base%32 == 0 && !slices.ContainsFunc(sample, func(other uint64) bool { _, ok := f.nameAt(base, other); return !ok }) {
				return base
			}
		}
	}
	return 0
}
