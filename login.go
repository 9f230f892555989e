package skiff

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// serverOf is the registry as a name, and the key under which docker keeps its credentials.
func serverOf(registry string) (name.Registry, string, error) {
	if registry == "" || registry == "docker.io" {
		registry = name.DefaultRegistry
	}
	reg, err := name.NewRegistry(registry)
	if err != nil {
		return reg, "", fmt.Errorf("registry %q: %w", registry, err)
	}
	if reg.RegistryStr() == name.DefaultRegistry {
		return reg, authn.DefaultAuthKey, nil
	}
	return reg, reg.RegistryStr(), nil
}

// Login asks the registry whether it knows the user, and keeps the credentials where docker does: in the helper that its
// configuration names, else in that file itself. It returns where. An empty registry is Docker Hub.
func (s *State) Login(ctx context.Context, registry, user, password string) (string, error) {
	reg, key, err := serverOf(registry)
	if err != nil {
		return "", err
	}
	if err := tryLogin(ctx, reg, user, password); err != nil {
		return "", fmt.Errorf("login %s: %w", reg.RegistryStr(), err)
	}
	file, err := config.Load(os.Getenv("DOCKER_CONFIG"))
	if err != nil {
		return "", fmt.Errorf("login %s: %w", reg.RegistryStr(), err)
	}
	store := file.GetCredentialsStore(key)
	if err := store.Store(types.AuthConfig{ServerAddress: key, Username: user, Password: password}); err != nil {
		return "", fmt.Errorf("login %s: keep credentials: %w", reg.RegistryStr(), err)
	}
	return file.Filename, nil
}

// tryLogin makes one request that only a known user may make.
func tryLogin(ctx context.Context, reg name.Registry, user, password string) error {
	auth := &authn.Basic{Username: user, Password: password}
	rt, err := transport.NewWithContext(ctx, reg, auth, http.DefaultTransport, nil)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, reg.Scheme()+"://"+reg.RegistryStr()+"/v2/", nil)
	if err != nil {
		return err
	}
	res, err := (&http.Client{Transport: rt}).Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	return transport.CheckError(res, http.StatusOK)
}

// Logout forgets the credentials for a registry. An empty one is Docker Hub.
func (s *State) Logout(registry string) error {
	reg, key, err := serverOf(registry)
	if err != nil {
		return err
	}
	file, err := config.Load(os.Getenv("DOCKER_CONFIG"))
	if err != nil {
		return fmt.Errorf("logout %s: %w", reg.RegistryStr(), err)
	}
	if err := file.GetCredentialsStore(key).Erase(key); err != nil {
		return fmt.Errorf("logout %s: %w", reg.RegistryStr(), err)
	}
	return nil
}

// ProxyArgs are the build arguments that docker build takes from its configuration: the proxies of "proxies", in both cases of
// letters. There are none where it names none.
func ProxyArgs() (map[string]string, error) {
	file, err := config.Load(os.Getenv("DOCKER_CONFIG"))
	if err != nil {
		return nil, fmt.Errorf("read docker's configuration: %w", err)
	}
	args := map[string]string{}
	for name, value := range file.ParseProxyConfig(os.Getenv("DOCKER_HOST"), nil) {
		if value != nil {
			args[name] = *value
		}
	}
	return args, nil
}
