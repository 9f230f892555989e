package engine

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"regexp"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/skiff-build/skiff/internal/store"
)

// archiveReq saves the state into the descriptor that comes with the call, or loads it.
type archiveReq struct {
	Load bool
	Skip []string // names below the root that are not saved
}

// SaveState writes the whole state to w as a tar, but for what is made again of the rest when somebody needs it: tars of layers that
// are there, layers of images whose blobs are, and the layers of built-in bases, of which the toolchain is kept as it was fetched.
func (e *Engine) SaveState(ctx context.Context, w io.Writer) error {
	skip, err := e.remakeable()
	if err != nil {
		return err
	}
	pr, pw, err := os.Pipe()
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer pw.Close()
		return e.callFiles(ctx, methodArchive, archiveReq{Skip: skip}, []*os.File{pw}, nil)
	})
	g.Go(func() error {
		defer pr.Close() // which ends the child where w takes no more
		_, err := io.Copy(w, pr)
		return err
	})
	return g.Wait()
}

// LoadState gives back what SaveState wrote.
func (e *Engine) LoadState(ctx context.Context, r io.Reader) error {
	pr, pw, err := os.Pipe()
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer pr.Close()
		return e.callFiles(ctx, methodArchive, archiveReq{Load: true}, []*os.File{pr}, nil)
	})
	g.Go(func() error {
		defer pw.Close()
		_, err := io.Copy(pw, r)
		return ignorePipe(err)
	})
	return g.Wait()
}

// goBaseID is the id of a layer of a built-in base (see settleGoBase): the layers of steps have others.
var goBaseID = regexp.MustCompile(`^[0-9a-f]{32}$`)

// remakeable lists what is not saved: names below the root.
func (e *Engine) remakeable() ([]string, error) {
	skip := []string{"tmp", "locks", "lock", "bin", "trimmed", "version", "version.sum"}
	st := e.o.Store
	blob := func(digest string) bool {
		h, err := v1.NewHash(digest)
		if err == nil {
			_, err = st.BlobSize(h)
		}
		return err == nil
	}
	err := st.Each(kindPack, func(_ store.Key, raw []byte, _ time.Time) error {
		var rec packRecord
		if json.Unmarshal(raw, &rec) != nil || len(rec.Layers) == 0 {
			return nil
		}
		for _, id := range rec.Layers {
			if !st.HasLayer(id) {
				return nil
			}
		}
		h, err := v1.NewHash(rec.DiffID)
		if err == nil {
			skip = append(skip, "oci/blobs/sha256/"+h.Hex)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = st.Each(kindBase, func(_ store.Key, raw []byte, _ time.Time) error {
		var rec baseRecord
		if json.Unmarshal(raw, &rec) == nil && len(rec.Layers) == 1 && blob(rec.Desc.Digest.String()) {
			skip = append(skip, "layers/"+rec.Layers[0])
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	ids, err := st.Layers()
	for _, id := range ids {
		if goBaseID.MatchString(id) {
			skip = append(skip, "layers/"+id)
		}
	}
	return skip, err
}
