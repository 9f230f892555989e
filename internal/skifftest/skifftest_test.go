package skifftest

import (
	"archive/tar"
	"errors"
	"io"
	"net/http"
	"os"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func TestImageThroughRegistry(t *testing.T) {
	requests := 0
	r := NewRegistry(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { requests++; h.ServeHTTP(w, req) })
	})
	img := Image(t, v1.Config{User: "7"},
		Layer(t, Entry{Name: "d/"}, Entry{Name: "d/f", Body: "one", UID: 7}, Entry{Name: "l", Link: "d/f"}, Entry{Name: "h", Hard: "d/f"}),
		Layer(t, Entry{Name: "d/f", Body: "two", Mode: 0o4755}))
	ref, err := name.ParseReference(r.Push(t, "some/thing:1", img))
	if err != nil {
		t.Fatal(err)
	}
	got, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	if requests == 0 {
		t.Error("wrap saw no request")
	}
	file, err := got.ConfigFile()
	if err != nil || file.Config.User != "7" || file.Architecture != "amd64" {
		t.Errorf("config %+v, %v", file, err)
	}
	rc := mutate.Extract(got)
	defer rc.Close()
	found := map[string]*tar.Header{}
	for tr := tar.NewReader(rc); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		found[h.Name] = h
	}
	if h := found["d/f"]; h == nil || h.Mode != 0o4755 || h.Size != 3 {
		t.Errorf("d/f: %+v", h)
	}
	if h := found["l"]; h == nil || h.Typeflag != tar.TypeSymlink || h.Linkname != "d/f" {
		t.Errorf("l: %+v", h)
	}
}

func TestFiles(t *testing.T) {
	dir := Files(t, "a/b", "text", "empty/", "")
	if b, err := os.ReadFile(dir + "/a/b"); string(b) != "text" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if st, err := os.Stat(dir + "/empty"); err != nil || !st.IsDir() {
		t.Error(err)
	}
}
