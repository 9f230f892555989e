package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func TestParseOutput(t *testing.T) {
	no := false
	for in, want := range map[string]Output{
		"out":                   {Type: "local", Dest: "out"},
		"-":                     {Type: "tar", Dest: "-"},
		"type=tar":              {Type: "tar"},
		"type=tar,dest=a.tar":   {Type: "tar", Dest: "a.tar"},
		"type=local,dest=d":     {Type: "local", Dest: "d"},
		`type=oci,"dest=a,b"`:   {Type: "oci", Dest: "a,b"},
		"type=oci,dest=d,tar=0": {Type: "oci", Dest: "d", Dir: true},
		"type=docker,compression=gzip,compression-level=9,force-compression=true": {Type: "docker",
			Format: Format{Compression: "gzip", Level: 9, Force: true}},
		`type=image,"name=a,b",push=true`:                    {Type: "image", Names: []string{"a", "b"}, Push: true},
		"type=registry,name=x,oci-mediatypes=false":          {Type: "registry", Names: []string{"x"}, Push: true, OCI: &no, Format: Format{Docker: true}},
		"type=image,rewrite-timestamp=true,unpack=false":     {Type: "image"},
		"type=registry,registry.insecure=true":               {Type: "registry", Push: true, Insecure: true},
		"type=image,annotation.a=1,annotation-index.b.c=2":   {Type: "image", Annotations: Annotations{Manifest: map[string]string{"a": "1"}, Index: map[string]string{"b.c": "2"}}},
		"type=oci,annotation-manifest-descriptor.K=v,dest=x": {Type: "oci", Dest: "x", Annotations: Annotations{ManifestDescriptor: map[string]string{"K": "v"}}},
	} {
		got, err := ParseOutput(in)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v %v, want %+v", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"type=wim": "type=wim is not known", "dest=x": "type is missing", "type=local": "needs dest", "type=oci,nonsense=1": `"nonsense" is not known`,
		"type=oci,tar=maybe": "true or false", "type=image,dest=x": "takes no dest", "type=oci,push=true": "push=true",
		"type=docker,tar=false,dest=d": "tar=false", "type=oci,tar=false": "dest=FOLDER", "type=oci,compression=xz": "compression=xz",
		"type=oci,compression-level=x": "a number", "type=oci,dest": "KEY=VALUE", `type=oci,"`: "output", "": "output",
		"type=image,push-by-digest=true": "not supported", "type=image,annotation-x.y=1": "is not known",
	} {
		if _, err := ParseOutput(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", in, err, want)
		}
	}
}

func TestExport(t *testing.T) {
	l := newLibrary(t)
	img := appImage(t, l, "x")
	f := newRegistry(t)
	var out bytes.Buffer
	x := &Exporter{Library: l, Registry: client(t, l, RegistryOptions{}), Stdout: &out}
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	export := func(spec string, names ...string) Exported {
		t.Helper()
		o, err := ParseOutput(spec)
		if err != nil {
			t.Fatal(err)
		}
		e, err := x.Export(t.Context(), img, names, o)
		if err != nil {
			t.Fatalf("%s: %v", spec, err)
		}
		return e
	}
	export("type=docker,dest="+at("docker.tar"), "x:1")
	got, err := tarball.ImageFromPath(at("docker.tar"), nil)
	if err != nil {
		t.Fatal(err)
	}
	valid(t, got)
	if idOfImage(t, got) != idOfImage(t, img) {
		t.Error("docker archive: another image")
	}
	e := export("type=oci,compression=zstd,dest="+at("oci.tar"), "x:1")
	other := newLibrary(t)
	if _, err := other.LoadPath(t.Context(), at("oci.tar")); err != nil {
		t.Fatal(err)
	}
	c, err := other.Open(t.Context(), "x:1")
	if err != nil || digestOfContent(t, c) != e.Digest {
		t.Errorf("oci archive: %v", err)
	}
	export("type=oci,tar=false,dest="+at("layout"), "x:1")
	if loaded, err := newLibrary(t).LoadPath(t.Context(), at("layout")); err != nil || loaded[0].Names[0] != "docker.io/library/x:1" {
		t.Errorf("layout: %v %v", loaded, err)
	}
	export("-")
	if got := tree(t, &out); got != "x="+strings.Repeat("x", 10_000) {
		t.Errorf("tar: %.100s", got)
	}
	export(at("local"))
	if b, err := os.ReadFile(at("local/x")); err != nil || len(b) != 10_000 {
		t.Errorf("local: %d %v", len(b), err)
	}
	e = export("type=image,push=true,name="+f.host+"/x:9", "ignored:1")
	if d := f.pulled(t, "x:9"); d.Digest != e.Digest {
		t.Errorf("pushed %s, want %s", d.Digest, e.Digest)
	}
	if _, err := l.Open(t.Context(), f.host+"/x:9"); err != nil {
		t.Error(err)
	}
	if _, err := l.Open(t.Context(), "ignored:1"); !isNotFound(err) {
		t.Error("name= does not replace --tag")
	}
	o, _ := ParseOutput("type=registry")
	if _, err := x.Export(t.Context(), img, nil, o); err == nil || !strings.Contains(err.Error(), "--tag") {
		t.Errorf("a push without a name: %v", err)
	}
	ix, err := AssembleIndex([]PlatformImage{{Platform: v1.Platform{OS: "linux", Architecture: "amd64"}, Image: img}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	o, _ = ParseOutput("type=docker,dest=" + at("ix.tar"))
	if _, err := x.Export(t.Context(), ix, nil, o); err == nil || !strings.Contains(err.Error(), "type=oci") {
		t.Errorf("an index as a docker archive: %v", err)
	}
}

func TestDockerArchiveMediaTypes(t *testing.T) {
	l := newLibrary(t)
	for spec, want := range map[string]types.MediaType{
		"type=docker": types.DockerManifestSchema2, "type=docker,oci-mediatypes=true": types.OCIManifestSchema1,
		"type=docker,compression=zstd": types.OCIManifestSchema1, "type=oci": types.OCIManifestSchema1,
	} {
		var out bytes.Buffer
		o, err := ParseOutput(spec)
		if err != nil {
			t.Fatal(err)
		}
		stored := 0
		x := &Exporter{Library: l, Stdout: &out, Stored: func() { stored++ }}
		if _, err := x.Export(t.Context(), appImage(t, l, "x"), nil, o); err != nil || stored != 1 {
			t.Fatal(stored, err)
		}
		for tr := tar.NewReader(&out); ; {
			h, err := tr.Next()
			if err != nil {
				t.Fatal("no index.json")
			}
			if h.Name != "index.json" {
				continue
			}
			var m v1.IndexManifest
			if err := json.NewDecoder(tr).Decode(&m); err != nil || m.Manifests[0].MediaType != want {
				t.Errorf("%s: %s %v", spec, m.Manifests[0].MediaType, err)
			}
			break
		}
	}
}

func TestSave(t *testing.T) {
	l := newLibrary(t)
	one, two := appImage(t, l, "one"), appImage(t, l, "two")
	for name, img := range map[string]v1.Image{"one:1": one, "one:2": one, "two": two} {
		if _, err := l.Put(t.Context(), img, name); err != nil {
			t.Fatal(err)
		}
	}
	for _, oci := range []bool{false, true} {
		for _, compression := range []string{"", "gzip"} {
			var out bytes.Buffer
			err := l.Save(t.Context(), []string{"one:1", "one:2", idOfImage(t, two).Hex}, SaveOptions{Stdout: &out, OCI: oci, Format: Format{Compression: compression}})
			if err != nil {
				t.Fatal(err)
			}
			loaded, err := newLibrary(t).Load(t.Context(), &out)
			if err != nil || len(loaded) != 2 || len(loaded[0].Names) != 2 || len(loaded[1].Names) != 0 || loaded[1].ID != idOfImage(t, two) {
				t.Errorf("oci %v %s: loaded %+v %v", oci, compression, loaded, err)
			}
		}
	}
	if err := l.Save(t.Context(), []string{"three"}, SaveOptions{Stdout: io.Discard}); !isNotFound(err) {
		t.Errorf("%v", err)
	}
}

// fakeDocker is a daemon that reads what it is given as `docker load` does.
func fakeDocker(t *testing.T, answer func(w http.ResponseWriter, names []string)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/images/load" {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		path := filepath.Join(t.TempDir(), "in.tar")
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Error(err)
		}
		m, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return os.Open(path) })
		if err != nil {
			t.Error(err)
			return
		}
		answer(w, m[0].RepoTags)
	})
}

func TestLoadIntoDocker(t *testing.T) {
	l := newLibrary(t)
	images := []Named{{appImage(t, l, "x"), []string{"x:1"}}}
	fine := func(w http.ResponseWriter, names []string) {
		fmt.Fprintf(w, "{\"stream\":\"Loaded image: %s\\n\"}\n", names[0])
	}
	for _, v := range []string{"DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY"} {
		t.Setenv(v, "")
	}
	t.Setenv("DOCKER_CONFIG", t.TempDir())

	tcp := httptest.NewServer(fakeDocker(t, fine))
	t.Cleanup(tcp.Close)
	sock := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	unix := &httptest.Server{Listener: ln, Config: &http.Server{Handler: fakeDocker(t, fine)}}
	unix.Start()
	t.Cleanup(unix.Close)
	tcpHost := "tcp://" + strings.TrimPrefix(tcp.URL, "http://")
	for _, host := range []string{tcpHost, "unix://" + sock} {
		t.Setenv("DOCKER_HOST", host)
		if said, err := LoadIntoDocker(t.Context(), images, *at("2020-01-01T00:00:00Z")); err != nil || said != "Loaded image: x:1" {
			t.Errorf("%s: %q %v", host, said, err)
		}
	}
	t.Setenv("DOCKER_HOST", "")
	write(t, filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json"), `{"currentContext":"toy"}`)
	write(t, filepath.Join(os.Getenv("DOCKER_CONFIG"), "contexts", "meta", hashOf([]byte("toy")).Hex, "meta.json"),
		fmt.Sprintf(`{"Name":"toy","Endpoints":{"docker":{"Host":%q}}}`, tcpHost))
	if said, err := LoadIntoDocker(t.Context(), images, *at("2020-01-01T00:00:00Z")); err != nil || said != "Loaded image: x:1" {
		t.Errorf("by context: %q %v", said, err)
	}
}

func TestLoadIntoDockerFaults(t *testing.T) {
	l := newLibrary(t)
	images := []Named{{appImage(t, l, "x"), nil}}
	serve := func(h http.HandlerFunc) string {
		srv := httptest.NewServer(h)
		t.Cleanup(srv.Close)
		return "tcp://" + strings.TrimPrefix(srv.URL, "http://")
	}
	for _, c := range []struct{ name, host, want string }{
		{"not there", "unix:///nonexistent/docker.sock", "no Docker daemon answers there"},
		{"ssh", "ssh://host", "docker load"},
		{"nonsense", "gopher://host", "unix://, tcp://"},
		{"refuses", serve(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.WriteHeader(500)
			io.WriteString(w, `{"message":"no space left"}`)
		}), "no space left"},
		{"an error in the stream", serve(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			io.WriteString(w, `{"stream":"a"}{"errorDetail":{},"error":"invalid tar"}`)
		}), "invalid tar"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("DOCKER_HOST", c.host)
			if _, err := LoadIntoDocker(t.Context(), images, *at("2020-01-01T00:00:00Z")); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}
