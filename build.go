package skiff

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	commonexptypes "github.com/moby/buildkit/exporter/exptypes"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/util/entitlements"
	"golang.org/x/mod/modfile"

	"github.com/skiff-build/skiff/internal/dockerfile"
	"github.com/skiff-build/skiff/internal/engine"
	"github.com/skiff-build/skiff/internal/goaware"
	"github.com/skiff-build/skiff/internal/gobase"
	"github.com/skiff-build/skiff/internal/gotoolchain"
	"github.com/skiff-build/skiff/internal/localdir"
	"github.com/skiff-build/skiff/internal/progress"
	"github.com/skiff-build/skiff/internal/secrets"
	"github.com/skiff-build/skiff/internal/snapshot"
)

// Rewrites are the names of what knowing Go allows to change in a build without changing its result; they are printed when
// they are applied.
var Rewrites = goaware.Rewrites

// ErrFindings is what [State.Check] returns where the Dockerfile could be better.
var ErrFindings = dockerfile.ErrFindings

// PrintWarnings writes what a build warned of, with the lines of the Dockerfile.
func PrintWarnings(w io.Writer, warnings []client.VertexWarning) {
	dockerfile.PrintWarnings(w, warnings)
}

// build is one build while it runs.
type build struct {
	state   *State
	o       BuildOptions
	df      *dockerfile.Dockerfile
	engine  *engine.Engine
	policy  gobase.Policy
	tools   *gotoolchain.Toolchains
	bases   *gobase.Bases
	loans   *gobase.Loans
	agents  *secrets.Agents
	display *progress.Display // nil shows nothing
	steps   *steps
	doctor  *checkup
	multi   bool // the result is an index, even of one platform

	generation string // of Go's module cache

	mu        sync.Mutex
	explained []Explained // guarded by mu: steps run side by side
}

// Build builds o and makes what o.Outputs asks for. Errors name the step; where they are about a line of the Dockerfile,
// [DockerfileSource] prints it. What failed leaves no image and no half-written file.
func (s *State) Build(ctx context.Context, o BuildOptions) (*BuildResult, error) {
	for i := 0; ; i++ {
		res, err := s.buildOnce(ctx, o)
		// A layer that was damaged is dropped by now. The engine makes one again that a step needs; where it came up when the image
		// was written, all that stands on it is made anew.
		var d *snapshot.Damaged
		if i == maxRebuilds || o.File == "-" || !errors.As(err, &d) || ctx.Err() != nil {
			return res, err
		}
	}
}

// maxRebuilds bounds what is tried where layers are damaged: a disk that is failing has no end of them.
const maxRebuilds = 3

func (s *State) buildOnce(ctx context.Context, o BuildOptions) (*BuildResult, error) {
	b, err := s.newBuild(o)
	if err != nil {
		return nil, err
	}
	res, err := b.run(ctx)
	// The display ends before an error is printed, and after all that can be shown has been.
	err = errors.Join(err, b.close())
	if err != nil {
		return nil, err
	}
	return res, nil
}

// Check runs the lint rules of the Dockerfile frontend and writes what they found to w; nothing is built. It returns
// [ErrFindings] where they found something.
func (s *State) Check(ctx context.Context, o BuildOptions, w io.Writer, asJSON bool) error {
	b, err := s.newBuild(o)
	if err != nil {
		return err
	}
	err = b.df.Check(ctx, b.engine, w, asJSON)
	return errors.Join(err, b.close())
}

// newBuild checks o and opens what a build needs. On an error nothing stays open.
func (s *State) newBuild(o BuildOptions) (_ *build, err error) {
	b := &build{state: s}
	allow, mode, err := b.read(o)
	if err != nil {
		return nil, option(err)
	}
	if err := secrets.Check(o.Secrets); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = b.close()
		}
	}()
	o = b.o
	if b.df, err = dockerfile.Open(s.dockerfileOptions(o)); err != nil {
		return nil, err
	}
	if o.Progress != nil {
		if b.display, err = progress.New(mode, o.Progress); err != nil {
			return nil, err
		}
	}
	if b.agents, err = secrets.NewAgents(o.SSH); err != nil {
		return nil, err
	}
	b.steps = &steps{show: b.show}
	text, err := b.df.Text()
	if err != nil {
		return nil, err
	}
	var from *origin
	if text != nil {
		from = &origin{File: b.df.File(), Target: o.Target, Text: text}
	}
	b.doctor = newCheckup(s, o, b.steps, from)
	images, err := s.imagesFor(b.steps.note, o.Pull)
	if err != nil {
		return nil, err
	}
	b.tools = gotoolchain.New(gotoolchain.StoreState(s.store), nil, b.steps.note)
	b.bases, b.loans = gobase.NewBases(b.tools), gobase.NewLoans(b.tools)
	bases := &goBases{bases: b.bases}
	b.engine, err = engine.New(engine.Options{
		Store: s.store, Locals: selections(b.df.Locals()), OCILayouts: b.df.Layouts(),
		Images: images, Bases: bases, StepEnv: b.stepEnv, Working: bases.working, Note: b.steps.note, Confine: b.confine, ModuleSums: b.tools.ModuleSums,
		Secrets: secrets.Reader(o.Secrets), SSH: b.agents.Socket, Allow: allow, Doors: doors(o.BuildArgs), Limits: o.Limits,
		NoCache: o.NoCache, Pull: o.Pull == PullAlways, Status: b.status, Explain: b.explainer(),
	})
	if err != nil {
		return b, err
	}
	b.engine.Sweep(context.Background())
	return b, nil
}

// explainer remembers what steps are made of, and where somebody asked collects why they run.
func (b *build) explainer() *engine.Explainer {
	x := &engine.Explainer{Project: b.project() + "\n" + strings.Join(b.o.Platforms, ",")}
	if b.o.Explain {
		x.Because = func(step, why string) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.explained = append(b.explained, Explained{step, why})
		}
	}
	return x
}

// explain hands out what the explainer collected. out is nil after a failed export.
func (b *build) explain(out *BuildResult) {
	if out == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	out.Explained = b.explained
	if b.o.Explain && len(out.Explained) == 0 {
		b.steps.note("explain: nothing ran: every step is as it was")
	}
}

// read takes the options that are read before anything is opened: what is wrong with one of them is the caller's mistake.
func (b *build) read(o BuildOptions) (allow map[entitlements.Entitlement]bool, mode string, err error) {
	for _, name := range o.Faithful {
		if name != "all" && !slices.Contains(Rewrites, name) {
			return nil, "", fmt.Errorf("faithful %q: choose of %s, or all", name, strings.Join(Rewrites, ", "))
		}
	}
	if allow, err = entitled(o); err != nil {
		return nil, "", err
	}
	if o.Tags, err = canonical(o.Tags); err != nil {
		return nil, "", err
	}
	if mode, err = progress.Mode(o.ProgressMode, os.Getenv); err != nil {
		return nil, "", err
	}
	if err := checkIDs(o.Ignore); err != nil {
		return nil, "", err
	}
	if _, err := annotations(o.Annotations, ""); err != nil {
		return nil, "", err
	}
	b.o = o
	b.policy, err = goPolicy(o.GoBase)
	return allow, mode, err
}

// status shows what the engine does, and notes whether anything ran: after an unchanged build there is nothing to clean up.
func (b *build) status(s *client.SolveStatus) {
	for _, v := range s.Vertexes {
		if v.Completed != nil && !v.Cached && !strings.HasPrefix(v.Name, "[internal]") {
			b.state.wrote(b.o.KeepStorage)
		}
	}
	b.show(s)
}

func (b *build) show(s *client.SolveStatus) {
	if b.display != nil {
		b.display.Status(s)
	}
}

func (b *build) close() error {
	var errs []error
	if b.engine != nil {
		errs = append(errs, b.engine.Close())
	}
	if b.agents != nil {
		errs = append(errs, b.agents.Close())
	}
	if b.loans != nil {
		errs = append(errs, b.loans.Close())
	}
	if b.display != nil {
		b.display.Close()
	}
	if b.df != nil {
		errs = append(errs, b.df.Close())
	}
	return errors.Join(errs...)
}

// dockerfileOptions are the frontend's part of o.
func (s *State) dockerfileOptions(o BuildOptions) dockerfile.Options {
	return dockerfile.Options{
		Context: o.Context, File: o.File, Stdin: o.Stdin, Target: o.Target, BuildArgs: o.BuildArgs, Labels: o.Labels,
		Platforms: o.Platforms, Contexts: o.Contexts, NoCache: o.NoCache, NoCacheFilter: o.NoCacheFilter, Pull: o.Pull == PullAlways,
		Network: o.Network, AddHosts: o.AddHosts, Ulimits: o.Ulimits, ShmSize: o.ShmSize,
	}
}

func selections(dirs map[string]string) map[string]localdir.Selection {
	out := map[string]localdir.Selection{}
	for name, dir := range dirs {
		out[name] = localdir.Selection{Dir: dir}
	}
	return out
}

// entitled reads --allow. Nothing else gives leave: --network=host asks for the host's network as RUN --network=host does.
func entitled(o BuildOptions) (map[entitlements.Entitlement]bool, error) {
	allow := map[entitlements.Entitlement]bool{}
	for _, text := range o.Allow {
		e, _, err := entitlements.Parse(text)
		if err != nil || e != entitlements.EntitlementNetworkHost && e != entitlements.EntitlementSecurityInsecure {
			return nil, fmt.Errorf("allow %q: choose network.host or security.insecure", text)
		}
		allow[e] = true
	}
	return allow, nil
}

// doors are the build arguments by which whoever builds names proxies: a step reaches them on this machine as well.
func doors(args map[string]string) []string {
	var out []string
	for name, value := range args {
		if n := strings.ToLower(name); n == "goproxy" || strings.HasSuffix(n, "_proxy") && n != "no_proxy" {
			out = append(out, name+"="+value)
		}
	}
	return out
}

// epochKey is where the frontend's metadata has SOURCE_DATE_EPOCH.
const epochKey = commonexptypes.ExporterEpochKey

// built is a platform's part of the frontend's result.
type built struct {
	id     string // "linux/amd64"; of a single result, too
	ref    gwclient.Reference
	config []byte
	base   []byte // config of the image that the last stage starts from, nil for none
	epoch  string // seconds since 1970, "" for none
	plat   exptypes.Platform
}

// run builds every platform and exports the result.
func (b *build) run(ctx context.Context) (*BuildResult, error) {
	base := b.goBaseOptions()
	for {
		res, err := b.frontend(ctx, base)
		if err != nil {
			return nil, err
		}
		b.multi = len(res.Refs) > 0
		parts, err := split(res)
		if err != nil {
			return nil, err
		}
		err = b.evaluate(ctx, parts)
		var unserved *engine.UnservedError
		var failed *engine.StepError
		switch {
		case errors.As(err, &unserved): // the base learns from it
			if err := base.ServeNot(placeOf(err), unserved.Hints, unserved.Why); err != nil {
				return nil, err
			}
		case errors.As(err, &failed) && base.TryNewer(placeOf(err), failed.Hints):
		case err != nil:
			return nil, err
		default:
			if err := base.Newer.Remember(gotoolchain.StoreState(b.state.store)); err != nil {
				return nil, err
			}
			defer b.engine.FinishSharing(shareWait)
			out, err := b.export(ctx, parts)
			b.explain(out)
			return out, err
		}
	}
}

// placeOf is where in the Dockerfile an error comes from, "Dockerfile:12"; empty where it does not say.
func placeOf(err error) string {
	for _, s := range errdefs.Sources(err) {
		if s.Info != nil && len(s.Ranges) > 0 {
			return fmt.Sprintf("%s:%d", s.Info.Filename, s.Ranges[0].Start.Line)
		}
	}
	return ""
}

// frontend runs the Dockerfile frontend over the chain of what skiff adds to the engine: the built-in Go base decides around
// it, what knowing Go allows is rewritten under it.
func (b *build) frontend(ctx context.Context, base gobase.Options) (*gwclient.Result, error) {
	var err error
	if b.generation, err = goaware.Generation(b.state.store); err != nil {
		return nil, err
	}
	cgo, err := goaware.CgoGeneration(b.state.store, b.o.NoCache || len(b.o.NoCacheFilter) > 0)
	if err != nil {
		return nil, err
	}
	c := goaware.Wrap(b.engine, goaware.Options{
		Faithful: slices.Contains(b.o.Faithful, "all"), Off: b.o.Faithful, Note: b.steps.note, Generation: b.generation, Cgo: cgo, Project: b.project(),
	})
	f := gobase.Wrap(b.df.Build, base)
	return f(ctx, c)
}

// project names this Dockerfile: its path and its context, as the folder that it is now. One that was moved, or that
// stands in the place of another, is another project: what the caches of that one hold it has not to answer for.
func (b *build) project() string {
	context, file := b.o.Context, b.o.File
	if file == "" {
		file = filepath.Join(context, "Dockerfile")
	}
	for _, p := range []*string{&context, &file} {
		if abs, err := filepath.Abs(*p); err == nil && *p != "-" {
			*p = abs
		}
	}
	return strings.Join([]string{
		file, context, fmt.Sprint(os.Getuid()), folderID(context), folderID(filepath.Join(context, ".git")), modulePath(context),
	}, "\n")
}

// modulePath is what the go.mod of a folder says; "" where there is none.
func modulePath(dir string) string {
	data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return ""
	}
	return modfile.ModulePath(data)
}

// split takes the frontend's result apart by platform.
func split(res *gwclient.Result) ([]built, error) {
	var platforms exptypes.Platforms
	if err := json.Unmarshal(res.Metadata[exptypes.ExporterPlatformsKey], &platforms); err != nil {
		return nil, fmt.Errorf("read the frontend's result: platforms: %w", err)
	}
	part := func(p exptypes.Platform, ref gwclient.Reference, suffix string) built {
		return built{
			id: p.ID, ref: ref, plat: p, epoch: string(res.Metadata[epochKey+suffix]),
			config: res.Metadata[exptypes.ExporterImageConfigKey+suffix],
			base:   res.Metadata[exptypes.ExporterImageBaseConfigKey+suffix],
		}
	}
	if len(res.Refs) == 0 && len(platforms.Platforms) == 1 {
		return []built{part(platforms.Platforms[0], res.Ref, "")}, nil
	}
	var parts []built
	for _, p := range platforms.Platforms {
		ref, ok := res.FindRef(p.ID)
		if !ok {
			return nil, fmt.Errorf("read the frontend's result: no reference for %s", p.ID)
		}
		parts = append(parts, part(p, ref, "/"+p.ID))
	}
	return parts, nil
}
