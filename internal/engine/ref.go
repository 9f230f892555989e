package engine

import (
	"context"
	"fmt"
	"strings"

	"github.com/moby/buildkit/client/llb"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/skiff-build/skiff/internal/inode"
	"github.com/skiff-build/skiff/internal/sandbox"
	fstypes "github.com/tonistiigi/fsutil/types"
)

// ref is what a graph gives. It is evaluated when something of it is needed. Files of local sources are read where they
// lie; those of layers by this process where it can, else in the child.
type ref struct {
	e    *Engine
	edge edge
	def  *pb.Definition
}

var _ gwclient.Reference = (*ref)(nil)

// ToState gives the graph back.
func (r *ref) ToState() (llb.State, error) {
	op, err := llb.NewDefinitionOp(r.def)
	if err != nil {
		return llb.State{}, err
	}
	return llb.NewState(op), nil
}

// Evaluate makes the layers.
func (r *ref) Evaluate(ctx context.Context) error {
	_, err := r.result(ctx)
	return err
}

func (r *ref) result(ctx context.Context) (result, error) {
	if r.edge.isLocal() {
		if _, err := r.edge.scan(ctx); err != nil {
			return result{}, err
		}
	}
	outs, err := r.edge.evaluate(ctx)
	if err != nil {
		return result{}, err
	}
	if r.edge.index >= len(outs) {
		return result{}, fmt.Errorf("%s has no output %d", r.edge.v.Name(), r.edge.index)
	}
	return outs[r.edge.index], nil
}

// ReadFile reads a file or a range of it.
func (r *ref) ReadFile(ctx context.Context, req gwclient.ReadRequest) ([]byte, error) {
	q := readReq{Path: req.Filename}
	if req.Range != nil {
		q.Offset, q.Length = req.Range.Offset, req.Range.Length
	}
	return readRef(ctx, r, methodRead, q, readFile)
}

// StatFile describes a file; a symlink is followed.
func (r *ref) StatFile(ctx context.Context, req gwclient.StatRequest) (*fstypes.Stat, error) {
	st, err := readRef(ctx, r, methodStat, readReq{Path: req.Path}, statFile)
	if err != nil {
		return nil, err
	}
	return st.stat(), nil
}

// ReadDir describes the entries of a directory.
func (r *ref) ReadDir(ctx context.Context, req gwclient.ReadDirRequest) ([]*fstypes.Stat, error) {
	list, err := readRef(ctx, r, methodList, readReq{Path: req.Path, Pattern: req.IncludePattern}, listDir)
	if err != nil {
		return nil, err
	}
	out := make([]*fstypes.Stat, len(list))
	for i, st := range list {
		out[i] = st.stat()
	}
	return out, nil
}

func (s statResp) stat() *fstypes.Stat {
	return &fstypes.Stat{Path: s.Path, Mode: s.Mode, Uid: s.UID, Gid: s.GID, Size: s.Size, ModTime: s.ModTime,
		Linkname: s.Linkname, Devmajor: s.Major, Devminor: s.Minor}
}

// readRef reads here, with fn, or asks the child.
func readRef[T any](ctx context.Context, r *ref, method string, q readReq, fn func(inode.Tree, readReq) (T, error)) (T, error) {
	var out T
	if r.edge.isLocal() {
		t, err := r.edge.scan(ctx)
		if err != nil {
			return out, err
		}
		return fn(t, q)
	}
	return mending(ctx, r.e, func() (out T, err error) {
		res, err := r.result(ctx)
		if err != nil {
			return out, err
		}
		q.Chain = realLayers(res.Layers)
		if out, ok := readHere(ctx, r.e, method, q, fn); ok {
			return out, nil
		}
		return out, r.e.call(ctx, method, q, &out, nil)
	})
}

// readHere reads layers in this process, which saves a child: as root everything, with owners as they are; as another
// user what files hold, if they can be read. What goes wrong is for the child to say.
func readHere[T any](ctx context.Context, e *Engine, method string, q readReq, fn func(inode.Tree, readReq) (T, error)) (out T, ok bool) {
	salt, err := e.salt(ctx)
	if err != nil || method != methodRead && !strings.HasSuffix(salt, " "+string(sandbox.ModeRoot)) {
		return out, false
	}
	t, done, err := e.outside.Tree(q.Chain)
	if err != nil {
		return out, false
	}
	defer done()
	out, err = fn(t, q)
	return out, err == nil
}
