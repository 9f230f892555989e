package gotoolchain

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/mod/module"
)

// Module holds each released Go as one version of a module (go.dev/doc/toolchain).
const Module = "golang.org/toolchain"

// ModuleVersion is the module version of a release: v0.0.1-go1.26.8.linux-amd64.
func ModuleVersion(release, arch string) string {
	return "v0.0.1-go" + release + ".linux-" + arch
}

// Toolchains finds released Go toolchains, each proved by the checksum database before it is used.
// Safe for concurrent use.
type Toolchains struct {
	state State
	env   func() Env
	note  func(string)

	proxies func() (*proxies, error)
	sums    func() (*checksums, error)

	mu   sync.Mutex
	open map[string]*Toolchain // by module version
}

// New returns the toolchains that the settings env reach; nil means the machine's. note gets a
// line for the user where something is not as usual; nil drops it.
func New(state State, env *Env, note func(string)) *Toolchains {
	t := &Toolchains{state: state, note: note, open: map[string]*Toolchain{}}
	// Asking the go command takes some 20 ms, which an unchanged build does not spend.
	t.env = MachineEnv
	if env != nil {
		t.env = func() Env { return *env }
	}
	if t.note == nil {
		t.note = func(string) {}
	}
	t.proxies = sync.OnceValues(func() (*proxies, error) { return newProxies(t.env().GOPROXY) })
	t.sums = sync.OnceValues(func() (*checksums, error) {
		p, err := t.proxies()
		if err != nil {
			return nil, err
		}
		machine := ""
		if t.env().GOMODCACHE != "" {
			machine = filepath.Join(t.env().GOMODCACHE, "cache", "download", "sumdb")
		}
		return newChecksums(t.env().GOSUMDB, p, filepath.Join(state.Dir(), "sumdb"), machine)
	})
	return t
}

// Env is the settings of the go command that the toolchains are found by.
func (t *Toolchains) Env() Env { return t.env() }

// State is where the toolchains are kept.
func (t *Toolchains) State() State { return t.state }

// Note gives the user a line.
func (t *Toolchains) Note(line string) { t.note(line) }

// toolchainRecord is what the state keeps of a proved download.
type toolchainRecord struct {
	Sum   string   `json:"sum"`   // h1:… as the checksum database has it
	Blobs []string `json:"blobs"` // the zip
}

// Get returns the toolchain of a release for an architecture (a GOARCH): from the state, the machine's module cache, the machine's own
// GOROOT where it is the released one, or by download.
func (t *Toolchains) Get(ctx context.Context, release, arch string) (*Toolchain, error) {
	version := ModuleVersion(release, arch)
	if err := module.Check(Module, version); err != nil {
		return nil, fmt.Errorf("go %s: %w", release, err)
	}
	t.mu.Lock()
	tc := t.open[version]
	t.mu.Unlock()
	if tc != nil {
		return tc, nil
	}
	unlock, err := t.state.Lock(ctx, "toolchain-"+version)
	if err != nil {
		return nil, err
	}
	defer unlock()
	tc, err = t.local(ctx, release, arch)
	if err != nil {
		return nil, err
	}
	if tc == nil {
		if tc, err = t.download(ctx, release, arch); err != nil {
			return nil, fmt.Errorf("go %s for linux/%s: %w", release, arch, err)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open[version] = tc
	return tc, nil
}

// local finds a toolchain on this machine; nil without an error where there is none.
func (t *Toolchains) local(ctx context.Context, release, arch string) (*Toolchain, error) {
	version := ModuleVersion(release, arch)
	var rec toolchainRecord
	if t.state.Load(kindToolchain, version, &rec) == nil && len(rec.Blobs) == 1 {
		if path, err := t.state.Blob(rec.Blobs[0]); err == nil {
			return &Toolchain{release: release, arch: arch, zip: path, released: rec.Sum != ""}, nil
		}
	}
	if path := t.cachedZip(version); path != "" {
		want, err := t.sum(ctx, version)
		if err != nil {
			return nil, err
		}
		// The go command proved it when it came, and left the checksum beside it; the files are proved again.
		if sum, err := os.ReadFile(strings.TrimSuffix(path, "zip") + "ziphash"); err == nil && (want == "" || strings.TrimSpace(string(sum)) == want) {
			return t.unproved(release, arch, path, want, nil), nil
		}
	}
	if t.env().GOVERSION == "go"+release && arch == runtime.GOARCH && runtime.GOOS == "linux" {
		return t.machineToolchain(ctx, release, arch)
	}
	return nil, nil
}

// cachedZip is the toolchain that the machine's go command downloaded for itself, if it did.
func (t *Toolchains) cachedZip(version string) string {
	if t.env().GOMODCACHE == "" {
		return ""
	}
	path := filepath.Join(t.env().GOMODCACHE, "cache", "download", filepath.FromSlash(Module), "@v", version+".zip")
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	return path
}

// machineToolchain takes the machine's own Go where its files hash to what the checksum database has for
// the release: a distribution's Go differs, and builds other binaries.
func (t *Toolchains) machineToolchain(ctx context.Context, release, arch string) (*Toolchain, error) {
	tc, err := treeToolchain(release, arch, t.env().GOROOT)
	if err != nil {
		return nil, nil // nothing there that could be it; the download says what is wrong
	}
	want, err := t.sum(ctx, ModuleVersion(release, arch))
	if err != nil {
		return nil, err
	}
	if tc.sum != want {
		return nil, nil
	}
	tc.released = true
	return tc, nil
}

// sum is the checksum that a toolchain must have; empty where nothing is to be asked, said in a note.
func (t *Toolchains) sum(ctx context.Context, version string) (string, error) {
	p, err := t.proxies()
	if err != nil {
		return "", err
	}
	if p.fileOnly() {
		return "", nil
	}
	sums, err := t.sums()
	if errors.Is(err, errNoDatabase) {
		t.note("GOSUMDB=off: the Go toolchain " + version + " is used without proof of what it is")
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return sums.lookup(ctx, Module, version)
}

// ModuleSums are the checksums of a module's zip and of its go.mod that the checksum database has. ok is false where it is not to be
// asked about this module, or does not answer.
func (t *Toolchains) ModuleSums(ctx context.Context, path, version string) (zip, mod string, ok bool) {
	if module.MatchPrefixPatterns(strings.Trim(t.env().GONOSUMDB+","+t.env().GOPRIVATE, ","), path) {
		return "", "", false
	}
	sums, err := t.sums()
	if err != nil {
		return "", "", false
	}
	if zip, err = sums.lookup(ctx, path, version); err != nil {
		return "", "", false
	}
	mod, err = sums.lookup(ctx, path, version+"/go.mod")
	return zip, mod, err == nil
}

// download fetches the zip into the state; its files are proved when they are first read.
func (t *Toolchains) download(ctx context.Context, release, arch string) (*Toolchain, error) {
	version := ModuleVersion(release, arch)
	p, err := t.proxies()
	if err != nil {
		return nil, err
	}
	want, err := t.sum(ctx, version)
	if err != nil {
		return nil, err
	}
	body, size, err := p.open(ctx, Module+"/@v/"+version+".zip")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no such release, or none that the module proxy has", err)
	}
	if err != nil {
		return nil, err
	}
	defer body.Close()
	digest, err := t.state.WriteBlob(ctx, body, size)
	if err != nil {
		return nil, fmt.Errorf("keep toolchain: %w", err)
	}
	path, err := t.state.Blob(digest)
	if err != nil {
		return nil, err
	}
	return t.unproved(release, arch, path, want, []string{digest}), nil
}

// unproved is a toolchain in a zip whose checksum is still to be computed, which the first reading of all its
// files does. blobs are kept in the state from then on.
func (t *Toolchains) unproved(release, arch, path, want string, blobs []string) *Toolchain {
	tc := &Toolchain{release: release, arch: arch, zip: path, want: want, released: want != ""}
	tc.proved = func() {
		if len(blobs) == 0 {
			return
		}
		version := ModuleVersion(release, arch)
		if err := t.state.Save(kindToolchain, version, toolchainRecord{Sum: want, Blobs: blobs}); err != nil {
			t.note("remember the Go toolchain " + version + ": " + err.Error())
		}
	}
	return tc
}
