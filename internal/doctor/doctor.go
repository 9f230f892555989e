// Package doctor examines a finished image: what the Go programs in it need and the root filesystem lacks, whether the
// image's program can start at all, and what ships that should not. Images come from anywhere; where this build made it,
// findings name the line of the Dockerfile.
//
// [Examine] goes from a v1.Image to a [Report]; [Complete] from programs to the files that are missing. A finding is a fact
// about the image or a proof about a program. What a program may need, or what could not be read, is said as undecided and
// is no finding. The same image gives the same report. Nothing in an image is believed: sizes are bounded, links stay
// within the root, and broken programs are undecided, never a panic.
package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/skiff-build/skiff/internal/rootfs"
)

// Rules is the version of what is looked for. A report that was kept counts only for the version that made it.
const Rules = 5

// Options for [Examine]. The zero value works.
type Options struct {
	Name string // of the image, for the report
	// Plain opens the uncompressed tar of a layer where it lies, as [rootfs.Options] has it.
	Plain func(diffID v1.Hash) (rootfs.ReaderAtCloser, error)
	// Verified tells that the digest of the tar that Plain opens was made a moment ago, so that what is not looked at need not be
	// read; nil: of none.
	Verified func(diffID v1.Hash) bool
	// Known tells what [ReadBinary] told of the program at a path of a layer when it was built; nil where that is not known. What it
	// returns is not changed.
	Known func(diffID v1.Hash, path string) *Binary
	// Notes keeps what a look at the files of large layers told; nil: nobody does.
	Notes Notes
	// Dockerfile is what the image was built from; nil where that is not known.
	Dockerfile *Dockerfile
}

// maxReported bounds the files, programs and pieces of evidence that are listed.
const (
	maxLargest  = 10
	maxEvidence = 6
	maxPrograms = 200 // Go programs that are read
)

// Examine reads an image and reports what there is to say of it.
func Examine(ctx context.Context, img v1.Image, o Options) (*Report, error) {
	e, err := open(ctx, img, o)
	if err != nil {
		return nil, fmt.Errorf("examine image: %w", err)
	}
	if err := e.readPrograms(ctx); err != nil {
		return nil, fmt.Errorf("examine image: %w", err)
	}
	e.entrypoint()
	e.foreignLoaders()
	e.needs()
	e.user()
	e.contents()
	e.secrets()
	e.instructions()
	e.report.sort()
	return e.report, nil
}

// examination is one image while it is examined.
type examination struct {
	ctx      context.Context // of the call that it lives in
	o        Options
	view     view
	fs       *rootfs.FS
	config   *v1.ConfigFile
	layers   []layerOrigin
	programs []goProgram // Go programs: those that the config starts first, then by path
	starts   []start
	hidden   []hiddenSecret
	report   *Report
}

// goProgram is a Go program with its path.
type goProgram struct {
	*Binary
	path  string
	file  rootfs.File
	bytes int64
}

// hiddenSecret is one that a layer holds, wherever later layers put something else.
type hiddenSecret struct {
	layer int
	name  string
	what  string
	bytes int64
}

// open indexes the image's files.
func open(ctx context.Context, img v1.Image, o Options) (*examination, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	e := &examination{ctx: ctx, o: o, config: config, report: &Report{Schema: Schema, Name: o.Name, Findings: []Finding{}}}
	if err := e.describe(img); err != nil {
		return nil, err
	}
	if err := e.readFiles(ctx, img); err != nil {
		return nil, err
	}
	c := config.Config
	e.view = viewOf(imageRoot{ctx, e.fs, c.Volumes}, c.User, c.Env, c.WorkingDir)
	e.starts = e.findStarts()
	return e, nil
}

// readFiles reads the layers, of those that were seen before no more than the headers.
func (e *examination) readFiles(ctx context.Context, img v1.Image) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	tars := make([]v1.Hash, len(layers))
	known, found := make([]*noted, len(layers)), make([]map[int64]keptNote, len(layers))
	for i, l := range layers {
		if tars[i], err = l.DiffID(); err != nil {
			return err
		}
		known[i], found[i] = e.noted(ctx, tars[i]), map[int64]keptNote{}
	}
	note := func(layer int, f rootfs.Entry, content io.Reader) (any, error) {
		n, ok := known[layer].of(f)
		if !ok {
			if n, err = look(f.Header, content); err != nil {
				return nil, err
			}
			noteIn(found[layer], f, n)
		}
		e.count(layer, f, n)
		if kind, ok := n.kindAlone(); ok {
			return kind, nil
		}
		return n, nil
	}
	skim := func(i int) bool { return known[i] != nil || e.o.Verified != nil && e.o.Verified(tars[i]) }
	e.fs, err = rootfs.Open(ctx, img, rootfs.Options{Plain: e.o.Plain, Look: note, Skim: skim})
	if err != nil || e.o.Notes == nil {
		return err
	}
	for i, l := range e.report.Layers {
		// Of a layer that lies compressed, the headers cannot be read without all the rest.
		if known[i] != nil || l.Bytes < notedBytes || l.DiffID != l.Digest {
			continue
		}
		if err := e.saveNotes(tars[i], found[i]); err != nil {
			return err
		}
	}
	return nil
}

// count counts a file for its layer.
func (e *examination) count(layer int, f rootfs.Entry, n note) {
	l := &e.report.Layers[layer]
	l.Bytes += f.Size
	l.Files++
	e.report.Bytes += f.Size
	if n.secret != "" {
		e.hidden = append(e.hidden, hiddenSecret{layer, "/" + f.Name, n.secret, f.Size})
	}
}

// describe fills in what manifest and config say.
func (e *examination) describe(img v1.Image) error {
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	id, err := img.ConfigName()
	if err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	r := e.report
	r.Digest, r.ID, r.Platform = digest.String(), id.String(), e.config.Platform().String()
	r.Entrypoint = append(slices.Clone(e.config.Config.Entrypoint), e.config.Config.Cmd...)
	r.User = e.config.Config.User
	e.layers = originsOf(e.config.History, len(layers), e.o.Dockerfile)
	for i, l := range layers {
		d, err := l.Digest()
		if err != nil {
			return err
		}
		size, err := l.Size()
		if err != nil {
			return err
		}
		diffID, err := l.DiffID()
		if err != nil {
			return err
		}
		r.Layers = append(r.Layers, Layer{
			Digest: d.String(), DiffID: diffID.String(), Compressed: size,
			CreatedBy: e.layers[i].createdBy, Source: e.layers[i].source(),
		})
	}
	return nil
}

// readPrograms reads the Go programs of the image, and notes its largest files.
func (e *examination) readPrograms(ctx context.Context) error {
	var executables, largest []rootfs.File
	seen := map[string]bool{}
	err := e.fs.Walk(func(f rootfs.File) error {
		if !f.IsRegular() {
			return ctx.Err()
		}
		largest = withLarger(largest, f)
		n, _ := f.Note.(note)
		// A hard link is the same program once more; what the toolchain starts itself is no program of the image.
		if n.kind != kindELF || !n.elf.Executable || f.Header.Mode&0o111 == 0 || strings.Contains(f.Path, "/pkg/tool/") {
			return ctx.Err()
		}
		if key := fmt.Sprintf("%d %s", f.Layer, f.Header.Name); !seen[key] {
			seen[key] = true
			executables = append(executables, f)
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	for _, f := range largest {
		e.report.Largest = append(e.report.Largest, Sized{f.Path, f.Header.Size})
	}
	executables, err = e.takeKnown(executables)
	if err != nil {
		return err
	}
	if err := e.fs.Contents(ctx, executables, e.readProgram); err != nil {
		return err
	}
	slices.SortFunc(e.programs, func(a, b goProgram) int {
		return cmp.Or(cmp.Compare(e.rank(a), e.rank(b)), cmp.Compare(a.path, b.path))
	})
	for _, p := range e.programs {
		e.report.Programs = append(e.report.Programs, describeProgram(p))
	}
	return nil
}

// withLarger adds a file to the largest ones, if it is one; of equal ones the first stay.
func withLarger(largest []rootfs.File, f rootfs.File) []rootfs.File {
	i, _ := slices.BinarySearchFunc(largest, f, func(a, b rootfs.File) int {
		return cmp.Or(cmp.Compare(b.Header.Size, a.Header.Size), -1) // behind those of its size
	})
	if i == maxLargest {
		return largest
	}
	largest = slices.Insert(largest, i, f)
	return largest[:min(len(largest), maxLargest)]
}

func (e *examination) rank(p goProgram) int {
	if e.started(p.file) {
		return 0
	}
	return 1
}

// takeKnown adds the programs that need not be read, and returns the other files.
func (e *examination) takeKnown(files []rootfs.File) (others []rootfs.File, err error) {
	if e.o.Known == nil {
		return files, nil
	}
	for _, f := range files {
		diffID, err := v1.NewHash(e.report.Layers[f.Layer].DiffID)
		if err != nil {
			return nil, err
		}
		b := e.o.Known(diffID, "/"+f.Header.Name)
		if b == nil {
			others = append(others, f)
		} else if e.room(f) {
			e.programs = append(e.programs, goProgram{b, f.Path, f, f.Header.Size})
		}
	}
	return others, nil
}

// room tells whether one more program may be read.
func (e *examination) room(f rootfs.File) bool {
	if len(e.programs) < maxPrograms || e.started(f) {
		return true
	}
	if len(e.programs) == maxPrograms {
		e.undecided("there are more than %d Go programs: the needs of the others were not read", maxPrograms)
	}
	return false
}

func (e *examination) readProgram(f rootfs.File, c rootfs.Content) error {
	if !e.room(f) {
		return nil
	}
	b, err := ReadBinary(c, c.Size)
	switch {
	case errors.Is(err, ErrNotGo):
		return nil
	case err != nil:
		e.undecided("%s could not be read: %v", f.Path, err)
		return nil
	}
	e.programs = append(e.programs, goProgram{b, f.Path, f, c.Size})
	return nil
}

func describeProgram(p goProgram) Program {
	out := Program{Path: p.path, Bytes: p.bytes, GoVersion: p.GoVersion, Main: p.MainPath, Arch: p.Arch}
	for _, n := range p.Needs {
		if n.Level > None {
			out.Needs = append(out.Needs, string(n.Kind)+": "+n.Level.String())
		}
	}
	return out
}

func (e *examination) undecided(format string, args ...any) {
	e.report.Undecided = append(e.report.Undecided, fmt.Sprintf(format, args...))
}

func (e *examination) find(f Finding) {
	if len(f.Evidence) > maxEvidence {
		f.Evidence = append(f.Evidence[:maxEvidence:maxEvidence], fmt.Sprintf("and %d more", len(f.Evidence)-maxEvidence))
	}
	e.report.Findings = append(e.report.Findings, f)
}

// imageRoot is an image's files as an [Existing].
type imageRoot struct {
	ctx     context.Context // of the call that it lives in
	fs      *rootfs.FS
	volumes map[string]struct{} // of the config
}

// OpenRoot reads the files of an image. The context is that of all reading later.
func OpenRoot(ctx context.Context, img v1.Image) (Existing, error) {
	root, err := rootfs.Open(ctx, img, rootfs.Options{Look: func(_ int, f rootfs.Entry, content io.Reader) (any, error) {
		n, err := look(f.Header, content)
		if n.saysNothing() {
			return kindNotes[kindOther], err
		}
		return n, err
	}})
	if err != nil {
		return nil, err
	}
	return imageRoot{ctx: ctx, fs: root}, nil
}

func (r imageRoot) Stat(name string, enter func(File) bool) (File, error) {
	pass := func(dir rootfs.File) bool { return enter == nil || enter(fileOf(dir)) }
	f, err := r.fs.FindBy(name, pass)
	if _, ok := r.volumes[name]; ok && errors.Is(err, fs.ErrNotExist) {
		// A volume that is made when the image runs begins as a folder of the superuser's.
		return File{Path: name, Mode: 0o755, Dir: true}, nil
	}
	if err != nil {
		return File{}, err
	}
	return fileOf(f), nil
}

func fileOf(f rootfs.File) File {
	return File{
		Path: f.Path, Mode: f.Header.Mode, UID: f.Header.Uid, GID: f.Header.Gid, Dir: f.IsDir(), Size: f.Header.Size, Link: f.Header.Linkname,
	}
}

func (r imageRoot) ReadDir(name string) ([]File, error) {
	all, err := r.fs.ReadDir(name)
	if err != nil {
		return nil, err
	}
	files := make([]File, len(all))
	for i, f := range all {
		files[i] = fileOf(f)
	}
	return files, nil
}

// maxRead bounds what is read of one file for what it says: a bundle of CAs, all time zones.
const maxRead = 4 << 20

// ReadFile returns the text that was noted, or reads the layer again.
func (r imageRoot) ReadFile(name string) ([]byte, error) {
	f, err := r.fs.Find(name)
	if err != nil {
		return nil, err
	}
	if n, _ := f.Note.(note); n.text != nil {
		return n.text, nil
	}
	return r.fs.ReadFile(r.ctx, name, maxRead)
}

// knownCA says whether a file holds a certificate, where that was seen while its layer was read.
func (r imageRoot) knownCA(name string) (yes, sure bool) {
	f, err := r.fs.Find(name)
	if err != nil || !f.IsRegular() {
		return false, true
	}
	n, _ := f.Note.(note)
	return n.ca, f.Header.Size <= maxText && !foreign(path.Clean("/"+f.Header.Name))
}
