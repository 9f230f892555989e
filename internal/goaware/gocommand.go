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
	if len(words) < 2 || words[0] != "go" {
		return false
	}
	args := words[2:]
	for i, w := range words {
		// What the linker is told is in no entry of a cache, and the linker runs nothing in a step that is confined.
		if strings.Contains(w, dynamic) && !(flagName(w) == "ldflags" || flagName(words[i-1]) == "ldflags" && !strings.Contains(words[i-1], "=")) {
			return false
		}
	}
	switch words[1] {
	case "version":
		return true
	case "mod":
		return trustedMod(args)
	case "env":
		return !slices.ContainsFunc(args, func(a string) bool {
			return strings.HasPrefix(strings.TrimPrefix(a, "-"), "-w") || a == "-w" || a == "-u"
		})
	case "build", "install", "list", "vet":
		return harmlessFlags(args)
	case "get": // builds nothing since Go 1.18, and before it what install builds
		return !slices.ContainsFunc(args, func(a string) bool {
			return strings.HasPrefix(a, "-") && !slices.Contains([]string{"d", "u", "t", "v", "x"}, flagName(a))
		})
	}
	return false
}

// flagName is the name of a flag, "" of another word.
func flagName(w string) string {
	name, isFlag := strings.CutPrefix(w, "-")
	if !isFlag {
		return ""
	}
	name, _, _ = strings.Cut(strings.TrimPrefix(name, "-"), "=")
	return name
}

// trustedMod says whether a go mod command writes nothing but the caches, and go.mod and go.sum where it runs: vendor -o
// writes anywhere, edit edits any file.
func trustedMod(args []string) bool {
	if len(args) == 0 || !slices.Contains(words("download tidy verify graph why init edit vendor"), args[0]) {
		return false
	}
	flags := true
	for _, a := range args[1:] {
		if flags = flags && strings.HasPrefix(a, "-"); !flags {
			if args[0] == "edit" || args[0] == "vendor" {
				return false
			}
			continue
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(a, "-"), "-"), "=")
		if !slices.Contains(words("x v e json go compat diff m vendor require droprequire replace dropreplace exclude dropexclude fmt toolchain"), name) {
			return false
		}
	}
	return true
}

// harmlessGoFlags reads GOFLAGS (go help environment): fields of flags alone, which may be quoted.
func harmlessGoFlags(value string) bool {
	fields, ok := splitQuoted(value)
	return ok && harmlessFlags(fields) && !slices.ContainsFunc(fields, func(f string) bool { return !strings.HasPrefix(f, "-") })
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
		switch name {
		case "ldflags", "gcflags", "asmflags":
			if !strings.Contains(value, dynamic) && !harmlessToolFlags(name, value) {
				return false
			}
		case "modfile": // is written, too
			if path.IsAbs(value) || slices.Contains(strings.Split(value, "/"), "..") {
				return false
			}
		}
	}
	return true
}

// toolFlags are flags of the linker, the compiler and the assembler that run no program and write no file; the value says
// whether a value follows. A list of what is harmful would be too short: "-o" makes the compiler write anywhere.
var toolFlags = map[string]map[string]bool{
	"ldflags": {
		"s": false, "w": false, "v": false, "X": true, "buildid": true, "linkmode": true, "extldflags": true, "compressdwarf": false,
		"checklinkname": false, "race": false, "H": true, "B": true, "E": true,
	},
	"gcflags": {
		"N": false, "l": false, "m": false, "B": false, "S": false, "e": false, "live": false, "dwarf": false, "lang": true, "trimpath": true,
		"c": true, "spectre": true,
	},
	"asmflags": {"D": true, "S": false, "trimpath": true, "spectre": true},
}

// harmlessToolFlags checks the value of -ldflags, -gcflags or -asmflags: flags, after a pattern of packages or not.
func harmlessToolFlags(tool, value string) bool {
	if value = strings.TrimSpace(value); value != "" && value[0] != '-' && value[0] != '\'' && value[0] != '"' {
		_, value, _ = strings.Cut(value, "=")
	}
	fields, ok := splitQuoted(value)
	if !ok {
		return false
	}
	for i := 0; i < len(fields); i++ {
		if !strings.HasPrefix(fields[i], "-") {
			return false
		}
		name, value, inline := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(fields[i], "-"), "-"), "=")
		takes, known := toolFlags[tool][name]
		if !known {
			return false
		}
		if takes && !inline {
			if i++; i == len(fields) {
				return false
			}
			value = fields[i]
		}
		if name == "extldflags" && !harmlessExternal(value) || name == "B" && strings.Contains(value, "/") {
			return false
		}
	}
	return true
}

// harmlessExternal checks what the C compiler is given when it links: it loads plugins, too.
func harmlessExternal(value string) bool {
	fields, ok := splitQuoted(value)
	return ok && !slices.ContainsFunc(fields, func(f string) bool {
		return !slices.Contains(words("-static -static-pie -no-pie -s -w"), f)
	})
}

// splitQuoted splits as the go command splits such values: at white space, but for fields that begin with a quote and
// end with the next such (cmd/internal/quoted).
func splitQuoted(s string) (fields []string, ok bool) {
	for {
		if s = strings.TrimLeft(s, " \t\n\r"); s == "" {
			return fields, true
		}
		if s[0] == '\'' || s[0] == '"' {
			field, rest, closed := strings.Cut(s[1:], s[:1])
			if !closed {
				return nil, false
			}
			fields, s = append(fields, field), rest
			continue
		}
		end := strings.IndexAny(s, " \t\n\r")
		if end < 0 {
			end = len(s)
		}
		fields, s = append(fields, s[:end]), s[end:]
	}
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
