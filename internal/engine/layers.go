package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/skiff-build/skiff/internal/layer"
	"github.com/skiff-build/skiff/internal/store"
	"golang.org/x/sync/errgroup"
)

// Layer is a layer of a result as an image has it.
type Layer struct {
	ID     string // in the store; empty for one that holds nothing
	DiffID string // "sha256:…" of the uncompressed tar
	Size   int64  // bytes of the uncompressed tar
	Files  int64  // bytes of the regular files in it
	// Open gives the uncompressed tar.
	Open func(ctx context.Context) (io.ReadCloser, error)
	// Base is set for a layer that came with an image: it leaves as it came.
	Base *BaseBlob
}

// BaseBlob is the compressed form that a layer came in.
type BaseBlob struct {
	v1.Descriptor
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// LayerOptions say how [Engine.Layers] makes tars of what this build wrote.
type LayerOptions struct {
	Epoch     int64 // unix seconds, for all times
	KeepTimes bool  // times stay as they are
}

// packRecord describes the tar of a layer made here.
type packRecord struct {
	Layers []string `json:"layers"`
	Blobs  []string `json:"blobs"` // the uncompressed tar
	DiffID string   `json:"diffID"`
	Size   int64    `json:"size"`
	Files  int64    `json:"files"`

	Options LayerOptions `json:"options"` // by which it was made
}

const kindPack = store.KindPack

// The tar of a layer that holds nothing is its end alone: 1024 zero bytes.
const (
	emptyDiffID = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
	emptySize   = 1024
)

// Layers evaluates a reference that came from [Engine.Solve] and returns its layers, lowest first. A nil reference is
// scratch. Layers that this build wrote become tars once; what is known is not read again.
func (e *Engine) Layers(ctx context.Context, from gwclient.Reference, o LayerOptions) ([]Layer, error) {
	if from == nil {
		return nil, nil
	}
	r, ok := from.(*ref)
	if !ok {
		return nil, fmt.Errorf("layers: %T is no reference of this engine", from)
	}
	return mending(ctx, e, func() ([]Layer, error) {
		res, err := r.result(ctx)
		if err != nil {
			return nil, err
		}
		layers := make([]Layer, len(res.Layers))
		g, gctx := errgroup.WithContext(ctx)
		for i, id := range res.Layers {
			g.Go(func() (err error) {
				layers[i], err = e.layer(gctx, id, o)
				return err
			})
		}
		return layers, g.Wait()
	})
}

func (e *Engine) layer(ctx context.Context, id string, o LayerOptions) (Layer, error) {
	if id == emptyLayer {
		return Layer{DiffID: emptyDiffID, Size: emptySize, Open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(io.LimitReader(zeros{}, emptySize)), nil
		}}, nil
	}
	if strings.HasPrefix(id, basePrefix) {
		rec, err := e.base(id)
		if err != nil {
			return Layer{}, err
		}
		return e.baseLayer(id, rec), nil
	}
	rec, err := e.pack(ctx, id, o)
	if err != nil {
		return Layer{}, fmt.Errorf("pack layer %s: %w", id, err)
	}
	return Layer{ID: id, DiffID: rec.DiffID, Size: rec.Size, Files: rec.Files, Open: func(ctx context.Context) (io.ReadCloser, error) {
		return e.openTar(ctx, id, rec, o)
	}}, nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// pack returns what the layer's tar is, and makes it when that is not known.
func (e *Engine) pack(ctx context.Context, id string, o LayerOptions) (rec packRecord, err error) {
	k := newKey("pack", fmt.Sprintf("skiff engine %d", formatVersion))
	k.line("layer", id)
	k.line("times", o.Epoch, o.KeepTimes)
	if e.o.Store.Get(kindPack, k.sum(), &rec) == nil && rec.DiffID != "" {
		return rec, nil
	}
	unlock, err := e.o.Store.Lock(ctx, "pack "+k.sum().String())
	if err != nil {
		return rec, err
	}
	defer unlock()
	if e.o.Store.Get(kindPack, k.sum(), &rec) == nil && rec.DiffID != "" {
		return rec, nil
	}
	below, err := e.tarBelow(ctx, id, o)
	if err != nil {
		return rec, err
	}
	release, err := acquire(ctx, e.steps)
	if err != nil {
		return rec, err
	}
	defer release()
	if rec, err = e.writeTar(ctx, id, below, o); err != nil {
		return rec, err
	}
	rec.Options = o
	return rec, e.o.Store.Put(kindPack, k.sum(), rec)
}

// tarBelow returns the tar of the layer that this one completes, which is made if there is none. It is zero for one that stands
// for itself.
func (e *Engine) tarBelow(ctx context.Context, id string, o LayerOptions) (v1.Hash, error) {
	below := e.o.Store.LayerBelow(id)
	if below == "" {
		return v1.Hash{}, nil
	}
	rec, err := e.pack(ctx, below, o)
	if err != nil {
		return v1.Hash{}, err
	}
	r, err := e.openTar(ctx, below, rec, o)
	if err != nil {
		return v1.Hash{}, err
	}
	r.Close()
	return v1.NewHash(rec.DiffID)
}

// writeTar has the child pack the layer into a blob, which it digests while it writes it.
func (e *Engine) writeTar(ctx context.Context, id string, below v1.Hash, o LayerOptions) (rec packRecord, err error) {
	req := packReq{ID: id, Epoch: o.Epoch, KeepTimes: o.KeepTimes}
	if below != (v1.Hash{}) {
		return e.composeTar(ctx, req, below)
	}
	var resp packResp
	_, err = e.o.Store.FillBlob(func(f *os.File) (v1.Hash, error) {
		if err := e.callFiles(ctx, methodPack, req, []*os.File{f}, &resp); err != nil {
			return v1.Hash{}, err
		}
		if st, err := f.Stat(); err != nil || st.Size() != resp.Size {
			return v1.Hash{}, errors.Join(err, fmt.Errorf("the tar has not the %d bytes that were written", resp.Size))
		}
		return v1.NewHash(resp.DiffID)
	})
	if err != nil {
		return rec, err
	}
	return packRecord{Layers: e.withBelow([]string{id}), Blobs: []string{resp.DiffID}, DiffID: resp.DiffID, Size: resp.Size, Files: resp.Files}, nil
}

// composeTar is writeTar for a layer that completes the one whose tar is below: what they share is not stored again. What differs comes
// through a pipe.
func (e *Engine) composeTar(ctx context.Context, req packReq, below v1.Hash) (rec packRecord, err error) {
	pr, pw, err := os.Pipe()
	if err != nil {
		return rec, err
	}
	defer pr.Close()
	defer pw.Close()
	index, err := e.tarIndex(ctx, below)
	if err != nil {
		return rec, err
	}
	req.Over = true
	var resp packResp
	g, ctx := errgroup.WithContext(ctx)
	c, err := e.o.Store.Compose(ctx)
	if err != nil {
		return rec, err
	}
	defer c.Abort()
	over, err := index.Over(func(from, to int64) error { return c.Keep(below, from, to-from) })
	if err != nil {
		return rec, err
	}
	g.Go(func() error {
		defer pw.Close()
		return e.callFiles(ctx, methodPack, req, []*os.File{pw}, &resp)
	})
	g.Go(func() error {
		defer pr.Close()
		return readPieces(pr, overTar{c, over})
	})
	if err := g.Wait(); err != nil {
		return rec, err
	}
	blob, n, err := c.Commit()
	if err != nil {
		return rec, err
	}
	return packRecord{Layers: e.withBelow([]string{req.ID}), Blobs: []string{blob.String()}, DiffID: blob.String(), Size: n, Files: over.Files + resp.Files}, nil
}

// overTar composes a tar over another one.
type overTar struct {
	*store.Composer
	*layer.Below
}

const kindIndex = store.KindTarIndex

// tarIndex returns the index of a tar of the store, which is kept.
func (e *Engine) tarIndex(ctx context.Context, tar v1.Hash) (layer.Index, error) {
	k := newKey("tarindex", "1")
	k.line("tar", tar)
	if data, err := e.o.Store.GetData(kindIndex, k.sum()); err == nil {
		return data, nil
	}
	f, err := e.o.Store.OpenBlobAt(tar)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	x, err := layer.ReadIndex(ctx, f, f.Size())
	if err != nil {
		return nil, err
	}
	return x, e.o.Store.PutData(kindIndex, k.sum(), struct{}{}, x)
}

// openTar opens the tar; one that the store has lost is made again, the same to the byte.
func (e *Engine) openTar(ctx context.Context, id string, rec packRecord, o LayerOptions) (io.ReadCloser, error) {
	h, err := v1.NewHash(rec.DiffID)
	if err != nil {
		return nil, err
	}
	r, err := e.o.Store.OpenBlob(h)
	if !errors.Is(err, store.ErrMiss) {
		return r, err
	}
	below, err := e.tarBelow(ctx, id, o)
	if err != nil {
		return nil, err
	}
	again, err := e.writeTar(ctx, id, below, o)
	if err != nil {
		return nil, fmt.Errorf("pack layer %s: %w", id, err)
	}
	if again.DiffID != rec.DiffID {
		return nil, fmt.Errorf("pack layer %s: it gives %s now, and gave %s", id, again.DiffID, rec.DiffID)
	}
	return e.o.Store.OpenBlob(h)
}

// Remake makes the tar of a layer again that the store has lost, as long as it has the layer. It is for blobs that nobody asks for by
// their layer: those of an image that others stand on, or that is saved.
func (e *Engine) Remake(ctx context.Context, tar v1.Hash) error {
	found := errors.New("found")
	var rec packRecord
	err := e.o.Store.Each(kindPack, func(_ store.Key, raw []byte, _ time.Time) error {
		if json.Unmarshal(raw, &rec) == nil && rec.DiffID == tar.String() && len(rec.Layers) > 0 {
			return found
		}
		return nil
	})
	if err == nil {
		err = errors.New("no layer is known that it was made of")
	}
	if err != found {
		return err
	}
	id := rec.Layers[len(rec.Layers)-1]
	below, err := e.tarBelow(ctx, id, rec.Options)
	if err != nil {
		return err
	}
	again, err := e.writeTar(ctx, id, below, rec.Options)
	if err == nil && again.DiffID != tar.String() {
		err = fmt.Errorf("its layer %s gives %s now", id, again.DiffID)
	}
	return err
}
