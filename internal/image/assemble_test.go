package image

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func TestAssemble(t *testing.T) {
	l := newLibrary(t)
	layer := makeTar(t, file{name: "app", content: "hello"})
	img := assemble(t, l, layer)
	valid(t, img)
	raw, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"architecture":"amd64","config":{"Env":["PATH=/bin"],"Cmd":["/app"]},"created":"1970-01-01T00:00:00Z",` +
		`"history":[{"created":"1970-01-01T00:00:00Z","created_by":"COPY app /app # buildkit","comment":"buildkit.dockerfile.v0"},` +
		`{"created":"1970-01-01T00:00:00Z","created_by":"CMD [\"/app\"]","comment":"buildkit.dockerfile.v0","empty_layer":true}],` +
		`"os":"linux","rootfs":{"type":"layers","diff_ids":["` + hashOf(layer).String() + `"]}}`
	if string(raw) != want {
		t.Errorf("config\n%s, want\n%s", raw, want)
	}
	m, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	id := hashOf([]byte(want))
	wantManifest := `{
  "schemaVersion": 2,
  "mediaType": "application/vnd.oci.image.manifest.v1+json",
  "config": {
    "mediaType": "application/vnd.oci.image.config.v1+json",
    "digest": "` + id.String() + `",
    "size": ` + strconv.Itoa(len(want)) + `
  },
  "layers": [
    {
      "mediaType": "application/vnd.oci.image.layer.v1.tar",
      "digest": "` + hashOf(layer).String() + `",
      "size": 2048
    }
  ]
}`
	if string(m) != wantManifest {
		t.Errorf("manifest\n%s, want\n%s", m, wantManifest)
	}
}

// What BuildKit's exporter makes of a history, by cases of its normalizeLayersAndHistory and patchImageConfig.
func TestHistory(t *testing.T) {
	const epoch = "2020-01-01T00:00:00Z"
	base := `{"created":"2024-05-05T00:00:00Z","created_by":"ADD base"}`
	for _, c := range []struct {
		name, config, baseConfig string
		layers                   int
		history, created         string
	}{
		{
			name: "no time: the epoch", config: `"history":[{"created_by":"a"},{"created_by":"b","empty_layer":true}]`, layers: 1,
			history: `[{"created":"2020-01-01T00:00:00Z","created_by":"a"},{"created":"2020-01-01T00:00:00Z","created_by":"b","empty_layer":true}]`,
			created: epoch,
		}, {
			name: "the base image keeps its times", config: `"history":[` + base + `,{"created_by":"a","created":"2026-01-01T00:00:00Z"}]`,
			baseConfig: `{"history":[` + base + `]}`, layers: 2,
			history: `[{"created":"2024-05-05T00:00:00Z","created_by":"ADD base"},{"created":"2020-01-01T00:00:00Z","created_by":"a"}]`,
			created: epoch,
		}, {
			name: "without a base config it is clamped", config: `"history":[` + base + `]`, layers: 1,
			history: `[{"created":"2020-01-01T00:00:00Z","created_by":"ADD base"}]`, created: epoch,
		}, {
			name: "older than the epoch stays", config: `"history":[{"created":"2001-01-01T00:00:00Z","created_by":"a"}],"created":"2001-02-03T00:00:00Z"`,
			layers:  1,
			history: `[{"created":"2001-01-01T00:00:00Z","created_by":"a"}]`, created: "2001-02-03T00:00:00Z",
		}, {
			name: "created is clamped", config: `"created":"2030-01-01T00:00:00Z"`, history: `[]`, created: epoch,
		}, {
			name: "entries too many become empty", config: `"history":[{"created_by":"a"},{"created_by":"b"}]`, layers: 1,
			history: `[{"created":"2020-01-01T00:00:00Z","created_by":"a"},{"created":"2020-01-01T00:00:00Z","created_by":"b","empty_layer":true}]`,
			created: epoch,
		}, {
			name: "entries too few are added", config: `"history":[{"created_by":"a"}]`, layers: 2,
			history: `[{"created":"2020-01-01T00:00:00Z","created_by":"a"},` +
				`{"created":"2020-01-01T00:00:00Z","created_by":"step 1","comment":"buildkit.exporter.image.v0"}]`,
			created: epoch,
		}, {
			name: "an image of nothing", config: `"x":1`, history: `[]`, created: epoch,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLibrary(t)
			s := Spec{Config: []byte(`{"architecture":"arm","variant":"v7","os":"linux",` + c.config + `}`), Epoch: *at(epoch)}
			if c.baseConfig != "" {
				s.BaseConfig = []byte(c.baseConfig)
			}
			for i := range c.layers {
				layer := layerOf(makeTar(t, file{name: "f", content: strings.Repeat("x", i+1)}))
				layer.CreatedBy = "step " + string(rune('0'+i))
				s.Layers = append(s.Layers, layer)
			}
			img, err := l.Assemble(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			valid(t, img)
			raw, _ := img.RawConfigFile()
			var got struct {
				History json.RawMessage
				Created string
				Variant string
			}
			if err := json.Unmarshal(raw, &got); err != nil {
				t.Fatal(err)
			}
			if string(got.History) != c.history || got.Created != c.created || got.Variant != "v7" {
				t.Errorf("history %s\nwant    %s\ncreated %s, want %s; %s", got.History, c.history, got.Created, c.created, got.Variant)
			}
		})
	}
}

func TestAssembleKeepsUnknownFields(t *testing.T) {
	l := newLibrary(t)
	img, err := l.Assemble(t.Context(), Spec{Config: []byte(
		`{"os":"linux","architecture":"amd64","config":{"OnBuild":["RUN x"],"Healthcheck":{"Test":["CMD","y"]},"Future":1},"moby.thing":[1,2]}`)})
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := img.RawConfigFile()
	for _, want := range []string{`"OnBuild":["RUN x"]`, `"Healthcheck":{"Test":["CMD","y"]}`, `"Future":1`, `"moby.thing":[1,2]`} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("%s is not in %s", want, raw)
		}
	}
}

func TestAssembleRefuses(t *testing.T) {
	b := makeTar(t, file{name: "f", content: "x"})
	lying := layerOf(b)
	lying.DiffID = hashOf([]byte("something else"))
	short := layerOf(b)
	short.Size--
	absent := layerOf(b)
	absent.Open = nil
	foreign := layerOf(b)
	foreign.Blob = v1.Descriptor{MediaType: "application/x-helm", Digest: hashOf(b), Size: int64(len(b))}
	const good = `{"os":"linux","architecture":"amd64"}`
	for _, c := range []struct {
		name, config string
		layers       []Layer
		want         string
	}{
		{"no os", `{"architecture":"amd64"}`, nil, "no os or no architecture"},
		{"null", `null`, nil, "no JSON object"},
		{"broken", `{`, nil, "read image config"},
		{"other digest", good, []Layer{lying}, "content has the digest"},
		{"other size", good, []Layer{short}, "longer than"},
		{"absent", good, []Layer{absent}, "not in the store"},
		{"no layer", good, []Layer{foreign}, `"application/x-helm"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := newLibrary(t).Assemble(t.Context(), Spec{Config: []byte(c.config), Layers: c.layers})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// Layers of a base image pass byte for byte, with OCI's media type.
func TestAssembleOnBase(t *testing.T) {
	l := newLibrary(t)
	base, err := random.Image(1000, 2)
	if err != nil {
		t.Fatal(err)
	}
	s := Spec{Config: []byte(`{"os":"linux","architecture":"amd64"}`), Annotations: map[string]string{"a": "b"}}
	layers, _ := base.Layers()
	for _, layer := range layers {
		one := Layer{Open: layer.Compressed}
		one.DiffID, _ = layer.DiffID()
		one.Blob.Digest, _ = layer.Digest()
		one.Blob.Size, _ = layer.Size()
		one.Blob.MediaType, _ = layer.MediaType()
		s.Layers = append(s.Layers, one)
	}
	own := makeTar(t, file{name: "app", content: "x"})
	s.Layers = append(s.Layers, layerOf(own))
	img, err := l.Assemble(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	valid(t, img)
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if m.Annotations["a"] != "b" || len(m.Layers) != 3 {
		t.Errorf("manifest %+v", m)
	}
	for i, want := range []types.MediaType{types.OCILayer, types.OCILayer, types.OCIUncompressedLayer} {
		if m.Layers[i].MediaType != want {
			t.Errorf("layer %d is %s, want %s", i, m.Layers[i].MediaType, want)
		}
	}
	if m.Layers[0].Digest != s.Layers[0].Blob.Digest {
		t.Error("the layer of the base image changed")
	}
}

func TestConvert(t *testing.T) {
	l := newLibrary(t)
	img := appImage(t, l, "app")
	for _, c := range []struct {
		f     Format
		layer types.MediaType
	}{
		{Format{}, types.OCILayer},
		{Format{Compression: "gzip", Level: 1}, types.OCILayer},
		{Format{Docker: true}, types.DockerLayer},
		{Format{Compression: "zstd"}, types.OCILayerZStd},
		{Format{Compression: "zstd", Level: 19}, types.OCILayerZStd},
		{Format{Compression: "uncompressed"}, types.OCIUncompressedLayer},
		{Format{Compression: "uncompressed", Docker: true}, types.DockerUncompressedLayer},
	} {
		out, err := l.Convert(t.Context(), img, c.f)
		if err != nil {
			t.Fatal(err)
		}
		valid(t, out)
		if idOfImage(t, out) != idOfImage(t, img) {
			t.Errorf("%+v: the image's ID changed", c.f)
		}
		m, _ := out.(v1.Image).Manifest()
		if m.Layers[0].MediaType != c.layer {
			t.Errorf("%+v: layer is %s", c.f, m.Layers[0].MediaType)
		}
		if mt, _ := out.MediaType(); (mt == types.DockerManifestSchema2) != c.f.Docker {
			t.Errorf("%+v: manifest is %s", c.f, mt)
		}
		if c.f.kind() != "uncompressed" && m.Layers[0].Size > 500 {
			t.Errorf("%+v: the layer has %d bytes", c.f, m.Layers[0].Size)
		}
	}
}

// The same layer gives the same bytes, and is compressed once.
func TestConvertIsDeterministic(t *testing.T) {
	for _, f := range []Format{{}, {Compression: "zstd"}} {
		var digests []v1.Hash
		for range 3 {
			l := newLibrary(t)
			img := assemble(t, l, makeTar(t, file{name: "big", content: strings.Repeat("0123456789abcdefghij\n", 300_000)}))
			out, err := l.Convert(t.Context(), img, f)
			if err != nil {
				t.Fatal(err)
			}
			digests = append(digests, digestOfContent(t, out))
		}
		if digests[0] != digests[1] || digests[1] != digests[2] {
			t.Errorf("%+v: %v", f, digests)
		}
	}
	l := newLibrary(t)
	img := appImage(t, l, "app")
	first, err := l.Convert(t.Context(), img, Format{})
	if err != nil {
		t.Fatal(err)
	}
	// Gone from the store, the source is not needed again; nor is a blob that was cut believed.
	layers, _ := img.Layers()
	diffID, _ := layers[0].DiffID()
	rc, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	content, _ := io.ReadAll(rc)
	rc.Close()
	removeBlob(t, l, diffID)
	if again, err := l.Convert(t.Context(), img, Format{}); err != nil || digestOfContent(t, again) != digestOfContent(t, first) {
		t.Errorf("the second time: %v", err)
	}
	if _, _, err := l.st.WriteBlob(t.Context(), bytes.NewReader(content), diffID, int64(len(content))); err != nil {
		t.Fatal(err)
	}
	m, _ := first.(v1.Image).Manifest()
	removeBlob(t, l, m.Layers[0].Digest)
	again, err := l.Convert(t.Context(), img, Format{})
	if err != nil {
		t.Fatal(err)
	}
	valid(t, again)
}

func TestConvertForce(t *testing.T) {
	l := newLibrary(t)
	base, err := random.Image(1000, 1)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := l.Convert(t.Context(), base, Format{Compression: "zstd"})
	if err != nil {
		t.Fatal(err)
	}
	forced, err := l.Convert(t.Context(), base, Format{Compression: "zstd", Force: true})
	if err != nil {
		t.Fatal(err)
	}
	was, _ := base.Manifest()
	k, _ := kept.(v1.Image).Manifest()
	f, _ := forced.(v1.Image).Manifest()
	if k.Layers[0].Digest != was.Layers[0].Digest || f.Layers[0].MediaType != types.OCILayerZStd {
		t.Errorf("kept %v, forced %v", k.Layers[0], f.Layers[0])
	}
	valid(t, forced)
	plain, err := l.Convert(t.Context(), base, Format{Compression: "uncompressed", Force: true})
	if err != nil {
		t.Fatal(err)
	}
	valid(t, plain)
	if m, _ := plain.(v1.Image).Manifest(); m.Layers[0].MediaType != types.OCIUncompressedLayer {
		t.Errorf("plain %v", m.Layers[0])
	}
}

func TestConvertRefuses(t *testing.T) {
	l := newLibrary(t)
	img := appImage(t, l, "app")
	for _, f := range []Format{
		{Compression: "lzma"}, {Compression: "estargz"}, {Level: 10}, {Level: -1}, {Compression: "zstd", Docker: true},
		{Compression: "uncompressed", Level: 1}, {Compression: "zstd", Level: 23},
	} {
		if _, err := l.Convert(t.Context(), img, f); err == nil {
			t.Errorf("%+v is accepted", f)
		}
	}
}

func TestIndex(t *testing.T) {
	l := newLibrary(t)
	amd := appImage(t, l, "amd64")
	s := Spec{Config: []byte(`{"os":"linux","architecture":"arm64"}`), Layers: []Layer{layerOf(makeTar(t, file{name: "f", content: "arm"}))}}
	arm, err := l.Assemble(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	ix, err := AssembleIndex([]PlatformImage{
		{Platform: v1.Platform{OS: "linux", Architecture: "amd64"}, Image: amd, Annotations: map[string]string{"d": "1"}},
		{Platform: v1.Platform{OS: "linux", Architecture: "arm64"}, Image: arm},
	}, map[string]string{"i": "2"})
	if err != nil {
		t.Fatal(err)
	}
	valid(t, ix)
	d, err := l.Put(t.Context(), ix, "multi")
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.load(d)
	if err != nil {
		t.Fatal(err)
	}
	valid(t, c)
	m, _ := c.(v1.ImageIndex).IndexManifest()
	if m.Annotations["i"] != "2" || m.Manifests[0].Annotations["d"] != "1" {
		t.Errorf("annotations %v %v", m.Annotations, m.Manifests[0].Annotations)
	}
	for arch, want := range map[string]v1.Image{"amd64": amd, "arm64": arm} {
		got, err := ImageFor(c, &v1.Platform{OS: "linux", Architecture: arch})
		if err != nil || idOfImage(t, got) != idOfImage(t, want) {
			t.Errorf("%s: %v", arch, err)
		}
	}
	if _, err := ImageFor(c, &v1.Platform{OS: "linux", Architecture: "riscv64"}); err == nil || !strings.Contains(err.Error(), "there is linux/amd64, linux/arm64") {
		t.Errorf("no such platform: %v", err)
	}
	conv, err := l.Convert(t.Context(), ix, Format{})
	if err != nil {
		t.Fatal(err)
	}
	valid(t, conv)
	if _, err := l.Convert(t.Context(), ix, Format{Docker: true}); err == nil {
		t.Error("annotations of an index go with Docker's media types")
	}
}

func TestEpochZeroIs1970(t *testing.T) {
	l := newLibrary(t)
	if c := configOf(t, appImage(t, l, "x")); !c.Created.Equal(time.Unix(0, 0)) {
		t.Errorf("created %v", c.Created)
	}
}
