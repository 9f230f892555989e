package gobase

import (
	"runtime"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/solver/pb"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"mvdan.cc/sh/v3/syntax"

	"github.com/skiff-build/skiff/internal/busybox"
)

// A stage for another platform whose steps only compile runs here with the toolchain of this machine, which go tells to compile for the
// platform of the stage. Its programs are those that the image's own go gives, to the byte: what go compiles does not depend on what
// it runs on (go.dev/blog/rebuild). All else that could tell the two apart is looked for while the steps are read, and sends the stage
// back to programs of its own platform, which then need an emulator.

// goArchitectures are those that images of Go are made for (github.com/docker-library/official-images, library/golang).
var goArchitectures = []string{"386", "amd64", "arm", "arm64", "mips64le", "ppc64le", "riscv64", "s390x"}

// toolArch is the GOARCH of the toolchain that is looked for where a stage is for arch: releases have the same numbers on all, and this
// machine's can be had for more of them.
func toolArch(arch string) string {
	if slices.Contains(goArchitectures, arch) && slices.Contains(goArchitectures, runtime.GOARCH) {
		return runtime.GOARCH
	}
	return arch
}

// foreign reports whether a stage is for another architecture than this machine's, and one that go compiles for.
func (b *base) foreign() bool { return b.arch != runtime.GOARCH && toolArch(b.arch) == runtime.GOARCH }

// platform is what the stage is for, as people write it.
func (b *base) platform() string {
	p := b.source.Op.Platform
	if p == nil {
		return "linux/" + b.arch
	}
	return platforms.Format(ocispecs.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant})
}

// needNative notes that a command of a stage that is compiled across needs the platform of the stage, or could see that it is not there.
func (s *step) needNative(command, why string) {
	s.t.base.needNative(&Refusal{Where: where(s.v), Command: busybox.Shown(command), Why: why})
}

func (b *base) needNative(r *Refusal) {
	if b.cross && b.native == nil {
		b.native = r
	}
}

// crossEnv is what makes this machine's go compile as that of the stage does. The images of 32-bit ARM have the release for ARMv6,
// whose default is GOARM=6, but for ARMv5, where go was compiled with GOARM=5 (Dockerfile-linux.template of docker-library/golang).
func (b *base) crossEnv() []string {
	env := []string{"GOARCH=" + b.arch, "CGO_ENABLED=0"}
	if b.arch == "arm" {
		goarm := "GOARM=6"
		if p := b.source.Op.Platform; p != nil && p.Variant == "v5" {
			goarm = "GOARM=5"
		}
		env = append(env, goarm)
	}
	return env
}

// hostPlatform is what the steps of a stage run on that is compiled across.
func hostPlatform() *pb.Platform { return &pb.Platform{OS: "linux", Architecture: runtime.GOARCH} }

// crossNames are the variables that crossEnv may set.
var crossNames = []string{"GOARCH", "CGO_ENABLED", "GOARM"}

// crossNode looks at what of a shell's text could see, or undo, what crossEnv sets.
func (s *step) crossNode(n syntax.Node) {
	switch n := n.(type) {
	case *syntax.ParamExp:
		if n.Param == nil || n.Excl { // ${!name}
			s.needNative("", "the text of a variable names another one")
			return
		}
		if name := n.Param.Value; slices.Contains(crossNames, name) && !s.given[name] {
			s.needNative("$"+name, "the variable is read, and the image has none of that name")
		}
	case *syntax.CallExpr:
		for _, a := range n.Assigns {
			s.crossAssign(a.Name.Value, s.assigned(a))
			if len(n.Args) == 0 {
				s.crossShellVariable(a.Name.Value)
			}
		}
	case *syntax.DeclClause: // export, readonly, local, declare
		for _, a := range n.Args {
			if a.Name == nil {
				s.needNative("", n.Variant.Value+" with an option or a name that is known only when it runs")
			} else if !a.Naked {
				s.crossAssign(a.Name.Value, s.assigned(a))
			}
		}
	case *syntax.WordIter:
		s.crossShellVariable(n.Name.Value)
	}
}

// crossShellVariable looks at a variable of the shell that it does not export. One that crossEnv has set is exported all the same, and go
// would see its new value.
func (s *step) crossShellVariable(name string) {
	if slices.Contains(crossNames, name) && !s.given[name] && s.exported[name] == never {
		s.needNative(name+"=", "the shell keeps the variable for itself")
	}
}

// captures reports whether a script does anything with what its commands print but show it.
func captures(file *syntax.File) bool {
	found := false
	syntax.Walk(file, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.CmdSubst, *syntax.ProcSubst:
			found = true
		case *syntax.BinaryCmd:
			found = found || n.Op == syntax.Pipe || n.Op == syntax.PipeAll
		case *syntax.Redirect:
			found = found || n.Op != syntax.DplOut && n.Op != syntax.DplIn
		}
		return !found
	})
	return found
}

// crossAssign looks at a value that a step gives a variable: go takes an empty one for none, and then its own platform.
func (s *step) crossAssign(name string, v value) {
	switch {
	case name == "GOARCH" && (!v.known || v.text == ""):
		s.needNative(name+"=", "the value is empty, or known only when it runs")
	case name == "GOARM" && s.t.base.arch == "arm" && (!v.known || v.text == ""):
		s.needNative(name+"=", "the value is empty, or known only when it runs")
	}
}

// crossCommand looks at a command that is none of go's.
func (s *step) crossCommand(name string, args []value, text string) {
	switch name {
	case "uname", "arch":
		if len(args) != 1 || args[0].text != "-s" {
			s.needNative(text, "it tells the machine's architecture")
		}
	case "printenv", "set":
		if len(args) == 0 {
			s.needNative(text, "it shows all variables")
		}
	case "env":
		named := slices.ContainsFunc(args, func(a value) bool {
			return !strings.Contains(a.text, "=") && !strings.HasPrefix(a.text, "-")
		})
		if !named {
			s.needNative(text, "it shows all variables")
		}
		for _, a := range args {
			if name, v, ok := strings.Cut(a.text, "="); ok {
				s.crossAssign(name, value{v, a.known})
			} else if strings.HasPrefix(a.text, "-") || !a.known {
				s.needNative(text, "it takes variables away")
			}
		}
	case "export", "readonly", "local", "declare", "typeset":
		for _, a := range args {
			name, v, ok := strings.Cut(a.text, "=")
			switch {
			case !a.known && !ok || strings.HasPrefix(a.text, "-"):
				s.needNative(text, "it may show or change any variable")
			case ok:
				s.crossAssign(name, value{v, a.known})
			}
		}
		if len(args) == 0 {
			s.needNative(text, "it shows all variables")
		}
	case "unset", "read", "getopts":
		for _, a := range args {
			if !a.known || slices.Contains(crossNames, a.text) {
				s.needNative(text, "it takes variables away")
			}
		}
	}
}

// crossSubcommands are go's commands that give the same whatever go runs on. Those that need a closer look are in [goCall.judgeCross].
var crossSubcommands = []string{"build", "mod", "list", "vet", "fmt", "clean", "work", "help", "doc", "get", "version", "env"}

// sameEnv are the values of go env that the machine that go runs on does not change.
var sameEnv = []string{"GOPATH", "GOROOT", "GOMODCACHE", "GOCACHE", "GOBIN", "GOVERSION", "GOPROXY", "GOPRIVATE", "GOSUMDB", "GONOSUMDB",
	"GONOPROXY", "GOFLAGS", "GOOS", "GOARCH", "GOARM", "CGO_ENABLED", "GOMOD", "GOWORK", "GO111MODULE", "GOTOOLCHAIN", "GOENV", "GOEXPERIMENT"}

// judgeCross looks at a call of go in a stage that is compiled across.
func (g *goCall) judgeCross() {
	s := g.s
	for name := range s.goEnv {
		if slices.Contains(crossNames, name) {
			s.needNative(g.text, "go env -w has set "+name)
		}
	}
	switch {
	case !slices.Contains(crossSubcommands, g.sub):
		why := "it runs what it compiles"
		if g.sub == "install" {
			why = "across platforms, go install puts programs elsewhere"
		}
		s.needNative(g.text, why)
		return
	case g.sub == "get" && !atLeast(s.t.base.goRelease(), "1.18"):
		s.needNative(g.text, "across platforms, go get puts programs elsewhere")
	case g.sub == "version" && len(g.args) == 0 && s.captured:
		s.needNative(g.text, "it tells the machine's architecture")
	case g.sub == "env":
		g.crossSettings()
	}
	for _, flag := range []string{"-toolexec", "-vettool", "-exec"} {
		if g.has(flag) {
			s.needNative(g.text, flag+" names a program")
		}
	}
	if f, ok := g.flag("-f"); ok && g.sub == "list" && (!f.known || strings.Contains(f.text, "Target")) {
		s.needNative(g.text, "go list is asked where programs would be")
	}
	if slices.Contains(compiling, g.sub) {
		if why := g.cgoOn(); why != "" {
			s.needNative(g.text, "cgo: "+why+" (CGO_ENABLED=0 settles it)")
		}
	}
	if g.has("-json") && g.sub == "list" && s.captured {
		s.needNative(g.text, "go list is asked where programs would be")
	}
}

// crossSettings looks at go env: which values it shows, or sets.
func (g *goCall) crossSettings() {
	shown := 0
	for _, a := range g.args {
		switch name, _, sets := strings.Cut(a.text, "="); {
		case !a.known:
			g.s.needNative(g.text, "what it shows is known only when it runs")
		case sets && (name == "GOOS" || slices.Contains(crossNames, name)):
			g.s.needNative(g.text, "go env -w sets "+name)
		case sets || a.text == "-w" || a.text == "-json":
		case a.text == "-u" || strings.HasPrefix(a.text, "-"):
			g.s.needNative(g.text, "the option "+a.text)
		case !slices.Contains(sameEnv, name):
			g.s.needNative(g.text, "it tells of the machine that go runs on")
		default:
			shown++
		}
	}
	if shown == 0 && !slices.ContainsFunc(g.args, func(a value) bool { return a.text == "-w" }) && g.s.captured {
		g.s.needNative(g.text, "it tells of the machine that go runs on")
	}
}

// crossCopy looks at a copy out of a stage that is compiled across: Go's own programs are this machine's.
func (b *base) crossCopy(r *Refusal, p string) {
	if _, in := below(p, "/usr/local/go/lib"); in {
		return
	}
	_, in := below(p, "/usr/local/go")
	if _, around := below("/usr/local/go", p); in || around {
		r.Why = "Go itself is copied from the stage"
		b.needNative(r)
	}
}
