package gobase

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/mod/sumdb"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/mod/sumdb/note"
)

// fakeProxy serves toolchain modules and, below /sumdb, the checksum database of a test's own.
type fakeProxy struct {
	*httptest.Server
	key   string // GOSUMDB
	zips  map[string][]byte
	sums  map[string]string // by version; where it differs from the zip, the zip is a forgery
	asked atomic.Int32      // requests for zips
	list  atomic.Int32      // requests for the list
}

// toolchainZip makes a tiny toolchain module.
func toolchainZip(t *testing.T, version string, files map[string]string) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for _, name := range []string{"VERSION", "bin/go", "bin/gofmt", "src/_go.mod", "src/cmd/_go.mod", "src/all.bash",
		"pkg/tool/linux_amd64/compile", "lib/wasm/go_js_wasm_exec", "lib/time/zoneinfo.zip"} {
		content, ok := files[name]
		if !ok {
			content = name + "\n"
		}
		w, err := z.Create(toolchainModule + "@" + version + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, content)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func hashZip(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.zip")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	h, err := dirhash.HashZip(path, dirhash.Hash1)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func newFakeProxy(t *testing.T, releases ...string) *fakeProxy {
	t.Helper()
	signer, verifier, err := note.GenerateKey(nil, "sums.example")
	if err != nil {
		t.Fatal(err)
	}
	p := &fakeProxy{key: verifier, zips: map[string][]byte{}, sums: map[string]string{}}
	for _, r := range releases {
		v := moduleVersion(r, "amd64")
		p.zips[v] = toolchainZip(t, v, nil)
		p.sums[v] = hashZip(t, p.zips[v])
	}
	database := sumdb.NewServer(sumdb.NewTestServer(signer, func(_, version string) ([]byte, error) {
		h, ok := p.sums[version]
		if !ok {
			return nil, os.ErrNotExist
		}
		return fmt.Appendf(nil, "%s %s %s\n%[1]s %[2]s/go.mod %[3]s\n", toolchainModule, version, h), nil
	}))
	mux := http.NewServeMux()
	mux.HandleFunc("/sumdb/sums.example/supported", func(http.ResponseWriter, *http.Request) {})
	mux.Handle("/sumdb/sums.example/", http.StripPrefix("/sumdb/sums.example", database))
	mux.HandleFunc("/golang.org/toolchain/@v/", func(w http.ResponseWriter, r *http.Request) {
		name := filepath.Base(r.URL.Path)
		if name == "list" {
			p.list.Add(1)
			for v := range p.zips {
				fmt.Fprintln(w, v)
			}
			return
		}
		data, ok := p.zips[strings.TrimSuffix(name, ".zip")]
		if !ok || !strings.HasSuffix(name, ".zip") {
			http.NotFound(w, r)
			return
		}
		p.asked.Add(1)
		w.Write(data)
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func (p *fakeProxy) tools(t *testing.T, state State) *Toolchains {
	t.Helper()
	return NewToolchains(state, &GoEnv{GOPROXY: p.URL, GOSUMDB: p.key}, nil)
}

func mustTag(t *testing.T, ref string) Tag {
	t.Helper()
	tag, ok, err := ParseReference(ref)
	if !ok || err != nil {
		t.Fatal(ref, ok, err)
	}
	return tag
}

func TestDownloadIsProvedAndKept(t *testing.T) {
	p := newFakeProxy(t, "1.26.8")
	state := newState(t)
	tc, err := p.tools(t, state).get(t.Context(), "1.26.8", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	names := tarNames(t, tc.writeTar)
	want := "755 usr/|755 usr/local/|755 usr/local/go/|644 usr/local/go/VERSION|755 usr/local/go/bin/|755 usr/local/go/bin/go|755 usr/local/go/bin/gofmt|" +
		"755 usr/local/go/lib/|755 usr/local/go/lib/time/|644 usr/local/go/lib/time/zoneinfo.zip|755 usr/local/go/lib/wasm/|" +
		"755 usr/local/go/lib/wasm/go_js_wasm_exec|755 usr/local/go/pkg/|755 usr/local/go/pkg/tool/|755 usr/local/go/pkg/tool/linux_amd64/|" +
		"755 usr/local/go/pkg/tool/linux_amd64/compile|755 usr/local/go/src/|755 usr/local/go/src/all.bash|755 usr/local/go/src/cmd/|" +
		"644 usr/local/go/src/cmd/go.mod|644 usr/local/go/src/go.mod"
	if got := strings.Join(names, "|"); got != want {
		t.Errorf("layer\n%s\nwant\n%s", got, want)
	}
	p.Close()
	if _, err := p.tools(t, state).get(t.Context(), "1.26.8", "amd64"); err != nil {
		t.Errorf("a second time, offline: %v", err)
	}
	if n := p.asked.Load(); n != 1 {
		t.Errorf("downloaded %d times", n)
	}
}

// tarNames lists a layer as "mode name", and fails where two writings differ.
func tarNames(t *testing.T, write func(context.Context, io.Writer) error) []string {
	t.Helper()
	var a, b bytes.Buffer
	for _, w := range []*bytes.Buffer{&a, &b} {
		if err := write(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	if sha256.Sum256(a.Bytes()) != sha256.Sum256(b.Bytes()) {
		t.Error("two writings of the layer differ")
	}
	var names []string
	for r := tar.NewReader(&a); ; {
		h, err := r.Next()
		if err == io.EOF {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, fmt.Sprintf("%o %s", h.Mode, h.Name))
	}
}

func TestForgedToolchain(t *testing.T) {
	p := newFakeProxy(t, "1.26.8")
	v := moduleVersion("1.26.8", "amd64")
	p.zips[v] = toolchainZip(t, v, map[string]string{"bin/go": "a worm"})
	state := newState(t)
	layers, err := NewBases(p.tools(t, state)).Layers(t.Context(), "gobase://1.26.8/alpine/amd64")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		r, err := l.Open(t.Context())
		if err == nil {
			_, err = io.Copy(io.Discard, r)
			r.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "checksum mismatch") {
			t.Errorf("layer %s: error %v, want a checksum mismatch", l.ID, err)
		}
	}
	if kept := state.Names("gotoolchain"); len(kept) != 0 {
		t.Errorf("kept %q", kept)
	}
}

func TestGOSUMDBOffIsSaid(t *testing.T) {
	p := newFakeProxy(t, "1.26.8")
	var notes []string
	tools := NewToolchains(newState(t), &GoEnv{GOPROXY: p.URL, GOSUMDB: "off"}, func(s string) { notes = append(notes, s) })
	if _, err := tools.get(t.Context(), "1.26.8", "amd64"); err != nil {
		t.Fatal(err)
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "without proof") {
		t.Errorf("notes %q", notes)
	}
}

// TestReleased: which Go lies in a layer is known where the checksum database proved it when the layer was written, and not from
// anything that came later.
func TestReleased(t *testing.T) {
	p := newFakeProxy(t, "1.26.8")
	state := newState(t)
	write := func(gosumdb string) *Toolchains {
		t.Helper()
		tools := NewToolchains(state, &GoEnv{GOPROXY: p.URL, GOSUMDB: gosumdb}, nil)
		layers, err := NewBases(tools).Layers(t.Context(), "gobase://1.26.8/alpine/amd64")
		if err != nil {
			t.Fatal(err)
		}
		r, err := layers[0].Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Fatal(err)
		}
		return tools
	}
	if NewToolchains(state, &GoEnv{GOPROXY: p.URL, GOSUMDB: p.key}, nil).Released("1.26.8", "amd64") {
		t.Error("released before there is a layer")
	}
	if write("off").Released("1.26.8", "amd64") {
		t.Error("released without a checksum database")
	}
	if NewToolchains(state, &GoEnv{GOPROXY: p.URL, GOSUMDB: p.key}, nil).Released("1.26.8", "amd64") {
		t.Error("what was written without proof is proved by a setting")
	}
	state = newState(t)
	if !write(p.key).Released("1.26.8", "amd64") || write(p.key).Released("1.26.9", "amd64") {
		t.Error("the release is not known")
	}
}

func TestResolve(t *testing.T) {
	p := newFakeProxy(t, "1.26.8", "1.26.11", "1.27.0", "1.13.15")
	state := newState(t)
	for ref, want := range map[string]string{
		"golang:1.26-alpine": "1.26.11", "golang:1.26.8": "1.26.8", "golang": "1.27.0", "golang:1.13-alpine": "1.13.15",
	} {
		got, err := p.tools(t, state).Resolve(t.Context(), mustTag(t, ref), "amd64", false)
		if err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", ref, got, err, want)
		}
	}
	for ref, want := range map[string]string{
		"golang:1.99":   "newer than any toolchain",
		"golang:1.25.1": "has no toolchain of Go 1.25.1",
	} {
		if _, err := p.tools(t, state).Resolve(t.Context(), mustTag(t, ref), "amd64", false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", ref, err, want)
		}
	}
}

// TestFloatingTagIsRemembered: asked once, then from the state; asked again by pull.
func TestFloatingTagIsRemembered(t *testing.T) {
	p := newFakeProxy(t, "1.26.8")
	state, tag := newState(t), mustTag(t, "golang:1.26")
	resolve := func(pull bool) string {
		t.Helper()
		v, err := p.tools(t, state).Resolve(t.Context(), tag, "amd64", pull)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	resolve(false)
	v := moduleVersion("1.26.9", "amd64")
	p.zips[v] = toolchainZip(t, v, nil)
	if got := resolve(false); got != "1.26.8" || p.list.Load() != 1 {
		t.Errorf("%s after %d requests, want 1.26.8 after one", got, p.list.Load())
	}
	if got := resolve(true); got != "1.26.9" {
		t.Errorf("pull gives %s", got)
	}
	p.Close()
	if got := resolve(false); got != "1.26.9" {
		t.Errorf("offline gives %s", got)
	}
}

func TestProxyList(t *testing.T) {
	p := newFakeProxy(t, "1.26.8")
	gone := httptest.NewServer(http.NotFoundHandler())
	defer gone.Close()
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }))
	defer broken.Close()
	const name = "golang.org/toolchain/@v/list"
	for setting, ok := range map[string]bool{
		p.URL: true, gone.URL + "," + p.URL: true, broken.URL + "|" + p.URL: true, broken.URL + "," + p.URL: false,
		"off": false, "direct": false, "off," + p.URL: false, gone.URL + ",direct": false, " " + p.URL + " ,direct": true,
	} {
		list, err := newProxies(setting)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := list.read(t.Context(), name, 1<<20); (err == nil) != ok {
			t.Errorf("GOPROXY=%s: error %v, want success %v", setting, err, ok)
		}
	}
}

func TestFileProxy(t *testing.T) {
	v := moduleVersion("1.26.8", "amd64")
	dir := t.TempDir()
	at := filepath.Join(dir, "golang.org", "toolchain", "@v")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"list": []byte(v + "\n"), v + ".zip": toolchainZip(t, v, nil)} {
		if err := os.WriteFile(filepath.Join(at, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tools := NewToolchains(newState(t), &GoEnv{GOPROXY: "file://" + filepath.ToSlash(dir), GOSUMDB: "sum.golang.org"}, nil)
	release, err := tools.Resolve(t.Context(), mustTag(t, "golang:1.26"), "amd64", false)
	if err != nil || release != "1.26.8" {
		t.Fatal(release, err)
	}
	if _, err := tools.get(t.Context(), release, "amd64"); err != nil {
		t.Error(err)
	}
}

func TestZipOutsideOfItsModule(t *testing.T) {
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	if _, err := z.Create(toolchainModule + "@" + moduleVersion("1.26.8", "amd64") + "/../../etc/passwd"); err != nil {
		t.Fatal(err)
	}
	z.Close()
	path := filepath.Join(t.TempDir(), "t.zip")
	if err := os.WriteFile(path, buf.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	tc := &toolchain{release: "1.26.8", arch: "amd64", zip: path}
	if err := tc.writeTar(t.Context(), io.Discard); err == nil {
		t.Error("a name that leaves the module is no error")
	}
}

// TestMachineToolchain: the machine's own Go counts only where its files are those of the release.
func TestMachineToolchain(t *testing.T) {
	p := newFakeProxy(t)
	root := t.TempDir()
	for name, content := range map[string]string{
		"VERSION": "go1.26.8\n", "bin/go": "go", "bin/gofmt": "gofmt", "go.env": "GOTOOLCHAIN=local\n", "src/go.mod": "module std\n",
		"pkg/tool/linux_amd64/compile": "compile", "pkg/tool/linux_amd64/leftover": "x", "doc/x.html": "x", "test/y.go": "y",
	} {
		file := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	v := moduleVersion("1.26.8", "amd64")
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for name, content := range map[string]string{
		"VERSION": "go1.26.8\n", "bin/go": "go", "bin/gofmt": "gofmt", "go.env": releasedGoEnv, "src/_go.mod": "module std\n",
		"pkg/tool/linux_amd64/compile": "compile",
	} {
		w, err := z.Create(toolchainModule + "@" + v + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, content)
	}
	z.Close()
	tc, err := treeToolchain("1.26.8", "amd64", root)
	if err != nil {
		t.Fatal(err)
	}
	if want := hashZip(t, buf.Bytes()); tc.sum != want {
		t.Errorf("the tree hashes to %s, the module to %s", tc.sum, want)
	}
	p.sums[v] = tc.sum
	tools := NewToolchains(newState(t), &GoEnv{GOPROXY: p.URL, GOSUMDB: p.key, GOROOT: root, GOVERSION: "go1.26.8"}, nil)
	proved, err := tools.machineToolchain(t.Context(), "1.26.8", "amd64")
	if err != nil || proved == nil {
		t.Errorf("the released tree is not taken: %v", err)
	}
	if err := os.WriteFile(filepath.Join(root, "bin/go"), []byte("patched"), 0o644); err != nil {
		t.Fatal(err)
	}
	if patched, err := tools.machineToolchain(t.Context(), "1.26.8", "amd64"); err != nil || patched != nil {
		t.Errorf("a patched tree is taken: %v %v", patched, err)
	}
}

func TestMissingRelease(t *testing.T) {
	p := newFakeProxy(t)
	p.sums[moduleVersion("1.26.8", "amd64")] = "h1:x"
	_, err := p.tools(t, newState(t)).get(t.Context(), "1.26.8", "amd64")
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}
