package gobase

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/skiff-build/skiff/internal/gotoolchain"
	"github.com/skiff-build/skiff/internal/gotoolchain/gotoolchaintest"
)

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

// TestToolchainLayer: the layer holds the toolchain below /usr/local/go, the same bytes each time.
func TestToolchainLayer(t *testing.T) {
	p := gotoolchaintest.NewProxy(t, "1.26.8")
	tc, err := p.Tools(gotoolchaintest.NewState(t)).Get(t.Context(), "1.26.8", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	names := tarNames(t, func(ctx context.Context, w io.Writer) error { return writeToolchain(ctx, tc, w) })
	want := "755 usr/|755 usr/local/|755 usr/local/go/|644 usr/local/go/VERSION|755 usr/local/go/bin/|755 usr/local/go/bin/go|755 usr/local/go/bin/gofmt|" +
		"755 usr/local/go/lib/|755 usr/local/go/lib/time/|644 usr/local/go/lib/time/zoneinfo.zip|755 usr/local/go/lib/wasm/|" +
		"755 usr/local/go/lib/wasm/go_js_wasm_exec|755 usr/local/go/pkg/|755 usr/local/go/pkg/tool/|755 usr/local/go/pkg/tool/linux_amd64/|" +
		"755 usr/local/go/pkg/tool/linux_amd64/compile|755 usr/local/go/src/|755 usr/local/go/src/all.bash|755 usr/local/go/src/cmd/|" +
		"644 usr/local/go/src/cmd/go.mod|644 usr/local/go/src/go.mod"
	if got := strings.Join(names, "|"); got != want {
		t.Errorf("layer\n%s\nwant\n%s", got, want)
	}
}

func TestForgedToolchain(t *testing.T) {
	p := gotoolchaintest.NewProxy(t, "1.26.8")
	v := gotoolchain.ModuleVersion("1.26.8", "amd64")
	p.Zips[v] = gotoolchaintest.Zip(t, v, map[string]string{"bin/go": "a worm"})
	state := gotoolchaintest.NewState(t)
	layers, err := NewBases(p.Tools(state)).Layers(t.Context(), "gobase://1.26.8/alpine/amd64")
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

// TestReleased: which Go lies in a layer is known where the checksum database proved it when the layer was written, and not from
// anything that came later.
func TestReleased(t *testing.T) {
	p := gotoolchaintest.NewProxy(t, "1.26.8")
	state := gotoolchaintest.NewState(t)
	write := func(gosumdb string) *Bases {
		t.Helper()
		tools := gotoolchain.New(state, &gotoolchain.Env{GOPROXY: p.URL, GOSUMDB: gosumdb}, nil)
		bases := NewBases(tools)
		layers, err := bases.Layers(t.Context(), "gobase://1.26.8/alpine/amd64")
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
		return bases
	}
	if NewBases(gotoolchain.New(state, &gotoolchain.Env{GOPROXY: p.URL, GOSUMDB: p.Key}, nil)).Released("1.26.8", "amd64") {
		t.Error("released before there is a layer")
	}
	if write("off").Released("1.26.8", "amd64") {
		t.Error("released without a checksum database")
	}
	if NewBases(gotoolchain.New(state, &gotoolchain.Env{GOPROXY: p.URL, GOSUMDB: p.Key}, nil)).Released("1.26.8", "amd64") {
		t.Error("what was written without proof is proved by a setting")
	}
	state = gotoolchaintest.NewState(t)
	if !write(p.Key).Released("1.26.8", "amd64") || write(p.Key).Released("1.26.9", "amd64") {
		t.Error("the release is not known")
	}
}
