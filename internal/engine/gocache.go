package engine

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/buildkit/solver/pb"
	"github.com/skiff-build/skiff/internal/fileop"
	"github.com/skiff-build/skiff/internal/gocache"
	"github.com/skiff-build/skiff/internal/sandbox"
)

// Go's caches. A step writes to a directory of its own, over caches that it only reads; what has the form of an entry is taken
// out of it when the step has ended (internal/gocache), into the cache of its Dockerfile, or, where the step was confined to
// the go command, into the one that all share.

// goCachePrefix starts the ids of mounts of Go's caches, which goaware alone gives out: PREFIX WHAT+OWN shows the cache that all
// share, and over it that of OWN; where WHAT begins with [goCacheOwn], that of OWN alone. WHAT is build… or mod….
const (
	goCachePrefix = "skiff-go:"
	goCacheOwn    = "own-"
)

// hintGo is goaware's HintGo: the names of the commands of a step that calls the go command and what its shell is, a blank between.
const hintGo = "skiff.go.only"

// hintC is goaware's HintC: directories, a line each.
const hintC = "skiff.go.c"

// cPatterns are the names of what a C compiler or linker reads and the go command does not look at, outside of the packages'
// own folders at least.
var cPatterns = []string{
	"**/*.h", "**/*.hh", "**/*.hpp", "**/*.hxx", "**/*.inc", "**/*.inl", "**/*.ipp", "**/*.def", "**/*.c", "**/*.cc", "**/*.cpp", "**/*.cxx",
	"**/*.a", "**/*.o", "**/*.so", "**/*.so.*", "**/*.la", "**/*.ld", "**/*.pc",
}

// cFiles is a digest of the headers and libraries that a step with cgo may use of what was copied into its root; "" for one without.
// An object that was compiled with others is not to be found in its cache.
func (n *node) cFiles(ctx context.Context, o *pb.ExecOp, inputs []result) (string, error) {
	dirs := n.v.Meta.GetDescription()[hintC]
	root := mountAt(o, pb.RootMount)
	if dirs == "" || root.Input < 0 {
		return "", nil
	}
	k := newKey("c files", "")
	for _, dir := range strings.Split(dirs, "\n") {
		sum, err := n.e.layerDigests(ctx, inputs[root.Input].Layers, []fileop.Selector{{
			Path: strings.TrimPrefix(dir, "/"), FollowLinks: true, Contents: true, Include: cPatterns,
		}})
		if errors.Is(err, fs.ErrNotExist) {
			sum = ""
		} else if err != nil {
			return "", err
		}
		k.line("dir", dir, sum)
	}
	return " c " + k.sum().String(), nil
}

// goCacheReq are directories below ROOT/cache; empty: none.
type goCacheReq struct {
	Modules bool
	Shared  string // what steps that were confined wrote, of all projects
	Own     string // of this Dockerfile
	Indexes string // of this Dockerfile, written by steps that were confined: what is right for it alone
}

// goCacheNames are what the id of a mount stands for; nil where it is none of Go's.
func goCacheNames(id string, name func(id string) string) *goCacheReq {
	id, ok := strings.CutPrefix(id, goCachePrefix)
	if !ok {
		return nil
	}
	what, own, _ := strings.Cut(id, "+")
	shared, alone := strings.CutPrefix(what, goCacheOwn)
	g := &goCacheReq{Modules: strings.HasPrefix(shared, "mod"), Own: name(goCachePrefix + own + "+" + what)}
	if !alone {
		g.Shared = name(goCachePrefix + what)
	}
	if !g.Modules {
		g.Indexes = name(goCachePrefix + own + "+" + what + "+confined")
	}
	return g
}

func (g *goCacheReq) names() (list []string) {
	for _, n := range []string{g.Shared, g.Own, g.Indexes} {
		if n != "" {
			list = append(list, n)
		}
	}
	return list
}

// wantsRealCaches says of the last lines of a step that failed whether it may have tried to remove a mount point, as
// `go clean -modcache` in a Makefile does.
func wantsRealCaches(lines []string) bool {
	return slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(strings.ToLower(l), "resource busy") })
}

// dropGoCaches takes Go's caches out of a step that is not confined; false: there are none.
func (r *execReq) dropGoCaches() bool {
	n := len(r.Mounts)
	r.Mounts = slices.DeleteFunc(r.Mounts, func(m mountReq) bool { return m.Cache != nil && m.Cache.Go != nil })
	return !r.Confined && len(r.Mounts) < n
}

// confineReq asks whether a step can be confined to the go command of the toolchain that its base began with.
type confineReq struct {
	Chain    []string
	Commands []string // that its words name
	Args     []string
	Env      []string
	Targets  []string // where the Dockerfile mounts something
}

// confineResp says why not; "": it can be.
type confineResp struct{ Why string }

// confine decides whether the step runs confined. Its words say that it calls the go command alone; whether that is so depends on
// the files that it will find.
func (n *node) confine(ctx context.Context, o *pb.ExecOp, env []string, root result) (bool, error) {
	ok, err := n.confined.do(ctx, func(ctx context.Context) (bool, error) { return n.canConfine(ctx, o, env, root) })
	if err != nil {
		n.confined.forget() // a layer that was damaged may be mended
	}
	return ok, err
}

func (n *node) canConfine(ctx context.Context, o *pb.ExecOp, env []string, root result) (bool, error) {
	hints := n.v.Meta.GetDescription()
	commands := hints[hintGo]
	if commands == "" || !root.GoBase || n.e.o.Confine == nil {
		return false, nil
	}
	req := confineReq{Chain: realLayers(root.Layers), Commands: strings.Fields(commands), Args: o.Meta.Args, Env: env}
	for _, m := range o.Mounts {
		if dest := absolute(o.Meta.Cwd, m.Dest); dest != "/" && !strings.HasPrefix(m.CacheOpt.GetID(), goCachePrefix) {
			req.Targets = append(req.Targets, dest)
		}
	}
	resp := confineResp{n.e.o.Confine(hints)}
	if resp.Why == "" {
		if err := n.e.call(ctx, methodConfine, req, &resp, nil); err != nil {
			return false, err
		}
	}
	if resp.Why != "" && n.e.o.Note != nil {
		n.e.o.Note("gocache: " + n.v.Name() + ": what it writes to Go's caches stays this Dockerfile's own: " + resp.Why)
	}
	return resp.Why == "", nil
}

// fetchedModules are modules in the cache of a Dockerfile that a confined step has fetched.
type fetchedModules struct {
	Own, Shared string // names of caches
	Modules     []gocache.Module
}

// share lets all projects have the modules that a step has fetched, beside what follows: those that have the checksums that
// [Options.ModuleSums] says. (A go.sum proves nothing to others: it is the project's own.) Nothing depends on it: what is not shared is
// fetched again.
func (e *Engine) share(fetched []fetchedModules) {
	if e.o.ModuleSums == nil || len(fetched) == 0 {
		return
	}
	e.shares.Add(1)
	e.sharing.Go(func() {
		defer e.shares.Add(-1)
		for _, f := range fetched {
			f.Modules = e.proved(f.Modules)
			if len(f.Modules) == 0 || e.shareContext.Err() != nil {
				continue
			}
			if err := e.call(e.shareContext, methodShare, f, nil, nil); err != nil && e.shareContext.Err() == nil && e.o.Note != nil {
				e.o.Note("modules that were fetched are not shared with other projects: " + err.Error())
			}
		}
	})
}

// proved are the modules that have the checksums that the database has.
func (e *Engine) proved(mods []gocache.Module) (list []gocache.Module) {
	proved := make([]bool, len(mods))
	var wg sync.WaitGroup
	limit := make(chan struct{}, maxLookups)
	for i, m := range mods {
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			if e.shareContext.Err() == nil {
				zip, mod, ok := e.o.ModuleSums(e.shareContext, m.Path, m.Version)
				proved[i] = ok && zip == m.Sum && mod == m.ModSum
			}
		})
	}
	wg.Wait()
	for i, m := range mods {
		if proved[i] {
			list = append(list, m)
		}
	}
	return list
}

// FinishSharing waits until modules that steps have fetched are shared, and gives up after a time.
func (e *Engine) FinishSharing(wait time.Duration) {
	done := make(chan struct{})
	go func() {
		e.sharing.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(wait):
	}
	e.stopSharing()
}

// maxLookups bounds how many checksums are asked for at a time.
const maxLookups = 8

// goOnlyPath is there in a step that is confined: skiff, which is all commands of the built-in base, is none but the shell that
// the step begins with (see gobase.Applet).
const goOnlyPath = sandbox.SelfPath + "-go-only"

// goroot is where the toolchain of a golang image lies.
const goroot = "/usr/local/go"
