package goaware

import (
	"path"
	"slices"
	"strings"
)

// kind is what a command does to Go's caches, in rising order of what has to be reckoned with.
type kind int

const (
	clean   kind = iota // neither reads files of the stage nor changes what go does
	reads               // a known tool: touches the files that it is given, does not call go
	callsGo             // calls go
	unknown             // may do anything, and call go, too
)

// cleanCommands, apart from package managers (cleanInstall).
var cleanCommands = words(`: true false cd echo printf pwd set unset export readonly test [ exit sleep date uname id whoami hostname
	umask wait mkdir adduser addgroup useradd groupadd update-ca-certificates which type`)

// readingCommands are tools known not to call go.
var readingCommands = words(`ls cat cp mv rm ln chmod chown chgrp touch install tar gzip gunzip zcat zip unzip bzip2 bunzip2 xz unxz zstd
	sed awk grep egrep fgrep head tail sort uniq wc cut tr tee diff cmp sha1sum sha256sum sha512sum md5sum cksum base64 od hexdump
	strings readlink realpath dirname basename stat du df tree rmdir mktemp unlink split find seq expr truncate dd sync shred
	git hg svn curl wget openssl gpg ssh-keyscan ssh-keygen apk apt apt-get apt-cache dpkg dpkg-reconfigure yum dnf microdnf rpm tdnf
	upx strip file ldd nm readelf objdump objcopy setcap getcap jq yq usermod passwd chpasswd locale-gen ldconfig getent timeout`)

// treeReaders read the working directory where they are given no other.
var treeReaders = words(`ls find du tree grep egrep fgrep`)

func words(s string) []string { return strings.Fields(s) }

// look classifies a command.
func look(c command) kind {
	name, args := unwrap(c.words)
	switch {
	case name == "":
		return clean
	case isGo(name):
		return callsGo
	case strings.Contains(name, dynamic):
		return unknown
	}
	base := path.Base(name)
	switch {
	case slices.Contains(cleanCommands, base) && !c.redirect, cleanInstall(base, args):
		return clean
	case base == "find" && slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "-exec") || strings.HasPrefix(a, "-ok") }),
		base == "timeout":
		return unknown
	case slices.Contains(readingCommands, base), slices.Contains(cleanCommands, base):
		return reads
	}
	return unknown
}

// unwrap takes off the commands whose arguments are a command.
func unwrap(w []string) (name string, args []string) {
	for len(w) > 0 {
		switch path.Base(w[0]) {
		case "exec", "command", "nohup", "nice", "sudo", "time":
			w = w[1:]
		case "env":
			w = w[1:]
			for len(w) > 0 && strings.Contains(w[0], "=") {
				w = w[1:]
			}
		default:
			return w[0], w[1:]
		}
		if len(w) > 0 && strings.HasPrefix(w[0], "-") {
			return dynamic, nil // options of the wrapper
		}
	}
	return "", nil
}

// cleanInstall says whether a package manager is asked for packages in the ordinary way: from the repositories that the
// image trusts, and not for a go that would stand in the place of the image's.
func cleanInstall(name string, args []string) bool {
	var verbs []string
	switch name {
	case "apk":
		verbs = words("add update upgrade")
	case "apt-get", "apt":
		verbs = words("install update upgrade clean autoremove")
	default:
		return false
	}
	allowed := words("--no-cache --update -U -u -q --quiet --no-progress -y -qq -yq -qy -qqy --yes --no-install-recommends --virtual -t")
	verb := false
	for _, a := range args {
		switch {
		case strings.Contains(a, dynamic), strings.Contains(a, "/"):
			return false
		case strings.HasPrefix(a, "-"):
			if !slices.Contains(allowed, a) {
				return false
			}
		case !verb:
			if verb = slices.Contains(verbs, a); !verb {
				return false
			}
		}
	}
	return verb
}

// touches says whether a command may read or write files at or below dir by a word of its own. cwds are the
// directories that the script may be in.
func touches(c command, cwds []string, dir string) bool {
	name, args := unwrap(c.words)
	k := look(c)
	// Where a clean command's output goes changes nothing in what its words are to it.
	files := k != clean && k != callsGo && !slices.Contains(cleanCommands, path.Base(name))
	for _, a := range args {
		for _, part := range strings.FieldsFunc(a, func(r rune) bool { return r == '=' || r == ',' || r == ':' }) {
			if names(part, cwds, dir, files) {
				return true
			}
		}
	}
	if isGo(name) && len(args) > 0 {
		// go clean empties the caches; go env prints where they are, for another command to go there.
		return args[0] == "clean" || args[0] == "env" && slices.ContainsFunc(args[1:], func(a string) bool { return slices.Contains(movers, a) })
	}
	return slices.Contains(treeReaders, path.Base(name)) && slices.ContainsFunc(cwds, func(cwd string) bool { return within(dir, cwd) })
}

// names says whether a word is a path at or below dir, or, where parents count, one above it.
func names(word string, cwds []string, dir string, parents bool) bool {
	if strings.Contains(word, dynamic) && (strings.Contains(word, "pkg/mod") || strings.Contains(word, "go-build") || strings.Contains(word, ".cache")) {
		return true
	}
	if strings.HasPrefix(word, dynamic) {
		return false // no more is known, and most are versions and the like
	}
	for _, cwd := range cwds {
		p := absolute(cwd, word)
		if within(p, dir) || parents && within(dir, p) {
			return true
		}
	}
	return false
}
