package engine

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/skiff-build/skiff/internal/skifftest"
)

// toolImage has the tool as /bin/sh in its first layer, and takes a file away in the second.
func toolImage(t testing.TB) v1.Image {
	t.Helper()
	bin, err := tool()
	if err != nil {
		t.Fatal(err)
	}
	return skifftest.Image(t, v1.Config{Env: []string{"PATH=/bin"}},
		skifftest.Layer(t, skifftest.Entry{Name: "bin/"}, skifftest.Entry{Name: "bin/sh", Mode: 0o755, Body: string(bin)},
			skifftest.Entry{Name: "etc/gone", Body: "x"}, skifftest.Entry{Name: "etc/stays", Body: "y"}),
		skifftest.Layer(t, skifftest.Entry{Name: "etc/.wh.gone"}, skifftest.Entry{Name: "data/f", Body: "from the image"}))
}

// The first end to end: FROM an image, RUN, COPY --from, and the layers of the result.
func TestFromImage(t *testing.T) {
	b := newBench(t)
	var blobs atomic.Int64
	reg := skifftest.NewRegistry(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
				blobs.Add(1)
			}
			h.ServeHTTP(w, r)
		})
	})
	img := toolImage(t)
	name := reg.Push(t, "base:1", img)
	base := llb.Image(name)
	st := base.Run(run("missing /etc/gone ; cat /etc/stays /data/f ; write /new 1 ; rm /data")).Root()
	out := b.must(st, "/new")
	out.wants(t, "/etc/stays: y", "/data/f: from the image")
	if len(out.layers) != 3 {
		t.Fatalf("layers: %+v", out.layers)
	}
	layers, _ := img.Layers()
	for i, l := range layers {
		want, _ := l.Digest()
		if out.layers[i].Base == nil || out.layers[i].Base.Digest != want {
			t.Errorf("layer %d is not the base's own", i)
			continue
		}
		raw, _ := l.Compressed()
		data, _ := io.ReadAll(raw)
		if !bytes.Equal(readAll(t, out.layers[i].Base.Open), data) {
			t.Errorf("layer %d does not pass byte for byte", i)
		}
	}
	if out.layers[2].Base != nil {
		t.Error("the step's own layer is said to be a base")
	}
	if out.ran("docker-image") != 1 || len(out.statuses) == 0 {
		t.Errorf("told:\n%s", out.text())
	}
	wantDigest := out.layers[0].Base.Digest.String()
	if !slices.ContainsFunc(out.statuses, func(s client.VertexStatus) bool { return s.ID == wantDigest && s.Current == 7 && s.Completed == nil }) {
		t.Error("nobody was told of bytes on their way")
	}
	fetched := blobs.Load()
	again := b.must(st)
	if again.child || blobs.Load() > fetched+1 { // the resolver of this test reads the config
		t.Errorf("an unchanged build fetched %d blobs\n%s", blobs.Load()-fetched, again.text())
	}
	// A stage that copies from the image needs no more of it.
	copied := b.must(llb.Scratch().File(llb.Copy(base, "/data/f", "/f")), "/f")
	if copied.files["/f"] != "from the image" {
		t.Errorf("got %q", copied.files)
	}
}

// A blob that the store has lost is fetched again when it has to leave.
func TestLostBaseBlob(t *testing.T) {
	b := newBench(t)
	name := skifftest.NewRegistry(t, nil).Push(t, "base:1", toolImage(t))
	out := b.must(llb.Image(name))
	path, _, err := b.store.Blob(out.layers[0].Base.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	e := b.engine(nil)
	defer e.Close()
	ref, err := solve(t, e, llb.Image(name))
	if err != nil {
		t.Fatal(err)
	}
	layers, err := e.Layers(t.Context(), ref, LayerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(readAll(t, layers[0].Base.Open))) != layers[0].Base.Size {
		t.Error("the blob is not whole")
	}
	if int64(len(readAll(t, layers[0].Open))) != layers[0].Size {
		t.Error("the tar is not whole")
	}
}

// What is known of a base's layers may be collected before what stands on them: then they are fetched again, and leave
// as they came.
func TestLostBaseRecord(t *testing.T) {
	b := newBench(t)
	name := skifftest.NewRegistry(t, nil).Push(t, "base:1", toolImage(t))
	st := llb.Image(name).Run(run("write /x y")).Root()
	first := b.must(st)
	if err := b.store.Delete(kindBase, hashLines("base", first.layers[0].ID)); err != nil {
		t.Fatal(err)
	}
	second := b.must(st)
	for i, l := range first.layers {
		if second.layers[i].DiffID != l.DiffID || (second.layers[i].Base == nil) != (l.Base == nil) {
			t.Errorf("layer %d: got %+v, then %+v", i, l, second.layers[i])
		}
	}
}

// What a registry sends is verified, and nothing of a blob that is not whole is kept.
func TestImageThatLies(t *testing.T) {
	b := newBench(t)
	cut := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
				w = &cutWriter{ResponseWriter: w, room: 100}
			}
			h.ServeHTTP(w, r)
		})
	}
	l := skifftest.Layer(t, skifftest.Entry{Name: "f", Body: strings.Repeat("x", 100000)})
	img := skifftest.Image(t, v1.Config{}, l)
	if out := b.build(llb.Image(skifftest.NewRegistry(t, cut).Push(t, "base:1", img))); out.err == nil {
		t.Error("a blob cut short: no error")
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	for name, diffIDs := range map[string][]v1.Hash{
		"the image's config says":    {{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}},
		"and its config speaks of 2": {file.RootFS.DiffIDs[0], file.RootFS.DiffIDs[0]},
	} {
		other := file.DeepCopy()
		other.RootFS.DiffIDs = diffIDs
		lying, err := mutate.ConfigFile(img, other)
		if err != nil {
			t.Fatal(err)
		}
		out := b.build(llb.Image(skifftest.NewRegistry(t, nil).Push(t, "base:1", lying)))
		if out.err == nil || !strings.Contains(out.err.Error(), name) {
			t.Errorf("%s: got %v", name, out.err)
		}
	}
	left, _ := filepath.Glob(filepath.Join(b.store.Root(), "layers", "*"))
	if len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

type cutWriter struct {
	http.ResponseWriter
	room int
}

func (w *cutWriter) Write(p []byte) (int, error) {
	if w.room -= len(p); w.room < 0 {
		return 0, errors.New("cut")
	}
	return w.ResponseWriter.Write(p)
}

func TestUnpackedLayersCannotLeave(t *testing.T) {
	b := newBench(t)
	for _, e := range []skifftest.Entry{{Name: "../../escaped", Body: "x"}, {Name: "link", Hard: "../../../etc/passwd"}} {
		img := skifftest.Image(t, v1.Config{}, skifftest.Layer(t, e))
		out := b.build(llb.Image(skifftest.NewRegistry(t, nil).Push(t, "base:1", img)))
		if out.err == nil {
			t.Errorf("%+v: no error", e)
		}
	}
	if m, _ := filepath.Glob(filepath.Join(b.store.Root(), "*", "escaped")); len(m) > 0 {
		t.Errorf("left: %v", m)
	}
}

// A layer says that it holds more than it may: nothing of that size is written, nothing stays.
func TestLayerBomb(t *testing.T) {
	var tarball bytes.Buffer
	w := tar.NewWriter(&tarball)
	if err := w.WriteHeader(&tar.Header{Name: "bomb", Mode: 0o644, Size: 1 << 50}); err != nil {
		t.Fatal(err)
	}
	l := static.NewLayer(tarball.Bytes(), types.OCIUncompressedLayer)
	b := newBench(t)
	out := b.build(llb.Image(skifftest.NewRegistry(t, nil).Push(t, "base:1", skifftest.Image(t, v1.Config{}, l))))
	if out.err == nil || !strings.Contains(out.err.Error(), "bomb") {
		t.Errorf("got %v", out.err)
	}
	if m, _ := filepath.Glob(filepath.Join(b.store.Root(), "layers", "*")); len(m) > 0 {
		t.Errorf("left: %v", m)
	}
}

func TestOCILayout(t *testing.T) {
	b := newBench(t)
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	img := toolImage(t)
	if err := p.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "v1"})); err != nil {
		t.Fatal(err)
	}
	dgst, _ := img.Digest()
	b.options = func(o *Options) { o.OCILayouts = map[string]string{"base": dir} }
	for _, name := range []string{"base:v1", "base@" + dgst.String()} {
		out := b.must(llb.OCILayout(name, llb.OCIStore("", "base")), "/data/f")
		if out.files["/data/f"] != "from the image" {
			t.Errorf("%s: got %q", name, out.files)
		}
		e := b.engine(nil)
		_, got, config, err := e.ResolveImageConfig(t.Context(), name, sourceresolver.Opt{
			OCILayoutOpt: &sourceresolver.ResolveOCILayoutOpt{Store: sourceresolver.ResolveImageConfigOptStore{StoreID: "base"}}})
		e.Close()
		if err != nil || got.String() != dgst.String() || !json.Valid(config) {
			t.Errorf("%s: %s %q %v", name, got, config, err)
		}
	}
	if out := b.build(llb.OCILayout("base:v2", llb.OCIStore("", "other"))); out.err == nil || !strings.Contains(out.err.Error(), "no such layout") {
		t.Errorf("got %v", out.err)
	}
}

func TestResolveImageConfig(t *testing.T) {
	b := newBench(t)
	img := toolImage(t)
	name := skifftest.NewRegistry(t, nil).Push(t, "base:1", img)
	rec := &recorder{}
	e := b.engine(rec)
	defer e.Close()
	ref, dgst, config, err := e.ResolveImageConfig(t.Context(), name, sourceresolver.Opt{LogName: "[internal] load metadata for " + name})
	want, _ := img.Digest()
	raw, _ := img.RawConfigFile()
	if err != nil || ref != name || dgst.String() != want.String() || !bytes.Equal(config, raw) {
		t.Errorf("got %s %s %s %v", ref, dgst, config, err)
	}
	if !strings.Contains(rec.text(), "done [internal] load metadata for "+name) {
		t.Errorf("told:\n%s", rec.text())
	}
	if _, _, _, err := e.ResolveImageConfig(t.Context(), name+"missing", sourceresolver.Opt{}); err == nil {
		t.Error("an image that is not there has a config")
	}
}
