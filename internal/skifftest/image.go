package skifftest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Entry is one file of a layer. The kind follows from what is set: Link a symbolic link, Hard a hard link, a final slash
// in Name a directory, else a regular file. Mode zero is 0755 for directories, else 0644.
type Entry struct {
	Name     string // relative, slashes
	Body     string
	File     string // path of the file on this machine whose content is the body
	Link     string
	Hard     string // name of an entry before
	Mode     int64
	UID, GID int
}

// Layer makes an uncompressed layer, kept in a file that goes with the test. Entries stand as they are given: names with
// .. in them, too.
func Layer(t testing.TB, entries ...Entry) v1.Layer {
	t.Helper()
	return layerOf(t, func(w *tar.Writer) error {
		for _, e := range entries {
			if err := e.write(w); err != nil {
				return fmt.Errorf("%s: %w", e.Name, err)
			}
		}
		return nil
	})
}

func (e Entry) write(w *tar.Writer) error {
	h := &tar.Header{Name: e.Name, Mode: e.Mode, Uid: e.UID, Gid: e.GID, Typeflag: tar.TypeReg, Format: tar.FormatPAX}
	switch {
	case e.Link != "":
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.Link
	case e.Hard != "":
		h.Typeflag, h.Linkname = tar.TypeLink, e.Hard
	case e.Name[len(e.Name)-1] == '/':
		h.Typeflag = tar.TypeDir
	}
	if e.Mode == 0 {
		h.Mode = 0o644
		if h.Typeflag == tar.TypeDir {
			h.Mode = 0o755
		}
	}
	if h.Typeflag != tar.TypeReg {
		return w.WriteHeader(h)
	}
	var body io.Reader = bytes.NewReader([]byte(e.Body))
	h.Size = int64(len(e.Body))
	if e.File != "" {
		f, err := os.Open(e.File)
		if err != nil {
			return err
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil {
			return err
		}
		body, h.Size = f, st.Size()
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.Copy(w, body)
	return err
}

// layerOf writes a tar to a file of the test and makes a layer of it.
func layerOf(t testing.TB, write func(*tar.Writer) error) v1.Layer {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "layer")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum := sha256.New()
	w := tar.NewWriter(io.MultiWriter(f, sum))
	if err := write(w); err != nil {
		t.Fatalf("make a layer: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return fileLayer{f.Name(), v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}, st.Size()}
}

// fileLayer is an uncompressed layer: its digest is its diff ID.
type fileLayer struct {
	file string
	hash v1.Hash
	size int64
}

func (l fileLayer) Digest() (v1.Hash, error)             { return l.hash, nil }
func (l fileLayer) DiffID() (v1.Hash, error)             { return l.hash, nil }
func (l fileLayer) Compressed() (io.ReadCloser, error)   { return os.Open(l.file) }
func (l fileLayer) Uncompressed() (io.ReadCloser, error) { return os.Open(l.file) }
func (l fileLayer) Size() (int64, error)                 { return l.size, nil }
func (l fileLayer) MediaType() (types.MediaType, error)  { return types.OCIUncompressedLayer, nil }

// Image makes an OCI image for linux/amd64 of layers, lowest first.
func Image(t testing.TB, config v1.Config, layers ...v1.Layer) v1.Image {
	t.Helper()
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.AppendLayers(img, layers...)
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", "amd64", config
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	return img
}
