package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
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
			return nil, fmt.Errorf("read credentials: %s: %w", path, err)
		}
		auth, err := lookup(cf, r)
		if err != nil {
			return nil, fmt.Errorf("read credentials for %s: %s: %w", r.RegistryStr(), path, err)
		}
		if auth != nil {
			return auth, nil
		}
	}
	return authn.Anonymous, nil
}

func authFiles() []string {
	files := []string{filepath.Join(config.Dir(), "config.json")}
	if d := os.Getenv("DOCKER_CONFIG"); d != "" { // config.Dir remembers what it saw first
		files[0] = filepath.Join(d, "config.json")
	}
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

func readAuthFile(path string) (*configfile.ConfigFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return config.LoadFromReader(f)
}

// lookup returns nil when the file has no credentials for the registry. Keys with a path ("quay.io/me") count
// for what is below them, the longest first (containers-auth.json(5)).
func lookup(cf *configfile.ConfigFile, r authn.Resource) (authn.Authenticator, error) {
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

// fromHelper asks the program that keeps the credentials of a host, where the file names one.
func fromHelper(cf *configfile.ConfigFile, host string) (authn.Authenticator, error) {
	if cf.CredentialsStore == "" && cf.CredentialHelpers[host] == "" {
		return nil, nil
	}
	a, err := cf.GetAuthConfig(host)
	if err != nil {
		return nil, err
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
