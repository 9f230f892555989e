package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// defaultKeychain finds credentials where Docker and Podman keep them, in this order; the first that has some
// for the registry wins: $DOCKER_CONFIG/config.json or ~/.docker/config.json with its helpers, then
// $REGISTRY_AUTH_FILE, else containers/auth.json below $XDG_RUNTIME_DIR and $XDG_CONFIG_HOME
// (containers-auth.json(5)).
//
// go-containerregistry's own looks at Podman's only where Docker has no file at all.
type defaultKeychain struct{}

// helpers are programs that may ask the user something: one at a time.
var helperMu sync.Mutex

// Resolve implements [authn.Keychain].
func (k defaultKeychain) Resolve(r authn.Resource) (authn.Authenticator, error) {
	return k.ResolveContext(context.Background(), r)
}

// ResolveContext implements [authn.ContextKeychain].
func (defaultKeychain) ResolveContext(_ context.Context, r authn.Resource) (authn.Authenticator, error) {
	helperMu.Lock()
	defer helperMu.Unlock()
	for _, path := range authFiles() {
		cf, err := readAuthFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read credentials: %w", err)
		}
		auth, err := lookup(cf, r)
		if err != nil {
			return nil, err
		}
		if auth != nil {
			return auth, nil
		}
	}
	return authn.Anonymous, nil
}

// dockerFile is where Docker keeps its configuration.
func dockerFile() string {
	if d := os.Getenv("DOCKER_CONFIG"); d != "" { // config.Dir remembers what it saw first
		return filepath.Join(d, "config.json")
	}
	return filepath.Join(config.Dir(), "config.json")
}

// DockerConfig reads Docker's configuration; where there is no file, it is empty.
func DockerConfig() (*configfile.ConfigFile, error) {
	f, err := readAuthFile(dockerFile())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return configfile.New(dockerFile()), nil
	case err != nil:
		return nil, err
	}
	f.Filename = f.path
	return f.ConfigFile, nil
}

func authFiles() []string {
	files := []string{dockerFile()}
	if f := os.Getenv("REGISTRY_AUTH_FILE"); f != "" {
		return append(files, f)
	}
	if d := os.Getenv("XDG_RUNTIME_DIR"); d != "" {
		files = append(files, filepath.Join(d, "containers", "auth.json"))
	}
	dir := os.Getenv("XDG_CONFIG_HOME")
	if home, err := os.UserHomeDir(); dir == "" && err == nil {
		dir = filepath.Join(home, ".config")
	}
	return append(files, filepath.Join(dir, "containers", "auth.json"))
}

// readAuthFile reads a file of credentials. An error names the file, and the line where it is known.
func readAuthFile(path string) (*authFile, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	cf, err := config.LoadFromReader(bytes.NewReader(text))
	if err != nil {
		return nil, jsonError(path, text, -1, err)
	}
	return &authFile{cf, path, text}, nil
}

// jsonError names the file and, where it is known, the line of an error of reading its JSON. Without a place of its own it is at the
// byte at; -1 is unknown.
func jsonError(path string, text []byte, at int64, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		at, err = syntax.Offset, fmt.Errorf("it is no JSON: %w", syntax)
	case errors.As(err, &kind):
		at, err = kind.Offset, kind
	case errors.Is(err, io.ErrUnexpectedEOF):
		at, err = int64(len(text)), errors.New("the file ends within its JSON")
	case at < 0:
		return fmt.Errorf("%s: %w", path, err)
	}
	return fmt.Errorf("%s:%d: %w", path, lineAt(text, at), err)
}

// authFile is a file of credentials as it was read.
type authFile struct {
	*configfile.ConfigFile
	path string
	text []byte
}

// at is where the file says key, "FILE:LINE" (of a key within an object, "credHelpers", "ghcr.io", the names on the way): the
// file alone where it does not.
func (f *authFile) at(keys ...string) string {
	dec := json.NewDecoder(bytes.NewReader(f.text))
	var open []string // the keys of the objects that are open, and in each the key that was read last
	isKey := false
	for {
		tok, err := dec.Token()
		if err != nil {
			return f.path
		}
		switch t := tok.(type) {
		case json.Delim:
			switch t {
			case '{':
				open, isKey = append(open, ""), true
				continue
			case '[':
				open = append(open, "[")
			default:
				open = open[:len(open)-1]
			}
		case string:
			if isKey && len(open) > 0 && open[len(open)-1] != "[" {
				open[len(open)-1], isKey = t, false
				if slices.Equal(open, keys) {
					return fmt.Sprintf("%s:%d", f.path, lineAt(f.text, dec.InputOffset()))
				}
				continue
			}
		}
		isKey = len(open) > 0 && open[len(open)-1] != "["
	}
}

// lineAt is the line, from 1, of a byte.
func lineAt(text []byte, offset int64) int {
	return 1 + bytes.Count(text[:min(max(offset, 0), int64(len(text)))], []byte("\n"))
}

// lookup returns nil when the file has no credentials for the registry. Keys with a path ("quay.io/me") count
// for what is below them, the longest first (containers-auth.json(5)).
func lookup(cf *authFile, r authn.Resource) (authn.Authenticator, error) {
	host, path := r.RegistryStr(), strings.TrimPrefix(r.String(), r.RegistryStr())
	hosts := []string{host}
	if host == name.DefaultRegistry {
		hosts = []string{authn.DefaultAuthKey, "docker.io"}
	}
	for ; path != ""; path = path[:strings.LastIndexByte(path, '/')] {
		for _, h := range hosts {
			if a, ok := cf.AuthConfigs[h+path]; ok && path != "/" {
				return authenticator(a), nil
			}
		}
	}
	for _, h := range hosts {
		if a, err := fromHelper(cf, h); a != nil || err != nil {
			return a, err
		}
	}
	for key, a := range cf.AuthConfigs {
		empty := a.Username == "" && a.Auth == "" && a.IdentityToken == "" && a.RegistryToken == ""
		if !empty && slices.Contains(hosts, hostOf(key)) {
			return authenticator(a), nil
		}
	}
	return nil, nil
}

// helperError is a program for credentials that did not give any.
type helperError struct {
	at  string // "FILE:LINE" that names the program
	err error
}

func (e *helperError) Error() string { return e.at + ": " + e.err.Error() }
func (e *helperError) Unwrap() error { return e.err }

// fromHelper asks the program that keeps the credentials of a host, where the file names one.
func fromHelper(cf *authFile, host string) (authn.Authenticator, error) {
	helper, at := cf.CredentialsStore, []string{"credsStore"}
	if own, ok := cf.CredentialHelpers[host]; ok {
		helper, at = own, []string{"credHelpers", host}
	}
	if helper == "" {
		return nil, nil
	}
	program := "docker-credential-" + helper
	if _, err := exec.LookPath(program); err != nil {
		return nil, &helperError{cf.at(at...), fmt.Errorf("the program %s is not installed", program)}
	}
	a, err := cf.GetAuthConfig(host)
	if err != nil {
		return nil, &helperError{cf.at(at...), fmt.Errorf("%s: %w", program, err)}
	}
	a.ServerAddress = "" // set even where nothing was found
	if (a == types.AuthConfig{}) {
		return nil, nil
	}
	return authenticator(a), nil
}

// hostOf returns the registry in a key of Docker's file, "host:port" or "https://host/v1/"; "" for a key with a
// path, which counts for what is below that alone.
func hostOf(key string) string {
	host := strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	for _, end := range []string{"/", "/v1", "/v2"} {
		host = strings.TrimSuffix(host, end)
	}
	if host == "index.docker.io" {
		return "docker.io"
	}
	if strings.Contains(host, "/") {
		return ""
	}
	return host
}

func authenticator(a types.AuthConfig) authn.Authenticator {
	return authn.FromConfig(authn.AuthConfig{
		Username: a.Username, Password: a.Password, Auth: a.Auth,
		IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken,
	})
}
