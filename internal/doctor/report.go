package doctor

import (
	"cmp"
	"fmt"
	"slices"
)

// Severity is how bad a finding is.
type Severity string

// The severities: an [Error] keeps the program from starting or working, or gives a secret away; a [Warning] does so
// under conditions, or makes the image much larger or less safe than it has to be; an [Info] is worth knowing.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Info    Severity = "info"
)

// Severities are all of them, the worst first.
var Severities = []Severity{Error, Warning, Info}

// AtLeast says that s is as bad as t, or worse.
func (s Severity) AtLeast(t Severity) bool {
	return slices.Index(Severities, s) <= slices.Index(Severities, t)
}

// The ids of findings. docs/doctor.md tells of each what it means and what mends it; they do not change.
const (
	IDCA            = "ca-certificates"
	IDZones         = "time-zones"
	IDUsers         = "users"
	IDTemp          = "temp-dir"
	IDHome          = "home"
	IDLoader        = "loader"
	IDLibraries     = "libraries"
	IDPIE           = "pie"
	IDProgram       = "program"
	IDSyslog        = "syslog"
	IDMissing       = "entrypoint-missing"
	IDNotExecutable = "entrypoint-not-executable"
	IDFormat        = "entrypoint-format"
	IDArch          = "entrypoint-architecture"
	IDInterpreter   = "entrypoint-interpreter"
	IDShellForm     = "shell-form"
	IDWorkingDir    = "working-dir"
	IDRoot          = "root-user"
	IDSources       = "sources"
	IDVCS           = "vcs"
	IDCache         = "go-cache"
	IDToolchain     = "go-toolchain"
	IDPackageIndex  = "package-index"
	IDTestData      = "test-data"
	IDSecret        = "secret"
	IDDebug         = "debug-info"
	IDSetuid        = "setuid"
	IDUnpinned      = "unpinned-base"
	IDTidy          = "go-mod-tidy"
	IDBuildAll      = "go-build-a"
)

// IDs are the ids of all findings that there can be.
var IDs = []string{
	IDCA, IDZones, IDUsers, IDTemp, IDHome, IDLoader, IDLibraries, IDPIE, IDProgram, IDSyslog,
	IDMissing, IDNotExecutable, IDFormat, IDArch, IDInterpreter, IDShellForm, IDWorkingDir,
	IDRoot, IDSources, IDVCS, IDCache, IDToolchain, IDPackageIndex, IDTestData, IDSecret, IDDebug, IDSetuid,
	IDUnpinned, IDTidy, IDBuildAll,
}

// Finding is one thing that is wrong with an image, or worth knowing.
type Finding struct {
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`          // a sentence without a full stop
	Path     string   `json:"path,omitempty"`   // of the file or folder that it is about
	Evidence []string `json:"evidence"`         // what was seen, a line each
	Bytes    int64    `json:"bytes,omitempty"`  // what it costs
	Remedy   []string `json:"remedy"`           // what mends it, a line each; the first that fits
	Source   *Source  `json:"source,omitempty"` // where it comes from, of an image that was built here
	// Supplied says that --add-missing mends it.
	Supplied bool `json:"addMissing,omitempty"`
}

// Source is a place in a Dockerfile.
type Source struct {
	File string `json:"file"`
	Line int    `json:"line"` // from 1
	Text string `json:"text"` // the instruction, on one line
}

func (s *Source) String() string { return fmt.Sprintf("%s:%d", s.File, s.Line) }

// Schema names the form of a [Report] as JSON. Fields may be added to it; those that are there keep their meaning.
const Schema = "skiff.check/1"

// Report is all that is known of an image, or of a single program.
type Report struct {
	Schema     string   `json:"schema"`
	Name       string   `json:"name,omitempty"`     // as it was asked for
	Digest     string   `json:"digest,omitempty"`   // of the manifest
	ID         string   `json:"id,omitempty"`       // digest of the config
	Platform   string   `json:"platform,omitempty"` // "linux/amd64"
	Entrypoint []string `json:"entrypoint"`
	User       string   `json:"user,omitempty"`
	Bytes      int64    `json:"bytes"` // of the regular files in all layers
	// StageBytes is what the image was made from and what it holds, together; 0 where it was not built now.
	StageBytes int64     `json:"stageBytes,omitempty"`
	Layers     []Layer   `json:"layers"`
	Largest    []Sized   `json:"largest"` // files, the largest first
	Programs   []Program `json:"programs"`
	Findings   []Finding `json:"findings"`  // the worst first
	Ignored    []string  `json:"ignored"`   // ids of findings that were left out
	Undecided  []string  `json:"undecided"` // what could not be told, a sentence each
}

// Layer is a layer of an image.
type Layer struct {
	Digest     string  `json:"digest"`
	DiffID     string  `json:"diffId"`
	Compressed int64   `json:"compressed"` // bytes as it is stored
	Bytes      int64   `json:"bytes"`      // of its regular files
	Files      int     `json:"files"`
	CreatedBy  string  `json:"createdBy,omitempty"`
	Source     *Source `json:"source,omitempty"`
}

// Sized is a file with its size.
type Sized struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
}

// Program is a Go program in the image.
type Program struct {
	Path      string   `json:"path"`
	Bytes     int64    `json:"bytes"`
	GoVersion string   `json:"goVersion,omitempty"`
	Main      string   `json:"main,omitempty"` // path of the main package
	Arch      string   `json:"arch"`
	Needs     []string `json:"needs"` // "ca-certificates: linked"
}

// Worst is the severity of the worst finding, "" where there is none.
func (r *Report) Worst() Severity {
	if len(r.Findings) == 0 {
		return ""
	}
	return r.Findings[0].Severity
}

// Count is the number of findings of a severity.
func (r *Report) Count(s Severity) (n int) {
	for _, f := range r.Findings {
		if f.Severity == s {
			n++
		}
	}
	return n
}

// Ignore takes findings with these ids out of the report, and notes which there were.
func (r *Report) Ignore(ids []string) {
	var kept []Finding
	for _, f := range r.Findings {
		if !slices.Contains(ids, f.ID) {
			kept = append(kept, f)
		} else if !slices.Contains(r.Ignored, f.ID) {
			r.Ignored = append(r.Ignored, f.ID)
		}
	}
	r.Findings = kept
	slices.Sort(r.Ignored)
}

// sort puts the worst first; equal ones in the order of ids and paths.
func (r *Report) sort() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(slices.Index(Severities, a.Severity), slices.Index(Severities, b.Severity)),
			cmp.Compare(slices.Index(IDs, a.ID), slices.Index(IDs, b.ID)),
			cmp.Compare(a.Path, b.Path))
	})
}
