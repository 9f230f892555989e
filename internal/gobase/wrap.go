package gobase

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"sync"

	"github.com/moby/buildkit/client/llb/sourceresolver"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/opencontainers/go-digest"

	"github.com/skiff-build/skiff/internal/gotoolchain"
	"github.com/skiff-build/skiff/internal/graph"
)

// Policy says whether the built-in base may stand for golang images.
type Policy string

// The policies of --go-base.
const (
	Auto    Policy = "auto"    // where the binary is sure to be the same, else the image
	Builtin Policy = "builtin" // always; a stage that cannot be served is an error, what may differ a warning
	Image   Policy = "image"   // never
)

// Options direct [Wrap]. Tools is required.
type Options struct {
	Policy Policy // empty: Auto
	Tools  *gotoolchain.Toolchains
	Pull   bool // floating tags are asked again
	// Local opens a local source by its name ("context"), to look for .git and go.mod; nil, or false, means that
	// it cannot be looked into: then a .git is taken to be there.
	Local func(name string) (fs.FS, bool)
	// Git reports whether this machine has a git that steps can be lent ([MachineGit]); nil: it has none.
	Git func() bool
	// Refused are stages that an earlier run of this build found not to be served, by the reference of the image: their steps asked
	// for more while they ran. Nil: none.
	Refused map[string]*Refusal
	// Newer is in which stages the Go of the tag, below 1.21, has failed. Nil: none, and nothing is learnt.
	Newer *Newer
	// Note gets one line for the user about a base that was used or refused; nil drops it.
	Note func(string)
}

// Refusal is a stage that the built-in base does not serve.
type Refusal struct {
	Ref     string // the image, as in the Dockerfile
	Where   string // "Dockerfile:12", empty where it is not known
	Command string // what asks for more, such as "make build"; empty where it is no command
	Why     string

	newer string // the line that go.mod asks for, above the tag's own; the image's Go may fail
}

func (r *Refusal) Error() string {
	var b strings.Builder
	if r.Where != "" {
		b.WriteString(r.Where + ": ")
	}
	if r.Command != "" {
		fmt.Fprintf(&b, "%q: ", r.Command)
	}
	b.WriteString(r.Why)
	return b.String()
}

// NoImageError says that a stage needs more than the built-in base has, and that the image cannot be had.
type NoImageError struct {
	Ref     string // as people write it, with its digest: the key of a build context that stands in for it
	Refusal *Refusal
	Err     error // why the image cannot be had
}

func (e *NoImageError) Error() string {
	return fmt.Sprintf("the built-in Go cannot stand in for the image: %v; the image cannot be had: %v", e.Refusal, e.Err)
}

func (e *NoImageError) Unwrap() []error { return []error{e.Refusal, e.Err} }

// Wrap returns f with the built-in base in the place of golang images where it serves. f runs once with
// provisional image configs; when its final LLB shows a stage that is refused, it runs again with the real
// config of that image. So f must be ready to be called more than once.
func Wrap(f gwclient.BuildFunc, o Options) gwclient.BuildFunc {
	if o.Policy == "" {
		o.Policy = Auto
	}
	if o.Note == nil {
		o.Note = func(string) {}
	}
	if o.Policy == Image {
		return f
	}
	return func(ctx context.Context, c gwclient.Client) (*gwclient.Result, error) {
		refused := maps.Clone(o.Refused)
		if refused == nil {
			refused = map[string]*Refusal{}
		}
		for {
			run := &attempt{Client: c, o: o, refused: refused, tags: map[string]Tag{}, fresh: map[string]*Refusal{}}
			res, err := f(ctx, run)
			if run.retry {
				continue
			}
			fresh := run.refusals()
			if len(fresh) == 0 {
				if err == nil {
					run.tell()
				}
				return res, err
			}
			for ref, why := range fresh {
				refused[ref] = why
				o.Note(fmt.Sprintf("%s: the image is used, not the built-in Go: %v", familiar(ref), why))
			}
		}
	}
}

// HintRef in the description of a step's operation is the reference of the image in whose place the built-in base stands.
const HintRef = "skiff.golang"

// ServeNot notes in o that a step of a stage, whose description is hints, met while it ran what the base does not have. It returns
// the error to end with where there is nothing to fall back on, or nil: then the build is to be run again with o.
func (o *Options) ServeNot(where string, hints map[string]string, why string) error {
	ref := hints[HintRef]
	r := &Refusal{Ref: ref, Where: where, Why: why}
	if ref == "" || o.Policy == Builtin || o.Refused[ref] != nil {
		return (&attempt{}).refusalError(r)
	}
	if o.Refused == nil {
		o.Refused = map[string]*Refusal{}
	}
	o.Refused[ref] = r
	o.Note(fmt.Sprintf("%s: the stage starts again on the image: %v", familiar(ref), r))
	return nil
}

// familiar is a reference as people write it.
func familiar(ref string) string {
	name, _, _ := strings.Cut(ref, "@")
	return strings.TrimPrefix(strings.TrimPrefix(name, "docker.io/"), "library/")
}

// written is a reference as people write it in FROM.
func written(ref string) string {
	_, digest, ok := strings.Cut(ref, "@")
	if !ok {
		return familiar(ref)
	}
	return familiar(ref) + "@" + digest
}

// attempt is the gateway client of one run of the frontend.
type attempt struct {
	gwclient.Client
	o       Options
	refused map[string]*Refusal // by reference, from earlier runs

	mu    sync.Mutex
	tags  map[string]Tag      // references that were given a provisional config
	fresh map[string]*Refusal // found in this run
	retry bool                // refused has changed
	notes []string
}

// errAgain ends a run of the frontend whose configs were not the right ones.
var errAgain = errors.New("the built-in Go base does not serve this stage")

func (a *attempt) refusals() map[string]*Refusal {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.fresh
}

func (a *attempt) tell() {
	a.mu.Lock()
	defer a.mu.Unlock()
	said := map[string]bool{}
	for _, n := range a.notes {
		if !said[n] {
			a.o.Note(n)
		}
		said[n] = true
	}
}

// ResolveImageConfig answers for golang images with the config that the image has as far as a build step can
// tell, without asking for the image.
func (a *attempt) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	tag, isGo, err := ParseReference(ref)
	if !isGo || opt.OCILayoutOpt != nil {
		return a.Client.ResolveImageConfig(ctx, ref, opt)
	}
	refusal := a.refused[ref]
	var config []byte
	if refusal == nil && tag.Digest != "" && !tag.Exact() {
		tag, err = a.pinned(ctx, tag, opt, err)
	}
	if refusal == nil && err == nil {
		config, err = a.provisional(ctx, tag, platformOf(opt))
	}
	if err != nil && refusal == nil {
		refusal = &Refusal{Ref: ref, Why: err.Error()}
		if ctx.Err() != nil {
			return "", "", nil, ctx.Err()
		}
	}
	if refusal == nil {
		a.mu.Lock()
		a.tags[ref] = tag
		a.mu.Unlock()
		return ref, "", config, nil
	}
	if a.o.Policy == Builtin {
		return "", "", nil, a.refusalError(refusal)
	}
	name, dgst, config, err := a.Client.ResolveImageConfig(ctx, ref, opt)
	if err != nil && ctx.Err() == nil && refusal.newer != "" && a.o.Newer != nil && a.o.Newer.give(ref, "its image cannot be had") {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.refused, ref)
		a.retry = true
		return "", "", nil, errAgain
	}
	if err != nil {
		return "", "", nil, &NoImageError{Ref: written(ref), Refusal: refusal, Err: err}
	}
	return name, dgst, config, nil
}

// refusalError is the error of a refusal under the policy builtin.
func (a *attempt) refusalError(r *Refusal) error {
	return fmt.Errorf("built-in Go base in the place of %s: %w (--go-base=image takes the real image)", familiar(r.Ref), r)
}

// Solve looks at each definition that the frontend sends, and puts the built-in base where golang images
// with a provisional config stand.
func (a *attempt) Solve(ctx context.Context, req gwclient.SolveRequest) (*gwclient.Result, error) {
	if req.Definition == nil || req.Frontend != "" {
		return a.Client.Solve(ctx, req)
	}
	g, err := graph.Decode(req.Definition)
	if err != nil {
		return nil, err
	}
	hinted := a.hintImages(g)
	sources := a.sources(g)
	if len(sources) == 0 && !hinted {
		return a.Client.Solve(ctx, req)
	}
	plan, err := a.decide(ctx, g, sources)
	if err != nil {
		return nil, err
	}
	if len(plan.refused) > 0 {
		return nil, a.again(plan.refused)
	}
	plan.apply()
	def, err := graph.Encode(g)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	a.notes = append(a.notes, plan.notes...)
	a.mu.Unlock()
	req.Definition = def
	return a.Client.Solve(ctx, req)
}

// again records what was refused and ends this run of the frontend.
func (a *attempt) again(refused []*Refusal) error {
	if a.o.Policy == Builtin {
		return a.refusalError(refused[0])
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range refused {
		if a.fresh[r.Ref] == nil {
			a.fresh[r.Ref] = r
		}
	}
	return errAgain
}

// sources are the vertices of golang images that were given a provisional config.
func (a *attempt) sources(g *graph.Graph) map[*graph.Vertex]Tag {
	found := map[*graph.Vertex]Tag{}
	a.mu.Lock()
	defer a.mu.Unlock()
	// The walk's only error is a circle, and a decoded graph has none.
	_ = graph.Walk(g, func(v *graph.Vertex) error {
		src := v.Op.GetSource()
		if src == nil {
			return nil
		}
		ref, ok := strings.CutPrefix(src.Identifier, "docker-image://")
		if !ok {
			return nil
		}
		for known, tag := range a.tags {
			if sameReference(known, ref) {
				found[v] = tag
			}
		}
		return nil
	})
	return found
}

// sameReference compares references, one of which may have its default registry left out.
func sameReference(a, b string) bool {
	short := func(s string) string { return strings.TrimPrefix(strings.TrimPrefix(s, "docker.io/"), "library/") }
	return short(a) == short(b)
}

// archOf is the GOARCH that a source is for.
func archOf(v *graph.Vertex) string {
	if p := v.Op.Platform; p != nil && p.Architecture != "" {
		return p.Architecture
	}
	return "amd64"
}
