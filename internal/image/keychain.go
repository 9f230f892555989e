package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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

// lookup returns nil when the file has no credentials for the registry.
func lookup(cf *configfile.ConfigFile, r authn.Resource) (authn.Authenticator, error) {
	for _, key := range []string{r.String(), r.RegistryStr()} {
		if key == name.DefaultRegistry {
			key = authn.DefaultAuthKey
		}
		a, err := cf.GetAuthConfig(key)
		if err != nil {
			return nil, err
		}
		a.ServerAddress = "" // set even where nothing was found
		if (a != types.AuthConfig{}) {
			return authn.FromConfig(authn.AuthConfig{
				Username: a.Username, Password: a.Password, Auth: a.Auth,
				IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken,
			}), nil
		}
	}
	return nil, nil
}
