package gobase

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/skiff-build/skiff/internal/busybox"
	"github.com/skiff-build/skiff/internal/gocache"
	"github.com/skiff-build/skiff/internal/gotoolchain"
)

// machineCachePath is where the machine's build cache is bound in a step.
const machineCachePath = LibexecPath + "-machine-gocache"

// gocacheCommand is the first argument by which this program, at [LibexecPath], serves GOCACHEPROG.
const gocacheCommand = "gocache"

// refill is how long a step's cache is taken to hold what the machine's had for it. The go command drops what was not
// used for five days (cmd/go/internal/cache, trimLimit).
const refill = 24 * time.Hour

// Loans is what steps in the built-in base are lent of this machine's own Go caches. Safe for concurrent use.
type Loans struct {
	tools *gotoolchain.Toolchains

	mu      sync.Mutex
	modules *moduleServer // nil: not wanted yet
}

// NewLoans returns the loans of the machine that t knows. The caller closes them.
func NewLoans(t *gotoolchain.Toolchains) *Loans { return &Loans{tools: t} }

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
func (o *Loans) LendCache(ctx context.Context, l CacheLoan) (x StepExtras, ok bool) {
	dir := o.tools.Env().GOCACHE
	if !filepath.IsAbs(dir) {
		return x, false
	}
	h := sha256.New()
	for _, part := range append([]string{l.Release, l.Cache, l.State, dir}, l.Step...) {
		fmt.Fprintf(h, "%d %s\n", len(part), part)
	}
	name := hex.EncodeToString(h.Sum(nil))
	var last filled
	if o.tools.State().Load(kindFilled, name, &last) == nil && time.Since(last.At) < refill {
		return x, false
	}
	if info, err := os.Stat(filepath.Join(dir, "00")); err != nil || !info.IsDir() { // no cache, or never used
		return x, false
	}
	if !o.tools.MachineHas(ctx, l.Release) {
		o.otherGo(l.Release)
		return x, false
	}
	return StepExtras{
		Env:   []string{"GOCACHEPROG=" + strings.Join([]string{LibexecPath, gocacheCommand, machineCachePath}, " ")},
		Files: map[string]string{machineCachePath: dir},
		Done: func() {
			if err := o.tools.State().Save(kindFilled, name, filled{time.Now()}); err != nil {
				o.tools.Note("remember that Go's build cache is filled: " + err.Error())
			}
		},
	}, true
}

// otherGo says, once for a state, that the machine's build cache is of no use for a release, and what would make it so.
func (o *Loans) otherGo(release string) {
	own, ok := strings.CutPrefix(o.tools.Env().GOVERSION, "go")
	if !ok || own == release {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	name := own + " " + release
	if o.tools.State().Load(kindOtherGo, name, new(struct{})) == nil {
		return
	}
	o.tools.Note(fmt.Sprintf("usercache: this machine's own build cache is not used: its go is %s and the steps' is %s; "+
		"FROM golang:%[1]s, or `go env -w GOTOOLCHAIN=go%[2]s+auto` on this machine, brings them together", own, release))
	if err := o.tools.State().Save(kindOtherGo, name, struct{}{}); err != nil {
		o.tools.Note("remember that this was said: " + err.Error())
	}
}

// Applet returns what to run when this process was started as one of the base's commands, or as what GOCACHEPROG
// names: args is os.Args of a process, whose first is the name it was called by. run returns the exit code.
func Applet(args []string) (run func() int, ok bool) {
	if len(args) > 1 && args[0] == LibexecPath && args[1] == gocacheCommand {
		return func() int { return serveCache(args[2:]) }, true
	}
	return busybox.Applet(args)
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
