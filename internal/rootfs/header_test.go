package rootfs_test

import (
	"archive/tar"
	"bytes"
	"io"
	"reflect"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/skiff-build/skiff/internal/rootfs"
	"github.com/skiff-build/skiff/internal/skifftest"
)

// TestHeaders holds that a tree, which does not keep headers, gives back what a header says of a file.
func TestHeaders(t *testing.T) {
	at := time.Unix(1_700_000_000, 123_456_789)
	want := map[string]*tar.Header{}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeReg, Name: "file", Mode: 0o4755, Uid: 1, Gid: 3_000_000_000, Uname: "root", Gname: "wheel", ModTime: at},
		{Typeflag: tar.TypeReg, Name: "same", Mode: 0o4755, Uid: 1, Gid: 3_000_000_000, Uname: "root", Gname: "wheel", ModTime: time.Unix(0, 0)},
		{Typeflag: tar.TypeReg, Name: "caps", Mode: 0o755, ModTime: at, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "\x01"}},
		{Typeflag: tar.TypeSymlink, Name: "link", Linkname: "../to", Mode: 0o777, ModTime: at},
		{Typeflag: tar.TypeDir, Name: "dir/", Mode: 0o1777, Uid: 7, ModTime: time.Date(1200, 1, 2, 3, 4, 5, 0, time.UTC)},
		{Typeflag: tar.TypeChar, Name: "dev", Mode: 0o600, Devmajor: 5, Devminor: 6, ModTime: time.Date(2500, 1, 2, 3, 4, 5, 0, time.UTC)},
	} {
		h.Format = tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		h.Name, h.Format = string(bytes.TrimSuffix([]byte(h.Name), []byte("/"))), tar.FormatUnknown
		want[h.Name] = &h
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "bare/file", Mode: 0o644, ModTime: at}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	want["bare/file"] = &tar.Header{Typeflag: tar.TypeReg, Name: "bare/file", Mode: 0o644, ModTime: at.Truncate(time.Second)}
	want["bare"] = &tar.Header{Typeflag: tar.TypeDir, Name: "bare", Mode: 0o755} // no entry, no time
	img := skifftest.Image(t, v1.Config{}, static.NewLayer(layer.Bytes(), types.OCIUncompressedLayer))
	check := func(name string, h tar.Header) {
		t.Helper()
		w, ok := want[name]
		if !ok || !h.ModTime.Equal(w.ModTime) {
			t.Errorf("%s: %+v", name, h)
			return
		}
		if h.ModTime.IsZero() {
			h.Name = name // a tree that is not written has none for it
		}
		h.ModTime = w.ModTime
		if !reflect.DeepEqual(&h, w) {
			t.Errorf("%s: got %+v, want %+v", name, h, *w)
		}
	}
	fs, err := rootfs.Open(t.Context(), img, rootfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	if err := fs.Walk(func(f rootfs.File) error { seen++; check(f.Path[1:], *f.Header); return nil }); err != nil {
		t.Fatal(err)
	}
	flat := 0
	if err := rootfs.Flatten(t.Context(), img, func(h *tar.Header, _ io.Reader) error { flat++; check(h.Name, *h); return nil }); err != nil {
		t.Fatal(err)
	}
	if seen != len(want) || flat != len(want) {
		t.Errorf("%d and %d files of %d", seen, flat, len(want))
	}
}
