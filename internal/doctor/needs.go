package doctor

import (
	"fmt"
	"io"
	"runtime/debug"
	"slices"

	"github.com/skiff-build/skiff/internal/gobin"
)

// Level says how sure it is that a binary needs something. That code is in the file proves that somebody calls it, never that it
// will run.
type Level int

const (
	// None: it was looked for, and is not needed.
	None Level = iota
	// Possible: something refers to the code that would need it, but whether it comes to that cannot be told.
	Possible
	// Likely: the program calls what needs it in the usual run of things, but copes without in some cases.
	Likely
	// Linked: a real caller reaches the code, and that code fails, or gives a wrong answer, without.
	Linked
)

func (l Level) String() string {
	switch l {
	case None:
		return "none"
	case Possible:
		return "possible"
	case Likely:
		return "likely"
	case Linked:
		return "linked"
	}
	return fmt.Sprintf("Level(%d)", int(l))
}

// NeedKind is what is needed.
type NeedKind string

// The kinds of needs. docs/doctor-needs.md says what each is proved by.
const (
	// NeedCA is the bundle of certificate authorities.
	NeedCA NeedKind = "ca-certificates"
	// NeedZones is the time zone database. Values are the zones, where constants name all of them.
	NeedZones NeedKind = "time-zones"
	// NeedUsers is /etc/passwd and /etc/group. Values are users and groups named by constants.
	NeedUsers NeedKind = "users"
	// NeedTemp is a directory for temporary files that everybody may write to.
	NeedTemp NeedKind = "temp-dir"
	// NeedHome is HOME in the environment.
	NeedHome NeedKind = "home"
	// NeedLoader is the dynamic loader, the first of Values, and the libraries, the others.
	NeedLoader NeedKind = "loader"
	// NeedProgram is other programs. Values are those named by constants.
	NeedProgram NeedKind = "program"
	// NeedResolver is the configuration of name lookups, which container runtimes supply.
	NeedResolver NeedKind = "resolver"
	// NeedSyslog is the socket of a system log.
	NeedSyslog NeedKind = "syslog"
	// NeedMIME is the table of MIME types by file name extension.
	NeedMIME NeedKind = "mime-types"
	// NeedFiles is files of the program's own: templates, static files, plugins. Values are paths named by constants.
	NeedFiles NeedKind = "files"
	// NeedTerminfo is descriptions of terminals.
	NeedTerminfo NeedKind = "terminfo"
)

// Need is one thing that a binary wants from its surroundings at run time.
type Need struct {
	Kind  NeedKind
	Level Level
	// Evidence is what the level rests on, a sentence each: which function, and who calls it with what.
	Evidence []string
	// Values are what constants in the program name: zones, programs, users, paths. Open says that there may be others.
	Values []string
	Open   bool
}

// Binary is what is known of one Go executable.
type Binary struct {
	GoVersion string // as go1.26.8; "" for unknown
	Arch      string // GOARCH
	MainPath  string // the import path of the main package; "" for unknown
	Info      *debug.BuildInfo
	Interp    string   // the dynamic loader that it names; "" for none
	Libraries []string // shared libraries that it names
	PIE       bool
	Stripped  bool
	CGO       bool // C code, or the runtime's support of it, is linked in
	Trimpath  bool // it was built with -trimpath: it knows no GOROOT
	// DebugBytes is the size of symbol tables and debug information.
	DebugBytes int64
	// Needs has at most one entry of a kind, in the order of the kinds above. What is not listed was not found, too.
	Needs []Need
	// Undecided is what could not be told, and why.
	Undecided []string
}

// ErrNotGo is returned for a file that is no Go executable in ELF form.
var ErrNotGo = gobin.ErrNotGo

// ReadBinary reads a Go executable of size bytes and tells what it needs at run time. Any bytes give a Binary or an error.
func ReadBinary(r io.ReaderAt, size int64) (*Binary, error) {
	f, err := gobin.Open(r, size)
	if err != nil {
		return nil, err
	}
	b := &Binary{
		GoVersion: f.GoVersion, Arch: f.Arch, Info: f.Info, Interp: f.Interp, Libraries: f.Libraries, PIE: f.PIE,
		Stripped: f.Stripped, DebugBytes: f.DebugBytes, CGO: f.CGO(),
	}
	if f.Info != nil {
		b.MainPath = f.Info.Path
		b.Trimpath = slices.Contains(f.Info.Settings, debug.BuildSetting{Key: "-trimpath", Value: "true"})
	}
	p := newProgram(f)
	for _, rule := range []func(*program) *Need{
		caRoots, zones, users, tempDir, home, loader, programs, resolver, syslog, mimeTypes, files, terminfo,
	} {
		if need := rule(p); need != nil {
			slices.Sort(need.Values)
			need.Values = slices.Compact(need.Values)
			b.Needs = append(b.Needs, *need)
		}
	}
	if !f.CallGraph {
		b.Undecided = append(b.Undecided, "who calls what: "+f.NoCallGraph+"; judged by the names of functions alone")
	}
	b.Undecided = append(b.Undecided, p.undecided...)
	return b, nil
}

// Need is the binary's need of that kind; its level is None where there is none.
func (b *Binary) Need(kind NeedKind) Need {
	for _, n := range b.Needs {
		if n.Kind == kind {
			return n
		}
	}
	return Need{Kind: kind}
}
