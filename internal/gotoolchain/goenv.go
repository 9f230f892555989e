package gotoolchain

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Env is the machine's own setting of the go command, as far as fetching a toolchain and modules goes.
// Each value comes from the environment, else from what `go env` says, else from the file that
// `go env -w` writes, else it is Go's default.
type Env struct {
	GOPROXY, GOSUMDB, GONOSUMDB, GONOPROXY, GOPRIVATE, GOINSECURE string
	GOMODCACHE                                                    string // empty: none known
	GOCACHE                                                       string // empty: no go command found, or it did not say
	GOROOT                                                        string // empty: no go command found
	GOVERSION                                                     string // of that GOROOT, "go1.26.8"
}

var goEnvNames = []string{
	"GOPROXY", "GOSUMDB", "GONOSUMDB", "GONOPROXY", "GOPRIVATE", "GOINSECURE", "GOMODCACHE", "GOCACHE",
	"GOROOT", "GOVERSION",
}

// MachineEnv reads the machine's settings once in the life of the process.
var MachineEnv = sync.OnceValue(func() Env {
	said := askGoCommand()
	if said == nil {
		said = readGoEnvFile()
	}
	get := func(name, otherwise string) string {
		if v := os.Getenv(name); v != "" {
			return v
		}
		if v := said[name]; v != "" {
			return v
		}
		return otherwise
	}
	e := Env{
		GOPROXY:    get("GOPROXY", "https://proxy.golang.org,direct"),
		GOSUMDB:    get("GOSUMDB", "sum.golang.org"),
		GOPRIVATE:  get("GOPRIVATE", ""),
		GOINSECURE: get("GOINSECURE", ""),
		GOMODCACHE: get("GOMODCACHE", ""),
		GOCACHE:    get("GOCACHE", ""),
		GOROOT:     said["GOROOT"],
		GOVERSION:  said["GOVERSION"],
	}
	e.GONOSUMDB = get("GONOSUMDB", e.GOPRIVATE)
	e.GONOPROXY = get("GONOPROXY", e.GOPRIVATE)
	if e.GOMODCACHE == "" {
		if home, err := os.UserHomeDir(); err == nil {
			e.GOMODCACHE = filepath.Join(home, "go", "pkg", "mod")
		}
	}
	return e
})

// askGoCommand asks the go command in PATH, if there is one; nil without.
func askGoCommand() map[string]string {
	path, err := exec.LookPath("go")
	if err != nil {
		return nil
	}
	cmd := exec.Command(path, append([]string{"env", "-json"}, goEnvNames...)...)
	// Outside of any module and without a switch of toolchains: what is asked is this installation.
	cmd.Dir = os.TempDir()
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local", "GOWORK=off", "GO111MODULE=")
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.Output()
	if err != nil {
		return nil
	}
	said := map[string]string{}
	if json.Unmarshal(out, &said) != nil {
		return nil
	}
	return said
}

// readGoEnvFile reads the file of `go env -w`: lines of NAME=VALUE (go help environment, GOENV).
func readGoEnvFile() map[string]string {
	path := os.Getenv("GOENV")
	if path == "off" {
		return nil
	}
	if path == "" {
		dir, err := os.UserConfigDir()
		if err != nil {
			return nil
		}
		path = filepath.Join(dir, "go", "env")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	said := map[string]string{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), "="); ok {
			said[strings.TrimSpace(name)] = value
		}
	}
	return said
}
