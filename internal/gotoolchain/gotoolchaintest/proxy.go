// Package gotoolchaintest serves toolchains to tests: a module proxy with a checksum database of its own, and a state in a folder.
package gotoolchaintest

import (
	"archive/zip"
	"bytes"
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

	"github.com/skiff-build/skiff/internal/gotoolchain"
)

// Proxy serves toolchain modules and, below /sumdb, the checksum database of a test's own.
type Proxy struct {
	*httptest.Server
	Key    string            // GOSUMDB
	Zips   map[string][]byte // by version
	Sums   map[string]string // by version; where it differs from the zip, the zip is a forgery
	Asked  atomic.Int32      // requests for zips
	Listed atomic.Int32      // requests for the list
}

// Zip makes a tiny toolchain module.
func Zip(t *testing.T, version string, files map[string]string) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for _, name := range []string{"VERSION", "bin/go", "bin/gofmt", "src/_go.mod", "src/cmd/_go.mod", "src/all.bash",
		"pkg/tool/linux_amd64/compile", "lib/wasm/go_js_wasm_exec", "lib/time/zoneinfo.zip"} {
		content, ok := files[name]
		if !ok {
			content = name + "\n"
		}
		w, err := z.Create(gotoolchain.Module + "@" + version + "/" + name)
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

// HashZip is the checksum of a module's zip.
func HashZip(t *testing.T, data []byte) string {
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

// NewProxy serves toolchains of these releases for amd64 until the test ends.
func NewProxy(t *testing.T, releases ...string) *Proxy {
	t.Helper()
	signer, verifier, err := note.GenerateKey(nil, "sums.example")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Key: verifier, Zips: map[string][]byte{}, Sums: map[string]string{}}
	for _, r := range releases {
		v := gotoolchain.ModuleVersion(r, "amd64")
		p.Zips[v] = Zip(t, v, nil)
		p.Sums[v] = HashZip(t, p.Zips[v])
	}
	database := sumdb.NewServer(sumdb.NewTestServer(signer, func(_, version string) ([]byte, error) {
		h, ok := p.Sums[version]
		if !ok {
			return nil, os.ErrNotExist
		}
		return fmt.Appendf(nil, "%s %s %s\n%[1]s %[2]s/go.mod %[3]s\n", gotoolchain.Module, version, h), nil
	}))
	mux := http.NewServeMux()
	mux.HandleFunc("/sumdb/sums.example/supported", func(http.ResponseWriter, *http.Request) {})
	mux.Handle("/sumdb/sums.example/", http.StripPrefix("/sumdb/sums.example", database))
	mux.HandleFunc("/golang.org/toolchain/@v/", func(w http.ResponseWriter, r *http.Request) {
		name := filepath.Base(r.URL.Path)
		if name == "list" {
			p.Listed.Add(1)
			for v := range p.Zips {
				fmt.Fprintln(w, v)
			}
			return
		}
		data, ok := p.Zips[strings.TrimSuffix(name, ".zip")]
		if !ok || !strings.HasSuffix(name, ".zip") {
			http.NotFound(w, r)
			return
		}
		p.Asked.Add(1)
		w.Write(data)
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

// Tools are the toolchains that a machine finds, which asks the proxy and keeps what it got in state.
func (p *Proxy) Tools(state gotoolchain.State) *gotoolchain.Toolchains {
	return gotoolchain.New(state, &gotoolchain.Env{GOPROXY: p.URL, GOSUMDB: p.Key}, nil)
}

// HashFiles is the checksum of the module that holds these files, by name below GOROOT.
func HashFiles(t *testing.T, release, arch string, files map[string]string) string {
	t.Helper()
	prefix := gotoolchain.Module + "@" + gotoolchain.ModuleVersion(release, arch) + "/"
	var names []string
	for name := range files {
		names = append(names, prefix+name)
	}
	sum, err := dirhash.Hash1(names, func(name string) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(files[strings.TrimPrefix(name, prefix)])), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}
