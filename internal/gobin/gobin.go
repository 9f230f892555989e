// Package gobin reads Go executables in ELF form: what their headers say (machine, interpreter, libraries, build information)
// and which functions have code, who calls whom and with which constants.
//
// The names come from the runtime's own table (pclntab, Go 1.18 and later), which a linker never strips. A function in it has
// code in the file: the linker found it reachable. For amd64 and arm64 the code is scanned for direct calls and for places where
// a function's address is taken; the arguments of a call are followed back through the registers of Go's calling convention
// (cmd/compile/abi-internal.md). Other machines give names only.
//
// Nothing that the file says is believed: every size is held against the file's, tables are read in pieces, and any bytes end
// in a [File] or an error, never in a panic. A file of n bytes costs less than n bytes of memory.
package gobin

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
)

// ErrNotGo is returned for what is no ELF file, or holds none of the tables that every Go executable has.
var ErrNotGo = errors.New("not a Go executable")

// File is one Go executable. It keeps the reader, which must stay open, and is not safe for concurrent use.
type File struct {
	// Arch is the machine by Go's name (GOARCH); for a machine that Go does not know, by its ELF number.
	Arch string
	// Interp is the program that the kernel starts in the executable's place (PT_INTERP), the dynamic loader; "" for none.
	Interp string
	// Libraries are the shared libraries named for that loader (DT_NEEDED), in the file's order.
	Libraries []string
	// PIE says that the executable is position independent (ET_DYN).
	PIE bool
	// Stripped says that neither a symbol table nor DWARF is in the file; DebugBytes counts both.
	Stripped   bool
	DebugBytes int64
	// GoVersion and Info are the build information; "" and nil where it is missing or older than Go 1.18.
	GoVersion string
	Info      *debug.BuildInfo
	// CallGraph says that calls could be read: [File.Refs] and [File.Strings] have something to say. Otherwise NoCallGraph is
	// why not.
	CallGraph   bool
	NoCallGraph string

	image  *image
	funcs  []function // by entry
	names  string     // NUL-ended names
	byName map[string]Func
	text   uint64 // address to which entries are relative
	size   uint32 // of the code from text on
	calls  calls
	values *values
}

// Func is a function that has code: an index, in the order of addresses.
type Func int32

// function is a line of the function table. It ends where the next one begins.
type function struct {
	entry uint32 // from File.text
	name  uint32 // in File.names
	args  uint8  // words of its arguments; 255 where that is unknown, or more
}

// Open reads the executable of size bytes in r.
func Open(r io.ReaderAt, size int64) (*File, error) {
	img, err := readImage(r, size)
	if err != nil {
		return nil, err
	}
	f := &File{Arch: img.arch(), Interp: img.interp, PIE: img.pie, image: img}
	f.Libraries = img.libraries()
	f.DebugBytes, f.Stripped = img.debugBytes()
	f.GoVersion, f.Info = readBuildInfo(img)
	tab, err := findPclntab(img)
	if err != nil {
		if f.GoVersion == "" {
			return nil, err
		}
		f.NoCallGraph = err.Error()
		return f, nil
	}
	f.funcs, f.names = tab.funcs, tab.names
	f.index()
	f.readCalls(tab)
	return f, nil
}

// index maps names to functions; of several with one name, the first counts.
func (f *File) index() {
	f.byName = make(map[string]Func, len(f.funcs))
	for i := range f.funcs {
		name := f.Name(Func(i))
		if _, ok := f.byName[name]; !ok {
			f.byName[name] = Func(i)
		}
	}
}

// NumFuncs is the number of functions that have code.
func (f *File) NumFuncs() int { return len(f.funcs) }

// Name is the linker's name of a function: crypto/tls.(*Conn).clientHandshake.
func (f *File) Name(fn Func) string {
	s := f.names[f.funcs[fn].name:]
	s, _, _ = strings.Cut(s[:min(len(s), maxName)], "\x00")
	return s
}

// Lookup finds the function of that name. A function that was inlined everywhere has no code and is not found.
func (f *File) Lookup(name string) (Func, bool) {
	fn, ok := f.byName[name]
	return fn, ok
}

// Package is the path of the package that a function's name belongs to, "" where it cannot be told (code that the linker made).
func Package(name string) string {
	if strings.HasPrefix(name, "type:") || strings.HasPrefix(name, "go:") {
		return ""
	}
	// The path ends at the first dot after the last slash. Type arguments and receivers hold paths of their own.
	if i := strings.IndexAny(name, "[("); i >= 0 {
		name = name[:i]
	}
	slash := strings.LastIndexByte(name, '/') + 1
	dot := strings.IndexByte(name[slash:], '.')
	if dot < 0 {
		return ""
	}
	return strings.ReplaceAll(name[:slash+dot], "%2e", ".")
}

func (f *File) String() string {
	return fmt.Sprintf("%s executable of %s, %d functions", f.Arch, f.GoVersion, len(f.funcs))
}

// CGO says that the runtime's support for C is linked in: what cgo calls into Go through.
func (f *File) CGO() bool {
	_, ok := f.Lookup("crosscall2")
	return ok
}
