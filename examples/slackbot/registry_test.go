package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
)

// fakeRegistry is a registry in this process. It serves what was put there, byte for byte, to whom it lets in.
type fakeRegistry struct {
	*httptest.Server
	host  string
	auth  string // "": everybody; "token": who got one; "basic": user:secret
	fault func(path string, w http.ResponseWriter, r *http.Request) bool

	mu    sync.Mutex
	files map[string][]byte // by path below /v2/
	asked []string          // paths
}

func newFakeRegistry(t *testing.T, serve func(*httptest.Server)) *fakeRegistry {
	f := &fakeRegistry{files: map[string][]byte{}}
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(f.serve))
	f.Config.ErrorLog = quiet
	serve(f.Server)
	f.host = strings.TrimPrefix(strings.TrimPrefix(f.URL, "https://"), "http://")
	t.Cleanup(f.Close)
	return f
}

func plain(s *httptest.Server)  { s.Start() }
func secure(s *httptest.Server) { s.StartTLS() }

func (f *fakeRegistry) serve(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	f.mu.Lock()
	f.asked = append(f.asked, path)
	data, ok := f.files[path]
	f.mu.Unlock()
	if f.fault != nil && f.fault(path, w, r) {
		return
	}
	if path == "/token" {
		user, password, _ := r.BasicAuth()
		if q := r.URL.Query(); q.Get("service") != "the registry" || q.Get("scope") != "repository:team/app:pull" {
			http.Error(w, "query", http.StatusBadRequest)
			return
		}
		json.NewEncoder(w).Encode(map[string]string{"token": "token-of-" + user + password})
		return
	}
	switch granted := r.Header.Get("Authorization"); {
	case f.auth == "token" && granted == "":
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+f.URL+`/token",service="the registry",scope="repository:team/app:pull"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	case f.auth == "basic" && granted != "Basic dXNlcjpzZWNyZXQ=":
		w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if !ok {
		http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`, http.StatusNotFound)
		return
	}
	w.Write(data)
}

func (f *fakeRegistry) put(path string, data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files[path] = data
}

func digestOf(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

func marshal(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

// push puts an image of one platform there, under tag where that is not "", and returns its manifest.
func (f *fakeRegistry) push(tag, platform string, layers ...[]byte) []byte {
	os, arch, _ := strings.Cut(platform, "/")
	config := marshal(map[string]any{"os": os, "architecture": arch, "config": map[string]any{"User": "65532"}})
	f.put("team/app/blobs/"+digestOf(config), config)
	var list []any
	for _, l := range layers {
		f.put("team/app/blobs/"+digestOf(l), l)
		list = append(list, map[string]any{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digestOf(l), "size": len(l)})
	}
	manifest := marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": list,
		"config": map[string]any{"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digestOf(config), "size": len(config)},
	})
	f.put("team/app/manifests/"+digestOf(manifest), manifest)
	if tag != "" {
		f.put("team/app/manifests/"+tag, manifest)
	}
	return manifest
}

// pushIndex puts an index of manifests there, by platform, and an attestation among them.
func (f *fakeRegistry) pushIndex(tag string, manifests map[string][]byte) {
	list := []any{map[string]any{"digest": digestOf(nil), "size": 1, "platform": map[string]any{"os": "unknown", "architecture": "unknown"}}}
	for platform, m := range manifests {
		os, arch, _ := strings.Cut(platform, "/")
		list = append(list, map[string]any{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digestOf(m), "size": len(m),
			"platform": map[string]any{"os": os, "architecture": arch}})
	}
	f.put("team/app/manifests/"+tag, marshal(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": list}))
}

// layerOf is a tar with one file of size bytes, compressed or not, and the size of the tar.
func layerOf(size int, compress bool) (layer []byte, unpacked int) {
	var plain, packed bytes.Buffer
	w := tar.NewWriter(&plain)
	w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: int64(size)})
	w.Write(bytes.Repeat([]byte("skiff"), size/5+1)[:size])
	w.Close()
	if !compress {
		return plain.Bytes(), plain.Len()
	}
	z := gzip.NewWriter(&packed)
	z.Write(plain.Bytes())
	z.Close()
	return packed.Bytes(), plain.Len()
}

func TestImageOfOnePlatform(t *testing.T) {
	t.Parallel()
	for name, serve := range map[string]func(*httptest.Server){"plain": plain, "tls": secure} {
		t.Run(name, func(t *testing.T) {
			f := newFakeRegistry(t, serve)
			one, oneTar := layerOf(100_000, true)
			two, twoTar := layerOf(5_000, false)
			manifest := f.push("1.2", "linux/arm64", one, two)
			for _, ref := range []string{"/team/app:1.2", "/team/app@" + digestOf(manifest), "/team/app:gone@" + digestOf(manifest)} {
				i, err := config{}.image(t.Context(), f.host+ref)
				if err != nil {
					t.Fatal(err)
				}
				p := i.platforms[0]
				config := len(marshal(map[string]any{"os": "linux", "architecture": "arm64", "config": map[string]any{"User": "65532"}}))
				if len(i.platforms) != 1 || p.name != "linux/arm64" || p.digest != digestOf(manifest) || len(p.layers) != 2 ||
					p.pull != int64(len(one)+len(two)+config) || p.unpacked != int64(oneTar+twoTar) || p.note != "" {
					t.Errorf("%s: %+v", ref, p)
				}
			}
		})
	}
}

func TestIndexByPlatform(t *testing.T) {
	t.Parallel()
	f := newFakeRegistry(t, plain)
	small, _ := layerOf(1000, true)
	large, _ := layerOf(2000, false)
	f.pushIndex("1", map[string][]byte{"linux/amd64": f.push("", "linux/amd64", small), "linux/arm64": f.push("", "linux/arm64", large)})
	i, err := config{}.image(t.Context(), f.host+"/team/app:1")
	if err != nil {
		t.Fatal(err)
	}
	if len(i.platforms) != 2 || i.find("linux/amd64") == nil || i.find("linux/arm64").layers[0].Size != int64(len(large)) {
		t.Errorf("platforms: %+v", i.platforms)
	}
}

func (i *image) find(platform string) *platform {
	for _, p := range i.platforms {
		if p.name == platform {
			return p
		}
	}
	return nil
}

func TestRegistryLogin(t *testing.T) {
	t.Parallel()
	layer, _ := layerOf(1000, true)
	for _, c := range []struct {
		auth, login string
		want        string // part of the error
	}{
		{"token", "", ""},
		{"token", "dXNlcjpzZWNyZXQ=", ""},
		{"basic", "dXNlcjpzZWNyZXQ=", ""},
		{"basic", "", "wants a login"},
		{"basic", "d3Jvbmc6d3Jvbmc=", "wants a login"},
	} {
		f := newFakeRegistry(t, plain)
		f.auth = c.auth
		f.push("1", "linux/amd64", layer)
		var sent string
		f.fault = func(path string, w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Authorization") != "" && path != "/token" {
				sent = r.Header.Get("Authorization")
			}
			return false
		}
		cfg := config{login: map[string]string{f.host: c.login, "other.example": "b3RoZXI="}}
		if c.login == "" {
			delete(cfg.login, f.host)
		}
		_, err := cfg.image(t.Context(), f.host+"/team/app:1")
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
		if c.auth == "token" && sent != map[bool]string{true: "Bearer token-of-", false: "Bearer token-of-usersecret"}[c.login == ""] {
			t.Errorf("%+v: sent %q", c, sent)
		}
	}
}

// TestRegistryErrors: each is a message that says what to do, and no number that is wrong.
func TestRegistryErrors(t *testing.T) {
	t.Parallel()
	layer, _ := layerOf(1000, true)
	status := func(code int) func(*fakeRegistry) {
		return func(f *fakeRegistry) {
			f.fault = func(_ string, w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(code); return true }
		}
	}
	for name, c := range map[string]struct {
		spoil func(*fakeRegistry)
		want  string
		note  string // of the platform, where the image as such can be told
	}{
		"unknown image":     {spoil: func(f *fakeRegistry) { f.files = nil }, want: "look at its spelling"},
		"forbidden":         {spoil: status(http.StatusForbidden), want: "wants a login"},
		"throttles":         {spoil: func(f *fakeRegistry) { throttled(f) }, want: "too many requests: try again later"},
		"fault":             {spoil: status(http.StatusBadGateway), want: "502 Bad Gateway: try again later"},
		"teapot":            {spoil: status(http.StatusTeapot), want: "is it a registry?"},
		"web page":          {spoil: func(f *fakeRegistry) { f.put("team/app/manifests/1", []byte("<html>")) }, want: "is it a registry?"},
		"old schema":        {spoil: func(f *fakeRegistry) { f.put("team/app/manifests/1", []byte(`{"schemaVersion":1}`)) }, want: "push it again"},
		"lies on a config":  {spoil: func(f *fakeRegistry) { lie(f, "team/app/blobs/", `{"os":"linux"}`) }, want: "tell who runs it"},
		"lies on a size":    {spoil: func(f *fakeRegistry) { replace(f, fmt.Sprintf(`"size":%d`, len(layer)), `"size":-1`) }, want: "tell who runs it"},
		"huge manifest":     {spoil: func(f *fakeRegistry) { f.put("team/app/manifests/1", make([]byte, maxAnswer+1)) }, want: "more than 8 MB"},
		"lies on a layer":   {spoil: func(f *fakeRegistry) { f.put("team/app/blobs/"+digestOf(layer), append(layer, 0)) }, note: "tell who runs it"},
		"lacks a layer":     {spoil: func(f *fakeRegistry) { delete(f.files, "team/app/blobs/"+digestOf(layer)) }, note: "layer 1"},
		"redirects to link": {spoil: func(f *fakeRegistry) { redirect(f, "http://169.254.169.254/latest/meta-data/") }, want: "169.254.169.254, where I ask no registry"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeRegistry(t, plain)
			f.push("1", "linux/amd64", layer)
			c.spoil(f)
			i, err := config{}.image(t.Context(), f.host+"/team/app:1")
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if p := i.platforms[0]; !strings.Contains(p.note, c.note) || p.unpacked != unknown || p.pull == 0 {
				t.Errorf("%+v, want the note %q", p, c.note)
			}
		})
	}
}

func throttled(f *fakeRegistry) {
	f.fault = func(_ string, w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	}
}

// lie has other content at the first path that begins with prefix and is JSON.
func lie(f *fakeRegistry, prefix, content string) {
	for path, data := range f.files {
		if strings.HasPrefix(path, prefix) && data[0] == '{' {
			f.files[path] = []byte(content)
		}
	}
}

// replace edits the image's manifest.
func replace(f *fakeRegistry, old, new string) {
	m := bytes.Replace(f.files["team/app/manifests/1"], []byte(old), []byte(new), 1)
	f.files["team/app/manifests/1"], f.files["team/app/manifests/"+digestOf(m)] = m, m
}

func redirect(f *fakeRegistry, to string) {
	f.fault = func(_ string, w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, to, http.StatusTemporaryRedirect)
		return true
	}
}

func TestRegistryThatHangs(t *testing.T) {
	t.Parallel()
	f := newFakeRegistry(t, plain)
	f.fault = func(_ string, _ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }
	_, err := config{}.image(t.Context(), f.host+"/team/app:1")
	if err == nil || !strings.Contains(explain(err), "it took too long: try again later") {
		t.Errorf("error: %v", err)
	}
}

func TestRegistryIsTriedAgain(t *testing.T) {
	t.Parallel()
	f := newFakeRegistry(t, plain)
	layer, _ := layerOf(1000, true)
	f.push("1", "linux/amd64", layer)
	n := 0
	f.fault = func(_ string, w http.ResponseWriter, _ *http.Request) bool {
		n++
		if n < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return n < 3
	}
	if _, err := (config{}).image(t.Context(), f.host+"/team/app:1"); err != nil {
		t.Error(err)
	}
}

func TestReferences(t *testing.T) {
	digest := digestOf(nil)
	for name, want := range map[string]string{
		"alpine":                               "docker.io/library/alpine:latest",
		"alpine:3.22":                          "docker.io/library/alpine:3.22",
		"docker.io/alpine":                     "docker.io/library/alpine:latest",
		"index.docker.io/a/b":                  "docker.io/a/b:latest",
		"ghcr.io/a/b/c:v1":                     "ghcr.io/a/b/c:v1",
		"localhost/a":                          "localhost/a:latest",
		"127.0.0.1:5000/a:1":                   "127.0.0.1:5000/a:1",
		"[::1]:5000/a:1":                       "[::1]:5000/a:1",
		"registry:5000/a@" + digest:            "registry:5000/a@" + digest,
		"registry.example/a:1@" + digest:       "registry.example/a:1@" + digest,
		"a/b":                                  "docker.io/a/b:latest",
		"":                                     "",
		"UPPER":                                "",
		"a/../b":                               "",
		"host.example/a?x=1":                   "",
		"host.example/a#x":                     "",
		"user@host.example/a":                  "",
		"https://host.example/a":               "",
		"a:" + strings.Repeat("x", 129):        "",
		"a@sha256:123":                         "",
		"a@sha512:" + strings.Repeat("0", 128): "",
		"<!channel>":                           "",
		"host.example:99999999/a":              "",
		strings.Repeat("a/", 300) + "a":        "",
	} {
		s, err := config{}.open(name)
		if (err != nil) != (want == "") || err == nil && s.ref.String() != want {
			t.Errorf("%q: %v, %v", name, s, err)
		}
	}
}

// TestOnlyWhereRegistriesAre: who writes in a channel chooses the host.
func TestOnlyWhereRegistriesAre(t *testing.T) {
	for _, c := range []struct {
		name, address string
		want          bool
	}{
		{"registry.example/a", "192.0.2.1:443", true},
		{"registry.example/a", "10.0.0.1:443", true},
		{"registry.example/a", "[2001:db8::1]:443", true},
		{"registry.example/a", "127.0.0.1:443", false}, // a name, or a redirect, that leads here
		{"registry.example/a", "[::1]:443", false},
		{"registry.example/a", "[::ffff:127.0.0.1]:443", false},
		{"127.0.0.1:5000/a", "127.0.0.1:5000", true}, // named as such
		{"localhost:5000/a", "[::1]:5000", true},
		{"registry.example/a", "169.254.169.254:80", false},
		{"127.0.0.1:5000/a", "169.254.169.254:80", false},
		{"registry.example/a", "[::ffff:169.254.169.254]:80", false},
		{"registry.example/a", "[fe80::1%lo]:80", false},
		{"registry.example/a", "0.0.0.0:80", false},
		{"registry.example/a", "[::]:80", false},
		{"registry.example/a", "224.0.0.1:80", false},
		{"registry.example/a", "100.100.100.200:80", false},
		{"registry.example/a", "[fd00:ec2::254]:80", false},
	} {
		s, err := config{}.open(c.name)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.guard("tcp", c.address, nil); (err == nil) != c.want {
			t.Errorf("%s at %s: %v", c.name, c.address, err)
		}
	}
	if _, err := (config{}).image(context.Background(), "169.254.169.254/a/b:1"); err == nil || !strings.Contains(err.Error(), "where I ask no registry") {
		t.Errorf("metadata service: %v", err)
	}
	if _, err := (config{allow: []string{"ghcr.io"}}).image(context.Background(), "alpine"); err == nil || !strings.Contains(err.Error(), "none of the registries that I may ask: ghcr.io") {
		t.Errorf("REGISTRY_ALLOW: %v", err)
	}
	if s, err := (config{plain: []string{"registry.example:5000"}}).open("registry.example:5000/a"); err != nil || s.base != "http://registry.example:5000" {
		t.Errorf("REGISTRY_PLAIN_HTTP: %v %v", s, err)
	}
	if a := netip.MustParseAddr("127.0.0.1"); !a.IsLoopback() {
		t.Error("no loopback")
	}
}

// FuzzDocuments: what a registry sends makes no panic.
func FuzzDocuments(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"digest":"sha256:1","platform":{"os":"linux"}}]}`), []byte{0x1f, 0x8b, 8})
	f.Add([]byte(`{"config":{"digest":"x"},"layers":[{"size":3}]}`), []byte("(\xb5/\xfd"))
	f.Fuzz(func(t *testing.T, document, layer []byte) {
		r := newFakeRegistry(t, plain)
		r.put("team/app/manifests/1", document)
		r.put("team/app/manifests/"+digestOf(document), document)
		if i, err := (config{}).image(t.Context(), r.host+"/team/app:1"); err == nil {
			describe([]*image{i, i})
		}
		r.push("2", "linux/amd64", layer)
		i, err := config{}.image(t.Context(), r.host+"/team/app:2")
		if err != nil {
			t.Fatal(err)
		}
		describe([]*image{i})
	})
}
