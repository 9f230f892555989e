package gobase

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// withCompilers in [Identity].With puts names of C compilers into a base whose image has them: Go switches cgo on because it finds one,
// as it does in the image. Where it calls one, the stage starts again on the image; where nothing calls one there was nothing for it to
// do, and the program is the image's.
const withCompilers = "cc"

// goCall is one call of the go command while it is judged.
type goCall struct {
	s     *step
	text  string
	sub   string
	args  []value
	flags []string // of the command line and of GOFLAGS
}

// compiling are the subcommands whose results depend on whether there is a C compiler.
var compiling = []string{"build", "install", "run", "test", "get", "tool"}

// fetching are the subcommands that may download modules.
var fetching = []string{"build", "install", "run", "test", "get", "mod", "list", "vet", "generate", "work"}

// goCommand judges a call of go.
func (s *step) goCommand(args []value, text string) {
	cwd := s.cwd
	defer func() { s.cwd = cwd }()
	if len(args) > 1 && args[0].text == "-C" {
		s.chdir(args[1:2])
		args = args[2:]
	}
	if len(args) == 0 {
		return
	}
	if !args[0].known {
		s.refuse(text, "what go is to do is known only when it runs")
		return
	}
	g := &goCall{s: s, text: text, sub: args[0].text, args: args[1:]}
	if len(g.args) > 1 && g.args[0].text == "-C" {
		s.chdir(g.args[1:2])
		g.args = g.args[2:]
	}
	for _, a := range g.args {
		if strings.HasPrefix(a.text, "-") {
			g.flags = append(g.flags, strings.Replace(a.text, "--", "-", 1))
		}
	}
	flags := g.env("GOFLAGS")
	if !flags.known {
		s.refuse(text, "GOFLAGS is known only when it runs")
		return
	}
	g.flags = append(g.flags, strings.Fields(flags.text)...)
	g.judge()
}

// env is a variable as the go command sees it.
func (g *goCall) env(name string) value {
	otherwise, ok := g.s.goEnv[name]
	if !ok {
		otherwise = value{"", true}
	}
	v, set := g.s.env[name]
	switch {
	case !set && g.s.wild:
		return value{}
	case !set || g.s.exported[name] == never || v.known && v.text == "":
		return otherwise
	case g.s.exported[name] == surely || v == otherwise:
		return v
	}
	return value{}
}

func (g *goCall) has(flag string) bool {
	return slices.ContainsFunc(g.flags, func(f string) bool { return f == flag || strings.HasPrefix(f, flag+"=") })
}

// flag is the value of a flag, written as -o x or -o=x.
func (g *goCall) flag(name string) (value, bool) {
	for i, a := range g.args {
		text := strings.Replace(a.text, "--", "-", 1)
		if v, ok := strings.CutPrefix(text, name+"="); ok {
			return value{v, a.known}, true
		}
		if text == name && i+1 < len(g.args) {
			return g.args[i+1], true
		}
	}
	return value{}, false
}

func (g *goCall) judge() {
	t := g.s.t
	if t.base.cross {
		g.judgeCross()
	}
	if slices.Contains(fetching, g.sub) {
		g.judgeModules()
	}
	if slices.Contains(compiling, g.sub) {
		g.judgeCgo()
	}
	if g.sub == "build" || g.sub == "install" {
		g.judgeStamp()
	}
	switch g.sub {
	case "env":
		g.setEnv()
	case "mod":
		if len(g.args) > 0 && g.args[0].text == "init" {
			t.modInit = true
		}
	case "build":
		g.built()
	case "install", "get":
		g.installed()
	case "test":
		if o, ok := g.flag("-o"); ok && o.known {
			t.built = append(t.built, g.s.abs(o.text))
		}
	case "generate":
		g.judgeGenerate()
	}
}

func (g *goCall) setEnv() {
	if len(g.args) == 0 || g.args[0].text != "-w" {
		return
	}
	for _, a := range g.args[1:] {
		if name, text, ok := strings.Cut(a.text, "="); ok && !a.known {
			g.s.goEnv[name] = value{}
		} else if ok {
			g.s.goEnv[name] = value{text, true}
		}
	}
}

// built notes which programs go build leaves.
func (g *goCall) built() {
	t := g.s.t
	o, ok := g.flag("-o")
	switch {
	case !ok && g.s.cwd.known:
		t.defaults = append(t.defaults, g.s.cwd.text)
	case ok && o.known:
		out := g.s.abs(o.text)
		t.built, t.written = append(t.built, out), append(t.written, out)
	}
}

// installed notes the names of programs that go install makes.
func (g *goCall) installed() {
	t := g.s.t
	for _, a := range g.args {
		if strings.HasPrefix(a.text, "-") || a.text == "" && a.known {
			continue
		}
		name, _, _ := strings.Cut(a.text, "@")
		name = path.Base(name)
		if strings.HasPrefix(name, "v") && strings.Trim(name[1:], "0123456789") == "" && len(name) > 1 {
			name = path.Base(path.Dir(strings.Split(a.text, "@")[0])) // …/tool/v2
		}
		if !a.known || name == "." || name == "..." || name == ".." {
			name = "*"
		}
		t.installed[name] = true
	}
	if len(t.installed) == 0 {
		t.installed["*"] = true
	}
}

// judgeModules refuses modules that are fetched from repositories: there is no git.
func (g *goCall) judgeModules() {
	if g.has("-mod=vendor") {
		return
	}
	for _, name := range []string{"GOPRIVATE", "GONOPROXY"} {
		if v := g.env(name); !v.known || v.text != "" && v.text != "none" {
			g.s.refuse(g.text, name+" is set: modules are fetched with git, which the base has not")
			return
		}
	}
	if v := g.env("GOPROXY"); !v.known || strings.HasPrefix(v.text, "direct") {
		g.s.refuse(g.text, "GOPROXY=direct, or known only when it runs: modules are fetched with git, which the base has not")
		return
	}
	t := g.s.t
	off := g.env("GO111MODULE").text == "off"
	outside := !atLeast(t.base.goRelease(), "1.16") && !t.modInit && g.env("GO111MODULE").text != "on" && len(t.base.goMods) == 0
	if g.sub == "get" && (off || outside) {
		g.s.refuse(g.text, "go get outside of a module fetches repositories with git, which the base has not")
	}
}

// judgeCgo refuses where the image would build with cgo, or where that cannot be told.
func (g *goCall) judgeCgo() {
	if g.sub == "tool" || g.sub == "get" && atLeast(g.s.t.base.goRelease(), "1.18") {
		return
	}
	for _, f := range g.flags {
		if f == "-race" || f == "-msan" || f == "-asan" || strings.HasPrefix(f, "-buildmode=c-") || f == "-buildmode=plugin" || f == "-buildmode=shared" {
			g.s.refuse(g.text, f+" needs cgo and a C compiler")
			return
		}
	}
	for _, a := range g.args {
		if strings.Contains(a.text, "-linkmode external") || strings.Contains(a.text, "-linkmode=external") {
			g.s.refuse(g.text, "-linkmode external needs a C compiler")
			return
		}
	}
	why := g.cgoOn()
	if why == "" {
		return
	}
	b := g.s.t.base
	if g.compilerAnswers() {
		return
	}
	if g.s.j.o.Policy == Builtin {
		b.warnings = append(b.warnings, "cgo: "+why+"; here it is off, so a program that imports net or os/user is static, and one that needs cgo fails")
		return
	}
	g.s.refuse(g.text, "cgo: "+why+", so a program that imports net or os/user comes out linked dynamically; CGO_ENABLED=0 settles it, and --go-base=builtin builds without cgo")
}

// compilerAnswers reports whether the call can be left to find out that it needs a C compiler: it calls one, or there is nothing in C.
func (g *goCall) compilerAnswers() bool {
	b := g.s.t.base
	if g.s.j.o.Policy == Builtin || !atLeast(b.goRelease(), "1.20") || g.sub == "test" {
		return false
	}
	for _, name := range []string{"CC", "CXX", "CGO_CFLAGS", "CGO_LDFLAGS", "CGO_CPPFLAGS", "CGO_CXXFLAGS", "PKG_CONFIG"} {
		if v := g.env(name); !v.known || v.text != "" {
			return false
		}
	}
	cgo := g.env("CGO_ENABLED")
	if !cgo.known || g.env("GOOS").text != "" && g.env("GOOS").text != "linux" || g.env("GOARCH").text != "" && g.env("GOARCH").text != b.arch {
		return false
	}
	for p := range g.s.t.packages {
		if slices.Contains(compilers, p) && p != "gcc" && p != "g++" && p != "build-base" && p != "alpine-sdk" && p != "build-essential" {
			return false // another one than Go's default
		}
		if slices.Contains(compilers, p) {
			b.with[withCompilers] = true
		}
	}
	if g.callsC() {
		return false
	}
	if b.tag.Variant == Debian {
		b.with[withCompilers] = true
	}
	return true
}

// cgoOn says why cgo is on in the image for this call, or "" where it is off.
func (g *goCall) cgoOn() string {
	b := g.s.t.base
	cgo, goos, goarch := g.env("CGO_ENABLED"), g.env("GOOS"), g.env("GOARCH")
	switch {
	case cgo.known && cgo.text == "0":
		return ""
	case cgo.known && cgo.text == "1":
		return "CGO_ENABLED=1"
	case !cgo.known:
		return "CGO_ENABLED is known only when it runs"
	}
	cross := goos.known && goos.text != "" && goos.text != "linux" || goarch.known && goarch.text != "" && goarch.text != b.arch
	if cross {
		return ""
	}
	for _, c := range compilers {
		if g.s.t.packages[c] {
			return "CGO_ENABLED is not 0 and " + c + " was asked for"
		}
	}
	switch {
	case b.tag.Variant == Debian:
		return "CGO_ENABLED is not 0 and the image has a C compiler"
	case !atLeast(b.goRelease(), "1.20"):
		return "CGO_ENABLED is not 0, and before Go 1.20 it is on without a C compiler too"
	}
	return ""
}

// judgeStamp finds where the image's git would stamp revision and time into the program.
func (g *goCall) judgeStamp() {
	s := g.s
	if !atLeast(s.t.base.goRelease(), "1.18") || !s.hasGit() || len(s.t.repos) == 0 {
		return
	}
	for _, f := range g.flags {
		if f == "-buildvcs=false" {
			return
		}
	}
	if g.sub == "install" && slices.ContainsFunc(g.args, func(a value) bool { return strings.Contains(a.text, "@") }) {
		return
	}
	for _, repo := range s.t.repos {
		if _, in := below(s.cwd.text, repo); in || !s.cwd.known {
			s.needGit(g.text, "go build stamps revision and time from .git, which needs a git on this machine; -buildvcs=false or .git in .dockerignore settles it")
			return
		}
	}
}

// cgoPackage reports packages of the standard library that have C in them where cgo is on, or that import one that has.
func cgoPackage(name string) bool {
	switch name {
	case "C", "net", "os/user", "plugin", "runtime/cgo", "crypto/tls", "crypto/x509", "log/syslog", "expvar", "mime/multipart":
		return true
	}
	return strings.HasPrefix(name, "net/") && name != "net/netip" && name != "net/url"
}

// callsC reports whether Go files of the context name a package with C in it: then the image is needed in all likelihood, and is
// taken before anything is compiled. What modules bring shows when they are compiled.
func (g *goCall) callsC() bool {
	seen := 0
	for _, c := range g.s.t.copies {
		l := g.s.j.open(c.local)
		if l.files == nil {
			return false
		}
		found := false
		// What cannot be read is the build's own error later.
		_ = fs.WalkDir(l.files, orDot(strings.TrimPrefix(c.from, "/")), func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return nil
			case d.IsDir() && slices.Contains([]string{".git", "vendor", "node_modules", "testdata"}, d.Name()):
				return fs.SkipDir
			case d.IsDir() || path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") || !selected(c, name):
				return nil
			}
			if seen++; seen > maxGenerate {
				return fs.SkipAll
			}
			data, err := fs.ReadFile(l.files, name)
			if err != nil {
				return nil
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, data, parser.ImportsOnly)
			if err != nil {
				return nil
			}
			for _, i := range file.Imports {
				if cgoPackage(strings.Trim(i.Path.Value, "`\"")) {
					found = true
					return fs.SkipAll
				}
			}
			return nil
		})
		if found {
			return true
		}
	}
	return false
}
