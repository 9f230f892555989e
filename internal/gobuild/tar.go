package gobuild

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/skiff-build/skiff/internal/store"
)

// WriteLayer writes entries, in their order, to the store as an uncompressed layer, and returns its diff ID and its size in
// bytes.
func WriteLayer(ctx context.Context, st *store.Store, entries []Entry) (v1.Hash, int64, error) {
	return st.MakeBlob(ctx, func(w io.Writer) error { return writeTar(w, entries) })
}

func writeTar(w io.Writer, entries []Entry) error {
	tw := tar.NewWriter(w)
	for _, e := range entries {
		if err := writeEntry(tw, e); err != nil {
			return fmt.Errorf("%s: %w", e.Name, err)
		}
	}
	return tw.Close()
}

func writeEntry(tw *tar.Writer, e Entry) error {
	h := &tar.Header{
		Typeflag: tar.TypeReg, Name: strings.TrimPrefix(e.Name, "/"), Mode: e.Mode, Uid: e.UID, Gid: e.GID, ModTime: e.Time, Size: e.Size,
	}
	switch {
	case e.Link != "":
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.Link
	case strings.HasSuffix(e.Name, "/"):
		h.Typeflag = tar.TypeDir
	}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	if e.Open == nil {
		return nil
	}
	r, err := e.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(tw, r)
	return err
}
