package gobase

import (
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/skiff-build/skiff/internal/envlist"
	"github.com/skiff-build/skiff/internal/gotoolchain"
	"github.com/skiff-build/skiff/internal/rootfiles"
	"github.com/skiff-build/skiff/internal/usernet"
)

// StepExtras is what a step in the built-in base gets of this machine for the time that it runs. Nothing of it
// may be part of a key, a layer or an image.
type StepExtras struct {
	Env   []string          // NAME=VALUE, of variables that the step does not set itself
	Files map[string]string // path in the step → file or folder of this machine, to be bound read only
	Done  func()            // to be called when the step has ended well; nil: nothing
}

// Places in a step that files of the machine are bound at: beside the program, where no image has anything.
const (
	bundlePath = LibexecPath + "-ca.pem"
	proxyPath  = LibexecPath + "-goproxy"
)

// proxyVariables are what programs read to find an HTTP proxy.
var proxyVariables = []string{
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
}

// StepEnv returns what a step with the given environment gets of the machine: where it fetches modules and
// what it checks them against, HTTP proxies, and the CAs that the machine trusts. Credentials are not among it.
func StepEnv(existing []string) StepExtras {
	return stepEnv(existing, gotoolchain.MachineEnv(), os.Getenv)
}

func stepEnv(existing []string, machine gotoolchain.Env, getenv func(string) string) StepExtras {
	x := StepExtras{Files: map[string]string{}}
	set := func(name, value string) bool {
		if value == "" || envlist.Has(existing, name) {
			return false
		}
		x.Env = append(x.Env, name+"="+value)
		return true
	}
	goproxy, folder := proxyInStep(machine.GOPROXY)
	if set("GOPROXY", goproxy) && folder != "" {
		x.Files[proxyPath] = folder
	}
	set("GOSUMDB", machine.GOSUMDB)
	set("GONOSUMDB", machine.GONOSUMDB)
	set("GONOPROXY", machine.GONOPROXY)
	set("GOPRIVATE", machine.GOPRIVATE)
	set("GOINSECURE", machine.GOINSECURE)
	for _, name := range proxyVariables {
		set(name, getenv(name))
	}
	if bundle := machineBundle(getenv); bundle != "" && set("SSL_CERT_FILE", bundlePath) {
		x.Files[bundlePath] = bundle
	}
	for _, kv := range existing {
		if release, ok := strings.CutPrefix(kv, "GOLANG_VERSION="); ok && gotoolchain.IsRelease(release) && needsLibc(release) {
			if libc := machineLibc(); libc != nil && set("LD_LIBRARY_PATH", glibcPath) {
				maps.Copy(x.Files, libc)
			}
		}
	}
	return x
}

// proxyInStep is GOPROXY as a step may use it: the first folder in it is bound into the step.
func proxyInStep(goproxy string) (setting, folder string) {
	setting = usernet.MapProxies(goproxy, func(entry string) string {
		u, err := url.Parse(entry)
		if err != nil || u.Scheme != "file" || folder != "" {
			return ""
		}
		folder = filepath.FromSlash(u.Path)
		return "file://" + proxyPath
	})
	return setting, folder
}

// machineBundle is the file with the CAs that this machine trusts; empty where none is found.
func machineBundle(getenv func(string) string) string {
	for _, file := range append([]string{getenv("SSL_CERT_FILE")}, rootfiles.BundlePaths...) {
		if file == "" {
			continue
		}
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
			abs, err := filepath.Abs(file)
			if err == nil {
				return abs
			}
		}
	}
	return ""
}
