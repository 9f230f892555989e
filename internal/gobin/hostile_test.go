package gobin

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
)

var base struct {
	sync.Once
	amd64, arm64 []byte
}

// bases are real executables for mutations to start from.
func bases(t testing.TB) [][]byte {
	base.Do(func() {
		base.amd64 = compile(t, []string{"GOARCH=amd64"}, "-ldflags=-s -w")
		base.arm64 = compile(t, []string{"GOARCH=arm64"}, "-ldflags=-s -w", "-buildmode=pie")
	})
	if base.amd64 == nil || base.arm64 == nil {
		t.Fatal("no executables to start from")
	}
	return [][]byte{base.amd64, base.arm64}
}

// ask reads everything of a file that can be asked for.
func ask(b []byte) {
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return
	}
	asked := 0
	for i := range f.NumFuncs() {
		fn := Func(i)
		Package(f.Name(fn))
		if n := len(f.Refs(fn)); asked < 50 && (f.Stored(fn) || n > 2 && n < 10) {
			asked++
			f.Args(fn, i%10, nil)
		}
	}
}

// TestMutations changes what a parser believes first: headers, tables and their sizes. What a file costs is bound by its size.
func TestMutations(t *testing.T) {
	for _, real := range bases(t) {
		img, err := readImage(bytes.NewReader(real), int64(len(real)))
		if err != nil {
			t.Fatal(err)
		}
		targets := []struct{ off, size uint64 }{{0, 64}, {64, 56 * 12}, {binary.LittleEndian.Uint64(real[40:]), 64 * 30}}
		for _, s := range img.sections {
			if s.size > 0 {
				targets = append(targets, struct{ off, size uint64 }{s.off, min(s.size, 128)})
			}
			if s.name == ".text" || s.name == ".rela" || s.name == ".dynamic" {
				targets = append(targets, struct{ off, size uint64 }{s.off, s.size})
			}
		}
		r := rand.New(rand.NewPCG(1, 2))
		extremes := []uint64{0, 1, 0x7fffffff, 0xffffffff, 1 << 62, ^uint64(0), uint64(len(real)), uint64(len(real)) - 1, 0xfffffff1}
		for i := range 60 {
			b := slices.Clone(real)
			for range 1 + r.IntN(4) {
				to := targets[r.IntN(len(targets))]
				at := min(to.off+r.Uint64N(to.size), uint64(len(b)-8))
				switch r.IntN(3) {
				case 0:
					b[at] = byte(r.Uint32())
				case 1:
					binary.LittleEndian.PutUint64(b[at&^7:], extremes[r.IntN(len(extremes))])
				case 2:
					binary.LittleEndian.PutUint32(b[at&^3:], uint32(extremes[r.IntN(len(extremes))]))
				}
			}
			if i%8 == 0 {
				b = b[:r.IntN(len(b))]
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			ask(b)
			runtime.ReadMemStats(&after)
			if used, most := after.TotalAlloc-before.TotalAlloc, uint64(len(real))*32; used > most {
				t.Errorf("mutation %d: %d bytes allocated over time for a file of %d", i, used, len(real))
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(uint8(0), uint32(24), []byte{0xff, 0xff, 0xff, 0xff}, uint32(0))
	f.Add(uint8(1), uint32(0x40), []byte{3}, uint32(0))
	f.Add(uint8(0), uint32(0), []byte("\x7fELF\x02\x01"), uint32(100))
	real := bases(f)
	// Ranges of a real file are written over, and its end is cut off: whole files are too long to be found by chance.
	f.Fuzz(func(t *testing.T, which uint8, at uint32, patch []byte, cut uint32) {
		b := slices.Clone(real[int(which)%len(real)])
		copy(b[int(at)%len(b):], patch)
		ask(b[:len(b)-int(cut)%len(b)])
	})
}

func FuzzRaw(f *testing.F) {
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	f.Add(bases(f)[0][:4096])
	f.Fuzz(func(t *testing.T, b []byte) { ask(b) })
}

// FuzzDecode decodes code that no compiler made.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{0x48, 0x8d, 0x05, 0, 0, 0, 0, 0xe8, 0, 0, 0, 0, 0xc3}, true)
	f.Add([]byte{0xff, 0x83, 0x00, 0xd1, 0, 0, 0, 0x94, 0xc0, 0x03, 0x5f, 0xd6}, false)
	f.Fuzz(func(t *testing.T, code []byte, amd64 bool) {
		decode, sp := decodeARM64, spARM64
		if amd64 {
			decode, sp = decodeAMD64, spAMD64
		}
		taken := map[int64]bool{}
		for _, b := range split(decode(code, 0x400000, taken)) {
			s := &state{stack: map[int64]value{}}
			s.regs[sp] = value{kind: stackAddr}
			for _, in := range b.instrs {
				if in.op != nil {
					in.op(s)
				}
				if in.call {
					s.afterCall(sp, taken)
				}
			}
		}
	})
}
