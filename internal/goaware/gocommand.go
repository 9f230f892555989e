package goaware

import (
	"path"
	"slices"
	"strconv"
	"strings"
)

// isGo says whether a word names the go command.
func isGo(word string) bool { return path.Base(word) == "go" }

// buildFlags are the flags of go build, install, list and vet that run no program and do not lead out of the cache's
// key (cmd/go, "go help build"); the value says whether a value follows. A flag that is not here makes a step untrusted.
var buildFlags = map[string]bool{
	"a": false, "n": false, "v": false, "x": false, "i": false, "race": false, "msan": false, "asan": false, "cover": false,
	"work": false, "trimpath": false, "modcacherw": false, "linkshared": false, "json": false,
	"o": true, "p": true, "covermode": true, "coverpkg": true, "buildmode": true, "installsuffix": true, "ldflags": true,
	"gcflags": true, "asmflags": true, "mod": true, "modfile": true, "tags": true, "pgo": true, "C": true,
	"buildvcs": false, // takes its value by = alone
	// go list
	"m": false, "deps": false, "e": false, "test": false, "u": false, "versions": false, "compiled": false, "export": false,
	"find": false, "retracted": false, "f": true,
}

// forceFlag returns the index in words of the -a of a go build or go install, or -1.
func forceFlag(words []string) int {
	if len(words) < 3 || !isGo(words[0]) || words[1] != "build" && words[1] != "install" {
		return -1
	}
	for i := 2; i < len(words) && strings.HasPrefix(words[i], "-"); i++ {
		name, _, inline := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(words[i], "-"), "-"), "=")
		takes, known := buildFlags[name]
		switch {
		case !known:
			return -1 // whether the next word is its value cannot be told
		case name == "a" && !inline:
			return i
		case takes && !inline:
			i++
		}
	}
	return -1
}

// trustedGo says whether a go command runs nothing but the toolchain, with arguments that are all known.
func trustedGo(words []string) bool {
	if len(words) < 2 || words[0] != "go" || slices.ContainsFunc(words, func(w string) bool { return strings.Contains(w, dynamic) }) {
		return false
	}
	args := words[2:]
	switch words[1] {
	case "version":
		return true
	case "mod":
		return len(args) > 0 && args[0] != "vendor" || len(args) == 1 // go mod vendor -o writes anywhere
	case "env":
		return !slices.ContainsFunc(args, func(a string) bool {
			return strings.HasPrefix(strings.TrimPrefix(a, "-"), "-w") || a == "-w" || a == "-u"
		})
	case "build", "install", "list", "vet":
		return harmlessFlags(args)
	}
	return false
}

// harmlessFlags checks the flags before the packages.
func harmlessFlags(args []string) bool {
	for i := 0; i < len(args) && strings.HasPrefix(args[i], "-"); i++ {
		name, value, inline := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(args[i], "-"), "-"), "=")
		takes, known := buildFlags[name]
		if !known {
			return false
		}
		if takes && !inline {
			if i++; i == len(args) {
				return false
			}
			value = args[i]
		}
		if name == "ldflags" && !harmlessLinkerFlags(value) {
			return false
		}
	}
	return true
}

// harmlessLinkerFlags refuses those by which the linker runs a foreign program, or hands it arguments beyond a list:
// a compiler that links loads plugins, too.
func harmlessLinkerFlags(value string) bool {
	for _, f := range strings.FieldsFunc(value, func(r rune) bool { return r == ' ' || r == '"' || r == '\'' || r == '=' }) {
		switch f {
		case "-extldflags", "--extldflags", "-static", "-s", "-w":
		default:
			if strings.Contains(f, "extld") || strings.HasPrefix(f, "-f") || strings.HasPrefix(f, "-B/") || strings.HasPrefix(f, "-W") ||
				strings.HasPrefix(f, "-tool") || strings.HasPrefix(f, "-specs") || strings.HasPrefix(f, "@") {
				return false
			}
		}
	}
	return true
}

// writesFiles says whether a go command leaves files where its arguments, or links in the sources, lead: one of them may
// stand in the place of go, or of a tool that go runs, for what comes after.
func writesFiles(words []string) bool {
	if len(words) < 2 {
		return false
	}
	switch words[1] {
	case "build":
		return !slices.Contains(words, "-o=/dev/null") && !slices.Contains(words, "/dev/null")
	case "mod":
		return len(words) > 2 && words[2] == "vendor"
	case "list", "vet", "version", "env":
		return false
	}
	return true
}

// systemPath says whether a file there may change what a later command does.
func systemPath(p string) bool {
	switch top, _, _ := strings.Cut(strings.TrimPrefix(p, "/"), "/"); top {
	case "usr", "bin", "sbin", "etc", "root", "go", "home", "opt", "lib", "lib32", "lib64", "libx32", "proc", "dev", "sys", "":
		return !strings.HasPrefix(p, "/usr/src/") && !strings.HasPrefix(p, "/go/src/") && p != "/usr/src" && p != "/go/src"
	}
	return false
}

// goOlderThan compares a GOLANG_VERSION, as 1.26.8; an empty or foreign one is not older.
func goOlderThan(version string, major, minor int) bool {
	a, rest, _ := strings.Cut(version, ".")
	b, _, _ := strings.Cut(rest, ".")
	ma, err := strconv.Atoi(a)
	mi, err2 := strconv.Atoi(b)
	return err == nil && err2 == nil && (ma < major || ma == major && mi < minor)
}
