package doctor

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/skiff-build/skiff/internal/rootfiles"
)

// needs compares what the Go programs need with what is there.
func (e *examination) needs() {
	for _, p := range e.programs {
		for _, n := range p.Needs {
			switch {
			case n.Level == None || e.has(p, n):
			case n.Level == Possible:
				e.undecided("%s may need %s: %s", p.path, wanted[n.Kind], strings.Join(n.Evidence, "; "))
			default:
				e.lacks(p, n)
			}
		}
		if p.Interp != "" || len(p.Libraries) > 0 {
			e.loaderOf(p)
		}
		e.debugInfo(p)
		for _, u := range p.Undecided {
			e.undecided("%s: %s", p.path, u)
		}
	}
}

// wanted are the needs in words; others are supplied by container runtimes, or are none of the image's.
var wanted = map[NeedKind]string{
	NeedCA: "CA certificates", NeedZones: "time zones", NeedUsers: "/etc/passwd", NeedTemp: "a folder for temporary files",
	NeedHome: "a home directory", NeedProgram: "other programs", NeedSyslog: "a system log",
}

// has says that the image has what a program needs, or that there is nothing to say of it.
func (e *examination) has(p goProgram, n Need) bool {
	if wanted[n.Kind] == "" {
		return true
	}
	if n.Kind == NeedProgram {
		return len(e.missingPrograms(n)) == 0 && !(n.Open && n.Level > Possible && len(n.Values) == 0)
	}
	if n.Kind == NeedSyslog {
		return false
	}
	if n.Kind == NeedUsers {
		return !lacksAccount(e.root, e.account)
	}
	// What nothing would be supplied for is there.
	n.Level = Linked
	s, err := Complete([]*Binary{{Needs: []Need{n}, Arch: p.Arch}}, SupplyOptions{
		User: e.config.Config.User, Env: e.config.Config.Env, Root: e.root,
	})
	return err == nil && s.Empty()
}

// lacks reports a need that is not met.
func (e *examination) lacks(p goProgram, n Need) {
	f := Finding{Severity: Error, Path: p.path, Evidence: n.Evidence, Source: e.bringing(p.file.Layer), Supplied: true}
	if n.Level < Linked {
		f.Severity = Warning
	}
	stage := e.stageOf(p.file.Layer)
	switch n.Kind {
	case NeedCA:
		f.ID, f.Message = IDCA, p.path+" verifies TLS certificates, and the image has no CA certificates"
		f.Remedy = []string{copyFrom(stage, rootfiles.BundlePath, path.Dir(rootfiles.BundlePath)+"/")}
	case NeedZones:
		e.lacksZones(&f, p, n, stage)
	case NeedUsers:
		e.lacksUsers(&f, p, stage)
	case NeedTemp:
		e.lacksTemp(&f, p)
	case NeedHome:
		f.ID, f.Severity = IDHome, Warning
		f.Message = fmt.Sprintf("%s asks for its home directory, and %s has none that it can write to", p.path, e.userName())
		f.Remedy = []string{"ENV HOME=" + e.account.home, fmt.Sprintf("COPY --chown=%d:%d EMPTY-FOLDER ", e.account.uid, e.account.gid) + e.account.home}
	case NeedProgram:
		e.lacksPrograms(f, p, n)
		return
	case NeedSyslog:
		f.ID, f.Severity, f.Supplied = IDSyslog, Info, false
		f.Message = p.path + " writes to the system log, which a container does not have"
		f.Remedy = []string{"write to standard error", "mount /dev/log of the host"}
	}
	f.Remedy = append(f.Remedy, "skiff build --add-missing")
	if !f.Supplied {
		f.Remedy = f.Remedy[:len(f.Remedy)-1]
	}
	e.find(f)
}

// copyFrom is the instruction that copies from another stage, or from where the name of one belongs.
func copyFrom(stage, from, to string) string {
	if stage == "" {
		stage = "STAGE"
	}
	return fmt.Sprintf("COPY --from=%s %s %s", stage, from, to)
}

func (e *examination) lacksZones(f *Finding, p goProgram, n Need, stage string) {
	f.ID, f.Message = IDZones, p.path+" loads time zones, and the image has none"
	from := rootfiles.ZonesPath
	if names, _ := missingZones(e.root, n); len(names) > 0 {
		f.Message = fmt.Sprintf("%s loads the time zone %s, and the image does not have it", p.path, strings.Join(names, ", "))
		if len(names) == 1 {
			from = path.Join(from, names[0])
		}
	}
	f.Remedy = []string{
		copyFrom(stage, from, from) + " (Alpine has it in the package tzdata)", `import _ "time/tzdata"`,
	}
}

func (e *examination) lacksUsers(f *Finding, p goProgram, stage string) {
	f.ID, f.Severity = IDUsers, Warning
	f.Message = p.path + " looks users up, and the image has no /etc/passwd"
	f.Remedy = []string{copyFrom(stage, "/etc/passwd /etc/group", "/etc/")}
	if hasFile(e.root, rootfiles.PasswdPath) {
		f.Message = fmt.Sprintf("%s looks users up, and /etc/passwd has no line for %s", p.path, e.userName())
		f.Remedy = []string{fmt.Sprintf("RUN adduser -D -u %s app", e.userName())}
	}
	f.Supplied = e.account.uid >= 0
}

func (e *examination) lacksTemp(f *Finding, p goProgram) {
	f.ID, f.Message = IDTemp, p.path+" makes temporary files, and the image has no /tmp"
	f.Remedy = []string{"COPY --chmod=1777 EMPTY-FOLDER /tmp"}
	if st, err := e.root.Stat("/tmp"); err == nil {
		f.Message = fmt.Sprintf("%s makes temporary files, and %s may not write to /tmp", p.path, e.userName())
		f.Evidence = append(slices.Clone(f.Evidence), fmt.Sprintf("/tmp has the mode %04o and the owner %d:%d", st.Mode&0o7777, st.UID, st.GID))
	}
}

// lacksPrograms reports the programs that are started and are not there.
func (e *examination) lacksPrograms(f Finding, p goProgram, n Need) {
	f.ID, f.Supplied = IDProgram, false
	if f.Severity == Error {
		f.Severity = Warning // it may do without
	}
	missing := e.missingPrograms(n)
	if len(missing) == 0 {
		e.undecided("%s starts other programs, whose names it makes when it runs: %s", p.path, strings.Join(n.Evidence, "; "))
		return
	}
	f.Message = fmt.Sprintf("%s starts %s, which the image does not have", p.path, strings.Join(missing, ", "))
	f.Evidence = naming(n.Evidence, missing)
	f.Remedy = []string{"COPY the program and what it needs, or start from an image that has it"}
	e.find(f)
}

// naming are the pieces of evidence in which one of names is; all where none is.
func naming(evidence, names []string) []string {
	var some []string
	for _, e := range evidence {
		if slices.ContainsFunc(names, func(name string) bool { return strings.Contains(e, name) }) {
			some = append(some, e)
		}
	}
	if len(some) == 0 {
		return evidence
	}
	return some
}

// missingPrograms are those named by constants that the image has not.
func (e *examination) missingPrograms(n Need) []string {
	var missing []string
	for _, name := range n.Values {
		if strings.HasPrefix(name, "/proc/") { // mounted when the image runs: /proc/self/exe is the program itself
			continue
		}
		if file, err := e.lookPath(name); err != nil || file.Header.Mode&0o111 == 0 {
			missing = append(missing, name)
		}
	}
	return missing
}

// loaderOf reports the loader and the libraries that a program names and the image has not.
func (e *examination) loaderOf(p goProgram) {
	missing := missingLibraries(e.root, p.Binary)
	if len(missing) == 0 {
		return
	}
	f := Finding{ID: IDLibraries, Severity: Error, Path: p.path, Source: e.bringing(p.file.Layer), Evidence: missing}
	noCGO := []string{"build it with CGO_ENABLED=0", "start from an image that has them, of the same libc as where it was built"}
	switch {
	case missing[0] != p.Interp:
		f.Message = fmt.Sprintf("%s is linked with %s, which the image does not have", p.path, strings.Join(missing, ", "))
		f.Remedy = noCGO
	case len(p.Libraries) == 0 && p.PIE:
		f.ID, f.Message = IDPIE, fmt.Sprintf("%s is position independent and names the loader %s, which the image does not have", p.path, p.Interp)
		f.Evidence = []string{`starting it fails with "no such file or directory"`}
		f.Remedy = []string{"build it without -buildmode=pie", copyFrom(e.stageOf(p.file.Layer), p.Interp, p.Interp)}
	default:
		f.ID, f.Message = IDLoader, fmt.Sprintf("%s is linked dynamically, and the image has no loader %s", p.path, p.Interp)
		f.Evidence = append([]string{`starting it fails with "no such file or directory"`}, missing[1:]...)
		f.Remedy = noCGO
	}
	e.find(f)
}

// worthDebug are the bytes of debug information from which on it is worth a line.
const worthDebug = 256 << 10

func (e *examination) debugInfo(p goProgram) {
	if p.Stripped || p.DebugBytes < worthDebug {
		return
	}
	f := debugFinding(p)
	f.Source = e.bringing(p.file.Layer)
	e.find(f)
}

func debugFinding(p goProgram) Finding {
	return Finding{
		ID: IDDebug, Severity: Info, Path: p.path, Bytes: p.DebugBytes,
		Message: fmt.Sprintf("%s has its symbol table and debug information, %s of %s", p.path, human(p.DebugBytes), human(p.bytes)),
		Remedy:  []string{"go build -ldflags '-s -w' (stack traces stay as they are; a debugger needs the information)"},
	}
}
