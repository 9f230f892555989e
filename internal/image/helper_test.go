package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/skiff-build/skiff/internal/skifftest"
	"github.com/skiff-build/skiff/internal/store"
)

func newLibrary(t testing.TB) *Library {
	t.Helper()
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return NewLibrary(st)
}

func hashOf(b []byte) v1.Hash {
	sum := sha256.Sum256(b)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

// file is a tar member: content of a regular file, or a header with a type of its own.
type file struct {
	name, content string
	header        tar.Header
}

func makeTar(t testing.TB, files ...file) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, f := range files {
		h := f.header
		h.Name = f.name
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if h.Typeflag == 0 {
			h.Typeflag, h.Size = tar.TypeReg, int64(len(f.content))
		}
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(tw, f.content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func dir(name string) file {
	return file{name: name + "/", header: tar.Header{Typeflag: tar.TypeDir, Mode: 0o755}}
}
func symlink(name, to string) file {
	return file{name: name, header: tar.Header{Typeflag: tar.TypeSymlink, Linkname: to}}
}
func hardlink(name, to string) file {
	return file{name: name, header: tar.Header{Typeflag: tar.TypeLink, Linkname: to}}
}

func layerOf(b []byte) Layer {
	return Layer{DiffID: hashOf(b), Size: int64(len(b)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b)), nil
	}}
}

const plainConfig = `{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"],"Cmd":["/app"]},"rootfs":{"type":"layers","diff_ids":null},` +
	`"history":[{"created_by":"COPY app /app # buildkit","comment":"buildkit.dockerfile.v0"},{"created_by":"CMD [\"/app\"]","comment":"buildkit.dockerfile.v0","empty_layer":true}]}`

// assemble makes an image of layers, without a base.
func assemble(t *testing.T, l *Library, layers ...[]byte) v1.Image {
	t.Helper()
	s := Spec{Config: []byte(plainConfig)}
	for _, b := range layers {
		s.Layers = append(s.Layers, layerOf(b))
	}
	img, err := l.Assemble(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// appImage is a small image whose layer compresses well.
func appImage(t *testing.T, l *Library, name string) v1.Image {
	t.Helper()
	return assemble(t, l, makeTar(t, file{name: name, content: strings.Repeat(name, 10_000)}))
}

// valid checks an image or index from outside: go-containerregistry's validator where all layers are gzip, which
// is all that it knows, and every digest and size in any case.
func valid(t *testing.T, c Content) {
	t.Helper()
	if ix, ok := c.(v1.ImageIndex); ok {
		children, err := childrenOf(ix)
		if err != nil {
			t.Error(err)
		}
		for _, child := range children {
			d, err := describe(child.Content)
			if err != nil || d.Digest != child.desc.Digest || d.Size != child.desc.Size || d.MediaType != child.desc.MediaType {
				t.Errorf("index entry %v is %v, %v", child.desc, d, err)
			}
			valid(t, child.Content)
		}
		return
	}
	img := c.(v1.Image)
	raw, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	if digestOfContent(t, img) != hashOf(raw) {
		t.Error("the digest is not the manifest's")
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	cf := configOf(t, img)
	gzipped := true
	for i, layer := range layers {
		mt, _ := layer.MediaType()
		gzipped = gzipped && compressionOf(mt) == "gzip"
		digest, _ := layer.Digest()
		size, _ := layer.Size()
		if got := skifftest.ReadAll(t, layer.Compressed); hashOf(got) != digest || int64(len(got)) != size {
			t.Errorf("layer %d: its content is not what its descriptor says", i)
		}
		if got := hashOf(skifftest.ReadAll(t, layer.Uncompressed)); got != cf.RootFS.DiffIDs[i] {
			t.Errorf("layer %d: diff ID %s, the config says %s", i, got, cf.RootFS.DiffIDs[i])
		}
	}
	if gzipped {
		if err := validate.Image(img); err != nil {
			t.Error(err)
		}
	}
}

func configOf(t *testing.T, c Content) *v1.ConfigFile {
	t.Helper()
	img, err := imageFor(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return cf
}

func idOfImage(t *testing.T, c Content) v1.Hash {
	t.Helper()
	h, err := idOf(c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func digestOfContent(t *testing.T, c Content) v1.Hash {
	t.Helper()
	h, err := c.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// tree lists a tar, one member a line, by name.
func tree(t *testing.T, r io.Reader) string {
	t.Helper()
	var lines []string
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		line := h.Name
		switch h.Typeflag {
		case tar.TypeReg:
			b, err := io.ReadAll(tr)
			if err != nil {
				t.Fatal(err)
			}
			line += "=" + string(b)
		case tar.TypeLink:
			line += "==" + h.Linkname
		case tar.TypeSymlink:
			line += "->" + h.Linkname
		}
		lines = append(lines, line)
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func at(s string) *time.Time {
	tm, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(fmt.Sprint("bad time in a test: ", s))
	}
	return &tm
}

func removeBlob(t *testing.T, l *Library, h v1.Hash) {
	t.Helper()
	path, _, err := l.st.Blob(h)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
