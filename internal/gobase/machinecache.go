package gobase

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/skiff-build/skiff/internal/gocache"
)

// machineCachePath is where the machine's build cache is bound in a step.
const machineCachePath = LibexecPath + "-machine-gocache"

// gocacheCommand is the first argument by which this program, at [LibexecPath], serves GOCACHEPROG.
const gocacheCommand = "gocache"

// refill is how long a step's cache is taken to hold what the machine's had for it. The go command drops what was not
// used for five days (cmd/go/internal/cache, trimLimit).
const refill = 24 * time.Hour

// CacheLoan is a step that may be lent the build cache of the machine's user.
type CacheLoan struct {
	Release string   // the Go that runs in it
	Cache   string   // where its own build cache belongs; it may be mounted elsewhere, which GOCACHE says
	Step    []string // arguments, environment: what tells what it compiles from what others do
	State   string   // of the caches: drawn anew when they are lost
}

// filled is the record of a step that has run with the machine's cache.
type filled struct {
	At time.Time `json:"at"`
}

// LendCache returns what a step needs to take compiled packages from the machine's build cache; ok is false where it is
// to go without. It is lent once: what the step took lies in its own cache then, and asking a program costs a go
// command some 30 ms.
//
// An entry says what went into it, not who wrote it: the toolchain is in its key by version alone. So the cache is lent
// only where the go command that fills it was proved to be the released one of that version. Beyond that it is trusted
// as every `go build` on this machine trusts it; who can write it is the user, and the state is the same user's.
func (t *Toolchains) LendCache(ctx context.Context, l CacheLoan) (x StepExtras, ok bool) {
	dir := t.env().GOCACHE
	if !filepath.IsAbs(dir) {
		return x, false
	}
	h := sha256.New()
	for _, part := range append([]string{l.Release, l.Cache, l.State, dir}, l.Step...) {
		fmt.Fprintf(h, "%d %s\n", len(part), part)
	}
	name := hex.EncodeToString(h.Sum(nil))
	var last filled
	if t.state.Load(kindFilled, name, &last) == nil && time.Since(last.At) < refill {
		return x, false
	}
	if info, err := os.Stat(filepath.Join(dir, "00")); err != nil || !info.IsDir() { // no cache, or never used
		return x, false
	}
	if !t.machineHas(ctx, l.Release) {
		t.otherGo(l.Release)
		return x, false
	}
	return StepExtras{
		Env:   []string{"GOCACHEPROG=" + strings.Join([]string{LibexecPath, gocacheCommand, machineCachePath}, " ")},
		Files: map[string]string{machineCachePath: dir},
		Done: func() {
			if err := t.state.Save(kindFilled, name, filled{time.Now()}); err != nil {
				t.note("remember that Go's build cache is filled: " + err.Error())
			}
		},
	}, true
}

// otherGo says, once for a state, that the machine's build cache is of no use for a release, and what would make it so.
func (t *Toolchains) otherGo(release string) {
	own, ok := strings.CutPrefix(t.env().GOVERSION, "go")
	if !ok || own == release {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	name := own + " " + release
	if t.state.Load(kindOtherGo, name, new(struct{})) == nil {
		return
	}
	t.note(fmt.Sprintf("usercache: this machine's own build cache is not used: its go is %s and the steps' is %s; "+
		"FROM golang:%[1]s, or `go env -w GOTOOLCHAIN=go%[2]s+auto` on this machine, brings them together", own, release))
	if err := t.state.Save(kindOtherGo, name, struct{}{}); err != nil {
		t.note("remember that this was said: " + err.Error())
	}
}

// machineHas reports whether the go command of this machine that compiles with a release is the released one.
func (t *Toolchains) machineHas(ctx context.Context, release string) bool {
	if runtime.GOOS != "linux" {
		return false
	}
	version := moduleVersion(release, runtime.GOARCH)
	want, err := t.sum(ctx, version)
	if err != nil || want == "" {
		return false // not to be proved
	}
	if t.env().GOVERSION == "go"+release {
		return t.provedRoot(release, want)
	}
	// The go command switches to a toolchain that a go.mod asks for, which it proved when it came.
	zip := t.cachedZip(version)
	if zip == "" {
		return false
	}
	sum, err := os.ReadFile(strings.TrimSuffix(zip, "zip") + "ziphash")
	return err == nil && strings.TrimSpace(string(sum)) == want
}

// provedRecord remembers that a GOROOT was hashed.
type provedRecord struct {
	Files string `json:"files"` // a digest of what lstat says of the programs in it
	Sum   string `json:"sum"`   // h1
}

// provedRoot hashes the machine's GOROOT, unless its programs are those of the last time. The sources are in the keys
// of what is compiled from them.
func (t *Toolchains) provedRoot(release, want string) bool {
	root := t.env().GOROOT
	files, err := programs(root)
	if err != nil {
		return false
	}
	var rec provedRecord
	if t.state.Load(kindRoot, root, &rec) == nil && rec.Files == files {
		return rec.Sum == want
	}
	tc, err := treeToolchain(release, runtime.GOARCH, root)
	if err != nil {
		return false
	}
	if err := t.state.Save(kindRoot, root, provedRecord{Files: files, Sum: tc.sum}); err != nil {
		t.note("remember the checksum of " + root + ": " + err.Error())
	}
	return tc.sum == want
}

// programs is a digest of what lstat says of all that compiles, and of what that includes.
func programs(root string) (string, error) {
	list := []string{"VERSION", "bin/go"}
	for _, pattern := range []string{"pkg/tool/*/*", "pkg/include/*"} {
		found, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
		if err != nil {
			return "", err
		}
		for _, f := range found {
			rel, err := filepath.Rel(root, f)
			if err != nil {
				return "", err
			}
			list = append(list, rel)
		}
	}
	slices.Sort(list)
	h := sha256.New()
	for _, name := range list {
		info, err := os.Lstat(filepath.Join(root, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d %v %d %d\n", name, info.Size(), info.Mode(), info.ModTime().UnixNano(), inodeOf(info))
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// serveCache is this program as GOCACHEPROG: it completes the cache that GOCACHE names from the one that args name.
func serveCache(args []string) int {
	own := os.Getenv("GOCACHE")
	if len(args) != 1 || !filepath.IsAbs(own) {
		fmt.Fprintln(os.Stderr, "skiff gocache: want a directory, and one in GOCACHE")
		return 2
	}
	if err := gocache.Serve(os.Stdin, os.Stdout, gocache.Dir(own), gocache.Dir(args[0])); err != nil {
		fmt.Fprintln(os.Stderr, "skiff gocache:", err)
		return 1
	}
	return 0
}
