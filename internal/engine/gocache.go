package engine

import (
	"context"
	"strings"

	"github.com/moby/buildkit/solver/pb"
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
	commands := n.v.Meta.GetDescription()[hintGo]
	if commands == "" || !root.GoBase {
		return false, nil
	}
	req := confineReq{Chain: realLayers(root.Layers), Commands: strings.Fields(commands), Args: o.Meta.Args, Env: env}
	for _, m := range o.Mounts {
		if dest := absolute(o.Meta.Cwd, m.Dest); dest != "/" && !strings.HasPrefix(m.CacheOpt.GetID(), goCachePrefix) {
			req.Targets = append(req.Targets, dest)
		}
	}
	var resp confineResp
	if err := n.e.call(ctx, methodConfine, req, &resp, nil); err != nil {
		return false, err
	}
	if resp.Why != "" && n.e.o.Note != nil {
		n.e.o.Note("gocache: " + n.v.Name() + ": what it writes to Go's caches stays this Dockerfile's own: " + resp.Why)
	}
	return resp.Why == "", nil
}

// goOnlyPath is there in a step that is confined: skiff, which is all commands of the built-in base, is none but the shell that
// the step begins with (see gobase.Applet).
const goOnlyPath = sandbox.SelfPath + "-go-only"

// goroot is where the toolchain of a golang image lies.
const goroot = "/usr/local/go"
