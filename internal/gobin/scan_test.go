package gobin

import (
	"bytes"
	"encoding/binary"
	"maps"
	"os"
	"runtime"
	"testing"
)

// place is a reference as the tests below find it.
type place struct {
	pc   uint32
	to   Func
	kind RefKind
}

// TestScanAMD64 holds the scan, which looks at eight bytes together and at a megabyte at a time, against one that looks at each
// byte of the code for itself.
func TestScanAMD64(t *testing.T) {
	files := map[string][]byte{"small": compile(t, []string{"GOARCH=amd64"}), "position independent": compile(t, []string{"GOARCH=amd64"}, "-buildmode=pie")}
	if runtime.GOARCH == "amd64" { // the code of the test itself has several pieces
		name, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		if files["large"], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	for name, b := range files {
		f := open(t, b)
		if !f.CallGraph {
			t.Fatalf("%s: no call graph: %s", name, f.NoCallGraph)
		}
		want := f.eachByte(t)
		for _, r := range f.calls.refs {
			p := place{r.pc, r.To, r.Kind}
			if !want[p] {
				t.Errorf("%s: a reference to %s at %#x is none", name, f.Name(r.To), r.pc)
			}
			delete(want, p)
		}
		for p := range want {
			t.Errorf("%s: the reference to %s at %#x was not found", name, f.Name(p.to), p.pc)
		}
	}
}

// eachByte finds references from other functions in code of amd64, slowly.
func (f *File) eachByte(t *testing.T) map[place]bool {
	entry, value := map[uint64]Func{}, map[uint64]Func{}
	for i := len(f.funcs) - 1; i >= 0; i-- { // of several that begin at one place the first counts
		entry[f.text+uint64(f.funcs[i].entry)] = Func(i)
	}
	maps.Copy(value, entry) // closures hold entries themselves
	relocations{f.image}.words(0, ^uint64(0), func(at, v uint64) bool {
		if fn, ok := entry[v]; ok {
			value[at] = fn
		}
		return true
	})
	code := f.image.at(f.text, uint64(f.size))
	if len(code) < 1000 || bytes.Count(code, []byte{0xe8}) < 10 {
		t.Fatalf("%d bytes of code", len(code))
	}
	found, cur := map[place]bool{}, 0
	for i := range code {
		for cur+1 < len(f.funcs) && f.funcs[cur+1].entry <= uint32(i) {
			cur++
		}
		note := func(to Func, ok bool, kind RefKind) {
			if ok && to != Func(cur) {
				found[place{uint32(i), to, kind}] = true
			}
		}
		address := func(at int) uint64 {
			return f.text + uint64(at) + 4 + uint64(int64(int32(binary.LittleEndian.Uint32(code[at:]))))
		}
		if i+5 <= len(code) && (code[i] == 0xe8 || code[i] == 0xe9) {
			to, ok := entry[address(i+1)]
			note(to, ok, Call)
		}
		if i+7 <= len(code) && (code[i] == 0x48 || code[i] == 0x4c) && code[i+1] == 0x8d && code[i+2]&0xc7 == 5 {
			to, ok := value[address(i+3)]
			note(to, ok, Taken)
		}
	}
	return found
}
