package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/skiff-build/skiff/internal/inode"
	"github.com/skiff-build/skiff/internal/localdir"
	"github.com/skiff-build/skiff/internal/sandbox"
	"github.com/skiff-build/skiff/internal/snapshot"
	"github.com/skiff-build/skiff/internal/store"
)

// Handlers are what the child serves. The program passes them to [sandbox.Init] first thing in main.
func Handlers() map[string]sandbox.Handler {
	w := &worker{snaps: map[string]*snapshot.Snapshots{}, local: map[string]*flight[*localdir.Tree]{}}
	return map[string]sandbox.Handler{
		methodUnpack:  handle(w, unpackLayer),
		methodFile:    handle(w, runActions),
		methodExec:    handle(w, runStep),
		methodDigest:  handle(w, digestChain),
		methodPack:    handle(w, packLayer),
		methodRead:    handle(w, readChain),
		methodStat:    handle(w, statChain),
		methodList:    handle(w, listChain),
		methodCache:   handle(w, makeCacheDir),
		methodConfine: handle(w, canConfine),
		methodInputs:  handle(w, compareInputs),
		methodShare:   handle(w, shareModules),
		methodRemove:  handle(w, removePaths),
		methodVerify:  handle(w, verify),
		methodArchive: handle(w, archive),
		methodEnd:     handle(w, w.end),
	}
}

// worker is the child's side of the engine: what it mounted for the stores it was asked about (one, but for tests).
type worker struct {
	mu    sync.Mutex
	snaps map[string]*snapshot.Snapshots
	local map[string]*flight[*localdir.Tree] // by selection
}

// scan lists a local directory once: a build sees it as it was when it began to read it, and many steps read it.
func (w *worker) scan(ctx context.Context, sel localdir.Selection) (*localdir.Tree, error) {
	key := fmt.Sprintf("%#v", sel)
	w.mu.Lock()
	f := w.local[key]
	if f == nil {
		f = &flight[*localdir.Tree]{}
		w.local[key] = f
	}
	w.mu.Unlock()
	return f.do(ctx, func(ctx context.Context) (*localdir.Tree, error) { return localdir.Open(nil).Scan(ctx, sel) })
}

// job is one call.
type job struct {
	*sandbox.Call
	worker *worker
	root   string // of the store
	snaps  *snapshot.Snapshots

	undo []func() error
}

func handle[Req, Resp any](w *worker, fn func(context.Context, *job, Req) (Resp, error)) sandbox.Handler {
	return func(ctx context.Context, c *sandbox.Call) (any, error) {
		var env struct {
			Root string
			Body json.RawMessage
		}
		if err := c.Decode(&env); err != nil {
			return nil, err
		}
		var req Req
		if err := json.Unmarshal(env.Body, &req); err != nil {
			return nil, err
		}
		j := &job{Call: c, worker: w, root: env.Root, snaps: w.snapshots(env.Root)}
		resp, err := fn(ctx, j, req)
		err = errors.Join(err, j.clean())
		var d *snapshot.Damaged
		if errors.As(err, &d) {
			return answer{Damaged: d.Layers}, nil
		}
		return answer{Body: resp}, err
	}
}

func (w *worker) snapshots(root string) *snapshot.Snapshots {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.snaps[root] == nil {
		w.snaps[root] = snapshot.New(root)
		if sandbox.FilesOnly() {
			w.snaps[root] = snapshot.WithoutMounts(root)
		}
	}
	return w.snaps[root]
}

// end removes what was kept for mounts. The child ends after it.
func (w *worker) end(_ context.Context, j *job, _ struct{}) (any, error) { return nil, j.snaps.Close() }

// later has fn called when the job ends, last first.
func (j *job) later(fn func() error) { j.undo = append(j.undo, fn) }

func (j *job) clean() error {
	var errs []error
	for _, fn := range slices.Backward(j.undo) {
		errs = append(errs, fn())
	}
	j.undo = nil
	return errors.Join(errs...)
}

// temp is a directory for this job.
func (j *job) temp() (string, error) {
	return j.tempFor("job")
}

func (j *job) tempFor(kind string) (string, error) {
	dir, remove, err := j.snaps.TempDir(kind)
	if err == nil {
		j.later(remove)
	}
	return dir, err
}

// tree opens files for reading.
func (j *job) tree(ctx context.Context, t treeReq) (inode.Tree, error) {
	if t.Local == nil {
		tree, done, err := j.snaps.Tree(t.Chain)
		if err != nil {
			return nil, err
		}
		j.later(done)
		return tree, nil
	}
	if t.Only != nil {
		return localdir.Part(ctx, t.Local.Dir, t.Only)
	}
	return j.worker.scan(ctx, *t.Local)
}

func (j *job) prepare(ctx context.Context, chain []string) (*snapshot.Active, error) {
	a, err := j.snaps.Prepare(ctx, chain)
	if err != nil {
		return nil, err
	}
	j.later(a.Discard)
	return a, nil
}

// commit makes a layer of what was written, and returns its id; "" when nothing was.
func commit(a *snapshot.Active) (id string, err error) {
	id = store.NewID()
	empty, err := a.Commit(id)
	if err != nil || empty {
		return "", err
	}
	return id, nil
}

func removePaths(_ context.Context, j *job, req removeReq) (any, error) {
	return nil, j.snaps.Remove(req.Paths)
}
