package gobase

import (
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
)

// Up to Go 1.20 the go command of a release is linked against glibc (from 1.21 on it is static); compile, link
// and asm never were. Alpine's image has one built for musl. The base has no libc, so for the time of a step
// the machine's own is bound: the loader at its place, which the program names, the libraries beside skiff.

// loaders are the dynamic loaders that Go's releases name, by GOARCH.
var loaders = map[string]string{
	"amd64": "/lib64/ld-linux-x86-64.so.2", "arm64": "/lib/ld-linux-aarch64.so.1", "386": "/lib/ld-linux.so.2",
	"arm": "/lib/ld-linux.so.3", "s390x": "/lib/ld64.so.1", "ppc64le": "/lib64/ld64.so.2",
}

// glibcLibraries are what those go commands name, and what name resolution loads on older glibc.
var glibcLibraries = []string{"libc.so.6", "libpthread.so.0", "libdl.so.2", "libresolv.so.2", "libnss_dns.so.2", "libnss_files.so.2"}

// neededLibraries are those without which a go command does not start.
const neededLibraries = 2

// glibcPath is where the libraries are bound in a step.
const glibcPath = LibexecPath + "-glibc"

// needsLibc reports whether a release's go command is linked against glibc.
func needsLibc(release string) bool { return !atLeast(release, "1.21") }

// machineLibc maps places in a step to files of this machine; nil where it has no glibc.
func machineLibc() map[string]string {
	loader := loaders[runtime.GOARCH]
	real, err := filepath.EvalSymlinks(loader)
	if loader == "" || err != nil {
		return nil
	}
	files := map[string]string{loader: real}
	for i, name := range glibcLibraries {
		file := findLibrary(name)
		if file == "" && i < neededLibraries {
			return nil
		}
		if file != "" {
			files[path.Join(glibcPath, name)] = file
		}
	}
	return files
}

// libraryFolders are where distributions keep glibc; %s is the multiarch name.
var libraryFolders = []string{"/lib/%s-linux-gnu", "/usr/lib/%s-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"}

func findLibrary(name string) string {
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64", "386": "i386", "ppc64le": "powerpc64le"}[runtime.GOARCH]
	if arch == "" {
		arch = runtime.GOARCH
	}
	for _, dir := range libraryFolders {
		file := filepath.Join(strings.Replace(dir, "%s", arch, 1), name)
		if real, err := filepath.EvalSymlinks(file); err == nil {
			if info, err := os.Stat(real); err == nil && info.Mode().IsRegular() {
				return real
			}
		}
	}
	return ""
}

// libcPlaces are placeholders in the base for what a step has bound.
func libcPlaces(release, arch string) []entry {
	if !needsLibc(release) || loaders[arch] == "" {
		return nil
	}
	all := []entry{{name: strings.TrimPrefix(loaders[arch], "/"), mode: 0o755}}
	for _, name := range glibcLibraries {
		all = append(all, entry{name: strings.TrimPrefix(path.Join(glibcPath, name), "/"), mode: 0o644})
	}
	return all
}

// libcRefusal says why a base's go command cannot run here, or "".
func libcRefusal(release, arch string) string {
	switch {
	case !needsLibc(release):
		return ""
	case arch != runtime.GOARCH:
		return "Go " + release + "'s go command needs a glibc for " + arch
	case machineLibc() == nil:
		return "Go " + release + "'s go command is linked against glibc, which this machine has not"
	}
	return ""
}
