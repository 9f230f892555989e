package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/solver/pb"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/skiff-build/skiff/internal/store"
	"golang.org/x/sync/errgroup"
)

// settleImage: a reference with a digest says it all; a tag is looked up first.
func (n *node) settleImage(ctx context.Context, op *pb.SourceOp) (*settledSource, error) {
	if n.e.o.Images == nil {
		return nil, fmt.Errorf("image %s: this build has no images", op.Identifier)
	}
	_, name := splitIdentifier(op.Identifier)
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", name, err)
	}
	p := n.e.platformOf(n.v.Op.Platform)
	dgst, ok := ref.(reference.Digested)
	if !ok {
		res, err := n.e.o.Images.Resolve(ctx, reference.TagNameOnly(ref).String(), &p, ResolveOpt{Pull: n.e.pull(op.Attrs[pb.AttrImageResolveMode])})
		if err != nil {
			return nil, err
		}
		digested, err := reference.WithDigest(reference.TagNameOnly(ref), res.Digest)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", name, err)
		}
		ref, dgst = digested, digested
	}
	k, err := n.saltedKey(ctx, "image")
	if err != nil {
		return nil, err
	}
	k.line("digest", dgst.Digest())
	k.line("platform", p.OS, p.Architecture, p.Variant)
	full := ref.String()
	return &settledSource{key: k.sum(), make: func(ctx context.Context, n *node) ([]result, error) {
		img, err := n.e.o.Images.Image(ctx, full, &p)
		if err != nil {
			return nil, err
		}
		return n.unpackImage(ctx, img, origin{Image: full, Platform: &p})
	}}, nil
}

func (e *Engine) pull(mode string) bool {
	return e.o.Pull || mode == pb.AttrImageResolveModeForcePull
}

// origin says where an image came from, so that a blob which the store has lost can be had again.
type origin struct {
	Image    string             `json:"image,omitempty"` // a reference with a digest
	Platform *ocispecs.Platform `json:"platform,omitempty"`
	OCI      string             `json:"oci,omitempty"` // a directory
	Digest   string             `json:"digest,omitempty"`
}

// baseRecord describes a layer that came from an image, so that it leaves byte for byte as it came.
type baseRecord struct {
	Layers []string      `json:"layers"`
	Blobs  []string      `json:"blobs"`
	DiffID string        `json:"diffID"`
	Size   int64         `json:"size"` // of the uncompressed tar
	Files  int64         `json:"files"`
	Desc   v1.Descriptor `json:"desc"`
	Origin origin        `json:"origin"`
}

const kindBase = store.KindBase

// basePrefix starts the ids of layers that came with an image. A result that stands on one is known only while the
// record that describes it is: without that the layer would leave in another form than it came.
const basePrefix = "base-"

// base is what is known of a layer that came with an image.
func (e *Engine) base(id string) (rec baseRecord, err error) {
	err = e.o.Store.Get(kindBase, hashLines("base", id), &rec)
	return rec, err
}

// unpackImage fetches the layers side by side and unpacks each on those below it.
func (n *node) unpackImage(ctx context.Context, img v1.Image, from origin) ([]result, error) {
	layers, ids, err := n.imageLayers(ctx, img)
	if err != nil {
		return nil, err
	}
	g, gctx := errgroup.WithContext(ctx)
	fetched := make([]chan string, len(layers)) // the path of the blob, once it is there; empty: not needed
	for i, l := range layers {
		fetched[i] = make(chan string, 1)
		if n.e.hasBase(ids[i], l.desc.Digest) {
			fetched[i] <- ""
			continue
		}
		g.Go(func() error {
			path, err := n.fetch(gctx, l)
			if err == nil {
				fetched[i] <- path
			} else if _, known := n.e.base(ids[i]); known == nil {
				err = fmt.Errorf("%w: it was in skiff's state, where it is damaged or gone: build, pull or load its image again", err)
			}
			return err
		})
	}
	g.Go(func() error {
		for i, l := range layers {
			select {
			case path := <-fetched[i]:
				if path == "" {
					continue
				}
				if err := n.unpackLayer(gctx, l, path, ids[:i], ids[i], from); err != nil {
					return err
				}
			case <-gctx.Done():
				return gctx.Err()
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return []result{{Layers: ids}}, nil
}

// imageLayer is a layer of an image with what its manifest and config say about it.
type imageLayer struct {
	v1.Layer
	desc   v1.Descriptor
	diffID v1.Hash
}

// imageLayers lists the layers, lowest first, with the ids that they have in the store: a layer is named by all that lies
// below it as well (its chain ID), since directories that a tar leaves out take their attributes from there.
func (n *node) imageLayers(ctx context.Context, img v1.Image) (layers []imageLayer, ids []string, err error) {
	m, err := img.Manifest()
	if err != nil {
		return nil, nil, fmt.Errorf("manifest: %w", err)
	}
	cf, err := img.ConfigFile()
	if err != nil {
		return nil, nil, fmt.Errorf("image config: %w", err)
	}
	if len(cf.RootFS.DiffIDs) != len(m.Layers) {
		return nil, nil, fmt.Errorf("image has %d layers, and its config speaks of %d", len(m.Layers), len(cf.RootFS.DiffIDs))
	}
	all, err := img.Layers()
	if err != nil {
		return nil, nil, fmt.Errorf("layers: %w", err)
	}
	if len(all) != len(m.Layers) {
		return nil, nil, fmt.Errorf("image has %d layers, and its manifest speaks of %d", len(all), len(m.Layers))
	}
	chain := ""
	for i, l := range all {
		layers = append(layers, imageLayer{l, m.Layers[i], cf.RootFS.DiffIDs[i]})
		chain += cf.RootFS.DiffIDs[i].String() + "\n"
		k, err := n.saltedKey(ctx, "image layer")
		if err != nil {
			return nil, nil, err
		}
		k.line("chain", chain)
		ids = append(ids, basePrefix+k.sum().String()[:layerIDLength])
	}
	return layers, ids, nil
}

// layerIDLength is 128 bits in hexadecimal: overlayfs takes its lower directories in one page of text.
const layerIDLength = 32

func (e *Engine) hasBase(id string, blob v1.Hash) bool {
	rec, err := e.base(id)
	return err == nil && e.o.Store.HasLayer(id) && rec.Desc.Digest == blob
}

// fetch stores the compressed blob and returns its path.
func (n *node) fetch(ctx context.Context, l imageLayer) (path string, err error) {
	if path, size, err := n.e.o.Store.Blob(l.desc.Digest); err == nil && size == l.desc.Size {
		return path, nil
	}
	if r, err := n.e.o.Store.OpenBlob(l.desc.Digest); err == nil { // it was made here, and is made again
		r.Close()
		if path, size, err := n.e.o.Store.Blob(l.desc.Digest); err == nil && size == l.desc.Size {
			return path, nil
		}
	}
	release, err := acquire(ctx, n.e.pulls)
	if err != nil {
		return "", err
	}
	defer release()
	p := n.counting(l.desc.Digest.String(), l.desc.Size, nil)
	defer func() { p.done(err) }()
	unfollow := func() {}
	if n.e.o.Images != nil { // an OCI layout needs none
		unfollow = n.e.o.Images.Follow(l.desc.Digest.String(), p.reached)
	}
	r, err := l.Compressed() // which fetches it
	unfollow()
	if err != nil {
		return "", fmt.Errorf("fetch layer %s: %w", l.desc.Digest, err)
	}
	p.Reader, p.s.Current = r, 0
	stop := context.AfterFunc(ctx, func() { r.Close() })
	defer func() {
		if stop() {
			r.Close()
		}
	}()
	if _, _, err := n.e.o.Store.WriteBlob(ctx, p, l.desc.Digest, l.desc.Size); err != nil {
		return "", fmt.Errorf("fetch layer: %w", err)
	}
	path, _, err = n.e.o.Store.Blob(l.desc.Digest)
	return path, err
}

func (n *node) unpackLayer(ctx context.Context, l imageLayer, path string, below []string, id string, from origin) (err error) {
	unlock, err := n.e.o.Store.Lock(ctx, "layer "+id)
	if err != nil {
		return err
	}
	defer unlock()
	if n.e.hasBase(id, l.desc.Digest) {
		return nil
	}
	p := n.task("extracting " + l.desc.Digest.String())
	defer func() { p.done(err) }()
	var resp unpackResp
	req := unpackReq{Path: path, Chain: below, ID: id, DiffID: l.diffID.String()}
	if err := n.e.call(ctx, methodUnpack, req, &resp, nil); err != nil {
		return fmt.Errorf("unpack layer %s: %w", l.desc.Digest, err)
	}
	return n.e.o.Store.Put(kindBase, hashLines("base", id), baseRecord{
		Layers: []string{id}, Blobs: []string{l.desc.Digest.String()}, DiffID: l.diffID.String(), Size: resp.Size,
		Files: resp.Files, Desc: l.desc, Origin: from,
	})
}

// ignorePipe is the error of writing to a pipe of the child: one that the child closed has a reason, which it tells itself.
func ignorePipe(err error) error {
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// unpackStream makes a layer of an uncompressed tar that is not a blob of the store.
func (n *node) unpackStream(ctx context.Context, open func(context.Context) (io.ReadCloser, error), below []string, id string) error {
	if n.e.o.Store.HasLayer(id) {
		return nil
	}
	unlock, err := n.e.o.Store.Lock(ctx, "layer "+id)
	if err != nil {
		return err
	}
	defer unlock()
	if n.e.o.Store.HasLayer(id) {
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	src, err := open(ctx)
	if err != nil {
		return err
	}
	defer src.Close()
	pr, pw, err := os.Pipe()
	if err != nil {
		return err
	}
	g.Go(func() error {
		defer pw.Close()
		stop := context.AfterFunc(ctx, func() { pw.Close() })
		defer stop()
		_, err := io.Copy(pw, src)
		return ignorePipe(err)
	})
	g.Go(func() error {
		defer pr.Close()
		var resp unpackResp
		return n.e.callFiles(ctx, methodUnpack, unpackReq{Chain: below, ID: id}, []*os.File{pr}, &resp)
	})
	return g.Wait()
}
