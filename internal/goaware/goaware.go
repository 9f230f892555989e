// Package goaware rewrites LLB with what knowing Go buys. It decorates a gateway client: a definition goes in, one of
// the same result comes out, whichever engine then runs it. Each rewrite has a name, tells what it did, can be switched
// off, and never changes what the final image holds:
//
//   - gocache: a RUN that calls go, in a stage that does not ship, gets the persistent build and module caches;
//   - force: its `go build -a` loses the -a, since Go's cache is keyed by content and gives the same, bit for bit;
//   - usercache: where that step is trusted, the build cache of the machine's user fills the shared one;
//   - usermodules: likewise the modules that the user has are found before a proxy is asked;
//   - inputs: where that step is the go command alone, it does not run again for files that it does not read (inputs.go).
//
// What a RUN does is read off its words (shell.go, commands.go, gocommand.go), what becomes of its files off the graph
// (lineage.go). Where either is unclear the step stays as it is: a rewrite that is left out costs time only.
//
// Go's build cache trusts whoever wrote an entry. So the caches that all builds share are written by steps alone that an
// engine confines to the toolchain of the built-in base (confined.go says which lose nothing by that, [HintGo] tells the
// engine). All others read those and write their Dockerfile's own. The id of a mount names both: "skiff-go:build.2+PROJECT",
// "skiff-go:mod.2-GENERATION+PROJECT"; what follows the plus is in no key. A step that filled the module cache leaves no modules in its
// layer, so the generation, which is drawn anew when the caches are lost, is in each such step's key.
//
// C code is another matter: headers and libraries are in no key. A step that may use cgo keeps its -a, and writes to a
// cache of its own for one Dockerfile, base, row of steps before it, and what C files it has ([HintC]).
//
// What usercache and usermodules need is of this machine, and no part of a key. They are hints (hint.go) beside the
// operation: an engine that knows nothing of them runs the step without.
package goaware

import (
	"context"
	"fmt"
	"strings"
	"sync"

	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"

	"github.com/skiff-build/skiff/internal/graph"
)

// Prefix begins the IDs of cache mounts that this package makes. A user's ID of that form is renamed.
const Prefix = "skiff-go:"

// The names of the rewrites, as notes and [Options.Off] have them.
const (
	GoCache     = "gocache"
	Force       = "force"
	UserCache   = "usercache"
	UserModules = "usermodules"
	Inputs      = "inputs"
)

// Rewrites are the names of all rewrites.
var Rewrites = []string{GoCache, Force, UserCache, UserModules, Inputs}

// Options choose the rewrites. The zero value switches all on, but shares the module cache with nobody.
type Options struct {
	Faithful   bool         // no rewrite at all
	Off        []string     // names of rewrites to leave out
	Note       func(string) // told once what each step got; nil: nobody
	Generation string       // of the module cache, from [Generation]; empty: steps get no module cache
	Cgo        string       // of what was compiled with cgo, from [CgoGeneration]
	Project    string       // who owns what untrusted steps write: the paths of Dockerfile and context, say
}

// Wrap returns c with the rewrites applied to every Solve. It is safe for concurrent use as c is.
func Wrap(c gwclient.Client, o Options) gwclient.Client {
	return &client{Client: c, o: o, noted: map[string]bool{}}
}

type client struct {
	gwclient.Client
	o Options

	mu    sync.Mutex
	noted map[string]bool // the frontend may solve the same stage several times
}

func (c *client) Solve(ctx context.Context, req gwclient.SolveRequest) (*gwclient.Result, error) {
	if len(req.Definition.GetDef()) > 0 {
		def, err := c.rewrite(req.Definition)
		if err != nil {
			return nil, fmt.Errorf("rewrite for go: %w", err)
		}
		req.Definition = def
	}
	return c.Client.Solve(ctx, req)
}

// rewrite returns def itself where there is nothing to do: what nobody touched keeps its bytes.
func (c *client) rewrite(def *pb.Definition) (*pb.Definition, error) {
	g, err := graph.Decode(def)
	if err != nil {
		return nil, err
	}
	changed := renameReserved(g)
	changed = dropHints(g) || changed
	if !c.o.Faithful && c.on(GoCache) {
		for _, l := range lineages(g) {
			for _, p := range l.plan(c.o.Generation != "") {
				c.apply(p)
				changed = true
			}
		}
	}
	if !changed {
		return def, nil
	}
	return graph.Encode(g)
}

func (c *client) on(name string) bool {
	for _, off := range c.o.Off {
		if off == name {
			return false
		}
	}
	return true
}

func (c *client) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.o.Note != nil && !c.noted[text] {
		c.noted[text] = true
		c.o.Note(text)
	}
}

// renameReserved moves users' cache mounts out of the way of ours: who could name one could write the shared cache.
// It is no rewrite in the sense of [Options]: it cannot be switched off.
func renameReserved(g *graph.Graph) (changed bool) {
	graph.Walk(g, func(v *graph.Vertex) error {
		for _, m := range v.Op.GetExec().GetMounts() {
			if m.CacheOpt != nil && strings.HasPrefix(m.CacheOpt.ID, Prefix) {
				m.CacheOpt.ID = "user:" + m.CacheOpt.ID
				changed = true
			}
		}
		return nil
	})
	return changed
}
