package skiff

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/platforms"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/skiff-build/skiff/internal/gobuild"
	"github.com/skiff-build/skiff/internal/progress"
)

// GoExitError is a go command that failed; its Output says best why.
type GoExitError = gobuild.ExitError

// NoMainError says that there is no program among the packages that were named.
type NoMainError = gobuild.NoMainError

// GoOptions say what to make of Go packages without a Dockerfile. Only Packages is required.
type GoOptions struct {
	Packages []string // folders, package patterns or import paths

	LDFlags, GCFlags, Tags string       // of go build; LDFlags come after -s -w
	Env                    []string     // "NAME=VALUE" for the go command
	Debug                  bool         // keep symbol table and debug information
	LabelVCS               bool         // revision and date into the binary and the labels
	Warn                   func(string) // is told what of ko's configuration is not served; nil drops it
	Optimize               string       // "size" tries what makes programs smaller, see [SizeChoice]; "" is as usual

	Base       string   // image to build on, "scratch" for none; "" is that of ko's configuration, else none
	Add        []Added  // files beside the program
	Entrypoint []string // the first is a program or a path; nil is the only program
	Cmd        []string
	Expose     []string // "PORT[/PROTOCOL]"
	User       string   // "" is 65532, or the base's where that is not root
	WorkDir    string   // "" is the base's, or /
	ImageEnv   []string // "NAME=VALUE"

	flags []string // of go build, from ko's configuration
}

// Added is a file or folder for an image: Source on this machine, Target an absolute path in the image.
type Added struct{ Source, Target string }

// goBuild is one build of Go packages while it runs.
type goBuild struct {
	state   *State
	o       BuildOptions
	g       GoOptions
	targets []gobuild.Platform
	prefix  bool // a name is a prefix: each program is an image of its own
	epoch   time.Time
	display *progress.Display
	steps   *steps
	choices []SizeChoice
	bases   map[gobuild.Platform]*goBaseImage // found before anything is compiled
}

// BuildGo builds Go packages into one image, or where a name in o.Tags ends in a slash, into one for each main package, and makes
// what o.Outputs asks for. Of o count what is not about a Dockerfile. Where code does not compile the error is a [*GoExitError].
func (s *State) BuildGo(ctx context.Context, o BuildOptions, g GoOptions) ([]*BuildResult, error) {
	opts, gs, err := koGroups(ctx, o, g)
	if err != nil {
		return nil, err
	}
	var results []*BuildResult
	for i := range gs {
		b, err := s.newGoBuild(opts[i], gs[i])
		if err != nil {
			return nil, err
		}
		if err := b.alone(len(gs)); err != nil {
			return nil, err
		}
		res, err := b.run(ctx)
		if b.display != nil {
			b.display.Close()
		}
		if err != nil {
			return nil, err
		}
		results = append(results, res...)
	}
	return results, nil
}

// alone refuses several groups of ko's configuration where there is one image.
func (b *goBuild) alone(groups int) error {
	if groups == 1 {
		return nil
	}
	if !b.prefix {
		return option(errors.New(".ko.yaml: the programs are built in different ways, or on different bases: for an image of each end the name in a slash, -t NAME/"))
	}
	return b.singleDestination(groups)
}

func (s *State) newGoBuild(o BuildOptions, g GoOptions) (*goBuild, error) {
	b := &goBuild{state: s, o: o, g: g, epoch: time.Unix(0, 0).UTC()}
	mode, err := b.read()
	if err != nil {
		return nil, option(err)
	}
	if o.Progress != nil {
		if b.display, err = progress.New(mode, o.Progress); err != nil {
			return nil, err
		}
		b.steps = &steps{show: b.display.Status}
	} else {
		b.steps = &steps{}
	}
	return b, nil
}

// read takes the options that are read before anything is opened, and returns the mode of the progress.
func (b *goBuild) read() (mode string, err error) {
	o := b.o
	if b.targets, err = goPlatforms(o.Platforms); err != nil {
		return "", err
	}
	if text := o.BuildArgs["SOURCE_DATE_EPOCH"]; text != "" {
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return "", fmt.Errorf("SOURCE_DATE_EPOCH %q: want seconds since 1970", text)
		}
		b.epoch = time.Unix(seconds, 0).UTC()
	}
	if err := b.checkTags(); err != nil {
		return "", err
	}
	if err := b.g.check(); err != nil {
		return "", err
	}
	if err := checkIDs(o.Ignore); err != nil {
		return "", err
	}
	if _, err := annotations(o.Annotations, ""); err != nil {
		return "", err
	}
	return progress.Mode(o.ProgressMode, os.Getenv)
}

// goPlatforms are the platforms to build for: those of --platform, else linux on the architecture of GOARCH or this machine.
func goPlatforms(list []string) ([]gobuild.Platform, error) {
	if len(list) == 0 {
		if system := os.Getenv("GOOS"); system != "" && system != "linux" {
			return nil, fmt.Errorf("GOOS=%s: images of Go packages are for linux: unset it, or say --platform linux/%s", system, runtime.GOARCH)
		}
		arch := os.Getenv("GOARCH")
		if arch == "" {
			arch = runtime.GOARCH
		}
		return []gobuild.Platform{{OS: "linux", Arch: arch}}, nil
	}
	var out []gobuild.Platform
	seen := map[gobuild.Platform]bool{}
	for _, text := range list {
		p, err := platforms.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("platform %q: %w", text, err)
		}
		p = platforms.Normalize(p)
		t := gobuild.Platform{OS: p.OS, Arch: p.Architecture, Variant: p.Variant}
		if !seen[t] {
			out = append(out, t)
		}
		seen[t] = true
	}
	return out, nil
}

// checkTags finds out whether names are prefixes: then all are.
func (b *goBuild) checkTags() error {
	prefixes := 0
	for _, t := range b.o.Tags {
		if _, _, ok := tagPrefix(t); ok {
			prefixes++
		}
	}
	b.prefix = prefixes > 0
	if b.prefix && prefixes < len(b.o.Tags) {
		return fmt.Errorf("tags %s: one that ends in a slash names an image for each program, the others a single one", strings.Join(b.o.Tags, " "))
	}
	if b.prefix && len(b.g.Entrypoint) > 0 {
		return errors.New("entrypoint: with a name that ends in a slash each program is the entrypoint of an image of its own")
	}
	var err error
	if !b.prefix {
		b.o.Tags, err = canonical(b.o.Tags)
	}
	return err
}

// tagPrefix takes PREFIX/ or PREFIX/:TAG apart.
func tagPrefix(name string) (prefix, tag string, ok bool) {
	if i := strings.LastIndex(name, "/:"); i > 0 {
		return name[:i+1], name[i+1:], true
	}
	return name, "", strings.HasSuffix(name, "/")
}

// named are the names of the image of a program.
func (b *goBuild) named(program string) ([]string, error) {
	var names []string
	for _, t := range b.o.Tags {
		prefix, tag, _ := tagPrefix(t)
		names = append(names, prefix+program+tag)
	}
	return canonical(names)
}

// run builds the programs and the images.
func (b *goBuild) run(ctx context.Context) ([]*BuildResult, error) {
	if err := b.findBases(ctx); err != nil {
		return nil, err
	}
	var results []gobuild.Result
	var names []string
	for _, t := range b.targets {
		names = append(names, t.String())
	}
	title := fmt.Sprintf("go build %s for %s", strings.Join(b.g.Packages, " "), strings.Join(names, ", "))
	err := b.steps.run(ctx, title, func(ctx context.Context, st *step) (err error) {
		build := gobuild.Build
		if b.g.Optimize == "size" {
			build = b.optimize
		}
		results, err = build(ctx, b.programOptions(st))
		if err == nil && !anyBuilt(results) {
			st.cached()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	images, err := b.plan(results)
	if err != nil {
		return nil, err
	}
	if anyBuilt(results) || len(b.g.Add) > 0 {
		b.state.wrote(b.o.KeepStorage)
	}
	out, reports := make([]*BuildResult, len(images)), make([]func() error, len(images))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, img := range images {
		g.Go(func() (err error) {
			out[i], reports[i], err = b.export(ctx, img)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	b.state.sync()
	for _, wait := range reports {
		if err := wait(); err != nil {
			return nil, err
		}
	}
	out[0].SizeChoices = b.choices
	return out, nil
}

// findBases finds the base image for each platform.
func (b *goBuild) findBases(ctx context.Context) error {
	if !b.onBase() {
		return nil
	}
	b.bases = map[gobuild.Platform]*goBaseImage{}
	return b.steps.run(ctx, "load metadata for "+b.g.Base, func(ctx context.Context, st *step) (err error) {
		for _, t := range b.targets {
			if b.bases[t], err = b.base(ctx, t); err != nil {
				return err
			}
		}
		return nil
	})
}

// CheckGo looks at Go packages as [State.BuildGo] does before it compiles, and has `go vet` look at them; nothing is built. What vet
// finds is a [*GoExitError].
func (s *State) CheckGo(ctx context.Context, o BuildOptions, g GoOptions) error {
	opts, gs, err := koGroups(ctx, o, g)
	if err != nil {
		return err
	}
	for i := range gs {
		b, err := s.newGoBuild(opts[i], gs[i])
		if err != nil {
			return err
		}
		if err := b.alone(len(gs)); err != nil {
			return err
		}
		if err := b.check(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (b *goBuild) check(ctx context.Context) error {
	if b.display != nil {
		defer b.display.Close()
	}
	if err := b.findBases(ctx); err != nil {
		return err
	}
	return b.steps.run(ctx, "go vet "+strings.Join(b.g.Packages, " "), func(ctx context.Context, st *step) error {
		return gobuild.Check(ctx, b.programOptions(st))
	})
}

// planned refuses programs that make no images as they are asked for.
func (b *goBuild) planned(programs []gobuild.Program) error {
	_, err := b.plan([]gobuild.Result{{Programs: programs}})
	return err
}

func (b *goBuild) programOptions(st *step) gobuild.Options {
	return gobuild.Options{
		Packages: b.g.Packages, Platforms: b.targets, Store: b.state.store,
		Flags: b.g.flags, LDFlags: b.g.LDFlags, GCFlags: b.g.GCFlags, Tags: b.g.Tags, Env: b.g.Env, Debug: b.g.Debug, VCS: b.g.LabelVCS,
		Again: b.o.NoCache, Bare: b.onBase(), Epoch: b.epoch, KeepTimes: b.o.KeepTimes, Log: st.log,
		Planned: b.planned, Inspect: goFacts, Facts: factsVersion(),
	}
}

func anyBuilt(results []gobuild.Result) bool {
	for _, r := range results {
		for _, p := range r.Programs {
			if p.Built {
				return true
			}
		}
	}
	return false
}

// goImage is an image to be made: for each platform, in the order of the build's, its programs.
type goImage struct {
	tags      []string
	platforms []gobuild.Result
	entry     string // name of the program that is the entrypoint; "" for one that is no program
}

// plan deals the programs out to images.
func (b *goBuild) plan(results []gobuild.Result) ([]goImage, error) {
	first := results[0].Programs
	for _, r := range results[1:] {
		if err := samePrograms(results[0], r); err != nil {
			return nil, err
		}
	}
	if !b.prefix {
		entry, err := b.entry(first)
		return []goImage{{tags: b.o.Tags, platforms: results, entry: entry}}, err
	}
	if err := b.singleDestination(len(first)); err != nil {
		return nil, err
	}
	var images []goImage
	for i, p := range first {
		tags, err := b.named(p.Name)
		if err != nil {
			return nil, err
		}
		img := goImage{tags: tags, entry: p.Name}
		for _, r := range results {
			img.platforms = append(img.platforms, gobuild.Result{Platform: r.Platform, Programs: r.Programs[i : i+1]})
		}
		images = append(images, img)
	}
	return images, nil
}

func samePrograms(a, b gobuild.Result) error {
	there := map[string]bool{}
	for _, p := range a.Programs {
		there[p.ImportPath] = true
	}
	for _, p := range b.Programs {
		if !there[p.ImportPath] {
			return fmt.Errorf("%s is a main package for %s, and not for %s", p.ImportPath, b.Platform, a.Platform)
		}
		delete(there, p.ImportPath)
	}
	for missing := range there {
		return fmt.Errorf("%s is a main package for %s, and not for %s", missing, a.Platform, b.Platform)
	}
	return nil
}

// entry is the program that --entrypoint names, or the only one.
func (b *goBuild) entry(programs []gobuild.Program) (string, error) {
	var names []string
	for _, p := range programs {
		if len(b.g.Entrypoint) > 0 && b.g.Entrypoint[0] == p.Name {
			return p.Name, nil
		}
		names = append(names, p.Name)
	}
	switch {
	case len(b.g.Entrypoint) > 0 && strings.HasPrefix(b.g.Entrypoint[0], "/"):
		return "", nil
	case len(b.g.Entrypoint) > 0:
		return "", option(fmt.Errorf("entrypoint %s: the programs are %s", b.g.Entrypoint[0], strings.Join(names, ", ")))
	case len(programs) > 1:
		return "", option(fmt.Errorf("%d programs: %s: for an image of each end the name in a slash, -t NAME/; for one with all of them say which one it starts, --entrypoint %s",
			len(programs), strings.Join(names, ", "), names[0]))
	}
	return names[0], nil
}

// singleDestination refuses outputs that hold one image where there are several.
func (b *goBuild) singleDestination(images int) error {
	for _, o := range b.o.Outputs {
		if images > 1 && o.Type != "image" && o.Type != "registry" {
			return option(fmt.Errorf("output type=%s holds one image, and these are %d: build them one after the other", o.Type, images))
		}
	}
	return nil
}

// export makes an image and what was asked for of it. Its reports are there when the function that it returns has returned.
func (b *goBuild) export(ctx context.Context, img goImage) (res *BuildResult, reports func() error, err error) {
	o := b.o
	o.Tags = img.tags
	doctor := newCheckup(b.state, o, b.steps, nil)
	if doctor.known, err = knownOf(img); err != nil {
		return nil, nil, err
	}
	d := &delivery{state: b.state, o: o, steps: b.steps, doctor: doctor}
	res = &BuildResult{Built: time.Now()}
	title := "exporting"
	if b.prefix {
		title += " " + img.entry
	}
	err = b.steps.run(ctx, title, func(ctx context.Context, st *step) error {
		made, err := b.assemble(ctx, img)
		if err != nil {
			return err
		}
		st.did("exporting layers")
		for _, i := range made.images {
			n, err := b.state.library.UnpackedSize(ctx, i)
			if err != nil {
				return err
			}
			res.Size += n
		}
		res.StageBytes = res.Size
		reports, err = d.deliver(ctx, st, made, res)
		return err
	})
	return res, reports, err
}

// assemble makes the image of all platforms.
func (b *goBuild) assemble(ctx context.Context, img goImage) (content, error) {
	var parts []part
	for _, r := range img.platforms {
		platform := v1.Platform{OS: r.Platform.OS, Architecture: r.Platform.Arch, Variant: r.Platform.Variant}
		parts = append(parts, part{r.Platform.String(), platform, func(ctx context.Context, annotations map[string]string) (v1.Image, error) {
			return b.platformImage(ctx, img, r, annotations)
		}})
	}
	c, err := b.o.assemble(ctx, parts, len(parts) > 1)
	c.epoch = b.epoch
	return c, err
}
