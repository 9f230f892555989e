package doctor

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/skiff-build/skiff/internal/envlist"
	"github.com/skiff-build/skiff/internal/rootfiles"
)

// needs compares what the Go programs need with what is there.
func (e *examination) needs() {
	for _, p := range e.programs {
		for _, n := range p.Needs {
			n.Level = e.level(p, n)
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

// level is that of a need in this image: what a program that it starts needs is needed where that is there.
func (e *examination) level(p goProgram, n Need) Level {
	started := p.Need(NeedProgram).Values
	if n.Kind != NeedHome && n.Kind != NeedTemp || n.Level != Possible || !slices.ContainsFunc(started, func(name string) bool { return path.Base(name) == "go" }) {
		return n.Level
	}
	if _, err := e.lookPath("go", ""); err == nil {
		return Likely
	}
	return n.Level
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
	v := e.viewOf(p)
	switch n.Kind {
	case NeedCA:
		return v.roots().found
	case NeedZones:
		_, missing := v.missingZones(n)
		return !missing
	case NeedUsers:
		return !v.lacksAccount()
	case NeedTemp:
		return v.writable(v.tempDir())
	case NeedHome:
		return v.account.uid < 0 || !v.needsHome() // a user who is not there does not come to that
	}
	return true
}

// viewOf is what a program sees of the image.
func (e *examination) viewOf(p goProgram) view {
	v := e.view
	v.trimmed = p.Trimpath
	return v
}

// supplied says that --add-missing mends the lack.
func (e *examination) supplied(p goProgram, n Need) bool {
	n.Level = Linked
	s, err := Complete([]*Binary{{Needs: []Need{n}, Arch: p.Arch, Trimpath: p.Trimpath}}, e.supplyOptions())
	return err == nil && !s.Empty()
}

func (e *examination) supplyOptions() SupplyOptions {
	c := e.config.Config
	return SupplyOptions{User: c.User, Env: c.Env, Dir: c.WorkingDir, Root: e.view.Existing}
}

// lacks reports a need that is not met.
func (e *examination) lacks(p goProgram, n Need) {
	f := Finding{Severity: Error, Path: p.path, Evidence: slices.Clone(n.Evidence), Source: e.bringing(p.file.Layer), Supplied: e.supplied(p, n)}
	if n.Level < Linked {
		f.Severity = Warning
	}
	switch n.Kind {
	case NeedCA:
		e.lacksRoots(&f, p)
	case NeedZones:
		e.lacksZones(&f, p, n)
	case NeedUsers:
		e.lacksUsers(&f, p)
	case NeedTemp:
		e.lacksTemp(&f, p)
	case NeedHome:
		e.lacksHome(&f, p)
	case NeedProgram:
		e.lacksPrograms(f, p, n)
		return
	case NeedSyslog:
		f.ID, f.Severity = IDSyslog, Info
		f.Message = p.path + " writes to the system log, which a container does not have"
		f.Remedy = []string{"write to standard error", "mount /dev/log of the host"}
	}
	if f.Supplied {
		f.Remedy = append(f.Remedy, "skiff build --add-missing")
	}
	e.find(f)
}

// lacksRoots tells what is wrong with the CAs that are there, or that there are none.
func (e *examination) lacksRoots(f *Finding, p goProgram) {
	r := e.view.roots()
	f.ID, f.Message = IDCA, p.path+" verifies TLS certificates, and the image has no CA certificates"
	f.Evidence = append(r.seen, f.Evidence...)
	switch {
	case len(r.named) > 0:
		f.Message = fmt.Sprintf("%s verifies TLS certificates, and finds none where %s says", p.path, strings.Join(r.named, " "))
		f.Remedy = append(e.readableRoots(r), "copy the CAs that the image is to trust to that place, or leave the variable out")
	case r.own:
		f.Message = fmt.Sprintf("%s verifies TLS certificates, and %s cannot use those that the image has", p.path, e.userName())
		f.Remedy = append(e.readableRoots(r), "let everybody read them, and enter the folders above them")
	case !e.enters(rootfiles.BundlePath):
		f.Remedy = e.closedFirst(rootfiles.BundlePath)
	default:
		f.Remedy = []string{fmt.Sprintf("COPY --from=%s %s %s/", e.donor(p.file.Layer), rootfiles.BundlePath, path.Dir(rootfiles.BundlePath))}
	}
}

// readableRoots are the remedies for CAs that are there and may not be read.
func (e *examination) readableRoots(r roots) []string {
	for _, name := range r.closed {
		f, err := e.fs.Find(name)
		if err != nil {
			continue
		}
		if _, err := e.view.find(name); err != nil {
			return e.enterable(name)
		}
		return e.chmod(everybodyReads, f)
	}
	return nil
}

func (e *examination) lacksZones(f *Finding, p goProgram, n Need) {
	f.ID, f.Message = IDZones, p.path+" loads time zones, and the image has none"
	if names, _ := e.viewOf(p).missingZones(n); len(names) > 0 {
		f.Message = fmt.Sprintf("%s loads the time zone %s, and the image does not have it", p.path, strings.Join(names, ", "))
	}
	const zip = "/usr/local/go/lib/time/zoneinfo.zip"
	to := e.free("/usr/share/zoneinfo.zip", "/zoneinfo.zip")
	f.Remedy = []string{
		fmt.Sprintf("COPY --from=%s %s %s\nENV ZONEINFO=%s", e.donor(p.file.Layer), zip, to, to),
		`embed them in the program: import _ "time/tzdata"`,
	}
}

func (e *examination) lacksUsers(f *Finding, p goProgram) {
	f.ID, f.Severity = IDUsers, Warning
	f.Message = p.path + " looks users up, and the image has no /etc/passwd"
	if _, err := e.view.Stat(rootfiles.PasswdPath, nil); err == nil {
		f.Message = fmt.Sprintf("%s looks users up, and /etc/passwd has no line for %s", p.path, e.userName())
		if why := e.view.barrier(rootfiles.PasswdPath, 4); why != "" {
			f.Message = fmt.Sprintf("%s looks users up, and %s may not read /etc/passwd", p.path, e.userName())
			f.Evidence = append([]string{why}, f.Evidence...)
		}
	}
	if !e.enters(rootfiles.PasswdPath) {
		f.Remedy = e.closedFirst(rootfiles.PasswdPath)
		if e.view.account.known {
			f.Remedy = e.enterable(rootfiles.PasswdPath)
		}
		return
	}
	if e.view.account.uid >= 0 {
		f.Remedy = append(f.Remedy, e.passwd())
	} else {
		f.Remedy = append(f.Remedy, numeric+"\n"+"COPY <<\"EOF\" "+rootfiles.PasswdPath+"\n"+rootfiles.Passwd+"EOF")
	}
}

func (e *examination) lacksTemp(f *Finding, p goProgram) {
	v := e.view
	dir := v.tempDir()
	f.ID, f.Message = IDTemp, fmt.Sprintf("%s makes temporary files, and the image has no %s", p.path, dir)
	given := envlist.Get(v.env, "TMPDIR") != ""
	if given {
		f.Evidence = append([]string{"TMPDIR is " + dir}, f.Evidence...)
	}
	donor := e.emptyDonor(p.file.Layer)
	why := v.barrier(dir, 3)
	if why != "" {
		f.Message = fmt.Sprintf("%s makes temporary files, and %s may not write to %s", p.path, e.userName(), dir)
		f.Evidence = append([]string{why}, f.Evidence...)
	}
	if given && v.writable("/tmp") {
		f.Remedy = append(f.Remedy, "ENV TMPDIR=/tmp")
	}
	if why == "" && path.IsAbs(dir) {
		f.Remedy = append(f.Remedy, fmt.Sprintf("COPY --from=%s --chmod=1777 /tmp %s", donor, dir))
		return
	}
	if why != "" && !strings.Contains(why, " above it has ") {
		f.Remedy = append(f.Remedy, remedies(e.asRoot("chmod 1777 "+dir))...)
	}
	other := e.free("/temp")
	f.Remedy = append(f.Remedy, fmt.Sprintf("COPY --from=%s --chmod=1777 /tmp %s\nENV TMPDIR=%s", donor, other, other))
}

func (e *examination) lacksHome(f *Finding, p goProgram) {
	a := e.view.account
	f.ID, f.Severity = IDHome, Warning
	f.Message = fmt.Sprintf("%s asks for its home directory, and %s has none that it can write to", p.path, e.userName())
	dir := e.view.homeDir()
	if why := e.view.barrier(dir, 3); why != "" {
		f.Evidence = append([]string{why}, f.Evidence...)
	} else if dir != "/" {
		f.Evidence = append([]string{"HOME is " + dir + ", which is not there"}, f.Evidence...)
	}
	home := e.free(path.Clean(a.home), "/home/app", "/app-home")
	f.Remedy = []string{fmt.Sprintf("COPY --from=%s --chown=%d:%d --chmod=700 /tmp %s\nENV HOME=%s",
		e.emptyDonor(p.file.Layer), a.uid, max(a.gid, 0), home, home)}
}

// lacksPrograms reports the programs that are started and are not there.
func (e *examination) lacksPrograms(f Finding, p goProgram, n Need) {
	f.ID = IDProgram
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
	f.Remedy = []string{"copy the program and what it needs, or start from an image that has it"}
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
		if file, err := e.lookPath(name, e.config.Config.WorkingDir); err != nil || e.view.barrier(file.Path, 1) != "" {
			missing = append(missing, name)
		}
	}
	return missing
}

// loaderOf reports the loader and the libraries that a program names and the image has not.
func (e *examination) loaderOf(p goProgram) {
	missing := e.view.missingLibraries(p.Binary)
	if len(missing) == 0 {
		return
	}
	f := Finding{ID: IDLibraries, Severity: Error, Path: p.path, Source: e.bringing(p.file.Layer), Evidence: missing}
	noCGO := remedies(e.rebuilt(withoutCGO), "build it with CGO_ENABLED=0", "start from an image that has them, of the same libc as where it was built")
	switch {
	case missing[0] != p.Interp:
		f.Message = fmt.Sprintf("%s is linked with %s, which the image does not have", p.path, strings.Join(missing, ", "))
		f.Remedy = noCGO
	case len(p.Libraries) == 0 && p.PIE:
		f.ID, f.Message = IDPIE, fmt.Sprintf("%s is position independent and names the loader %s, which the image does not have", p.path, p.Interp)
		f.Evidence = []string{`starting it fails with "no such file or directory"`}
		f.Remedy = remedies(e.rebuilt(withoutPIE), "build it without -buildmode=pie")
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
	f.Remedy = append(remedies(e.rebuilt(stripped)), f.Remedy...)
	e.find(f)
}

func debugFinding(p goProgram) Finding {
	return Finding{
		ID: IDDebug, Severity: Info, Path: p.path, Bytes: p.DebugBytes,
		Message: fmt.Sprintf("%s has its symbol table and debug information, %s of %s", p.path, human(p.DebugBytes), human(p.bytes)),
		Remedy:  []string{"build it with -ldflags '-s -w': stack traces stay as they are, a debugger needs the information"},
	}
}
