package engine

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/moby/buildkit/solver/pb"
	"github.com/skiff-build/skiff/internal/fileop"
	"github.com/skiff-build/skiff/internal/localdir"
	"github.com/skiff-build/skiff/internal/store"
	"google.golang.org/protobuf/proto"
)

// selection is what a local source takes of its directory.
func (n *node) selection() (localdir.Selection, error) {
	op := n.v.Op.GetSource()
	_, name := splitIdentifier(op.Identifier)
	sel, ok := n.e.o.Locals[name]
	if !ok {
		return sel, fmt.Errorf("local source %q: no such directory was given to the build", name)
	}
	for attr, to := range map[string]*[]string{
		pb.AttrIncludePatterns: &sel.Include, pb.AttrExcludePatterns: &sel.Exclude, pb.AttrFollowPaths: &sel.Follow,
	} {
		if v := op.Attrs[attr]; v != "" {
			var patterns []string
			if err := json.Unmarshal([]byte(v), &patterns); err != nil {
				return sel, fmt.Errorf("local source %q: %s: %w", name, attr, err)
			}
			*to = patterns
		}
	}
	return sel, nil
}

// scan lists the files once; progress shows it as the source's own work.
func (n *node) scan(ctx context.Context) (*localdir.Tree, error) {
	return n.local.do(ctx, func(ctx context.Context) (*localdir.Tree, error) {
		sel, err := n.selection()
		if err != nil {
			return nil, n.failed(ctx, err)
		}
		n.started()
		t, err := n.e.index.Scan(ctx, sel)
		if err != nil {
			return nil, n.failed(ctx, fmt.Errorf("read the build context: %w", err))
		}
		n.completed()
		return t, nil
	})
}

// ForgetLocals keeps what was learnt of local files, and lets go of the lists of them: with many files they take most of the memory.
// A build calls it when its steps have run; who asks later lists the files again.
func (e *Engine) ForgetLocals() error {
	e.mu.Lock()
	for _, n := range e.nodes {
		n.local.forget()
	}
	e.mu.Unlock()
	return e.index.Forget()
}

// localKey is the key of all that the source selects.
func (n *node) localKey(ctx context.Context) (store.Key, error) {
	d, err := n.localDigests(ctx, n, []fileop.Selector{{}})
	if err != nil {
		return store.Key{}, err
	}
	k, err := n.saltedKey(ctx, "local")
	if err != nil {
		return store.Key{}, err
	}
	k.line("content", d)
	return k.sum(), nil
}

// materialise copies the selected files into a layer, for what cannot read them where they lie: a bind mount shows what
// a build selects and no more, and lets nobody write to the user's files.
func (n *node) materialise(ctx context.Context) ([]result, error) {
	key, err := n.definitionKey(ctx)
	if err != nil {
		return nil, err
	}
	if outs, ok := n.e.lookup(key); ok {
		return outs, nil
	}
	unlock, err := n.e.o.Store.Lock(ctx, "step "+key.String())
	if err != nil {
		return nil, err
	}
	defer unlock()
	if outs, ok := n.e.lookup(key); ok {
		return outs, nil
	}
	sel, err := n.selection()
	if err != nil {
		return nil, err
	}
	id, err := n.e.copyLocal(ctx, sel)
	if err != nil {
		return nil, err
	}
	outs := []result{result{}.with(id)}
	return outs, n.e.save(key, outs)
}

func (e *Engine) copyLocal(ctx context.Context, sel localdir.Selection) (id string, err error) {
	action, err := proto.Marshal(&pb.FileAction{Input: -1, SecondaryInput: 0, Output: 0, Action: &pb.FileAction_Copy{
		Copy: &pb.FileActionCopy{Src: "/", Dest: "/", DirCopyContents: true, CreateDestPath: true, Mode: -1, Timestamp: -1}}})
	if err != nil {
		return "", err
	}
	var resp fileResp
	req := fileReq{Inputs: []treeReq{{Local: &sel}}, Actions: [][]byte{action}, Outputs: 1}
	if err := e.call(ctx, methodFile, req, &resp, nil); err != nil {
		return "", err
	}
	return resp.Outputs[0].Layers[0], nil
}
