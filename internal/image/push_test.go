package image

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// pulled reads an image back by other means than ours.
func (f *fakeRegistry) pulled(t *testing.T, path string) *remote.Descriptor {
	t.Helper()
	ref, err := name.ParseReference(f.host + "/" + path)
	if err != nil {
		t.Fatal(err)
	}
	d, err := remote.Get(ref)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestPush(t *testing.T) {
	f := newRegistry(t)
	l := newLibrary(t)
	img := appImage(t, l, "x")
	r := client(t, l, RegistryOptions{})
	var mu sync.Mutex
	sent, existed := map[string]int64{}, 0
	o := PushOptions{Progress: func(tr Transfer) {
		mu.Lock()
		defer mu.Unlock()
		sent[tr.Digest] = tr.Done
		if tr.Exists {
			existed++
		}
	}}
	digest, err := r.Push(t.Context(), img, f.host+"/a/x:1", o)
	if err != nil {
		t.Fatal(err)
	}
	d := f.pulled(t, "a/x:1")
	if d.Digest != digest || d.MediaType != types.OCIManifestSchema1 {
		t.Errorf("pushed %s %s, want %s", d.Digest, d.MediaType, digest)
	}
	got, err := d.Image()
	if err != nil {
		t.Fatal(err)
	}
	valid(t, got)
	if idOfImage(t, got) != idOfImage(t, img) {
		t.Error("another image")
	}
	m, _ := got.Manifest()
	if m.Layers[0].MediaType != types.OCILayer || sent[m.Layers[0].Digest.String()] != m.Layers[0].Size || existed != 0 {
		t.Errorf("layer %v, progress %v, %d were there", m.Layers[0], sent, existed)
	}

	// Once more, and into another repository: nothing is sent.
	f.forget()
	if _, err := r.Push(t.Context(), img, f.host+"/a/x:2", o); err != nil {
		t.Fatal(err)
	}
	if n := f.requests("uploads"); n != 0 || existed != 2 {
		t.Errorf("pushed again: %d uploads, %d were there", n, existed)
	}
	if _, err := l.Put(t.Context(), img, "x"); err != nil {
		t.Fatal(err)
	}
	in, err := l.Inspect(t.Context(), "x", nil)
	if err != nil || len(in.RepoDigests) != 1 || in.RepoDigests[0] != f.host+"/a/x@"+digest.String() {
		t.Errorf("RepoDigests %v %v", in, err)
	}
	f.forget()
	if _, err := r.Push(t.Context(), img, f.host+"/b/y:1", o); err != nil {
		t.Fatal(err)
	}
	if n := f.requests("PATCH"); n != 0 {
		t.Errorf("into another repository: %d uploads", n)
	}
}

func TestPushIndexAsDocker(t *testing.T) {
	f := newRegistry(t)
	l := newLibrary(t)
	var images []PlatformImage
	for _, arch := range []string{"amd64", "arm64"} {
		img, err := l.Assemble(t.Context(), Spec{Config: fmt.Appendf(nil, `{"os":"linux","architecture":%q}`, arch),
			Layers: []Layer{layerOf(makeTar(t, file{name: "f", content: arch}))}})
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, PlatformImage{Platform: v1.Platform{OS: "linux", Architecture: arch}, Image: img})
	}
	ix, err := AssembleIndex(images, nil)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := client(t, l, RegistryOptions{}).Push(t.Context(), ix, f.host+"/multi:1", PushOptions{Format: Format{Docker: true}})
	if err != nil {
		t.Fatal(err)
	}
	d := f.pulled(t, "multi:1")
	got, err := d.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	valid(t, got)
	if d.Digest != digest || d.MediaType != types.DockerManifestList {
		t.Errorf("pushed %s %s", d.Digest, d.MediaType)
	}
}

func TestPushFaults(t *testing.T) {
	for _, c := range []struct {
		name, path string
		fault      http.HandlerFunc
		want       string
	}{
		{"401", "/uploads", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, "access denied: log in by `skiff login"},
		{"404", "/uploads", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, "has no such repository: create it there"},
		{"500", "/uploads", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, "out of order"},
		{"413", "/uploads/", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(413) }, "layers of this size"},
		{"429 for the manifest", "/manifests/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) }, "limits the number of requests"},
		{"hangs", "/uploads", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "the registry hangs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newRegistry(t)
			l := newLibrary(t)
			f.spoilWith(c.path, c.fault)
			limit := time.Minute
			if c.name == "hangs" {
				limit = 200 * time.Millisecond
			}
			r := client(t, l, RegistryOptions{AnswerIn: limit, StallIn: limit})
			start := time.Now()
			_, err := r.Push(t.Context(), appImage(t, l, "x"), f.host+"/x:1", PushOptions{})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "push "+f.host+"/x:1: ") {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if d := time.Since(start); d > 20*time.Second {
				t.Errorf("it took %v", d)
			}
		})
	}
}

func TestPushRecovers(t *testing.T) {
	f := newRegistry(t)
	l := newLibrary(t)
	var n atomic.Int32
	f.spoil = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(429)
	}
	f.takes = func(r *http.Request) bool {
		return strings.Contains(r.URL.Path, "/uploads/") && r.Method == http.MethodPatch && n.Add(1) <= 2
	}
	if _, err := client(t, l, RegistryOptions{RetryWait: time.Hour}).Push(t.Context(), appImage(t, l, "x"), f.host+"/x:1", PushOptions{}); err != nil {
		t.Error(err)
	}
	if n.Load() < 3 {
		t.Errorf("%d uploads", n.Load())
	}
}

// What the store holds broken does not leave the machine.
func TestPushBrokenBlob(t *testing.T) {
	f := newRegistry(t)
	l := newLibrary(t)
	img := appImage(t, l, "x")
	m, _ := img.Manifest()
	path, _, err := l.st.Blob(m.Layers[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, strings.Repeat("y", int(m.Layers[0].Size)))
	_, err = client(t, l, RegistryOptions{}).Push(t.Context(), img, f.host+"/x:1", PushOptions{})
	if err == nil || !strings.Contains(err.Error(), "was damaged") {
		t.Errorf("%v", err)
	}
	if n := f.requests("PUT /v2/x/manifests"); n != 0 {
		t.Error("something was put into the registry")
	}
}

func TestPushNames(t *testing.T) {
	l := newLibrary(t)
	r := client(t, l, RegistryOptions{})
	for _, bad := range []string{"", "UPPER", "x@sha256:" + strings.Repeat("a", 64)} {
		if _, err := r.Push(t.Context(), appImage(t, l, "x"), bad, PushOptions{}); err == nil {
			t.Errorf("name %q is accepted", bad)
		}
	}
}
