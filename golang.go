package skiff

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/skiff-build/skiff/internal/busybox"
	"github.com/skiff-build/skiff/internal/engine"
	"github.com/skiff-build/skiff/internal/goaware"
	"github.com/skiff-build/skiff/internal/gobase"
)

// NoImageError says that a stage on a golang image needs more than the built-in base has, and that the image cannot be had.
type NoImageError = gobase.NoImageError

// goBases gives the engine the layers of the built-in Go base.
type goBases struct {
	bases *gobase.Bases
	asked atomic.Bool // for a base's layers: there is one in the build
}

// working asks the machine's go command for its settings while the first things of a build run, so that its first step in a
// built-in base finds them.
func (g *goBases) working() {
	if g.asked.Load() {
		gobase.StepEnv(nil)
	}
}

func (g *goBases) Layers(ctx context.Context, identifier string) ([]engine.BaseLayer, error) {
	g.asked.Store(true)
	layers, err := g.bases.Layers(ctx, identifier)
	if err != nil {
		return nil, err
	}
	var out []engine.BaseLayer
	for _, l := range layers {
		out = append(out, engine.BaseLayer{ID: l.ID, Name: l.Name, Open: l.Open})
	}
	return out, nil
}

// goPolicy reads --go-base.
func goPolicy(text string) (gobase.Policy, error) {
	switch p := gobase.Policy(text); p {
	case "":
		return gobase.Auto, nil
	case gobase.Auto, gobase.Builtin, gobase.Image:
		return p, nil
	}
	return "", fmt.Errorf("go-base %q: choose auto, builtin or image", text)
}

// goBaseOptions are the built-in base's part of a build.
func (b *build) goBaseOptions() gobase.Options {
	return gobase.Options{
		Policy: b.policy, Tools: b.tools, Pull: b.o.Pull == PullAlways, Note: b.steps.note, Newer: &gobase.Newer{Project: b.project()},
		Local: func(name string) (fs.FS, bool) {
			dir, ok := b.df.Locals()[name]
			return os.DirFS(dir), ok
		},
		Git: func() bool { return gobase.MachineGit() != nil },
	}
}

// stepEnv is what a step in the built-in base gets of this machine while it runs.
func (b *build) stepEnv(ctx context.Context, s engine.StepInfo) (engine.StepExtras, error) {
	x := b.bases.StepEnv(s.Env)
	if s.Confined { // nothing is lent that it could run
		maps.DeleteFunc(x.Files, func(dest, _ string) bool { return gobase.IsMachineGit(dest) })
	}
	if s.Confined && s.Hints[goaware.HintModules] != "" && !s.NoNetwork {
		err := b.loans.LendModules(&x, func() {
			b.steps.note(fmt.Sprintf("%s: %s: modules that this machine has are taken from it, and checked as from a proxy", goaware.UserModules, s.Name))
		})
		if err != nil {
			return engine.StepExtras{}, err
		}
	}
	if cache := s.Hints[goaware.HintCache]; s.Confined && cache != "" {
		lent, ok := b.loans.LendCache(ctx, gobase.CacheLoan{
			Release: s.Hints[goaware.HintRelease], Cache: cache, Step: slices.Concat(s.Args, s.Env), State: b.generation,
		})
		if ok {
			x.Env, x.Done = append(x.Env, lent.Env...), lent.Done
			maps.Copy(x.Files, lent.Files)
			b.steps.note(fmt.Sprintf("%s: %s: Go's build cache of this machine completes the shared one, its go is the released %s",
				goaware.UserCache, s.Name, s.Hints[goaware.HintRelease]))
		}
	}
	direct, vars, _ := busybox.Direct(s.Args)
	return engine.StepExtras{Env: x.Env, Files: x.Files, Done: x.Done, Direct: direct, DirectEnv: vars}, nil
}

// confine says why a step that is the go command alone is not to write what all projects share.
func (b *build) confine(hints map[string]string) (why string) {
	if !b.bases.Released(hints[goaware.HintRelease], runtime.GOARCH) {
		return "that its Go is the released one was not proved (GOSUMDB=off, or GOPROXY is a folder)"
	}
	return ""
}

// shareWait is how long a build waits at its end for the checksum database, so that other projects find what it has fetched.
const shareWait = time.Second
