package gobase

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/skiff-build/skiff/internal/rootfiles"
)

// Identity is what a gobase:// identifier says: one base, to the byte.
type Identity struct {
	Release string // "1.26.8"
	Variant Variant
	Arch    string   // GOARCH
	Host    string   // GOARCH of the toolchain and its libraries, where it is not Arch's
	With    []string // commands that the variant has only on request, sorted: bash, cc, git (the small one), machine-git
}

// String is the identifier: gobase://1.26.8/alpine/arm64?host=amd64&with=bash,git
func (id Identity) String() string {
	s := Scheme + id.Release + "/" + string(id.Variant) + "/" + id.Arch
	var query []string
	if id.Host != "" && id.Host != id.Arch {
		query = append(query, "host="+id.Host)
	}
	if len(id.With) > 0 {
		query = append(query, "with="+strings.Join(id.With, ","))
	}
	if len(query) > 0 {
		s += "?" + strings.Join(query, "&")
	}
	return s
}

// ParseIdentity reads what [Identity.String] wrote.
func ParseIdentity(s string) (Identity, error) {
	bad := fmt.Errorf("identifier %q: want gobase://VERSION/VARIANT/ARCH", s)
	rest, ok := strings.CutPrefix(s, Scheme)
	if !ok {
		return Identity{}, bad
	}
	rest, query, _ := strings.Cut(rest, "?")
	parts := strings.Split(rest, "/")
	values, err := url.ParseQuery(query)
	if err != nil || len(parts) != 3 || slices.Contains(parts, "") {
		return Identity{}, bad
	}
	id := Identity{Release: parts[0], Variant: Variant(parts[1]), Arch: parts[2]}
	if id.Variant != Alpine && id.Variant != Debian {
		return Identity{}, bad
	}
	if id.Host = values.Get("host"); id.Host == id.Arch {
		id.Host = ""
	}
	if with := values.Get("with"); with != "" {
		id.With = strings.Split(with, ",")
	}
	return id, nil
}

// Layer is one layer of a base.
type Layer struct {
	// ID names the content: 26 characters, lower case, the same for the same bytes.
	ID   string
	Name string // for people
	// Open returns the layer as an uncompressed tar stream; each call gives the same bytes. The caller closes.
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// Bases makes the layers of the built-in base. Safe for concurrent use.
type Bases struct {
	tools *Toolchains
	git   atomic.Bool // one of the bases asks for the machine's git
}

// NewBases returns the bases that these toolchains give.
func NewBases(t *Toolchains) *Bases { return &Bases{tools: t} }

// StepEnv returns what a step in one of the bases that [Bases.Layers] was asked for gets of the machine.
func (b *Bases) StepEnv(existing []string) StepExtras {
	x := StepEnv(existing)
	if b.git.Load() {
		maps.Copy(x.Files, MachineGit())
	}
	return x
}

// tarFormat is part of a layer's name: raise it when the layers' bytes, or what is noted when they are written, change for the same
// input.
const tarFormat = "3"

// Layers returns the layers of a gobase:// identifier, lowest first. The toolchain is fetched and proved when
// the first of them is opened, not before.
func (b *Bases) Layers(_ context.Context, identifier string) ([]Layer, error) {
	id, err := ParseIdentity(identifier)
	if err != nil {
		return nil, err
	}
	if slices.Contains(id.With, machineGit) {
		b.git.Store(true)
	}
	arch := cmp.Or(id.Host, id.Arch)
	toolchain := Layer{
		ID:   layerName(id.Release, arch),
		Name: "the Go toolchain " + id.Release + " for linux/" + arch,
		Open: func(ctx context.Context) (io.ReadCloser, error) {
			tc, err := b.tools.get(ctx, id.Release, arch)
			if err != nil {
				return nil, err
			}
			return stream(func(w io.Writer) error { return b.tools.writeLayer(ctx, tc, w) }), nil
		},
	}
	files := Layer{
		// The time zones come from the toolchain, and a released toolchain never changes: its name stands for it.
		Name: "the files of the built-in base beside it: accounts, CA certificates, time zones, commands",
		ID:   layerID("files", identifier, string(rootfiles.CABundle()), strings.Join(CommandNames(), " ")),
		Open: func(ctx context.Context) (io.ReadCloser, error) {
			tc, err := b.tools.get(ctx, id.Release, arch)
			if err != nil {
				return nil, err
			}
			if err := tc.prove(ctx); err != nil { // already done where the other layer was opened first
				return nil, err
			}
			r := root{variant: id.Variant, release: id.Release, arch: arch, with: id.With}
			if r.zones, err = tc.readFile(ctx, "lib/time/zoneinfo.zip", maxZones); err != nil {
				return nil, err
			}
			return stream(r.writeTar), nil
		},
	}
	return []Layer{toolchain, files}, nil
}

// maxZones bounds lib/time/zoneinfo.zip, in bytes; it has 400 kB.
const maxZones = 16 << 20

// layerID names a layer by what it is made from.
func layerID(parts ...string) string {
	h := sha256.New()
	fmt.Fprintf(h, "gobase layer %s\n", tarFormat)
	for _, p := range parts {
		fmt.Fprintf(h, "%d %s\n", len(p), p)
	}
	return strings.ToLower(base32.StdEncoding.EncodeToString(h.Sum(nil)))[:26]
}

// stream runs write against a pipe; its error is the reader's.
func stream(write func(io.Writer) error) io.ReadCloser {
	r, w := io.Pipe()
	go func() { w.CloseWithError(write(w)) }()
	return r
}
