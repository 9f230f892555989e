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
	"path"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/skiff-build/skiff/internal/busybox"
	"github.com/skiff-build/skiff/internal/gotoolchain"
	"github.com/skiff-build/skiff/internal/rootfiles"
	"github.com/skiff-build/skiff/internal/store"
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
	tools *gotoolchain.Toolchains
	git   atomic.Bool // one of the bases asks for the machine's git
}

// NewBases returns the bases that these toolchains give.
func NewBases(t *gotoolchain.Toolchains) *Bases { return &Bases{tools: t} }

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
			tc, err := b.tools.Get(ctx, id.Release, arch)
			if err != nil {
				return nil, err
			}
			return stream(func(w io.Writer) error { return b.writeLayer(ctx, id.Release, arch, tc, w) }), nil
		},
	}
	files := Layer{
		// The time zones come from the toolchain, and a released toolchain never changes: its name stands for it.
		Name: "the files of the built-in base beside it: accounts, CA certificates, time zones, commands",
		ID:   layerID("files", identifier, string(rootfiles.CABundle()), strings.Join(busybox.CommandNames(), " ")),
		Open: func(ctx context.Context) (io.ReadCloser, error) {
			tc, err := b.tools.Get(ctx, id.Release, arch)
			if err != nil {
				return nil, err
			}
			if err := tc.Prove(ctx); err != nil { // already done where the other layer was opened first
				return nil, err
			}
			r := root{variant: id.Variant, release: id.Release, arch: arch, with: id.With}
			if r.zones, err = tc.ReadFile(ctx, "lib/time/zoneinfo.zip", maxZones); err != nil {
				return nil, err
			}
			return stream(r.writeTar), nil
		},
	}
	return []Layer{toolchain, files}, nil
}

// provedKind is the kind of the record that says by what a toolchain's layer, whose content was written last, was proved.
const provedKind = store.KindGoProved

type provedLayer struct {
	Released bool `json:"released"` // by the checksum database
}

// Released says whether the toolchain in the layers of a base is the released one, as the checksum database has it: without a
// database (GOSUMDB=off, or a folder in the place of a proxy) nobody knows which Go runs there.
func (b *Bases) Released(release, arch string) bool {
	var l provedLayer
	return b.tools.State().Load(provedKind, layerName(release, arch), &l) == nil && l.Released
}

// layerName is the name of the layer of a toolchain.
func layerName(release, arch string) string {
	return layerID("toolchain", gotoolchain.ModuleVersion(release, arch))
}

// goroot is where the official images have their Go. Binaries built without -trimpath name it.
const goroot = "usr/local/go"

// writeToolchain writes the layer of the toolchain, /usr/local/go and all below: sorted, all times the same. A toolchain that proves to
// be wrong is an error at the end, and the stream is to be dropped.
func writeToolchain(ctx context.Context, tc *gotoolchain.Toolchain, w io.Writer) error {
	out := newLayerWriter(w)
	out.parents(goroot, ".")
	out.dir(goroot, 0o755)
	err := tc.Files(ctx, func(name string, mode, size int64, r io.Reader) error {
		out.parents(path.Join(goroot, name), goroot)
		return out.file(path.Join(goroot, name), mode, size, r)
	})
	if err != nil {
		return err
	}
	return out.Close()
}

// writeLayer writes the layer of a release and notes whether its content was proved.
func (b *Bases) writeLayer(ctx context.Context, release, arch string, tc *gotoolchain.Toolchain, w io.Writer) error {
	if err := writeToolchain(ctx, tc, w); err != nil {
		return err
	}
	return b.tools.State().Save(provedKind, layerName(release, arch), provedLayer{tc.Released()})
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
