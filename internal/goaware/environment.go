package goaware

import (
	"path"
	"slices"
	"strings"
)

// movers are variables that move Go's caches or hand them to a program; a step that sets one is not understood.
var movers = []string{"GOCACHE", "GOMODCACHE", "GOPATH", "HOME", "XDG_CACHE_HOME", "GOENV", "GOCACHEPROG"}

// harmlessGo are Go's variables that go into the key of what is built, or do not matter to it, whatever they say.
var harmlessGo = []string{
	"GOOS", "GOARCH", "GOARM", "GOARM64", "GOAMD64", "GO386", "GOMIPS", "GOMIPS64", "GOPPC64", "GORISCV64", "GOWASM",
	"GO111MODULE", "GOPATH", "GOCACHE", "GOMODCACHE", "GOLANG_VERSION", "GOMAXPROCS", "GOGC", "GOMEMLIMIT",
	"GOTELEMETRY", "GOWORK", "GO_VERSION", "GOFIPS140",
}

// harmlessVariable says whether a variable leaves the trust in a go command as it is.
func harmlessVariable(name, value string) bool {
	switch name {
	case "CGO_ENABLED":
		return true
	case "GOTOOLCHAIN": // empty it means auto
		return value == "local"
	case "GOROOT":
		return value == "/usr/local/go" || value == ""
	case "GOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GONOPROXY", "GOINSECURE":
		// Where modules come from, and whether the step checks them, is its own matter: what is made of them is kept under their
		// content, and others see a module only when skiff has proved it, by the machine's settings.
		return true
	case "GOFLAGS":
		return !strings.Contains(value, dynamic) && harmlessGoFlags(value)
	case "GOBIN":
		return value == "" || path.IsAbs(value) && !within(path.Clean(value), goroot) && !strings.Contains(value, dynamic)
	case "HOME": // a step that is confined has this one
		return value == "/root"
	case "CC", "CXX", "AR":
		return slices.Contains([]string{"", "gcc", "g++", "cc", "c++", "clang", "clang++", "musl-gcc", "ar"}, value)
	case "PATH":
		return goFirst(value)
	case "XDG_CONFIG_HOME", // as HOME
		"BASH_ENV", "ENV", "SHELLOPTS", "BASHOPTS", "PS4", "CDPATH", "IFS", // of shells
		"GCONV_PATH", "LOCPATH", "DEPENDENCIES_OUTPUT", "SUNPRO_DEPENDENCIES", "COMPILER_PATH", "GCC_EXEC_PREFIX", "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH",
		"LIBRARY_PATH", "TMPDIR", "FC", "SSL_CERT_FILE", "SSL_CERT_DIR":
		return value == ""
	}
	for _, prefix := range []string{"LD_", "CGO_", "PKG_CONFIG", "GIT_", "GCCGO"} {
		if strings.HasPrefix(name, prefix) {
			return value == ""
		}
	}
	if strings.HasPrefix(name, "GO") && strings.ToUpper(name) == name {
		return value == "" || slices.Contains(harmlessGo, name)
	}
	return true
}

// goFirst says whether the search path leads to the official toolchain, and for all that go runs (git, a C compiler) to
// places that nothing was copied to unseen. GOPATH/bin comes first in the image.
func goFirst(value string) bool {
	found := false
	for _, dir := range strings.Split(value, ":") {
		switch dir {
		case "/usr/local/go/bin":
			found = true
		case "/go/bin":
		default:
			if !found || !path.IsAbs(dir) || dir == "/" || !systemPath(path.Clean(dir)) {
				return false
			}
		}
	}
	return found
}

// home is where the step's user lives, for uid 0, which alone gets caches.
func home(env map[string]string) string {
	if h := env["HOME"]; h != "" {
		return h
	}
	return "/root"
}

// buildCache is where the go command keeps its build cache (os.UserCacheDir); empty: it keeps none, or elsewhere
// than in a place of its own.
func buildCache(env map[string]string, cwd string) string {
	p := env["GOCACHE"]
	if p == "" {
		base := env["XDG_CACHE_HOME"]
		if base == "" {
			base = path.Join(home(env), ".cache")
		}
		p = path.Join(base, "go-build")
	}
	return mountable(p, cwd)
}

// moduleCache is where the go command keeps modules.
func moduleCache(env map[string]string, cwd string) string {
	p := env["GOMODCACHE"]
	if p == "" {
		first, _, _ := strings.Cut(env["GOPATH"], ":")
		if first == "" {
			first = path.Join(home(env), "go")
		}
		p = path.Join(first, "pkg/mod")
	}
	return mountable(p, cwd)
}

// mountable returns p, or nothing where a mount there would hide what the step is about.
func mountable(p, cwd string) string {
	if !path.IsAbs(p) || path.Clean(p) != p || p == "/" || within(cwd, p) {
		return ""
	}
	switch top, _, _ := strings.Cut(p[1:], "/"); top {
	case "proc", "sys", "dev", "usr", "bin", "lib", "etc":
		return ""
	}
	return p
}

// within says whether p is dir or lies below it. Both are absolute and clean.
func within(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/")
}

func overlap(a, b string) bool { return within(a, b) || within(b, a) }

// absolute is a path seen from cwd, cut before the first component that is a pattern or only known when it runs: what
// it may name lies there or below.
func absolute(cwd, p string) string {
	if !path.IsAbs(p) {
		p = cwd + "/" + p
	}
	if i := strings.IndexAny(p, "*?["+dynamic); i >= 0 {
		p = p[:strings.LastIndex(p[:i], "/")+1]
	}
	return path.Clean("/" + p)
}
