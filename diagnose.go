package skiff

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/skiff-build/skiff/internal/atomicfile"
	"github.com/skiff-build/skiff/internal/doctor"
	"github.com/skiff-build/skiff/internal/image"
	"github.com/skiff-build/skiff/internal/rootfs"
	"github.com/skiff-build/skiff/internal/store"
)

// Report is what is known of an image or a program, and what is wrong with it.
type Report = doctor.Report

// Finding is one thing that is wrong, or worth knowing.
type Finding = doctor.Finding

// Severity is how bad a finding is: [SeverityError], [SeverityWarning] or [SeverityInfo].
type Severity = doctor.Severity

// The severities of findings, the worst first.
const (
	SeverityError   = doctor.Error
	SeverityWarning = doctor.Warning
	SeverityInfo    = doctor.Info
)

// FindingIDs are the ids of all findings that there can be.
var FindingIDs = doctor.IDs

// WriteSARIF writes what reports found as one SARIF 2.1.0 log; version is that of the tool.
func WriteSARIF(w io.Writer, reports []*Report, version string) error {
	return doctor.WriteSARIF(w, reports, version)
}

// WriteAnnotations writes what reports found as workflow commands of GitHub Actions.
func WriteAnnotations(w io.Writer, reports []*Report) error {
	return doctor.WriteAnnotations(w, reports)
}

// FindingsError says that a build was to fail on findings, and there are some.
type FindingsError struct {
	Reports []*Report // of the images, one for each platform
	Level   Severity  // from which on they count
}

func (e *FindingsError) Error() string {
	n := 0
	for _, r := range e.Reports {
		n += len(r.Summary(e.Level))
	}
	if n == 1 {
		return "the image has a finding that --strict does not allow"
	}
	return fmt.Sprintf("the image has %d findings that --strict does not allow", n)
}

// DiagnoseOptions of [State.Diagnose]. The zero value works.
type DiagnoseOptions struct {
	Platform string    // "os/arch[/variant]" of an index; "" is all that there are
	Ignore   []string  // ids of findings to leave out
	Progress io.Writer // of a pull; nil shows nothing
}

// Diagnose examines what is named: an image in the state, a file (an archive of images, or a program), a folder with an OCI layout, or an
// image in a registry, which is pulled. A name that begins with ./, ../ or / is a path; another one is the state's image first,
// then a path. There is one report for each image and platform.
func (s *State) Diagnose(ctx context.Context, what string, o DiagnoseOptions) ([]*Report, error) {
	if err := checkIDs(o.Ignore); err != nil {
		return nil, err
	}
	reports, err := s.diagnose(ctx, what, o)
	for _, r := range reports {
		r.Ignore(o.Ignore)
	}
	return reports, err
}

func (s *State) diagnose(ctx context.Context, what string, o DiagnoseOptions) ([]*Report, error) {
	p, err := parsePlatform(o.Platform)
	if err != nil {
		return nil, err
	}
	isPath := strings.HasPrefix(what, "./") || strings.HasPrefix(what, "../") || filepath.IsAbs(what)
	if !isPath {
		content, err := s.library.Open(ctx, what)
		var missing *NotFoundError
		switch {
		case err == nil:
			return s.examineContent(ctx, content, what, platformOf(p))
		case !errors.As(err, &missing):
			if _, serr := os.Stat(what); serr != nil {
				return nil, err
			}
		}
	}
	if st, err := os.Stat(what); err == nil {
		if !st.IsDir() && isProgram(what) {
			report, err := diagnoseProgram(what)
			if err != nil {
				return nil, err
			}
			return []*Report{report}, nil
		}
		return s.diagnoseArchive(ctx, what, platformOf(p))
	} else if isPath {
		return nil, fmt.Errorf("check: %w", err)
	}
	if _, err := s.Pull(ctx, what, PullOptions{Platform: o.Platform, Progress: o.Progress}); err != nil {
		if option := (*OptionError)(nil); errors.As(err, &option) {
			err = option.Err // what can be no image's name may have been meant as a file's: that is not there, no slip of an option
		}
		return nil, fmt.Errorf("check %s: no image of that name is here, no file either: %w", what, err)
	}
	content, err := s.library.Open(ctx, what)
	if err != nil {
		return nil, err
	}
	return s.examineContent(ctx, content, what, platformOf(p))
}

// checkIDs refuses ids that no finding has.
func checkIDs(ids []string) error {
	for _, id := range ids {
		if !slices.Contains(doctor.IDs, id) {
			return fmt.Errorf("ignore %q: there is no such finding; choose of %s", id, strings.Join(doctor.IDs, ", "))
		}
	}
	return nil
}

// isProgram says that a file begins as an ELF executable.
func isProgram(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 4)
	_, err = io.ReadFull(f, head)
	return err == nil && string(head) == "\x7fELF"
}

func diagnoseProgram(path string) (*Report, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	report, err := doctor.ExamineProgram(path, f, st.Size())
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", path, err)
	}
	return report, nil
}

// diagnoseArchive examines the images of an archive or an OCI layout. They are read into a state of their own, which goes afterwards.
func (s *State) diagnoseArchive(ctx context.Context, path string, p *v1.Platform) (reports []*Report, err error) {
	dir, err := os.MkdirTemp("", "skiff-check-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	st, err := store.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	temp := &State{store: st, library: image.NewLibrary(st)}
	loaded, err := temp.library.LoadPath(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("check %s: it is neither a program nor images: %w", path, err)
	}
	for _, l := range loaded {
		name, ref := path, l.ID.String()
		if len(l.Names) > 0 {
			name, ref = path+" "+image.FamiliarName(l.Names[0]), l.Names[0]
		}
		content, err := temp.library.Open(ctx, ref)
		if err != nil {
			return nil, err
		}
		more, err := temp.examineContent(ctx, content, name, p)
		if err != nil {
			return nil, err
		}
		reports = append(reports, more...)
	}
	return reports, nil
}

// examineContent examines an image, or those of an index.
func (s *State) examineContent(ctx context.Context, c image.Content, name string, p *v1.Platform) ([]*Report, error) {
	images, err := image.ImagesFor(c, p)
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", name, err)
	}
	var reports []*Report
	for _, img := range images {
		from, err := s.builtFrom(img)
		if err != nil {
			return nil, err
		}
		r, err := s.examined(ctx, img, from, nil)
		if err != nil {
			return nil, fmt.Errorf("check %s: %w", name, err)
		}
		r.Name = name
		if from != nil {
			r.Ignore(doctor.Ignored(string(from.Text)))
		}
		reports = append(reports, r)
	}
	return reports, nil
}

// recordReport is the kind of records that keep what was found out about an image.
const recordReport = store.KindReport

// kept is the record of a report, by the digest of the image, the version of the rules, and the Dockerfile.
type kept struct {
	Report *Report `json:"report"`
}

// known tells what was read of a program when it was built; nil: nothing.
type known func(layer v1.Hash, path string) *doctor.Binary

// examined is the report on an image: the one that is kept, or a new one.
func (s *State) examined(ctx context.Context, img v1.Image, from *origin, programs known) (*Report, error) {
	key, err := reportKey("report", img, from)
	if err != nil {
		return nil, err
	}
	var k kept
	if s.store.Get(recordReport, key, &k) == nil && k.Report != nil {
		return k.Report, nil
	}
	k.Report, err = doctor.Examine(ctx, img, s.doctorOptions(from, programs))
	if err != nil {
		return nil, err
	}
	if err := s.store.Put(recordReport, key, k); err != nil {
		return nil, err
	}
	return k.Report, s.keepOrigin(img, from)
}

// recordOrigin is the kind of records that keep what an image was built from last, by its digest.
const recordOrigin = store.KindDockerfile

// keepOrigin remembers what an image was built from, for a check by its name later.
func (s *State) keepOrigin(img v1.Image, from *origin) error {
	if from == nil {
		return nil
	}
	key, err := reportKey("origin", img, nil)
	if err != nil {
		return err
	}
	return s.store.Put(recordOrigin, key, from)
}

// builtFrom is what an image was built from; nil where it was not built here.
func (s *State) builtFrom(img v1.Image) (*origin, error) {
	key, err := reportKey("origin", img, nil)
	if err != nil {
		return nil, err
	}
	var from origin
	if s.store.Get(recordOrigin, key, &from) != nil {
		return nil, nil
	}
	return &from, nil
}

func (s *State) doctorOptions(from *origin, programs known) doctor.Options {
	return doctor.Options{Dockerfile: from.dockerfile(), Plain: s.plainLayer, Verified: s.store.Made, Known: programs, Notes: notes{s.store}}
}

// notes keeps what the doctor notes of layers' files, by the version of its rules.
type notes struct{ store *store.Store }

// recordNotes is the kind of those records.
const recordNotes = store.KindNotes

type notesRecord struct {
	Blobs []string        `json:"blobs"` // none: without the layer they are of no use, and do no harm
	Notes json.RawMessage `json:"notes"`
}

func (n notes) key(tar v1.Hash) store.Key {
	return sha256.Sum256(fmt.Appendf(nil, "doctor notes 1\nrules %d\ntar %s\n", doctor.Rules, tar))
}

func (n notes) Load(tar v1.Hash) ([]byte, error) {
	var rec notesRecord
	err := n.store.Get(recordNotes, n.key(tar), &rec)
	return rec.Notes, err
}

func (n notes) Save(tar v1.Hash, data []byte) error {
	return n.store.Put(recordNotes, n.key(tar), notesRecord{Blobs: []string{}, Notes: data})
}

func (n notes) Parts(tar v1.Hash) ([]store.Part, error) { return n.store.Parts(tar) }
func (n notes) Open(tar v1.Hash) (io.ReadCloser, error) { return n.store.OpenBlob(tar) }

// plainLayer opens a layer that lies uncompressed in the state. Its content was verified when it was read, or written, just before.
func (s *State) plainLayer(diffID v1.Hash) (rootfs.ReaderAtCloser, error) {
	return s.store.OpenBlobAt(diffID)
}

func reportKey(what string, img v1.Image, from *origin) (store.Key, error) {
	digest, err := img.Digest()
	if err != nil {
		return store.Key{}, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "doctor %s\nrules %d\nimage %s\n", what, doctor.Rules, digest)
	if from != nil {
		fmt.Fprintf(&b, "file %q\ntarget %q\ndockerfile %x\n", from.File, from.Target, sha256.Sum256(from.Text))
	}
	return sha256.Sum256(b.Bytes()), nil
}

// WriteFile writes what fill gives to the file at path: in whole or not at all, where path is no pipe or device. A file that is there keeps
// its mode, and a link stays.
func WriteFile(path string, fill func(io.Writer) error) error { return atomicfile.Write(path, fill) }
