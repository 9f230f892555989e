package image

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func TestParseName(t *testing.T) {
	d := "sha256:" + strings.Repeat("a", 64)
	for in, want := range map[string]string{
		"alpine":               "docker.io/library/alpine:latest",
		"alpine:3":             "docker.io/library/alpine:3",
		"me/x":                 "docker.io/me/x:latest",
		"docker.io/x":          "docker.io/library/x:latest",
		"index.docker.io/x":    "docker.io/library/x:latest",
		"localhost/x":          "localhost/x:latest",
		"localhost:5000/a/b:1": "localhost:5000/a/b:1",
		"ghcr.io/a/b@" + d:     "ghcr.io/a/b@" + d,
		"x:1@" + d:             "docker.io/library/x:1@" + d,
		"UPPER":                "", "": "", "a b": "", "x:": "", ":x": "", "x@sha256:1": "", "-x": "",
		strings.Repeat("a", 64):  "", // an ID is no name
		strings.Repeat("x", 300): "",
	} {
		got, err := ParseName(in)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q %v, want %q", in, got, err, want)
		}
	}
	for full, want := range map[string]string{"docker.io/library/alpine:3": "alpine:3", "docker.io/me/x:1": "me/x:1", "h:1/x:2": "h:1/x:2"} {
		if got := FamiliarName(full); got != want {
			t.Errorf("FamiliarName(%s) = %s", full, got)
		}
	}
}

func TestList(t *testing.T) {
	l := newLibrary(t)
	img := assemble(t, l, makeTar(t, dir("d"), file{name: "d/a", content: strings.Repeat("x", 5000)}, hardlink("b", "d/a"), symlink("c", "b")),
		makeTar(t, file{name: "e", content: "12345"}))
	before := time.Now()
	for _, names := range [][]string{{"slackbot:0.1", "example.com/x/slackbot:v1"}, nil} {
		if _, err := l.Put(t.Context(), img, names...); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Put(t.Context(), appImage(t, l, "dangling")); err != nil {
		t.Fatal(err)
	}
	rows, err := l.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]Row{}
	for _, r := range rows {
		byName[r.Repository+":"+r.Tag] = r
	}
	r, ok := byName["slackbot:0.1"]
	if !ok || byName["example.com/x/slackbot:v1"].ID != r.ID {
		t.Fatalf("rows %+v", rows)
	}
	if r.ID != idOfImage(t, img) || r.Size != 5005 || r.Built.Before(before) || !r.Created.Equal(time.Unix(0, 0)) || strings.Join(r.Platforms, " ") != "linux/amd64" {
		t.Errorf("row %+v", r)
	}
	if d, ok := byName["<none>:<none>"]; !ok || d.Size != 80_000 {
		t.Errorf("the image without a name: %+v", d)
	}
	if rows[len(rows)-1].Built.After(rows[0].Built) {
		t.Error("the newest is not first")
	}
}

// The size of a layer is known without its blob once it was measured, or noted.
func TestListReadsLayersOnce(t *testing.T) {
	l := newLibrary(t)
	layer := makeTar(t, file{name: "f", content: "123"})
	img := assemble(t, l, layer)
	if err := l.NoteFiles(hashOf(layer), 42); err != nil {
		t.Fatal(err)
	}
	removeBlob(t, l, hashOf(layer))
	if n, err := l.UnpackedSize(t.Context(), img); err != nil || n != 42 {
		t.Errorf("%d %v", n, err)
	}
}

func TestDamagedImage(t *testing.T) {
	l := newLibrary(t)
	img := appImage(t, l, "x")
	if _, err := l.Put(t.Context(), img, "x"); err != nil {
		t.Fatal(err)
	}
	removeBlob(t, l, idOfImage(t, img))
	if _, err := l.Open(t.Context(), "x"); err != nil {
		t.Errorf("there are two of it: %v", err)
	}
	removeBlob(t, l, idOfImage(t, img))
	if err := os.RemoveAll(filepath.Join(l.st.Root(), "records", "spare")); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Open(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("%v", err)
	}
	if rows, err := l.List(t.Context()); err != nil || len(rows) != 0 {
		t.Errorf("%v %v", rows, err)
	}
}

func TestFind(t *testing.T) {
	l := newLibrary(t)
	one, two := appImage(t, l, "one"), appImage(t, l, "two")
	for name, img := range map[string]v1.Image{"one": one, "two:2": two} {
		if _, err := l.Put(t.Context(), img, name); err != nil {
			t.Fatal(err)
		}
	}
	id := idOfImage(t, one)
	for ref, want := range map[string]v1.Image{
		"one": one, "one:latest": one, "docker.io/library/one": one, "two:2": two, id.String(): one, id.Hex: one, id.Hex[:12]: one,
		"sha256:" + id.Hex[:5]: one, "one@" + digestOfContent(t, one).String(): one, digestOfContent(t, two).Hex[:16]: two,
	} {
		c, err := l.Open(t.Context(), ref)
		if err != nil {
			t.Errorf("%s: %v", ref, err)
		} else if digestOfContent(t, c) != digestOfContent(t, want) {
			t.Errorf("%s is another image", ref)
		}
	}
	for _, ref := range []string{"", "three", "two", "two:1", "UPPER", strings.Repeat("0", 64), "one@sha256:" + strings.Repeat("0", 64)} {
		if _, err := l.Open(t.Context(), ref); !isNotFound(err) {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

func TestTagAndRemove(t *testing.T) {
	l := newLibrary(t)
	img := appImage(t, l, "x")
	if _, err := l.Put(t.Context(), img, "x:1"); err != nil {
		t.Fatal(err)
	}
	id := idOfImage(t, img)
	for _, name := range []string{"y", "example.com/z:2"} {
		if err := l.Tag(t.Context(), "x:1", name); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Tag(t.Context(), "x:1", "BAD"); err == nil {
		t.Error("a bad name is accepted")
	}
	if err := l.Tag(t.Context(), "nothing", "w"); !isNotFound(err) {
		t.Errorf("%v", err)
	}
	if r, err := l.Remove(t.Context(), "y", false); err != nil || strings.Join(r.Untagged, " ") != "y:latest" || r.Deleted != (v1.Hash{}) {
		t.Errorf("%+v %v", r, err)
	}
	if _, err := l.Remove(t.Context(), id.Hex[:12], false); err == nil || !strings.Contains(err.Error(), "several names") {
		t.Errorf("%v", err)
	}
	if r, err := l.Remove(t.Context(), id.Hex[:12], true); err != nil || len(r.Untagged) != 2 || r.Deleted != id {
		t.Errorf("%+v %v", r, err)
	}
	if _, err := l.Remove(t.Context(), "x:1", false); !isNotFound(err) {
		t.Errorf("%v", err)
	}
	// One without a name goes by its ID.
	if _, err := l.Put(t.Context(), img); err != nil {
		t.Fatal(err)
	}
	if r, err := l.Remove(t.Context(), id.String(), false); err != nil || r.Deleted != id {
		t.Errorf("%+v %v", r, err)
	}
}

func TestInspect(t *testing.T) {
	l := newLibrary(t)
	img := appImage(t, l, "x")
	if _, err := l.Put(t.Context(), img, "x:1", "y"); err != nil {
		t.Fatal(err)
	}
	in, err := l.Inspect(t.Context(), "x:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(mustJSON(t, in), &got); err != nil {
		t.Fatal(err)
	}
	cfg := got["Config"].(map[string]any)
	if got["Id"] != idOfImage(t, img).String() || got["Os"] != "linux" || got["Architecture"] != "amd64" || got["Size"] != 10_000.0 ||
		cfg["Cmd"].([]any)[0] != "/app" || got["Created"] != "1970-01-01T00:00:00Z" || strings.Join(in.RepoTags, " ") != "x:1 y:latest" ||
		len(in.RootFS.Layers) != 1 || got["RepoDigests"] == nil {
		t.Errorf("inspect: %s", mustJSON(t, in))
	}
	if _, err := l.Inspect(t.Context(), "z", nil); !isNotFound(err) {
		t.Errorf("%v", err)
	}
}
