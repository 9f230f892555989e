package gotoolchain_test

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skiff-build/skiff/internal/gotoolchain"
	"github.com/skiff-build/skiff/internal/gotoolchain/gotoolchaintest"
)

func TestDownloadIsProvedAndKept(t *testing.T) {
	p := gotoolchaintest.NewProxy(t, "1.26.8")
	state := gotoolchaintest.NewState(t)
	tc, err := p.Tools(state).Get(t.Context(), "1.26.8", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	err = tc.Files(t.Context(), func(name string, mode, _ int64, r io.Reader) error {
		names = append(names, fmt.Sprintf("%o %s", mode, name))
		_, err := io.Copy(io.Discard, r)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "644 VERSION|755 bin/go|755 bin/gofmt|644 lib/time/zoneinfo.zip|755 lib/wasm/go_js_wasm_exec|755 pkg/tool/linux_amd64/compile|" +
		"755 src/all.bash|644 src/cmd/go.mod|644 src/go.mod"
	if got := strings.Join(names, "|"); got != want {
		t.Errorf("files\n%s\nwant\n%s", got, want)
	}
	p.Close()
	if _, err := p.Tools(state).Get(t.Context(), "1.26.8", "amd64"); err != nil {
		t.Errorf("a second time, offline: %v", err)
	}
	if n := p.Asked.Load(); n != 1 {
		t.Errorf("downloaded %d times", n)
	}
}

// wanted is what a reference asks for whose tag is a version, or none.
func wanted(ref string) gotoolchain.Wanted {
	_, tag, _ := strings.Cut(ref, ":")
	version, _, _ := strings.Cut(tag, "-")
	return gotoolchain.Wanted{Ref: ref, Go: version}
}

func TestGOSUMDBOffIsSaid(t *testing.T) {
	p := gotoolchaintest.NewProxy(t, "1.26.8")
	var notes []string
	tools := gotoolchain.New(gotoolchaintest.NewState(t), &gotoolchain.Env{GOPROXY: p.URL, GOSUMDB: "off"}, func(s string) { notes = append(notes, s) })
	if _, err := tools.Get(t.Context(), "1.26.8", "amd64"); err != nil {
		t.Fatal(err)
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "without proof") {
		t.Errorf("notes %q", notes)
	}
}

func TestResolve(t *testing.T) {
	p := gotoolchaintest.NewProxy(t, "1.26.8", "1.26.11", "1.27.0", "1.13.15")
	state := gotoolchaintest.NewState(t)
	for ref, want := range map[string]string{
		"golang:1.26-alpine": "1.26.11", "golang:1.26.8": "1.26.8", "golang": "1.27.0", "golang:1.13-alpine": "1.13.15",
	} {
		got, err := p.Tools(state).Resolve(t.Context(), wanted(ref), "amd64", false)
		if err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", ref, got, err, want)
		}
	}
	for ref, want := range map[string]string{
		"golang:1.99":   "newer than any toolchain",
		"golang:1.25.1": "has no toolchain of Go 1.25.1",
	} {
		if _, err := p.Tools(state).Resolve(t.Context(), wanted(ref), "amd64", false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", ref, err, want)
		}
	}
}

// TestFloatingTagIsRemembered: asked once, then from the state; asked again by pull.
func TestFloatingTagIsRemembered(t *testing.T) {
	p := gotoolchaintest.NewProxy(t, "1.26.8")
	state, tag := gotoolchaintest.NewState(t), wanted("golang:1.26")
	resolve := func(pull bool) string {
		t.Helper()
		v, err := p.Tools(state).Resolve(t.Context(), tag, "amd64", pull)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	resolve(false)
	v := gotoolchain.ModuleVersion("1.26.9", "amd64")
	p.Zips[v] = gotoolchaintest.Zip(t, v, nil)
	if got := resolve(false); got != "1.26.8" || p.Listed.Load() != 1 {
		t.Errorf("%s after %d requests, want 1.26.8 after one", got, p.Listed.Load())
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
	p := gotoolchaintest.NewProxy(t, "1.26.8")
	gone := httptest.NewServer(http.NotFoundHandler())
	defer gone.Close()
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }))
	defer broken.Close()
	const name = "golang.org/toolchain/@v/list"
	for setting, ok := range map[string]bool{
		p.URL: true, gone.URL + "," + p.URL: true, broken.URL + "|" + p.URL: true, broken.URL + "," + p.URL: false,
		"off": false, "direct": false, "off," + p.URL: false, gone.URL + ",direct": false, " " + p.URL + " ,direct": true,
	} {
		if _, err := gotoolchain.ReadFromProxies(t.Context(), setting, name); (err == nil) != ok {
			t.Errorf("GOPROXY=%s: error %v, want success %v", setting, err, ok)
		}
	}
}

func TestFileProxy(t *testing.T) {
	v := gotoolchain.ModuleVersion("1.26.8", "amd64")
	dir := t.TempDir()
	at := filepath.Join(dir, "golang.org", "toolchain", "@v")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"list": []byte(v + "\n"), v + ".zip": gotoolchaintest.Zip(t, v, nil)} {
		if err := os.WriteFile(filepath.Join(at, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tools := gotoolchain.New(gotoolchaintest.NewState(t), &gotoolchain.Env{GOPROXY: "file://" + filepath.ToSlash(dir), GOSUMDB: "sum.golang.org"}, nil)
	release, err := tools.Resolve(t.Context(), wanted("golang:1.26"), "amd64", false)
	if err != nil || release != "1.26.8" {
		t.Fatal(release, err)
	}
	if _, err := tools.Get(t.Context(), release, "amd64"); err != nil {
		t.Error(err)
	}
}

func TestZipOutsideOfItsModule(t *testing.T) {
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	if _, err := z.Create(gotoolchain.Module + "@" + gotoolchain.ModuleVersion("1.26.8", "amd64") + "/../../etc/passwd"); err != nil {
		t.Fatal(err)
	}
	z.Close()
	path := filepath.Join(t.TempDir(), "t.zip")
	if err := os.WriteFile(path, buf.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	tc := gotoolchain.FromZip("1.26.8", "amd64", path)
	err := tc.Files(t.Context(), func(_ string, _, _ int64, r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	})
	if err == nil {
		t.Error("a name that leaves the module is no error")
	}
}

// TestMachineToolchain: the machine's own Go counts only where its files are those of the release.
func TestMachineToolchain(t *testing.T) {
	p := gotoolchaintest.NewProxy(t)
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
	v := gotoolchain.ModuleVersion("1.26.8", "amd64")
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for name, content := range map[string]string{
		"VERSION": "go1.26.8\n", "bin/go": "go", "bin/gofmt": "gofmt", "go.env": gotoolchain.ReleasedGoEnv, "src/_go.mod": "module std\n",
		"pkg/tool/linux_amd64/compile": "compile",
	} {
		w, err := z.Create(gotoolchain.Module + "@" + v + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, content)
	}
	z.Close()
	tc, err := gotoolchain.TreeToolchain("1.26.8", "amd64", root)
	if err != nil {
		t.Fatal(err)
	}
	if want := gotoolchaintest.HashZip(t, buf.Bytes()); tc.Sum() != want {
		t.Errorf("the tree hashes to %s, the module to %s", tc.Sum(), want)
	}
	p.Sums[v] = tc.Sum()
	tools := gotoolchain.New(gotoolchaintest.NewState(t), &gotoolchain.Env{GOPROXY: p.URL, GOSUMDB: p.Key, GOROOT: root, GOVERSION: "go1.26.8"}, nil)
	proved, err := tools.MachineToolchain(t.Context(), "1.26.8", "amd64")
	if err != nil || proved == nil {
		t.Errorf("the released tree is not taken: %v", err)
	}
	if err := os.WriteFile(filepath.Join(root, "bin/go"), []byte("patched"), 0o644); err != nil {
		t.Fatal(err)
	}
	if patched, err := tools.MachineToolchain(t.Context(), "1.26.8", "amd64"); err != nil || patched != nil {
		t.Errorf("a patched tree is taken: %v %v", patched, err)
	}
}

func TestMissingRelease(t *testing.T) {
	p := gotoolchaintest.NewProxy(t)
	p.Sums[gotoolchain.ModuleVersion("1.26.8", "amd64")] = "h1:x"
	_, err := p.Tools(gotoolchaintest.NewState(t)).Get(t.Context(), "1.26.8", "amd64")
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestNewest(t *testing.T) {
	versions := []string{"1.9", "1.13rc1", "1.13", "1.13.15", "1.13.2", "1.20", "1.20.14", "1.26.8", "1.26.11", "1.27.0", "1.28rc1"}
	for want, release := range map[string]string{
		"": "1.27.0", "1": "1.27.0", "1.26": "1.26.11", "1.26.8": "1.26.8", "1.13": "1.13.15", "1.13.9": "", "1.28rc1": "1.28rc1",
		"1.28": "", "1.20": "1.20.14", "1.20.0": "1.20", "1.9": "1.9",
	} {
		if got := gotoolchain.Newest(want, versions); got != release {
			t.Errorf("newest of %q: %q, want %q", want, got, release)
		}
	}
}
