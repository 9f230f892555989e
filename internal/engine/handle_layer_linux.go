package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/skiff-build/skiff/internal/bounds"
	"github.com/skiff-build/skiff/internal/fileop"
	"github.com/skiff-build/skiff/internal/layer"
	"golang.org/x/sys/unix"
)

// unpackLayer makes the layer req.ID of a tar.
func unpackLayer(ctx context.Context, j *job, req unpackReq) (resp unpackResp, err error) {
	src, err := j.tarStream(req)
	if err != nil {
		return resp, err
	}
	defer src.Close()
	lower, err := j.tree(ctx, treeReq{Chain: req.Chain})
	if err != nil {
		return resp, err
	}
	dir, err := j.newLayer()
	if err != nil {
		return resp, err
	}
	limits, room, err := unpackLimits(dir, req.Path)
	if err != nil {
		return resp, err
	}
	limits.Lower = lower
	p, err := layer.Unpack(ctx, src, filepath.Join(dir, "fs"), limits)
	switch {
	case errors.Is(err, layer.ErrLimit) && room:
		return resp, fmt.Errorf("%w: %w, or it is a bomb", err, unix.ENOSPC)
	case errors.Is(err, layer.ErrLimit):
		return resp, fmt.Errorf("%w: it is a bomb", err)
	}
	if err != nil {
		return resp, err
	}
	if req.DiffID != "" && p.DiffID != req.DiffID {
		return resp, fmt.Errorf("the layer's content has the digest %s, and the image's config says %s", p.DiffID, req.DiffID)
	}
	return unpackResp{DiffID: p.DiffID, Size: p.Size, Files: p.Files}, j.snaps.Adopt(dir, req.ID)
}

// unpackLimits bounds a layer that is made below dir: nine tenths of the room that is left on the disk, and what is likely for
// the blob (package bounds). Without a path the tar comes from skiff itself, and only the disk counts. room says that the disk is the bound.
func unpackLimits(dir, path string) (o layer.UnpackOptions, room bool, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return o, false, fmt.Errorf("room on the disk: %w", err)
	}
	o = layer.UnpackOptions{MaxBytes: max(1, int64(st.Bavail)*int64(st.Bsize)/10*9), MaxEntries: bounds.MaxEntries}
	if path == "" {
		return o, true, nil
	}
	fi, err := os.Stat(path)
	if err != nil {
		return o, false, err
	}
	likely := bounds.Unpacked(fi.Size())
	room = o.MaxBytes < likely
	o.MaxBytes = min(o.MaxBytes, likely)
	return o, room, nil
}

func (j *job) tarStream(req unpackReq) (io.ReadCloser, error) {
	if req.Path == "" {
		if len(j.Files()) != 1 {
			return nil, errors.New("no tar came with the call")
		}
		return io.NopCloser(bufio.NewReaderSize(j.Files()[0], 1<<20)), nil
	}
	f, err := os.Open(req.Path)
	if err != nil {
		return nil, err
	}
	s, err := layer.Decompress(bufio.NewReaderSize(f, 1<<20))
	if err != nil {
		f.Close()
		return nil, err
	}
	return joined{s, []io.Closer{s, f}}, nil
}

type joined struct {
	io.Reader
	closers []io.Closer
}

func (c joined) Close() error {
	var errs []error
	for _, cl := range c.closers {
		errs = append(errs, cl.Close())
	}
	return errors.Join(errs...)
}

// newLayer makes a directory with an empty fs in it, which goes with the job unless it is committed.
func (j *job) newLayer() (dir string, err error) {
	if dir, err = j.tempFor("layer"); err != nil {
		return "", err
	}
	return dir, os.Mkdir(filepath.Join(dir, "fs"), 0o755)
}

func digestChain(ctx context.Context, j *job, req digestReq) (rec digestRecord, err error) {
	t, err := j.tree(ctx, treeReq{Chain: req.Chain})
	if err != nil {
		return rec, err
	}
	rec.Digest, err = fileop.Digest(ctx, t, req.Selector, nil)
	return rec, err
}

// packLayer writes the layer's tar into the descriptor that came with the call.
func packLayer(ctx context.Context, j *job, req packReq) (resp packResp, err error) {
	if len(j.Files()) != 1 {
		return resp, errors.New("the descriptor did not come with the call")
	}
	if err := j.snaps.Vouch(req.ID); err != nil {
		return resp, err
	}
	dir, o := filepath.Join(j.root, "layers", req.ID, "fs"), layer.PackOptions{Epoch: req.Epoch, KeepTimes: req.KeepTimes}
	var p layer.Packed
	if req.Over {
		w := bufio.NewWriterSize(j.Files()[0], 1<<20)
		pieces := pieceWriter{w}
		if p.Files, err = layer.PackOver(ctx, pieces, dir, o); err == nil {
			err = pieces.end()
		}
		if err == nil {
			err = w.Flush()
		}
	} else {
		p, err = layer.Pack(ctx, j.Files()[0], dir, o)
	}
	return packResp{DiffID: p.DiffID, Size: p.Size, Files: p.Files}, err
}

func readChain(ctx context.Context, j *job, req readReq) ([]byte, error) {
	t, err := j.tree(ctx, treeReq{Chain: req.Chain})
	if err != nil {
		return nil, err
	}
	return readFile(t, req)
}

func statChain(ctx context.Context, j *job, req readReq) (statResp, error) {
	t, err := j.tree(ctx, treeReq{Chain: req.Chain})
	if err != nil {
		return statResp{}, err
	}
	return statFile(t, req)
}

func listChain(ctx context.Context, j *job, req readReq) ([]statResp, error) {
	t, err := j.tree(ctx, treeReq{Chain: req.Chain})
	if err != nil {
		return nil, err
	}
	return listDir(t, req)
}
