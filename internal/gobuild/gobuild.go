// Package gobuild makes the layers of images from Go packages: it runs the machine's go command as its user would, and packs
// each program into a layer of its own.
//
// What goes in is a list of folders, package patterns and import paths ([Options]); what comes out is, for each platform, the
// main packages among them as [Program]s, whose layers lie in the store. There is one `go build` a platform. Nothing here
// needs a namespace or a privilege: layers are made of tar entries alone, and the same sources, settings and toolchain give the
// same bytes on every machine.
//
// What the go command read is remembered (inputs.go), so that no go process starts when none of it changed, and only the
// programs are linked again that a change can reach.
package gobuild

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/skiff-build/skiff/internal/store"
)

// Options say what to build. Packages, Platforms and Store are required.
type Options struct {
	Packages  []string // folders, package patterns or import paths, as `go build` takes them
	Platforms []Platform
	Store     *store.Store

	LDFlags, GCFlags, Tags string   // as of go build
	Flags                  []string // more of go build, before those
	Env                    []string // "KEY=VALUE" for the go command, over the environment
	Debug                  bool     // keep symbol table and debug information
	FuncAlign              bool     // functions begin anywhere, not at the multiples of 16 or 32 bytes that processors like
	NoInline               bool     // no function is inlined
	VCS                    bool     // stamp the state of the version control system into the programs
	Again                  bool     // take nothing of earlier builds; go's own cache still serves

	Bare      bool      // layers hold the programs alone, not the folders above them: there is an image below
	Epoch     time.Time // time of the files in layers; the zero time is 1970
	KeepTimes bool      // files have the time at which they were built instead

	// Planned is told of the programs of a platform, in the order of their import paths, before the first is compiled; its error
	// ends the build. Of each it knows ImportPath, Name, Path and Dir. Nil is nobody.
	Planned func([]Program) error

	// Inspect is asked of each program that was built for what is to be remembered beside it; nil for nothing. Facts names
	// the version of its answers: others than those are asked for again.
	Inspect func(path string, p Platform) ([]byte, error)
	Facts   string

	Log func(line string) // what the go command prints while it succeeds; nil drops it
}

// Program is a main package, built for one platform.
type Program struct {
	ImportPath string
	Name       string // of the file, as go build chooses it: the last element of the path, without a version
	Dir        string // folder of the package

	Path   string // of the file in the image, absolute
	Size   int64  // bytes of the file
	Layer  v1.Hash
	Bytes  int64 // of the layer, an uncompressed tar
	Facts  []byte
	Module Module // that the main package is of
	VCS    VCS
	Built  bool // by this call; false: it was remembered
}

// Module is the main module of a program, as its build info names it.
type Module struct{ Path, Version string }

// VCS is what the build info says of the state of the sources; empty without [Options.VCS].
type VCS struct {
	Revision string
	Time     time.Time
	Modified bool
}

// Result is what a platform came to: its programs in the order of their import paths.
type Result struct {
	Platform Platform
	Programs []Program
}

// Build builds the packages for each platform, in the order of o.Platforms. What the go command says about code that does not
// compile is an *[ExitError].
func Build(ctx context.Context, o Options) ([]Result, error) {
	if o.Log == nil {
		o.Log = func(string) {}
	}
	where, err := locate(o.Packages)
	if err != nil {
		return nil, err
	}
	results := make([]Result, len(o.Platforms))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(1, runtime.GOMAXPROCS(0)/2)) // a go build keeps all processors busy but while it links
	for i, p := range o.Platforms {
		g.Go(func() error {
			b := &build{o: o, platform: p, dir: where.dir, patterns: where.patterns}
			programs, err := b.run(ctx)
			results[i] = Result{Platform: p, Programs: programs}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return results, nil
}

// Mains are the main packages that o.Packages name on the first platform, in the order of their import paths; of each ImportPath,
// Name, Path and Dir are known. Where is the folder that the go command runs in.
func Mains(ctx context.Context, o Options) (programs []Program, where string, err error) {
	o.Log = func(string) {}
	place, err := locate(o.Packages)
	if err != nil {
		return nil, "", err
	}
	b := &build{o: o, platform: o.Platforms[0], dir: place.dir, patterns: place.patterns}
	if b.golang, err = goPath(); err != nil {
		return nil, "", err
	}
	if err := b.environment(); err != nil {
		return nil, "", err
	}
	if err := b.settings(ctx); err != nil {
		return nil, "", err
	}
	args := slices.Concat([]string{"list", "-e", "-json=Dir,ImportPath,Name,Error"}, b.flags, []string{"--"}, b.patterns)
	out, err := b.goCommand(ctx, args...)
	if err != nil {
		return nil, "", err
	}
	list, err := readList(out)
	if err != nil {
		return nil, "", err
	}
	mains, err := mainsOf(list)
	if err != nil {
		return nil, "", err
	}
	b.o.Planned = func(p []Program) error { programs = p; return nil }
	err = b.planned(mains)
	return programs, place.dir, err
}

// Where is the folder in which the go command runs for packages: the working directory, or the root of another module.
func Where(packages []string) (string, error) {
	place, err := locate(packages)
	return place.dir, err
}

// build is the build for one platform.
type build struct {
	o        Options
	platform Platform
	golang   string   // path of the go command
	dir      string   // where it runs
	patterns []string // as it gets them
	env      []string // its environment
	added    []string // what skiff adds to the user's
	flags    []string // of go build and go list
	goenv    goEnv
}

// run makes the programs. Which there are is known from the last build, or asked of go list; which have to be built again shows
// by their keys.
func (b *build) run(ctx context.Context) ([]Program, error) {
	var err error
	if b.golang, err = goPath(); err != nil {
		return nil, err
	}
	if err := b.environment(); err != nil {
		return nil, err
	}
	key := b.key()
	m := b.recall(key)
	if m == nil {
		var mains []mainPackage
		if m, mains, err = b.learn(ctx); err != nil {
			return nil, err
		}
		if m == nil {
			if err := b.planned(mains); err != nil {
				return nil, err
			}
			return b.make(ctx, mains)
		}
	}
	if err := b.planned(m.mains); err != nil {
		return nil, err
	}
	return b.programs(ctx, key, m)
}

func (b *build) planned(mains []mainPackage) error {
	if b.o.Planned == nil {
		return nil
	}
	var programs []Program
	for _, m := range mains {
		p := newProgram(m.path)
		p.Dir = m.dir
		programs = append(programs, p)
	}
	return b.o.Planned(programs)
}

// Check has `go vet` look at the packages, platform by platform, and builds nothing. What vet finds is an *[ExitError], as is code
// that does not compile; o.Planned is asked before.
func Check(ctx context.Context, o Options) error {
	where, err := locate(o.Packages)
	if err != nil {
		return err
	}
	for _, p := range o.Platforms {
		b := &build{o: o, platform: p, dir: where.dir, patterns: where.patterns}
		if err := b.check(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (b *build) check(ctx context.Context) (err error) {
	if b.golang, err = goPath(); err != nil {
		return err
	}
	if err := b.environment(); err != nil {
		return err
	}
	if err := b.settings(ctx); err != nil {
		return err
	}
	list, err := b.list(ctx)
	if err != nil {
		return err
	}
	mains, err := mainsOf(list)
	if err != nil {
		return err
	}
	if err := b.planned(mains); err != nil {
		return err
	}
	args := slices.Concat([]string{"vet"}, b.flags, []string{"--"})
	for _, m := range mains {
		args = append(args, m.path)
	}
	_, err = b.goCommand(ctx, args...)
	return err
}

// learn asks the go command for the packages. The memory is nil where it is not to be remembered. Where a file was written to while
// go list ran, or so shortly before that nobody can tell, it is asked once more.
func (b *build) learn(ctx context.Context) (*memory, []mainPackage, error) {
	if err := b.settings(ctx); err != nil {
		return nil, nil, err
	}
	for again := false; ; again = true {
		began := time.Now()
		list, err := b.list(ctx)
		if err != nil {
			return nil, nil, err
		}
		mains, err := mainsOf(list)
		if err != nil {
			return nil, nil, err
		}
		m, err := b.remember(list)
		switch {
		case err != nil || m == nil || m.before(began):
			return m, mains, err
		case again:
			return nil, mains, nil
		}
	}
}

// programs takes from the store what is there of the programs of m, and builds the others.
func (b *build) programs(ctx context.Context, key store.Key, m *memory) ([]Program, error) {
	if err := checkNames(m.mains); err != nil {
		return nil, err
	}
	programs, keys := make([]Program, len(m.mains)), m.programKeys(b.recipe())
	var missing []mainPackage
	var at []int
	for i, main := range m.mains {
		if p, ok := b.known(keys[i]); ok {
			programs[i] = p
			programs[i].Dir = main.dir
			continue
		}
		missing, at = append(missing, main), append(at, i)
	}
	if len(missing) > 0 {
		made, err := b.make(ctx, missing)
		if err != nil {
			return nil, err
		}
		for n, p := range made {
			programs[at[n]] = p
		}
		if !m.stands() {
			return programs, nil // a file was written to meanwhile: nobody knows what go has read
		}
	}
	for _, i := range at {
		if err := b.keep(keys[i], programs[i]); err != nil {
			return nil, err
		}
	}
	if !m.dirty {
		return programs, nil
	}
	return programs, b.o.Store.Put(recordMemory, key, memoryRecord{Data: m.encode()})
}

// make builds mains by one go build and packs each.
func (b *build) make(ctx context.Context, mains []mainPackage) ([]Program, error) {
	out, err := os.MkdirTemp("", "skiff-go-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(out)
	args := slices.Concat([]string{"build"}, b.flags, []string{"-o", out + string(os.PathSeparator), "--"})
	for _, m := range mains {
		args = append(args, m.path)
	}
	if _, err := b.goCommand(ctx, args...); err != nil {
		return nil, err
	}
	programs := make([]Program, len(mains))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, m := range mains {
		g.Go(func() (err error) {
			if programs[i], err = b.pack(ctx, out, m); err != nil {
				return fmt.Errorf("pack %s: %w", m.path, err)
			}
			return nil
		})
	}
	return programs, g.Wait()
}
