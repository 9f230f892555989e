package goaware

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"
)

// plan is what one step gets.
type plan struct {
	*step
	build, mod string // where the caches are mounted; empty: not at all
	why        string // it is not to be confined, and so writes no cache that all projects share; empty: it is
	alone      bool   // sees the modules of its own Dockerfile alone
	cgo        bool   // has a build cache for itself and the system that C code is compiled on
	release    string // of the built-in base; empty: another base
}

// apply changes the step's operation.
func (c *client) apply(p plan) {
	var got []string
	if p.build != "" {
		around := ""
		if p.cgo {
			around = p.around + c.o.Cgo
			p.hint(HintC, strings.Join(p.sources, "\n"))
		}
		p.mount(p.build, c.cacheID("build."+format, around))
		got = append(got, "build cache")
	}
	if p.mod != "" {
		what := "mod." + format + "-" + c.o.Generation
		if p.alone {
			what = "own-" + what
		}
		p.mount(p.mod, c.cacheID(what, ""))
		got = append(got, "module cache")
	}
	whose := "what it compiles is shared"
	switch {
	case p.build == "":
		whose = "this Dockerfile's own"
	case p.cgo:
		whose = "shared ones read, what is built kept apart since cgo may be on"
	case p.why != "":
		whose = "shared ones read, own ones written: " + p.why
	}
	c.note("%s: %s: Go's %s mounted (%s)", GoCache, p.v.Name(), strings.Join(got, " and "), whose)
	if p.build != "" && !p.cgo && c.on(Force) && p.dropForce() {
		c.note("%s: %s: -a left out, the build cache is keyed by content", Force, p.v.Name())
	}
	if p.why != "" {
		return
	}
	p.hint(HintGo, p.called())
	p.hint(HintRelease, p.release)
	if c.on(Inputs) && p.followsFromInputs() {
		p.hint(HintInputs, "yes")
	}
	if p.build != "" && c.on(UserCache) && p.script.calls(compiling) && !goOlderThan(p.release, 1, 24) {
		p.hint(HintCache, p.build)
	}
	// Before 1.15 a go command knows no bar in GOPROXY (go.dev/doc/go1.15).
	if c.on(UserModules) && p.script.calls(fetching) && !goOlderThan(p.release, 1, 15) {
		p.hint(HintModules, "yes")
	}
}

// format is part of the names of caches: what was written under weaker rules than today's is not seen again.
const format = "2"

// compiling and fetching are what go commands of a step that is confined may do beside writing its caches.
var (
	compiling = words("build install vet")
	fetching  = words("build install vet list mod get")
)

// calls says whether the script calls go with one of these verbs.
func (s script) calls(verbs []string) bool {
	return slices.ContainsFunc(s.commands, func(c command) bool {
		return len(c.words) > 1 && isGo(c.words[0]) && slices.Contains(verbs, c.words[1])
	})
}

// cacheID is of what all share and, after the plus, of this Dockerfile's own, for one kind of surroundings.
func (c *client) cacheID(what, around string) string {
	sum := sha256.Sum256([]byte(c.o.Project + around))
	return Prefix + what + "+" + hex.EncodeToString(sum[:8])
}

// mount adds a cache mount as llb does: mounts are sorted by destination, one without output is numbered -1.
func (s *step) mount(dest, id string) {
	m := &pb.Mount{
		Input: int64(pb.Empty), Output: int64(pb.SkipOutput), Dest: dest,
		MountType: pb.MountType_CACHE,
		CacheOpt:  &pb.CacheOpt{ID: id, Sharing: pb.CacheSharingOpt_SHARED},
	}
	at := slices.IndexFunc(s.op.Mounts, func(o *pb.Mount) bool { return o.Dest > dest })
	if at < 0 {
		at = len(s.op.Mounts)
	}
	s.op.Mounts = slices.Insert(s.op.Mounts, at, m)
	if s.v.Meta == nil {
		s.v.Meta = &pb.OpMetadata{}
	}
	if s.v.Meta.Caps == nil {
		s.v.Meta.Caps = map[string]bool{}
	}
	s.v.Meta.Caps[string(pb.CapExecMountCache)] = true
	s.v.Meta.Caps[string(pb.CapExecMountCacheSharing)] = true
}

// dropForce takes -a out of every go build and go install of the step, in place: the rest of the text stays as it was
// written, but for the name that progress shows, which stays whole.
func (s *step) dropForce() bool {
	var cuts []span
	for _, c := range s.script.commands {
		if c.cut != nil {
			cuts = append(cuts, *c.cut)
		}
	}
	if len(cuts) == 0 || goOlderThan(s.env["GOLANG_VERSION"], 1, 10) {
		return false
	}
	if !s.script.shell {
		s.op.Meta.Args = slices.Delete(slices.Clone(s.op.Meta.Args), cuts[0].from, cuts[0].to)
		return true
	}
	args := slices.Clone(s.op.Meta.Args)
	text := args[len(args)-1]
	slices.SortFunc(cuts, func(a, b span) int { return b.from - a.from }) // from the end: offsets before it stay right
	for _, cut := range cuts {
		text = text[:cut.from] + text[cut.to:]
	}
	args[len(args)-1] = text
	s.op.Meta.Args = args
	return true
}
