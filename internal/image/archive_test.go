package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/zstd"
)

func archiveOf(t *testing.T, docker bool, images ...Named) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := writeArchive(t.Context(), &buf, images, time.Time{}, docker); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// Archives come back as the same images, plain or compressed, in either format.
func TestArchiveRoundTrip(t *testing.T) {
	l := newLibrary(t)
	one, two := appImage(t, l, "one"), appImage(t, l, "two")
	packed, err := l.Convert(t.Context(), two, Format{})
	if err != nil {
		t.Fatal(err)
	}
	images := []Named{{one, []string{"one:1", "example.com/a/one:2"}}, {packed, nil}}
	gz := func(b []byte) []byte {
		var buf bytes.Buffer
		w := gzip.NewWriter(&buf)
		w.Write(b)
		w.Close()
		return buf.Bytes()
	}
	zs := func(b []byte) []byte {
		e, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		return e.EncodeAll(b, nil)
	}
	for name, docker := range map[string]bool{"oci": false, "docker": true} {
		for pack, f := range map[string]func([]byte) []byte{"plain": func(b []byte) []byte { return b }, "gzip": gz, "zstd": zs} {
			t.Run(name+"/"+pack, func(t *testing.T) {
				other := newLibrary(t)
				loaded, err := other.Load(t.Context(), bytes.NewReader(f(archiveOf(t, docker, images...))))
				if err != nil {
					t.Fatal(err)
				}
				if len(loaded) != 2 || strings.Join(loaded[0].Names, " ") != "docker.io/library/one:1 example.com/a/one:2" || len(loaded[1].Names) != 0 {
					t.Fatalf("loaded %+v", loaded)
				}
				for i, want := range []v1.Image{one, packed.(v1.Image)} {
					got, err := other.Open(t.Context(), loaded[i].ID.Hex[:12])
					if err != nil {
						t.Fatal(err)
					}
					valid(t, got)
					if digestOfContent(t, got) != digestOfContent(t, want) {
						t.Errorf("image %d has another manifest", i)
					}
				}
			})
		}
	}
}

func TestArchiveIsDeterministic(t *testing.T) {
	l := newLibrary(t)
	img := Named{appImage(t, l, "x"), []string{"x"}}
	if !bytes.Equal(archiveOf(t, true, img), archiveOf(t, true, img)) {
		t.Error("the same image gives another archive")
	}
}

// What go-containerregistry reads is what `docker load` reads: manifest.json.
func TestDockerArchiveIsReadElsewhere(t *testing.T) {
	l := newLibrary(t)
	img, err := l.Convert(t.Context(), appImage(t, l, "x"), Format{Docker: true})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.tar")
	if err := os.WriteFile(path, archiveOf(t, true, Named{img, []string{"x:1"}}), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := tarball.ImageFromPath(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	valid(t, got)
	if idOfImage(t, got) != idOfImage(t, img) {
		t.Error("another image")
	}
	m, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return os.Open(path) })
	if err != nil || len(m) != 1 || strings.Join(m[0].RepoTags, " ") != "x:1" {
		t.Errorf("manifest.json: %+v %v", m, err)
	}
}

func TestLayoutIsReadElsewhere(t *testing.T) {
	l := newLibrary(t)
	dir := filepath.Join(t.TempDir(), "layout")
	one, two := appImage(t, l, "one"), appImage(t, l, "two")
	for _, img := range []Named{{one, []string{"x:1"}}, {two, []string{"x:2"}}, {two, []string{"x:1"}}, {one, nil}, {one, nil}} {
		if err := WriteLayout(t.Context(), dir, []Named{img}, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	ix, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := ix.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range m.Manifests {
		got = append(got, d.Annotations[annotationImageName]+"="+d.Annotations[annotationRefName])
		img, err := ix.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if d.Platform == nil || d.Platform.Architecture != "amd64" {
			t.Errorf("platform %v", d.Platform)
		}
		valid(t, img)
	}
	if s := strings.Join(got, " "); s != "docker.io/library/x:2=2 docker.io/library/x:1=1 =" {
		t.Errorf("entries %s", s)
	}
	other := newLibrary(t)
	loaded, err := other.LoadPath(t.Context(), dir)
	if err != nil || len(loaded) != 2 {
		t.Errorf("loaded %v %v", loaded, err)
	}
	busy := t.TempDir()
	if err := os.WriteFile(filepath.Join(busy, "letter"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := WriteLayout(t.Context(), busy, nil, time.Time{}); err == nil {
		t.Error("a folder with other things is written to")
	}
}

// The store's own folder is such a layout.
func TestStoreIsLayout(t *testing.T) {
	l := newLibrary(t)
	img := appImage(t, l, "x")
	if _, err := l.Put(t.Context(), img, "x"); err != nil {
		t.Fatal(err)
	}
	ix, err := layout.ImageIndexFromPath(filepath.Join(l.st.Root(), "oci"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := ix.Image(digestOfContent(t, img))
	if err != nil {
		t.Fatal(err)
	}
	valid(t, got)
}

// The format of docker save before its version 25: configs and layers by names of its own, links between them.
func TestLoadOldDockerArchive(t *testing.T) {
	layer := makeTar(t, file{name: "f", content: "x"})
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(layer)
	z.Close()
	cfg := mustJSON(t, v1.ConfigFile{OS: "linux", Architecture: "amd64", RootFS: v1.RootFS{Type: "layers",
		DiffIDs: []v1.Hash{hashOf(layer), hashOf(layer), hashOf(layer)}}})
	name := hashOf(cfg).Hex + ".json"
	manifest := mustJSON(t, []dockerImage{{Config: name, RepoTags: []string{"old:1"}, Layers: []string{"a/layer.tar", "b/layer.tar", "c.tar.gz"}}})
	archive := makeTar(t, symlink("b/layer.tar", "../a/layer.tar"), dir("a"), file{name: "a/layer.tar", content: string(layer)},
		file{name: "c.tar.gz", content: packed.String()}, file{name: "a/VERSION", content: "1.0"},
		file{name: name, content: string(cfg)}, file{name: "manifest.json", content: string(manifest)})
	l := newLibrary(t)
	loaded, err := l.Load(t.Context(), bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	if len(loaded) != 1 || loaded[0].ID != hashOf(cfg) {
		t.Errorf("loaded %+v", loaded)
	}
	img, err := l.Open(t.Context(), "old:1")
	if err != nil {
		t.Fatal(err)
	}
	valid(t, img)
}

func TestLoadRefuses(t *testing.T) {
	src := newLibrary(t)
	img := appImage(t, src, "x")
	good := archiveOf(t, true, Named{img, []string{"x"}})
	// edit writes the archive again with other content for some members; nil leaves a member out.
	edit := func(edits map[string][]byte) []byte {
		var files []file
		for tr := tar.NewReader(bytes.NewReader(good)); ; {
			h, err := tr.Next()
			if err == io.EOF {
				break
			}
			b, _ := io.ReadAll(tr)
			if e, ok := edits[h.Name]; ok {
				if e == nil {
					continue
				}
				b = e
			}
			if h.Typeflag == tar.TypeReg {
				files = append(files, file{name: h.Name, content: string(b)})
			}
		}
		return makeTar(t, files...)
	}
	m, _ := img.Manifest()
	layer, config := blobName(m.Layers[0].Digest), blobName(m.Config.Digest)
	noOCI := func(edits map[string][]byte) map[string][]byte {
		edits["index.json"] = nil
		return edits
	}
	manifest := func(d ...dockerImage) []byte { return mustJSON(t, d) }
	for _, c := range []struct {
		name    string
		archive []byte
		want    string
	}{
		{"empty", nil, "there are no images in it"},
		{"text", []byte("hello, this is no archive at all"), "no tar archive"},
		{"cut short", good[:len(good)/2], "unexpected EOF"},
		{"cut gzip", []byte{0x1f, 0x8b, 8, 0}, "unexpected EOF"},
		{"a tar of something else", makeTar(t, file{name: "f", content: "x"}), "there are no images in it"},
		{"climbs out", makeTar(t, file{name: "../../f", content: "x"}), "leads outside"},
		{"blob of another digest", edit(map[string][]byte{layer: []byte("other")}), "content has the digest"},
		{"blob name no digest", makeTar(t, file{name: "blobs/sha256/../../../x", content: ""}), "leads outside"},
		{"blob name too short", makeTar(t, file{name: "blobs/sha256/abc", content: ""}), "only sha256"},
		{"layer missing", edit(map[string][]byte{layer: nil}), "not complete"},
		{"layer missing, docker", edit(noOCI(map[string][]byte{layer: nil})), "is not in the archive"},
		{"config missing, docker", edit(noOCI(map[string][]byte{config: nil})), "its config is not in the archive"},
		{"index of nothing", edit(map[string][]byte{"index.json": []byte(`{"schemaVersion":2,"manifests":[]}`)}), "there are no images"},
		{"broken index", edit(map[string][]byte{"index.json": []byte(`{`)}), "read image index"},
		{"broken manifest.json", edit(noOCI(map[string][]byte{"manifest.json": []byte(`[{]`)})), "read manifest.json"},
		{"bad name", edit(noOCI(map[string][]byte{"manifest.json": manifest(dockerImage{Config: config, RepoTags: []string{"UPPER"}, Layers: []string{layer}})})), "lowercase"},
		{"layers and config differ", edit(noOCI(map[string][]byte{"manifest.json": manifest(dockerImage{Config: config, Layers: []string{layer, layer}})})), "has 2 layers, its config names 1"},
		{"another layer", edit(noOCI(map[string][]byte{"manifest.json": manifest(dockerImage{Config: config, Layers: []string{config}})})), "diff ID"},
		{"manifest.json is a bomb", makeTar(t, file{name: "manifest.json", content: strings.Repeat(" ", maxArchiveJSON+1)}), "more than the"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLibrary(t)
			_, err := l.Load(t.Context(), bytes.NewReader(c.archive))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if rows, err := l.List(t.Context()); err != nil || len(rows) != 0 {
				t.Errorf("images afterwards: %v %v", rows, err)
			}
		})
	}
}

// An index of which the archive holds one platform only, as docker save writes it: that image is loaded.
func TestLoadSparseIndex(t *testing.T) {
	src := newLibrary(t)
	img := appImage(t, src, "x")
	ix, err := AssembleIndex([]PlatformImage{{Platform: v1.Platform{OS: "linux", Architecture: "amd64"}, Image: img}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var full v1.IndexManifest
	raw, _ := ix.RawManifest()
	if err := json.Unmarshal(raw, &full); err != nil {
		t.Fatal(err)
	}
	absent := full.Manifests[0]
	absent.Digest, absent.Platform = hashOf([]byte("not here")), &v1.Platform{OS: "linux", Architecture: "s390x"}
	full.Manifests = append([]v1.Descriptor{absent}, full.Manifests...)
	inner := mustJSON(t, full)
	outer := mustJSON(t, v1.IndexManifest{SchemaVersion: 2, Manifests: []v1.Descriptor{{
		MediaType: full.MediaType, Digest: hashOf(inner), Size: int64(len(inner)),
		Annotations: map[string]string{annotationImageName: "docker.io/library/sparse:1"}}}})
	files := []file{{name: "index.json", content: string(outer)}, {name: "oci-layout", content: "{}"},
		{name: blobName(hashOf(inner)), content: string(inner)}}
	m, _ := img.Manifest()
	for _, h := range []v1.Hash{digestOfContent(t, img), m.Config.Digest, m.Layers[0].Digest} {
		r, err := src.st.OpenBlob(h)
		if err != nil {
			mraw, _ := img.RawManifest()
			cfg, _ := img.RawConfigFile()
			for _, b := range [][]byte{mraw, cfg} {
				if hashOf(b) == h {
					files = append(files, file{name: blobName(h), content: string(b)})
				}
			}
			continue
		}
		b, _ := io.ReadAll(r)
		r.Close()
		files = append(files, file{name: blobName(h), content: string(b)})
	}
	l := newLibrary(t)
	if _, err := l.Load(t.Context(), bytes.NewReader(makeTar(t, files...))); err != nil {
		t.Fatal(err)
	}
	got, err := l.Open(t.Context(), "sparse:1")
	if err != nil || digestOfContent(t, got) != digestOfContent(t, img) {
		t.Errorf("%v %v", got, err)
	}
}

func TestWriteTo(t *testing.T) {
	dir := t.TempDir()
	dest := filepath.Join(dir, "f")
	put := func(s string) func(io.Writer) error {
		return func(w io.Writer) error {
			_, err := io.WriteString(w, s)
			return err
		}
	}
	var out bytes.Buffer
	if err := writeTo("-", &out, put("x")); err != nil || out.String() != "x" {
		t.Errorf("stdout: %q %v", out.String(), err)
	}
	if err := writeTo(dest, nil, put("one")); err != nil {
		t.Error(err)
	}
	boom := errors.New("boom")
	if err := writeTo(dest, nil, func(w io.Writer) error { put("half")(w); return boom }); !errors.Is(err, boom) {
		t.Errorf("%v", err)
	}
	if b, _ := os.ReadFile(dest); string(b) != "one" {
		t.Errorf("after a failure the file holds %q", b)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("%d files are left", len(entries))
	}
	if err := writeTo(dir, nil, put("x")); err == nil {
		t.Error("a folder is written over")
	}
	if err := writeTo(filepath.Join(dir, "no", "f"), nil, put("x")); err == nil {
		t.Error("a folder that is not there")
	}
	if err := writeTo(os.DevNull, nil, put("x")); err != nil {
		t.Errorf("a device: %v", err)
	}
	if err := os.Symlink(dest, filepath.Join(dir, "link")); err == nil {
		if err := writeTo(filepath.Join(dir, "link"), nil, put("two")); err != nil {
			t.Error(err)
		}
		if b, _ := os.ReadFile(dest); string(b) != "two" {
			t.Errorf("through a link: %q", b)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte("not a tar"))
	f.Add(makeTar(f, file{name: "manifest.json", content: `[{"Config":"c","Layers":["l"]}]`}, file{name: "c", content: "{}"}))
	f.Add(makeTar(f, file{name: "oci-layout", content: `{}`}, file{name: "index.json", content: `{"manifests":[{"digest":"sha256:` + strings.Repeat("a", 64) + `"}]}`}))
	m := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json"}]}`
	f.Add(makeTar(f, file{name: "oci-layout", content: `{}`}, file{name: blobName(hashOf([]byte(m))), content: m},
		file{name: "index.json", content: `{"manifests":[{"digest":"` + hashOf([]byte(m)).String() + `"}]}`}, symlink("a", "a"), hardlink("b", "../c")))
	l := newLibrary(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		loaded, err := l.Load(t.Context(), bytes.NewReader(b))
		if err != nil {
			return
		}
		for _, x := range loaded {
			if _, err := l.Open(t.Context(), x.ID.Hex); err != nil {
				t.Errorf("a loaded image: %v", err)
			}
		}
	})
}

func TestCopyAhead(t *testing.T) {
	text := strings.Repeat("0123456789", 200_000)
	var out bytes.Buffer
	if n, err := copyAhead(&out, iotest.OneByteReader(strings.NewReader(text[:1000]))); n != 1000 || err != nil || out.String() != text[:1000] {
		t.Errorf("%d %v", n, err)
	}
	out.Reset()
	if n, err := copyAhead(&out, strings.NewReader(text)); n != int64(len(text)) || err != nil || out.String() != text {
		t.Errorf("%d %v", n, err)
	}
	out.Reset()
	failed := errors.New("it failed")
	if n, err := copyAhead(&out, io.MultiReader(strings.NewReader(text), iotest.ErrReader(failed))); n != int64(len(text)) || err != failed {
		t.Errorf("a reader that fails: %d %v", n, err)
	}
	if n, err := copyAhead(failing{failed}, strings.NewReader(text)); n != 0 || err != failed {
		t.Errorf("a writer that fails: %d %v", n, err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// BenchmarkArchive writes an image with a layer of 64 MB, which is verified on the way.
func BenchmarkArchive(b *testing.B) {
	l := newLibrary(b)
	text := make([]byte, 64<<20)
	rand.NewChaCha8([32]byte{1}).Read(text)
	h, _, err := l.st.WriteBlob(b.Context(), bytes.NewReader(text), v1.Hash{}, -1)
	if err != nil {
		b.Fatal(err)
	}
	a := archive{blobs: map[string]archived{blobName(h): {int64(len(text)), func() (io.ReadCloser, error) { return l.st.OpenBlob(h) }}}}
	b.SetBytes(int64(len(text)))
	dest := filepath.Join(b.TempDir(), "out.tar")
	for b.Loop() {
		if err := writeTo(dest, nil, func(w io.Writer) error { return a.writeTar(b.Context(), w, time.Unix(0, 0)) }); err != nil {
			b.Fatal(err)
		}
	}
}
