package engine

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"github.com/skiff-build/skiff/internal/localdir"
	"github.com/skiff-build/skiff/internal/store"
)

// A copy of a large local directory that runs again finds most files as they were. Then it writes a layer that holds what
// differs and completes the one that the first copy made (snapshot.Active.CommitOver): it costs the number of files that
// changed. Nobody above sees a difference, and the tar is the same to the byte (layer.PackOver).
//
// What the first copy was made of is remembered under a key that has all of the operation but the content of the directory.

// A first copy is remembered when it has so many files or bytes; below, copying all is as quick. Later ones complete it while
// less than a quarter of the files differ.
const (
	wholeFiles = 500
	wholeBytes = 32 << 20
)

// copiedRecord is stored with a localdir.Listing behind it.
type copiedRecord struct {
	Layers []string `json:"layers"` // the layer that the copy made
}

const kindCopied = store.KindCopied

// contextCopy is a copy of a directory of a local source, and of nothing else.
type contextCopy struct {
	key    store.Key
	top    string // the directory in the tree
	tree   *localdir.Tree
	now    localdir.Listing
	bytes  int64
	whole  string // the layer of the first copy; "" if there is none
	listed localdir.Listing
}

// contextCopy returns nil where the operation is another one.
func (n *node) contextCopy(ctx context.Context, o *pb.FileOp, inputs []result) (*contextCopy, error) {
	if len(o.Actions) != 1 {
		return nil, nil
	}
	a := o.Actions[0]
	c := a.GetCopy()
	if c == nil || a.SecondaryInput < 0 || int(a.SecondaryInput) >= len(n.inputs) || a.Input == a.SecondaryInput || !c.DirCopyContents ||
		c.AlwaysReplaceExistingDestPaths || len(c.IncludePatterns)+len(c.ExcludePatterns)+len(c.RequiredPaths) > 0 {
		return nil, nil
	}
	local := n.inputs[a.SecondaryInput]
	top := strings.TrimPrefix(path.Join("/", c.Src), "/")
	if top == "" {
		top = "."
	}
	if !local.isLocal() || !n.readsLocal(int(a.SecondaryInput), inputUses(n.v)[a.SecondaryInput]) || c.AllowWildcard && strings.ContainsAny(top, `*?[\`) {
		return nil, nil
	}
	tree, err := local.scan(ctx)
	if err != nil || !tree.IsFolder(top) {
		return nil, err
	}
	d := &contextCopy{top: top, tree: tree}
	k, err := n.opKey(ctx, "copied", false)
	if err != nil {
		return nil, err
	}
	sel, err := local.selection()
	if err != nil {
		return nil, err
	}
	attributes, err := tree.Lstat(top)
	if err != nil {
		return nil, err
	}
	k.line("local", tree.Dir(), fmt.Sprintf("%#v", sel), attributes.Mode)
	for i, in := range inputs {
		if i != int(a.SecondaryInput) {
			k.line("input", i, in.identity())
		}
	}
	d.key = k.sum()
	d.now, d.bytes, err = tree.Listing(ctx, top)
	if err != nil || d.now.Len() < wholeFiles && d.bytes < wholeBytes {
		return nil, err
	}
	var rec copiedRecord
	if n.nocache || n.e.o.Store.Get(kindCopied, d.key, &rec) != nil || len(rec.Layers) != 1 || !n.e.knows(rec.Layers[0]) {
		return d, nil
	}
	data, err := n.e.o.Store.GetData(kindCopied, d.key)
	if err == nil {
		d.listed, err = localdir.DecodeListing(data)
	}
	if err == nil {
		d.whole = rec.Layers[0]
	}
	return d, nil
}

// complete has the child write a layer that completes the first copy. It is false where all has to be copied.
func (n *node) complete(ctx context.Context, d *contextCopy, req fileReq, inputs []result) ([]result, bool, error) {
	if d.whole == "" {
		return nil, false, nil
	}
	changed, gone, ok := d.now.Diff(d.listed)
	if !ok || 4*(len(changed)+len(gone)) > d.now.Len() {
		return nil, false, nil
	}
	only := map[string]bool{}
	for _, name := range changed {
		only[path.Join(d.top, name)] = true
	}
	for _, name := range gone { // the directory is given its time again
		only[path.Join(d.top, path.Dir(name))] = true
	}
	delete(only, ".")
	req.Over, req.Gone = d.whole, gone
	req.Inputs = slices.Clone(req.Inputs)
	for i := range req.Inputs {
		if l := req.Inputs[i].Local; l != nil {
			part := *l
			part.Dir = d.tree.Dir()
			req.Inputs[i] = treeReq{Local: &part, Only: append([]string{d.top}, slices.Sorted(maps.Keys(only))...)}
		}
	}
	var resp fileResp
	if err := n.e.call(ctx, methodFile, req, &resp, nil); err != nil || resp.Refused {
		return nil, false, err
	}
	n.read = append([]string{}, slices.Sorted(maps.Keys(only))...)
	return n.fileResults(resp, inputs), true, nil
}

// remember keeps what a first copy was made of.
func (e *Engine) remember(d *contextCopy, outs []result) error {
	if len(outs) != 1 || len(outs[0].Layers) == 0 {
		return nil
	}
	id := outs[0].Layers[len(outs[0].Layers)-1]
	if id == emptyLayer {
		return nil
	}
	return e.o.Store.PutData(kindCopied, d.key, copiedRecord{Layers: []string{id}}, d.now.Encode())
}
