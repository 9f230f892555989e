// Package engine runs LLB graphs in this process: an implementation of BuildKit's gateway client.
//
// A definition comes in through [Engine.Solve]; what comes out is a reference: a chain of layer ids, lowest first, whose
// files can be read, and whose layers [Engine.Layers] hands to exporters. Between the two, every vertex is evaluated at
// most once, its inputs side by side, and only when a result needs it (schedule.go). Before a vertex runs, two keys are
// looked up in the store: its definition key, for which no input has to be there, and its content key, in which inputs
// that are read only in part count by what is read (keys.go). So an unchanged build evaluates nothing.
//
// The engine runs in two processes. This one, the parent, is portable: it holds the graph, the keys and the records, and
// speaks to registries. Whatever mounts, runs or reads files of other users is done by handlers (Handlers) in a child in
// namespaces of its own, which is started when the first such thing comes up. A layer appears by one rename and is never
// changed, and its record is written after it; so several engines can share a store, and one that is killed costs only
// the steps under way.
package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/entitlements"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/skiff-build/skiff/internal/graph"
	"github.com/skiff-build/skiff/internal/localdir"
	"github.com/skiff-build/skiff/internal/sandbox"
	"github.com/skiff-build/skiff/internal/snapshot"
	"github.com/skiff-build/skiff/internal/store"
)

// ErrNoSecret is what [Options.Secrets] and [Options.SSH] return for an id that the build was not given.
var ErrNoSecret = errors.New("not given to this build")

// Options of [New]. Store is required; everything else may be left out.
type Options struct {
	Store *store.Store

	// Locals are the directories that local sources read, by name. What a source itself includes and excludes is
	// applied; patterns given here count where the source has none.
	Locals map[string]localdir.Selection
	// OCILayouts are the directories of OCI image layouts, by the store id of oci-layout sources.
	OCILayouts map[string]string
	// Images gives base images. nil: there are none.
	Images ImageSource
	// Bases gives the layers of built-in bases ("gobase://…"). nil: there are none.
	Bases GoBase
	// StepEnv makes what a step in a built-in base gets of the machine: variables that are set unless the step has
	// them, and read-only mounts. Neither is part of a key. nil: nothing.
	StepEnv func(ctx context.Context, s StepInfo) (StepExtras, error)
	// Confine says why a step, of which goaware's hints say that it is the go command alone, is not to write the caches that all
	// projects share; "": it may. nil: none may.
	Confine func(hints map[string]string) (why string)
	// ModuleSums are the checksums of a module's zip and of its go.mod, as a checksum database has them; ok is false where that is not
	// to be asked, or does not answer. nil: modules stay with the Dockerfile that fetched them.
	ModuleSums func(ctx context.Context, path, version string) (zip, mod string, ok bool)
	// Note is told what a step did not get. nil: nobody is.
	Note func(text string)
	// Working is called once, when the first thing is about to run, beside it; Close waits for it. nil: nothing is.
	Working func()

	// Secrets and SSH give the value of a secret, and the path of an agent's socket. nil: there are none.
	Secrets func(ctx context.Context, id string) ([]byte, error)
	SSH     func(id string) (socket string, err error)
	// Allow lists what steps may ask for beyond the usual.
	Allow map[entitlements.Entitlement]bool
	// Network of steps that do not say. Unset is a private one, which reaches other machines alone (package usernet).
	Network pb.NetMode
	// Limits of each step, those of an operation over them. They are in no key.
	Limits sandbox.Limits
	// Doors are NAME=VALUE of variables, such as GOPROXY and HTTP_PROXY, by which whoever builds names places that a step's private
	// network leads to, on this machine as well.
	Doors []string
	// AddHosts, Ulimits and ShmSize (bytes; 0: 64 MB) are for all steps. A step's own win.
	AddHosts []*pb.HostIP
	Ulimits  []*pb.Ulimit
	ShmSize  int64

	// NoCache looks nothing up; results are stored. Pull asks registries what a tag is now.
	NoCache, Pull bool
	// BuildPlatform is what steps run on; nil: this machine.
	BuildPlatform *ocispecs.Platform
	// Mode of the sandbox; empty: the best that the machine has.
	Mode sandbox.Mode
	// Explain is told why steps run; nil is nobody.
	Explain *Explainer
	// Steps bounds how many steps run at once. 0: the number of CPUs, at least 2.
	Steps int
	// Status is told what happens, in order, and must not block for long. nil: nobody is told.
	Status func(*client.SolveStatus)
}

// ImageSource gives base images by reference.
type ImageSource interface {
	// Resolve says what a reference means: for a tag, from what is known here, or from the registry with Pull.
	Resolve(ctx context.Context, ref string, p *ocispecs.Platform, o ResolveOpt) (ResolvedImage, error)
	// Image opens the image of a reference that has a digest, of an image or of an index.
	Image(ctx context.Context, ref string, p *ocispecs.Platform) (v1.Image, error)
	// Follow has told called with how many bytes of a blob have come, one call at a time, while one of its images fetches it.
	// After stop there are no more calls.
	Follow(digest string, told func(done int64)) (stop func())
}

// ResolveOpt of [ImageSource.Resolve].
type ResolveOpt struct {
	Pull bool
	Log  func(string) // for what a user should read; may be nil
}

// ResolvedImage is what a reference means.
type ResolvedImage struct {
	Name   string // canonical, without digest
	Digest digest.Digest
	Config []byte // JSON, of the platform asked for
}

// GoBase gives the layers of a built-in base.
type GoBase interface {
	// Layers returns them lowest first. It is asked for keys, too, and so should be quick for what is there already.
	Layers(ctx context.Context, identifier string) ([]BaseLayer, error)
}

// BaseLayer is a layer of a built-in base. An ID names the content for ever.
type BaseLayer struct {
	Name string // for people; "" is the ID
	ID   string
	Open func(ctx context.Context) (io.ReadCloser, error) // uncompressed tar
}

// StepInfo is what [Options.StepEnv] is asked about: a step in a built-in base that is about to run.
type StepInfo struct {
	Name      string
	Args, Env []string
	NoNetwork bool
	Confined  bool              // it runs the base's toolchain and nothing else: it may be lent what is this user's
	Hints     map[string]string // the description of its operation, which is in no key
}

// StepExtras is what a step in a built-in base gets beside what it asks for.
type StepExtras struct {
	Env   []string          // NAME=VALUE
	Files map[string]string // path in the step → file of this machine, read only
	Done  func()            // called when the step has ended well; nil: nothing

	// Direct is the one program that the step's shell would start, DirectEnv what it would set for it (NAME=VALUE): where
	// /bin/sh is the base's own, and the program is found, the shell is left out. Empty: the shell runs.
	Direct, DirectEnv []string
}

// Engine implements the gateway client. It is safe for concurrent use.
type Engine struct {
	o            Options
	platform     ocispecs.Platform
	index        *localdir.Index
	outside      *snapshot.Snapshots // for reading layers in this process
	status       *status
	sharing      sync.WaitGroup
	shares       atomic.Int32
	shareContext context.Context // of what is shared beside the build
	stopSharing  func()
	steps        chan struct{} // a token for each step that may run
	pulls        chan struct{}

	mu    sync.Mutex
	nodes map[nodeKey]*node

	salted  flight[string]
	assumed sandbox.Mode // see lastMode; set with salted
	noSteps error        // why no step can run; set with salted
	// onlyFiles says that no step can have run with the keys of this engine.
	onlyFiles bool
	child     flight[*sandbox.Child]

	closing sync.Once
	closed  chan struct{}

	began  sync.Once
	beside sync.WaitGroup // [Options.Working], and ends of children

	stepAhead atomic.Bool // a step is likely to run

	writing atomic.Bool // what steps left is on its way to the disk
}

// maxPulls bounds the blobs that are fetched at once, as containerd and Docker do (3).
const maxPulls = 3

// endTimeout bounds what the child has to tidy up; what it does not manage is swept by the next trim.
const endTimeout = time.Second

// New returns an engine. The caller closes it.
func New(o Options) (*Engine, error) {
	if o.Store == nil {
		return nil, errors.New("engine: no store")
	}
	// The child, which reads them again, may have another working directory: in a chroot it makes a root of its own.
	locals := map[string]localdir.Selection{}
	for name, sel := range o.Locals {
		dir, err := filepath.Abs(sel.Dir)
		if err != nil {
			return nil, fmt.Errorf("engine: %w", err)
		}
		sel.Dir = dir
		locals[name] = sel
	}
	o.Locals = locals
	e := &Engine{o: o, platform: buildPlatform(o.BuildPlatform), index: localdir.Open(o.Store), outside: snapshot.Outside(o.Store.Root()), nodes: map[nodeKey]*node{},
		status: newStatus(o.Status), pulls: make(chan struct{}, maxPulls), closed: make(chan struct{})}
	if e.o.Steps <= 0 {
		e.o.Steps = max(2, runtime.NumCPU())
	}
	e.steps = make(chan struct{}, e.o.Steps)
	e.shareContext, e.stopSharing = context.WithCancel(context.Background())
	return e, nil
}

// Close ends the child, if one was started, with all that runs in it, and keeps what was learnt of local files.
func (e *Engine) Close() error {
	var err error
	e.closing.Do(func() {
		close(e.closed)
		err = e.index.Save()
		e.stopSharing()
		e.sharing.Wait()
		e.Rest()
		e.beside.Wait()
	})
	return err
}

// Rest ends the child, if one was started, beside what follows: nothing more is expected to run. What runs nevertheless gets
// another one. [Engine.Close] waits for the end.
func (e *Engine) Rest() {
	if e.shares.Load() > 0 {
		return // it is still needed, and Close ends it
	}
	c, ok := e.child.peek()
	if !ok {
		return
	}
	e.child.forget()
	e.beside.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
		defer cancel()
		_ = c.Call(ctx, methodEnd, envelope{e.o.Store.Root(), struct{}{}}, nil, nil) // tidiness alone
		_ = c.Close()                                                                // it has no errors
	})
}

// call asks the child, which is started when there is none yet. The error of a machine without namespaces is
// [*sandbox.Unavailable].
func (e *Engine) call(ctx context.Context, method string, req, resp any, onEvent func(raw []byte)) error {
	c, err := e.worker(ctx)
	if err != nil {
		return err
	}
	a := answer{Body: resp}
	return a.error(c.Call(ctx, method, envelope{e.o.Store.Root(), req}, &a, rawEvents(onEvent)))
}

// callFiles is call with descriptors for the child.
func (e *Engine) callFiles(ctx context.Context, method string, req any, files []*os.File, resp any) error {
	c, err := e.worker(ctx)
	if err != nil {
		return err
	}
	a := answer{Body: resp}
	return a.error(c.CallFiles(ctx, method, envelope{e.o.Store.Root(), req}, files, &a, nil))
}

// envelope is what every request to the child is wrapped in.
type envelope struct {
	Root string // of the store
	Body any
}

// answer is what every result of the child is wrapped in: it may be that layers had to be dropped instead.
type answer struct {
	Damaged []string `json:",omitempty"` // ids
	Body    any
}

// error is what came of a call that ended with err: a *[snapshot.Damaged] is for [mending] to deal with.
func (a *answer) error(err error) error {
	if err == nil && len(a.Damaged) > 0 {
		return &snapshot.Damaged{Layers: a.Damaged}
	}
	return err
}

// worker is the child, in the mode that the keys were made for.
func (e *Engine) worker(ctx context.Context) (*sandbox.Child, error) {
	if _, err := e.salt(ctx); err != nil {
		return nil, err
	}
	c, err := e.startChild(ctx)
	if err != nil && ctx.Err() == nil {
		e.forgetMode()
	}
	return c, err
}

func (e *Engine) startChild(ctx context.Context) (*sandbox.Child, error) {
	return e.child.do(ctx, func(ctx context.Context) (*sandbox.Child, error) {
		if e.o.Working != nil {
			e.began.Do(func() { e.beside.Go(e.o.Working) })
		}
		c, err := sandbox.Enter(ctx, sandbox.Options{Mode: e.o.Mode, Root: e.o.Store.Root(), Step: e.stepAhead.Load()})
		if err != nil {
			return nil, err
		}
		if e.assumed != "" && e.assumed != c.Mode() {
			c.Close()
			return nil, fmt.Errorf("steps run in mode %s now, and the build was begun for mode %s: build again", c.Mode(), e.assumed)
		}
		select {
		case <-e.closed:
			c.Close()
			return nil, errors.New("engine is closed")
		default:
			return c, nil
		}
	})
}

// expectStep has the child, and the init of a step in it, come up while the inputs of a step are made: its definition gave
// nothing, so it will run unless they turn out to be what they were.
func (e *Engine) expectStep(ctx context.Context) {
	if e.noSteps == nil && e.stepAhead.CompareAndSwap(false, true) {
		e.beside.Go(func() { _, _ = e.startChild(ctx) }) // who needs it is told what is wrong
	}
}

// writeBack has what a step left written to the disk beside what follows: the build waits for it at its end.
func (e *Engine) writeBack() {
	if e.writing.CompareAndSwap(false, true) {
		go func() {
			defer e.writing.Store(false)
			e.o.Store.WriteBack()
		}()
	}
}

// acquire waits for a token of the limiter.
func acquire(ctx context.Context, limit chan struct{}) (release func(), err error) {
	select {
	case limit <- struct{}{}:
		return func() { <-limit }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Trim removes what was used longest ago until the store holds keep bytes. Steps must not be running.
func (e *Engine) Trim(ctx context.Context, keep int64) (store.Freed, error) {
	return e.o.Store.Trim(ctx, keep, func(ctx context.Context, paths []string) error {
		return e.remove(ctx, paths)
	})
}

// Sweep removes what dead processes left in the store's tmp. [Engine.Close] waits for it.
func (e *Engine) Sweep(ctx context.Context) {
	e.beside.Go(func() {
		if old := e.o.Store.Leftovers(); len(old) > 0 {
			_ = e.remove(ctx, old) // what it does not manage is swept by the next one
		}
	})
}

// remove removes paths below the root of the store, here if this process can, else in the child: only there may a user
// remove what subordinate ids own.
func (e *Engine) remove(ctx context.Context, paths []string) error {
	var rest []string
	for _, p := range paths {
		if err := store.RemoveAll(p); err != nil {
			if !errors.Is(err, fs.ErrPermission) {
				return fmt.Errorf("remove: %w", err)
			}
			rest = append(rest, p)
		}
	}
	if len(rest) == 0 {
		return nil
	}
	return e.call(ctx, methodRemove, removeReq{Paths: rest}, nil, nil)
}

type nodeKey struct {
	digest  digest.Digest
	nocache bool
}

// node returns the one node for a vertex, which it shares with other graphs that hold the same operation.
func (e *Engine) node(v *graph.Vertex) *node {
	key := nodeKey{v.Digest, v.Meta.GetIgnoreCache()}
	e.mu.Lock()
	n, ok := e.nodes[key]
	e.mu.Unlock()
	if ok {
		return n
	}
	n = &node{e: e, v: v, nocache: e.o.NoCache || v.Meta.GetIgnoreCache()}
	n.fresh = n.nocache
	for _, in := range v.Inputs {
		below := e.node(in.Vertex)
		n.inputs = append(n.inputs, edge{below, in.Index})
		n.fresh = n.fresh || below.fresh
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if old, ok := e.nodes[key]; ok {
		return old
	}
	e.nodes[key] = n
	return n
}

func rawEvents(fn func(raw []byte)) func(json.RawMessage) {
	if fn == nil {
		return nil
	}
	return func(m json.RawMessage) { fn(m) }
}
