package gotoolchain

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

// releaseRecord remembers which release a floating tag meant, until it is asked again.
type releaseRecord struct {
	Release string `json:"release"`
}

// listLimit bounds the proxy's list of versions, in bytes; all releases for all systems are some 100 kB.
const listLimit = 8 << 20

// Resolve returns the release that a tag means for an architecture (a GOARCH). A tag that floats is asked
// of the module proxy once and remembered; pull asks again. Offline it is the newest at hand, said in a note.
func (t *Toolchains) Resolve(ctx context.Context, tag Wanted, arch string, pull bool) (string, error) {
	name := tag.Go + " " + arch
	var rec releaseRecord
	if !pull && t.state.Load(kindRelease, name, &rec) == nil && matches(tag.Go, rec.Release) {
		return rec.Release, nil
	}
	if tag.Exact() && slices.Contains(t.atHand(arch), tag.Go) {
		return tag.Go, nil
	}
	versions, err := t.list(ctx, arch)
	if err != nil {
		return t.offline(tag, arch, err)
	}
	release := Newest(tag.Go, versions)
	if release == "" && tag.Exact() && t.exists(ctx, tag.Go, arch) {
		release = tag.Go // a proxy's list need not be complete
	}
	if release == "" {
		return "", noRelease(tag, arch, versions)
	}
	return release, t.state.Save(kindRelease, name, releaseRecord{release})
}

// offline answers from what the machine has when the proxy could not be asked.
func (t *Toolchains) offline(tag Wanted, arch string, cause error) (string, error) {
	release := Newest(tag.Go, t.atHand(arch))
	if release == "" {
		return "", fmt.Errorf("which Go %s is: %w", tag.Ref, cause)
	}
	if !tag.Exact() {
		t.note(fmt.Sprintf("%s: the module proxy cannot be asked (%v); Go %s is at hand and is used", tag.Ref, cause, release))
	}
	return release, nil
}

// exists asks the proxy for one release by name.
func (t *Toolchains) exists(ctx context.Context, release, arch string) bool {
	p, err := t.proxies()
	if err != nil {
		return false
	}
	_, err = p.read(ctx, Module+"/@v/"+ModuleVersion(release, arch)+".info", listLimit)
	return err == nil
}

func noRelease(tag Wanted, arch string, versions []string) error {
	last := Newest("", versions)
	if want := tag.Go; want != "" && last != "" && Compare(want, last) > 0 {
		return fmt.Errorf("%s: Go %s is newer than any toolchain that the module proxy has (newest: %s)", tag.Ref, want, last)
	}
	return fmt.Errorf("%s: the module proxy has no toolchain of Go %s for linux/%s", tag.Ref, tag.Go, arch)
}

// list returns the releases that the proxy lists for an architecture, in no order.
func (t *Toolchains) list(ctx context.Context, arch string) ([]string, error) {
	p, err := t.proxies()
	if err != nil {
		return nil, err
	}
	data, err := p.read(ctx, Module+"/@v/list", listLimit)
	if err != nil {
		return nil, err
	}
	var versions []string
	for line := range strings.Lines(string(data)) {
		if v, ok := releaseOf(strings.TrimSpace(line), arch); ok {
			versions = append(versions, v)
		}
	}
	if len(versions) == 0 {
		return nil, errors.New("the module proxy lists no toolchain for linux/" + arch)
	}
	return versions, nil
}

// releaseOf is the inverse of [ModuleVersion].
func releaseOf(version, arch string) (string, bool) {
	v, ok := strings.CutPrefix(version, "v0.0.1-go")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(v, ".linux-"+arch)
}

// atHand lists the releases that this machine holds, proved or still to be proved.
func (t *Toolchains) atHand(arch string) []string {
	var have []string
	if v, ok := strings.CutPrefix(t.env().GOVERSION, "go"); ok && arch == runtime.GOARCH {
		have = append(have, v)
	}
	if t.env().GOMODCACHE != "" {
		dir := filepath.Join(t.env().GOMODCACHE, "cache", "download", filepath.FromSlash(Module), "@v")
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if v, ok := strings.CutSuffix(e.Name(), ".zip"); ok {
				if v, ok := releaseOf(v, arch); ok {
					have = append(have, v)
				}
			}
		}
	}
	for _, version := range t.state.Names(kindToolchain) {
		if v, ok := releaseOf(version, arch); ok {
			have = append(have, v)
		}
	}
	return have
}

// Candidates are the releases to use in the place of a tag's own, best first: toolchain, the one that the go.mod of the context names as
// its own; the smallest that is as new as most, which is the newest that a go.mod asks for; the smallest that needs nothing of the machine
// (1.21); the newest. Where most is only a line, such as 1.15, its newest patch is meant, as by a tag.
func (t *Toolchains) Candidates(ctx context.Context, most, toolchain, arch string) ([]string, error) {
	versions := t.atHand(arch)
	listed, err := t.list(ctx, arch)
	versions = append(versions, listed...)
	serves := func(v string) bool { return IsRelease(v) && Compare(v, most) >= 0 }
	versions = slices.DeleteFunc(versions, func(v string) bool { return !serves(v) })
	slices.SortFunc(versions, Compare)
	if len(versions) == 0 {
		if err != nil {
			return nil, fmt.Errorf("go.mod asks for Go %s, and which there are: %w", most, err)
		}
		return nil, fmt.Errorf("go.mod asks for Go %s: no toolchain is that new", most)
	}
	smallest := versions[0]
	if strings.Count(most, ".") < 2 {
		smallest = Newest(Line(smallest), versions)
	}
	own := slices.DeleteFunc(slices.Clone(versions), func(v string) bool { return !AtLeast(v, "1.21") })
	list := []string{smallest}
	if slices.Contains(versions, toolchain) {
		list = []string{toolchain, smallest}
	}
	if len(own) > 0 {
		list = append(list, Newest(Line(own[0]), own), own[len(own)-1])
	}
	return slices.Compact(list), nil
}

// modLimit bounds a go.mod file in bytes; the go command's own bound is 16 MB.
const modLimit = 1 << 20

// ModuleGo is the Go version that a module's go.mod asks for, from the machine's module cache or the proxy;
// empty where it says nothing or cannot be had: the build itself will say so.
func (t *Toolchains) ModuleGo(ctx context.Context, m module.Version) string {
	key := "mod " + m.String()
	var rec struct {
		Go string `json:"go"`
	}
	if t.state.Load(kindModule, key, &rec) == nil {
		return rec.Go
	}
	data, err := t.goMod(ctx, m)
	if err != nil {
		return ""
	}
	if f, err := modfile.ParseLax(m.Path+"/go.mod", data, nil); err == nil && f.Go != nil {
		rec.Go = f.Go.Version
	}
	if err := t.state.Save(kindModule, key, rec); err != nil {
		t.note("remember " + m.String() + ": " + err.Error())
	}
	return rec.Go
}

func (t *Toolchains) goMod(ctx context.Context, m module.Version) ([]byte, error) {
	path, err := module.EscapePath(m.Path)
	if err != nil {
		return nil, err
	}
	version, err := module.EscapeVersion(m.Version)
	if err != nil {
		return nil, err
	}
	name := path + "/@v/" + version + ".mod"
	if t.env().GOMODCACHE != "" {
		file := filepath.Join(t.env().GOMODCACHE, "cache", "download", filepath.FromSlash(name))
		if data, err := os.ReadFile(file); err == nil {
			return data, nil
		}
	}
	p, err := t.proxies()
	if err != nil {
		return nil, err
	}
	return p.read(ctx, name, modLimit)
}
