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
			all = append(all, Object{In: fn, Type: strings.TrimPrefix(v.types.name(f, t.n), "*"), id: k.object, made: v.made[fn], f: f})
		}
	}
	return all
}

// Field is what an object's field at an offset holds.
func (o Object) Field(offset int64) Held {
	v, ok := o.made[field{o.id, offset}]
	if !ok {
		return Held{}
	}
	switch v.kind {
	case constant:
		return Held{Set: true, Known: true, Const: true, N: v.n}
	case fresh:
		of := Object{In: o.In, id: v.n, made: o.made, f: o.f, Type: strings.TrimPrefix(o.f.values.types.name(o.f, o.made[field{v.n, -1}].n), "*")}
		return Held{Set: true, Known: true, Object: of.Type, Of: of}
	case result:
		return Held{Set: true, Known: true, ResultOf: o.f.at(v.n)}
	}
	return Held{Set: true}
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
		if strings.TrimPrefix(o.f.values.types.name(o.f, of.n), "*") == typ {
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
	v, _ := f.values.args(call, 0)
	switch v.kind {
	case constant:
		return Held{Known: true, Const: true, N: v.n}
	case fresh:
		for _, o := range f.objectsOf(call.From) {
			if o.id == v.n {
				return Held{Known: true, Object: o.Type, Of: o}
			}
		}
	case result:
		return Held{Known: true, ResultOf: f.at(v.n)}
	case argument:
		return Held{Known: true}
	case loaded:
		return Held{Known: true, Static: relocations{f.image}.word(v.n) != 0}
	}
	return Held{}
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
