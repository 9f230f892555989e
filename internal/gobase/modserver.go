package gobase

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/skiff-build/skiff/internal/gotoolchain"
)

// moduleServer is a module proxy (go.dev/ref/mod#goproxy-protocol) on the loopback interface, over the modules that the
// go command of the machine has downloaded. It serves single versions alone: no lists and no latest, for which a cache
// knows less than a proxy, so that it never decides which version is taken. Modules that are private to the machine's
// user are left out. Each step has an address of its own that nobody else can guess: whom it serves it can name.
// Safe for concurrent use.
type moduleServer struct {
	dir     string // GOMODCACHE/cache/download
	private string // patterns of GONOPROXY and GOPRIVATE
	server  *http.Server
	address string

	mu    sync.Mutex
	steps map[string]func() // by secret part of the address: called when the first file is served
}

// LendModules puts the modules that the machine's go command has downloaded before the proxies that x.Env names for a
// step. served is called once, when the step takes the first file. It is not for a step that may not reach the loopback
// interface; where x.Env names no proxies, since the step does itself, nothing changes. What is served is checked as
// anything that a proxy sends: against go.sum and the checksum database.
func (o *Loans) LendModules(x *StepExtras, served func()) error {
	for i, kv := range x.Env {
		proxies, ok := strings.CutPrefix(kv, "GOPROXY=")
		if !ok {
			continue
		}
		server, err := o.moduleServer()
		if server == nil || err != nil {
			return err
		}
		// By the bar, the next is asked after any error.
		x.Env[i] = "GOPROXY=" + server.open(served) + "|" + proxies
	}
	return nil
}

// moduleServer starts the server; nil where there is nothing to serve.
func (o *Loans) moduleServer() (_ *moduleServer, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	dir := o.tools.Env().GOMODCACHE
	if _, err := os.Stat(filepath.Join(dir, "cache", "download")); err != nil || dir == "" {
		return nil, nil
	}
	if o.modules == nil {
		o.modules, err = newModuleServer(dir, strings.Trim(o.tools.Env().GONOPROXY+","+o.tools.Env().GOPRIVATE, ","))
	}
	return o.modules, err
}

// Close ends what [Loans.LendModules] serves.
func (o *Loans) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.modules == nil {
		return nil
	}
	return o.modules.server.Close()
}

func newModuleServer(modcache, private string) (*moduleServer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("serve modules to steps: %w", err)
	}
	s := &moduleServer{
		dir: filepath.Join(modcache, "cache", "download"), private: private, address: l.Addr().String(), steps: map[string]func(){},
	}
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.server.Serve(l) }() // it ends with Close; a step whose proxy is gone asks the next
	return s, nil
}

// open returns an address for a step. served is called once, when it gets its first file.
func (s *moduleServer) open(served func()) string {
	secret := make([]byte, 16)
	rand.Read(secret) // never fails
	name := hex.EncodeToString(secret)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps[name] = sync.OnceFunc(served)
	return "http://" + s.address + "/" + name
}

func (s *moduleServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secret, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	s.mu.Lock()
	served, known := s.steps[secret]
	s.mu.Unlock()
	if !known || r.Method != http.MethodGet && r.Method != http.MethodHead || s.check(name) != nil {
		http.NotFound(w, r)
		return
	}
	f, err := http.Dir(s.dir).Open("/" + name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		http.NotFound(w, r)
		return
	}
	served()
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, f)
}

// check says what is not served. name is as in the protocol: PATH/@v/VERSION.info, with capitals escaped.
func (s *moduleServer) check(name string) error {
	escaped, file, ok := strings.Cut(name, "/@v/")
	if !ok {
		return errors.New("no file of a version")
	}
	path, err := module.UnescapePath(escaped)
	if err != nil {
		return err
	}
	ext := file[strings.LastIndex(file, ".")+1:]
	version, err := module.UnescapeVersion(strings.TrimSuffix(file, "."+ext))
	if err != nil {
		return err
	}
	switch {
	case ext != "info" && ext != "mod" && ext != "zip":
		return errors.New("no file of the protocol")
	case module.CanonicalVersion(version) != version || !semver.IsValid(version):
		return errors.New("no single version")
	case path == gotoolchain.Module:
		return errors.New("toolchains are chosen elsewhere")
	case module.MatchPrefixPatterns(s.private, path):
		return errors.New("private")
	}
	return module.Check(path, version)
}
