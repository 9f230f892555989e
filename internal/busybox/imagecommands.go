package busybox

import (
	_ "embed"
	"strings"
	"sync"
)

// The commands of golang:*-alpine: those of Alpine 3.20's minirootfs and of ca-certificates. The commands of the Debian tags: those of
// Debian 12's minbase, and what buildpack-deps:scm and golang's own Dockerfile add to it (github.com/docker-library/buildpack-deps,
// golang; the lists of files of the packages git, mercurial, subversion, openssh-client, procps, curl, wget, gnupg, gcc, g++, make,
// pkg-config, binutils, perl and python3 in bookworm).
var (
	//go:embed imagecommands_alpine.txt
	alpineCommands string
	//go:embed imagecommands_debian.txt
	debianCommands string
)

var (
	alpineCommandSet = sync.OnceValue(func() map[string]bool { return nameSet(alpineCommands) })
	debianCommandSet = sync.OnceValue(func() map[string]bool { return nameSet(debianCommands) })
)

func nameSet(text string) map[string]bool {
	all := map[string]bool{}
	for _, name := range strings.Fields(text) {
		all[name] = true
	}
	return all
}

// imageCommands are the names of the commands that an image has, but for Go's own.
func imageCommands(v Variant) map[string]bool {
	if v == Alpine {
		return alpineCommandSet()
	}
	return debianCommandSet()
}
