package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// fakeRegistry is a registry in this process, whose answers a test may spoil.
type fakeRegistry struct {
	host  string
	inner http.Handler

	mu    sync.Mutex
	spoil http.HandlerFunc // takes over when it is set and takes() says so
	takes func(*http.Request) bool
	log   []string // "GET /v2/…"
}

func newRegistry(t *testing.T) *fakeRegistry {
	t.Helper()
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	f := &fakeRegistry{inner: inner}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.log = append(f.log, r.Method+" "+r.URL.Path)
		spoil := f.spoil
		if spoil != nil && !f.takes(r) {
			spoil = nil
		}
		f.mu.Unlock()
		if spoil != nil {
			spoil(w, r)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	f.host = strings.TrimPrefix(srv.URL, "http://")
	return f
}

// spoilWith lets h answer the requests whose path holds part.
func (f *fakeRegistry) spoilWith(part string, h http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.spoil, f.takes = h, func(r *http.Request) bool { return strings.Contains(r.URL.Path, part) }
}

func (f *fakeRegistry) requests(part string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, l := range f.log {
		if strings.Contains(l, part) {
			n++
		}
	}
	return n
}

func (f *fakeRegistry) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = nil
}

// push puts an image there by other means than ours.
func (f *fakeRegistry) push(t *testing.T, path string, c remote.Taggable) {
	t.Helper()
	ref, err := name.ParseReference(f.host + "/" + path)
	if err != nil {
		t.Fatal(err)
	}
	switch c := c.(type) {
	case v1.Image:
		err = remote.Write(ref, c)
	case v1.ImageIndex:
		err = remote.WriteIndex(ref, c)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func randomImage(t *testing.T) v1.Image {
	t.Helper()
	img, err := random.Image(2000, 3)
	if err != nil {
		t.Fatal(err)
	}
	return withPlatform(t, img, v1.Platform{OS: "linux", Architecture: "amd64"})
}

func withPlatform(t *testing.T, img v1.Image, p v1.Platform) v1.Image {
	t.Helper()
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cf.OS, cf.Architecture, cf.Variant = p.OS, p.Architecture, p.Variant
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		t.Fatal(err)
	}
	return img
}

func client(t *testing.T, l *Library, o RegistryOptions) *Registry {
	t.Helper()
	o.Store = l.st
	if o.RetryWait == 0 {
		o.RetryWait = time.Millisecond
	}
	if o.Keychain == nil {
		o.Keychain = authn.NewMultiKeychain()
	}
	r, err := NewRegistry(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestPull(t *testing.T) {
	f := newRegistry(t)
	img := randomImage(t)
	f.push(t, "a/b:1", img)
	l := newLibrary(t)
	var mu sync.Mutex
	done := map[string]int64{}
	r := client(t, l, RegistryOptions{Progress: func(tr Transfer) {
		mu.Lock()
		defer mu.Unlock()
		done[tr.Digest] = tr.Done
		if tr.Done > tr.Total {
			t.Errorf("progress %+v", tr)
		}
	}})
	d, err := r.Pull(t.Context(), f.host+"/a/b:1", nil, false)
	if err != nil {
		t.Fatal(err)
	}
	if d.Digest != digestOfContent(t, img) {
		t.Errorf("pulled %s", d.Digest)
	}
	got, err := l.Open(t.Context(), f.host+"/a/b:1")
	if err != nil {
		t.Fatal(err)
	}
	valid(t, got)
	m, _ := img.Manifest()
	for _, layer := range m.Layers {
		if done[layer.Digest.String()] != layer.Size {
			t.Errorf("progress of %s ended at %d of %d", layer.Digest, done[layer.Digest.String()], layer.Size)
		}
	}
	in, err := l.Inspect(t.Context(), f.host+"/a/b:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(in.RepoDigests) != 1 || in.RepoDigests[0] != f.host+"/a/b@"+d.Digest.String() {
		t.Errorf("RepoDigests %q", in.RepoDigests)
	}
	f.forget()
	if _, err := r.Pull(t.Context(), f.host+"/a/b:1", nil, false); err != nil {
		t.Error(err)
	}
	if n := f.requests("blobs/"); n != 0 {
		t.Errorf("pulled again, it asked for %d blobs", n)
	}
	if n := f.requests("GET /v2/a/b/manifests"); n != 0 {
		t.Errorf("pulled again, it read %d manifests that it has", n)
	}
}

// A name is resolved once; then it needs no network, unless asked to.
func TestResolveRemembers(t *testing.T) {
	f := newRegistry(t)
	one, two := randomImage(t), randomImage(t)
	f.push(t, "x:1", one)
	l := newLibrary(t)
	r := client(t, l, RegistryOptions{})
	var said []string
	resolve := func(pull bool) Resolved {
		t.Helper()
		res, err := r.Resolve(t.Context(), f.host+"/x:1", nil, ResolveOptions{Pull: pull, Log: func(s string) { said = append(said, s) }})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	want, _ := one.RawConfigFile()
	first := resolve(false)
	if first.Name != f.host+"/x:1" || first.Digest != digestOfContent(t, one) || string(first.Config) != string(want) {
		t.Errorf("resolved %+v", first)
	}
	f.push(t, "x:1", two)
	f.forget()
	if again := resolve(false); again.Digest != first.Digest {
		t.Error("a remembered name changed by itself")
	}
	if n := f.requests(""); n != 0 {
		t.Errorf("it took %d requests", n)
	}
	if pulled := resolve(true); pulled.Digest != digestOfContent(t, two) {
		t.Error("--pull did not see the new image")
	}
	if len(said) != 0 {
		t.Errorf("said %q", said)
	}
	f.spoilWith("", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	if offline := resolve(true); offline.Digest != digestOfContent(t, two) {
		t.Error("offline it is another image")
	}
	if len(said) != 1 || !strings.Contains(said[0], "cannot reach the registry: using sha256:") {
		t.Errorf("said %q", said)
	}
	// Trim leaves what a remembered name needs.
	if _, err := l.st.Trim(t.Context(), 1<<40, nil); err != nil {
		t.Fatal(err)
	}
	resolve(false)
}

func TestResolveTakesTheStoresOwn(t *testing.T) {
	l := newLibrary(t)
	img := appImage(t, l, "x")
	if _, err := l.Put(t.Context(), img, "example.invalid/mine:1"); err != nil {
		t.Fatal(err)
	}
	r := client(t, l, RegistryOptions{})
	res, err := r.Resolve(t.Context(), "example.invalid/mine:1", nil, ResolveOptions{})
	if err != nil || res.Digest != digestOfContent(t, img) {
		t.Fatalf("%+v %v", res, err)
	}
	got, err := r.Image(t.Context(), "example.invalid/mine@"+res.Digest.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	valid(t, got)
}

func multi(t *testing.T, platforms ...string) v1.ImageIndex {
	t.Helper()
	var ix v1.ImageIndex = empty.Index
	for _, s := range platforms {
		p, err := v1.ParsePlatform(s)
		if err != nil {
			t.Fatal(err)
		}
		ix = mutate.AppendManifests(ix, mutate.IndexAddendum{Add: withPlatform(t, randomImage(t), *p), Descriptor: v1.Descriptor{Platform: p}})
	}
	return ix
}

func TestPlatforms(t *testing.T) {
	f := newRegistry(t)
	ix := multi(t, "linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64/v8")
	f.push(t, "multi:1", ix)
	l := newLibrary(t)
	r := client(t, l, RegistryOptions{})
	for ask, want := range map[string]string{"linux/amd64": "linux/amd64", "linux/arm/v7": "linux/arm/v7", "linux/arm/v6": "linux/arm/v6",
		"linux/arm64": "linux/arm64/v8", "linux/arm": "linux/arm/v7"} {
		p, _ := v1.ParsePlatform(ask)
		res, err := r.Resolve(t.Context(), f.host+"/multi:1", p, ResolveOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if res.Digest != digestOfContent(t, ix) {
			t.Errorf("%s: the digest is not that of the index", ask)
		}
		var got v1.Platform
		if err := json.Unmarshal(res.Config, &got); err != nil || got.String() != want {
			t.Errorf("%s: got %s %v", ask, got, err)
		}
	}
	p, _ := v1.ParsePlatform("linux/riscv64")
	_, err := r.Resolve(t.Context(), f.host+"/multi:1", p, ResolveOptions{})
	if err == nil || !strings.Contains(err.Error(), "no image for linux/riscv64: there is linux/amd64, linux/arm/v6") {
		t.Errorf("a platform that is not there: %v", err)
	}
	d, err := r.Pull(t.Context(), f.host+"/multi:1", nil, true)
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.load(d)
	if err != nil {
		t.Fatal(err)
	}
	valid(t, c)
}

// Every fault ends in a clear error that says what to do, soon.
func TestPullFaults(t *testing.T) {
	img := randomImage(t)
	m, _ := img.Manifest()
	rawManifest, _ := img.RawManifest()
	layer := m.Layers[0]
	status := func(code int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
			fmt.Fprintf(w, `{"errors":[{"code":"X","message":"so it says"}]}`)
		}
	}
	manifest := func(mediaType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", mediaType)
			io.WriteString(w, body)
		}
	}
	hang := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	send := func(n int64, then func(w http.ResponseWriter, r *http.Request)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(layer.Size))
			w.WriteHeader(http.StatusOK)
			w.Write(make([]byte, n))
			w.(http.Flusher).Flush()
			then(w, r)
		}
	}
	cut := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	image := string(types.DockerManifestSchema2)
	for _, c := range []struct {
		name, path string
		fault      http.HandlerFunc
		want       string
		tries      int
	}{
		{"401", "/manifests/", status(401, "WWW-Authenticate", `Basic realm="x"`), "access denied: there is no such image, or it is private", 1},
		{"401 at once", "/v2/", status(401, "WWW-Authenticate", `Basic realm="x"`), "skiff login", 0},
		{"403", "/manifests/", status(403), "access denied", 1},
		{"404", "/manifests/", status(404), "not found: check the name and the tag: status 404 Not Found: so it says", 1},
		{"429", "/manifests/", status(429), "limits the number of requests", 4},
		{"429 for long", "/manifests/", status(429, "Retry-After", "3600"), "limits the number of requests", 1},
		{"500", "/manifests/", status(500), "is out of order: try again later", 4},
		{"503", "/blobs/", status(503), "is out of order", 0},
		{"404 for a blob", "/blobs/" + layer.Digest.String(), status(404), "not found", 1},
		{"hangs", "/manifests/", hang, "did not answer for 200ms", 1},
		{"hangs in a manifest", "/manifests/", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", image)
			w.(http.Flusher).Flush()
			hang(w, r)
		}, "sent no data for 200ms", 1},
		{"hangs in a blob", "/blobs/" + layer.Digest.String(), send(10, hang), "the registry hangs", 2},
		{"breaks off", "/blobs/" + layer.Digest.String(), send(10, cut), "the connection broke", 3},
		{"closes", "/manifests/", cut, "the connection broke", 0},
		{"lying digest", "/blobs/" + layer.Digest.String(), send(layer.Size, func(http.ResponseWriter, *http.Request) {}), "is not what it announced", 1},
		{"longer than announced", "/blobs/" + layer.Digest.String(), func(w http.ResponseWriter, _ *http.Request) {
			w.Write(make([]byte, layer.Size+1000))
		}, "is not what it announced", 1},
		{"an endless manifest", "/manifests/", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", image)
			for i := 0; i < 10_000 && r.Context().Err() == nil; i++ {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		}, "longer than the 4194304 bytes", 1},
		{"no JSON", "/manifests/", manifest(image, "<html>log in to the hotel's network</html>"), "read manifest", 1},
		{"an index in an image's clothes", "/manifests/", manifest(image, `{"schemaVersion":2,"mediaType":"`+string(types.OCIImageIndex)+`","manifests":[]}`), "says that it is", 1},
		{"schema 1", "/manifests/", manifest(string(types.DockerManifestSchema1), `{"schemaVersion":1,"name":"x","fsLayers":[]}`), "schema 1", 1},
		{"no image", "/manifests/", manifest(string(types.OCIManifestSchema1), strings.ReplaceAll(string(rawManifest), string(m.Config.MediaType), "application/vnd.cncf.helm.config.v1+json")), "no container image", 1},
		{"a layer that is none", "/manifests/", manifest(string(types.OCIManifestSchema1), strings.Replace(string(rawManifest), string(layer.MediaType), "text/plain", 1)), `"text/plain"`, 1},
		{"a config of another image", "/blobs/" + m.Config.Digest.String(), manifest("application/json", `{}`), "is not what it announced", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newRegistry(t)
			f.push(t, "x:1", img)
			f.forget()
			f.spoilWith(c.path, c.fault)
			l := newLibrary(t)
			limit := time.Minute
			if strings.HasPrefix(c.name, "hangs") {
				limit = 200 * time.Millisecond
			}
			r := client(t, l, RegistryOptions{AnswerIn: limit, StallIn: limit})
			start := time.Now()
			_, err := r.Pull(t.Context(), f.host+"/x:1", nil, false)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if err != nil && !strings.Contains(err.Error(), f.host+"/x:1") {
				t.Errorf("error %v does not name the image", err)
			}
			if d := time.Since(start); d > 20*time.Second {
				t.Errorf("it took %v", d)
			}
			if n := f.requests("GET"); c.tries > 0 && f.requests(c.path) != c.tries {
				t.Errorf("asked %d times for %s, want %d (%d requests in all)", f.requests(c.path), c.path, c.tries, n)
			}
			leftClean(t, l)
		})
	}
}

// leftClean: no image, no half blob.
func leftClean(t *testing.T, l *Library) {
	t.Helper()
	if tags, err := l.st.Tags(); err != nil || len(tags) != 0 {
		t.Errorf("images afterwards: %v %v", tags, err)
	}
	entries, err := os.ReadDir(filepath.Join(l.st.Root(), "tmp"))
	if err != nil || len(entries) != 0 {
		t.Errorf("left in tmp: %v %v", entries, err)
	}
	blobs, _ := os.ReadDir(filepath.Join(l.st.Root(), "oci", "blobs", "sha256"))
	for _, b := range blobs {
		r, err := l.st.OpenBlob(v1.Hash{Algorithm: "sha256", Hex: b.Name()})
		if err == nil {
			_, err = io.Copy(io.Discard, r)
			r.Close()
		}
		if err != nil {
			t.Errorf("blob %s: %v", b.Name(), err)
		}
	}
}

// Faults that pass are not seen.
func TestPullRecovers(t *testing.T) {
	img := randomImage(t)
	m, _ := img.Manifest()
	for name, fault := range map[string]http.HandlerFunc{
		"429": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(429)
		},
		"502": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) },
		"cut": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.Write([]byte("half"))
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newRegistry(t)
			f.push(t, "x:1", img)
			var n atomic.Int32
			f.spoil = fault
			f.takes = func(r *http.Request) bool {
				return strings.Contains(r.URL.Path, m.Layers[1].Digest.String()) && n.Add(1) <= 2
			}
			l := newLibrary(t)
			if _, err := client(t, l, RegistryOptions{}).Pull(t.Context(), f.host+"/x:1", nil, false); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPullByDigestIsVerified(t *testing.T) {
	f := newRegistry(t)
	img, other := randomImage(t), randomImage(t)
	f.push(t, "x:1", img)
	raw, _ := other.RawManifest()
	f.spoilWith("/manifests/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", string(types.DockerManifestSchema2))
		w.Write(raw)
	})
	r := client(t, newLibrary(t), RegistryOptions{})
	_, err := r.Image(t.Context(), f.host+"/x@"+digestOfContent(t, img).String(), nil)
	if err == nil || !strings.Contains(err.Error(), "does not match") {
		t.Errorf("%v", err)
	}
}

func TestIndexThatLies(t *testing.T) {
	f := newRegistry(t)
	img := randomImage(t)
	f.push(t, "x:1", img)
	d, err := describe(img)
	if err != nil {
		t.Fatal(err)
	}
	p := &v1.Platform{OS: "linux", Architecture: "amd64"}
	for name, lie := range map[string]func(*v1.Descriptor){
		"type": func(d *v1.Descriptor) { d.MediaType = types.OCIManifestSchema1 },
		"size": func(d *v1.Descriptor) { d.Size++ },
	} {
		t.Run(name, func(t *testing.T) {
			entry := d
			entry.Platform = p
			lie(&entry)
			raw := mustJSON(t, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{entry}})
			f.spoilWith("/manifests/multi", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", string(types.OCIImageIndex))
				w.Write(raw)
			})
			_, err := client(t, newLibrary(t), RegistryOptions{}).Resolve(t.Context(), f.host+"/x:multi", p, ResolveOptions{})
			if err == nil || !strings.Contains(err.Error(), "announced") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestPullIsCancelled(t *testing.T) {
	f := newRegistry(t)
	f.push(t, "x:1", randomImage(t))
	f.spoilWith("/blobs/", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	l := newLibrary(t)
	_, err := client(t, l, RegistryOptions{}).Pull(ctx, f.host+"/x:1", nil, false)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > time.Minute {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	leftClean(t, l)
}

func TestMirrors(t *testing.T) {
	real, mirror := newRegistry(t), newRegistry(t)
	onMirror, onlyReal := randomImage(t), randomImage(t)
	mirror.push(t, "pre/lib/a:1", onMirror)
	real.push(t, "lib/b:1", onlyReal)
	var said []string
	l := newLibrary(t)
	o := RegistryOptions{
		Mirrors: map[string][]string{real.host: {"http://127.0.0.1:1", "http://" + mirror.host + "/pre"}},
		Log:     func(s string) { said = append(said, s) },
	}
	r := client(t, l, o)
	for ref, want := range map[string]v1.Image{"/lib/a:1": onMirror, "/lib/b:1": onlyReal} {
		img, err := r.Image(t.Context(), real.host+ref, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Fetch(t.Context(), img); err != nil {
			t.Fatal(err)
		}
		if digestOfContent(t, img) != digestOfContent(t, want) {
			t.Errorf("%s is another image", ref)
		}
	}
	if real.requests("/lib/a/") != 0 {
		t.Error("the registry was asked for what its mirror has")
	}
	if len(said) == 0 || !strings.Contains(said[0], "mirror 127.0.0.1:1") {
		t.Errorf("said %q", said)
	}
	_, err := r.Image(t.Context(), real.host+"/lib/c:1", nil)
	if err == nil || !strings.Contains(err.Error(), "the mirror "+mirror.host+" does not have it, and not found") {
		t.Errorf("in neither: %v", err)
	}
	for _, bad := range []string{"ftp://x", "http://", "http://u:p@x", "http://x?y"} {
		if _, err := NewRegistry(RegistryOptions{Store: l.st, Mirrors: map[string][]string{"x": {bad}}}); err == nil {
			t.Errorf("mirror %q is accepted", bad)
		}
	}
}

func TestPlainHTTP(t *testing.T) {
	for host, plain := range map[string]bool{
		"127.0.0.1:5000": true, "localhost:5000": true, "[::1]:5000": true, "localhost": true, "x.localhost:80": true,
		"10.0.0.1:5000": false, "registry.local:5000": false, "example.com": false, "in.example:80": true,
	} {
		r := client(t, newLibrary(t), RegistryOptions{Insecure: []string{"in.example:80"}})
		if r.isInsecure(host) != plain {
			t.Errorf("%s: %v", host, !plain)
		}
	}
	// go-containerregistry would speak plain http to private addresses.
	r := client(t, newLibrary(t), RegistryOptions{Transport: refuse(func(req *http.Request) {
		if req.URL.Scheme == "http" {
			t.Errorf("asked %s", req.URL)
		}
	})})
	_, err := r.Image(t.Context(), "10.0.0.1:5000/x:1", nil)
	if err == nil || !strings.Contains(err.Error(), `"insecure": ["10.0.0.1:5000"]`) {
		t.Errorf("%v", err)
	}
}

// A registry listed as insecure may have a certificate that nobody signed; others may not.
func TestUnsignedCertificate(t *testing.T) {
	srv := httptest.NewTLSServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	host := strings.TrimPrefix(srv.URL, "https://")
	l := newLibrary(t)
	img := appImage(t, l, "x")
	_, err := client(t, l, RegistryOptions{}).Push(t.Context(), img, host+"/x:1", PushOptions{})
	if err == nil {
		t.Error("a certificate that nobody signed is believed")
	}
	r := client(t, l, RegistryOptions{Insecure: []string{host}})
	if _, err := r.Push(t.Context(), img, host+"/x:1", PushOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Pull(t.Context(), host+"/x:1", nil, false); err != nil {
		t.Error(err)
	}
}

// A layer that unpacks to something else than the config names is found.
func TestPullChecksDiffIDs(t *testing.T) {
	f := newRegistry(t)
	img := randomImage(t)
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cf.RootFS.DiffIDs[1] = hashOf([]byte("something else"))
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		t.Fatal(err)
	}
	f.push(t, "x:1", img)
	l := newLibrary(t)
	_, err = client(t, l, RegistryOptions{}).Pull(t.Context(), f.host+"/x:1", nil, false)
	if err == nil || !strings.Contains(err.Error(), "diff ID") {
		t.Errorf("%v", err)
	}
	leftClean(t, l)
}

// After a pull a name means what it meant before, for all platforms.
func TestResolveAfterPull(t *testing.T) {
	f := newRegistry(t)
	ix := multi(t, "linux/amd64", "linux/arm64")
	f.push(t, "m:1", ix)
	l := newLibrary(t)
	r := client(t, l, RegistryOptions{})
	if _, err := r.Pull(t.Context(), f.host+"/m:1", &v1.Platform{OS: "linux", Architecture: "arm64"}, false); err != nil {
		t.Fatal(err)
	}
	for _, arch := range []string{"arm64", "amd64"} {
		res, err := r.Resolve(t.Context(), f.host+"/m:1", &v1.Platform{OS: "linux", Architecture: arch}, ResolveOptions{})
		if err != nil || res.Digest != digestOfContent(t, ix) || !strings.Contains(string(res.Config), arch) {
			t.Errorf("%s: %s %v", arch, res.Digest, err)
		}
	}
	// An image of the same name that was built here comes first, where it fits.
	own := appImage(t, l, "own")
	if _, err := l.Put(t.Context(), own, f.host+"/m:1"); err != nil {
		t.Fatal(err)
	}
	for arch, want := range map[string]v1.Hash{"amd64": digestOfContent(t, own), "arm64": digestOfContent(t, ix)} {
		res, err := r.Resolve(t.Context(), f.host+"/m:1", &v1.Platform{OS: "linux", Architecture: arch}, ResolveOptions{})
		if err != nil || res.Digest != want {
			t.Errorf("%s: %s %v", arch, res.Digest, err)
		}
	}
}

// refuse is a transport that reaches nobody.
type refuse func(*http.Request)

func (r refuse) RoundTrip(req *http.Request) (*http.Response, error) {
	r(req)
	return nil, errors.New("no network here")
}
