package gobuild

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"sort"

	"github.com/skiff-build/skiff/internal/store"
)

// memory is what go list said of a build, and all that it and go build read for that.
type memory struct {
	flags    []string // of go build
	env      []string // what skiff adds to the environment
	inputs   []input  // sorted by path, then kind
	packages []pkg    // sorted by import path
	mains    []mainPackage

	dirty bool // the record is not that of the store any more
}

// pkg is a package that a program is built of.
type pkg struct {
	path    string
	extra   string   // what else go list said that decides on the object file
	files   []uint64 // indices of inputs: what is compiled and embedded
	imports []uint64 // indices of packages
}

type mainPackage struct {
	path, dir string
	index     uint64 // in packages
}

// check compares all inputs with what is remembered, and tells whether what go list said still stands.
func (m *memory) check() bool {
	verdicts := make([]verdict, len(m.inputs))
	states := make([]state, len(m.inputs))
	eachOf(len(m.inputs), func(i int) { verdicts[i], states[i] = m.inputs[i].compare() })
	if slices.Contains(verdicts, changed) {
		return false
	}
	for i, v := range verdicts {
		m.inputs[i].state = states[i]
		m.dirty = m.dirty || v != same
	}
	return true
}

// stands tells whether no input has changed since m was made or checked: then what go build has read meanwhile is what m says.
// Those that had not settled are read again, since their stamps may hide a write.
func (m *memory) stands() bool {
	ok := make([]bool, len(m.inputs))
	eachOf(len(m.inputs), func(i int) {
		v, s := m.inputs[i].compare()
		ok[i] = v == same || v == touched && s.stamp == m.inputs[i].stamp
		if ok[i] {
			m.inputs[i].settled = s.settled
		}
	})
	return !slices.Contains(ok, false)
}

// programKeys names each main package's program by all that goes into it: recipe are labelled lines of what is the same for the whole
// build.
func (m *memory) programKeys(recipe []byte) []store.Key {
	common := slices.Clone(recipe)
	for _, in := range m.inputs {
		if in.kind == tool || in.kind == setting && !in.stamp.absent() {
			common = in.appendContent(common)
		}
	}
	sums := make([][32]byte, len(m.packages)) // programs share most packages
	for i, p := range m.packages {
		b := appendStrings(nil, "package", p.path, p.extra)
		for _, f := range p.files {
			b = m.inputs[f].appendContent(b)
		}
		sums[i] = sha256.Sum256(b)
	}
	keys := make([]store.Key, len(m.mains))
	for i, main := range m.mains {
		h := sha256.New()
		h.Write(common)
		for _, p := range m.reached(main) {
			h.Write(sums[p][:])
		}
		keys[i] = store.Key(h.Sum(nil))
	}
	return keys
}

// reached are the packages of a program, in rising order.
func (m *memory) reached(main mainPackage) []int {
	seen := make([]bool, len(m.packages))
	var order []int
	var visit func(i uint64)
	visit = func(i uint64) {
		if seen[i] {
			return
		}
		seen[i] = true
		order = append(order, int(i))
		for _, j := range m.packages[i].imports {
			visit(j)
		}
	}
	visit(main.index)
	sort.Ints(order) // packages are sorted by path
	return order
}

// appendContent writes what an input holds: its digest, or for what is fixed, its stamp.
func (in *input) appendContent(b []byte) []byte {
	b = appendStrings(b, "file", in.path)
	if in.digest != [32]byte{} {
		return append(b, in.digest[:]...)
	}
	return in.stamp.append(b)
}

// encode writes a memory for a record: everything by its length, numbers as varints.
func (m *memory) encode() []byte {
	b := appendList(nil, m.flags)
	b = appendList(b, m.env)
	b = binary.AppendUvarint(b, uint64(len(m.inputs)))
	last := ""
	for i := range m.inputs {
		in := &m.inputs[i]
		common := 0 // bytes of the path that are those of the one before
		for common < len(last) && common < len(in.path) && last[common] == in.path[common] {
			common++
		}
		last = in.path
		b = binary.AppendUvarint(b, uint64(common))
		b = appendStrings(b, in.path[common:])
		b = append(b, byte(in.kind), flag(in.settled)|flag(in.digest != [32]byte{})<<1|flag(in.header != [32]byte{})<<2)
		b = in.stamp.append(b)
		if in.digest != [32]byte{} {
			b = append(b, in.digest[:]...)
		}
		if in.header != [32]byte{} {
			b = append(b, in.header[:]...)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(m.packages)))
	for _, p := range m.packages {
		b = appendStrings(b, p.path, p.extra)
		b = appendNumbers(b, p.files)
		b = appendNumbers(b, p.imports)
	}
	b = binary.AppendUvarint(b, uint64(len(m.mains)))
	for _, p := range m.mains {
		b = binary.AppendUvarint(appendStrings(b, p.path, p.dir), p.index)
	}
	return b
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func appendStrings(b []byte, list ...string) []byte {
	for _, s := range list {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return b
}

func appendList(b []byte, list []string) []byte {
	return appendStrings(binary.AppendUvarint(b, uint64(len(list))), list...)
}

func appendNumbers(b []byte, list []uint64) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, n := range list {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

// decodeMemory reads what encode wrote. Any bytes give a memory or an error.
func decodeMemory(b []byte) (*memory, error) {
	d := decoder{b: b}
	m := &memory{flags: d.list(), env: d.list()}
	last := ""
	m.inputs = make([]input, d.count(8))
	for i := range m.inputs {
		in := &m.inputs[i]
		common := d.number()
		if common > uint64(len(last)) {
			return nil, errBroken
		}
		last = last[:common] + d.string()
		in.path = last
		in.kind = inputKind(d.byte())
		bits := d.byte()
		in.settled = bits&1 != 0
		in.stamp = stamp{size: d.signed(), mtime: d.signed(), ctime: d.signed(), ino: d.number(), mode: uint32(d.number())}
		if bits&2 != 0 {
			d.sum(&in.digest)
		}
		if bits&4 != 0 {
			d.sum(&in.header)
		}
	}
	m.packages = make([]pkg, d.count(4))
	for i := range m.packages {
		m.packages[i] = pkg{path: d.string(), extra: d.string(), files: d.numbers(len(m.inputs)), imports: d.numbers(len(m.packages))}
	}
	m.mains = make([]mainPackage, d.count(3))
	for i := range m.mains {
		m.mains[i] = mainPackage{path: d.string(), dir: d.string(), index: d.number()}
		if m.mains[i].index >= uint64(len(m.packages)) {
			return nil, errBroken
		}
	}
	if d.broken || len(d.b) > 0 {
		return nil, errBroken
	}
	return m, nil
}

var errBroken = errors.New("broken record")

// decoder takes bytes from the front of b. After bytes that make no sense it yields zeros.
type decoder struct {
	b      []byte
	broken bool
}

func (d *decoder) number() uint64 {
	n, size := binary.Uvarint(d.b)
	d.take(size)
	return n
}

func (d *decoder) signed() int64 {
	n, size := binary.Varint(d.b)
	d.take(size)
	return n
}

// take drops n bytes, and all where n makes no sense.
func (d *decoder) take(n int) []byte {
	if n <= 0 || n > len(d.b) {
		d.broken, d.b = true, nil
		return nil
	}
	head := d.b[:n]
	d.b = d.b[n:]
	return head
}

// count is the length of a list of things that take at least size bytes each.
func (d *decoder) count(size int) int {
	n := d.number()
	if n > uint64(len(d.b)/size) {
		d.broken, d.b = true, nil
		return 0
	}
	return int(n)
}

func (d *decoder) byte() byte {
	b := d.take(1)
	if b == nil {
		return 0
	}
	return b[0]
}

func (d *decoder) sum(to *[32]byte) { copy(to[:], d.take(32)) }

func (d *decoder) string() string {
	n := d.count(1)
	if n == 0 {
		return ""
	}
	return string(d.take(n))
}

func (d *decoder) list() []string {
	list := make([]string, d.count(1))
	for i := range list {
		list[i] = d.string()
	}
	return list
}

// numbers are indices below most.
func (d *decoder) numbers(most int) []uint64 {
	list := make([]uint64, d.count(1))
	for i := range list {
		if list[i] = d.number(); list[i] >= uint64(most) {
			d.broken, d.b = true, nil
			return nil
		}
	}
	return list
}
