package skiff

import (
	"context"
	"fmt"
	"os"

	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/skiff-build/skiff/internal/image"
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
	client, err := s.registryFor(nil, nil)
	if err != nil {
		return "", err
	}
	if err := client.CheckLogin(ctx, reg.RegistryStr(), user, password); err != nil {
		return "", err
	}
	file, err := image.DockerConfig()
	if err != nil {
		return "", fmt.Errorf("login %s: %w", reg.RegistryStr(), err)
	}
	store := file.GetCredentialsStore(key)
	if err := store.Store(types.AuthConfig{ServerAddress: key, Username: user, Password: password}); err != nil {
		return "", fmt.Errorf("login %s: keep credentials: %w", reg.RegistryStr(), err)
	}
	return file.Filename, nil
}

// Logout forgets the credentials for a registry. An empty one is Docker Hub.
func (s *State) Logout(registry string) error {
	reg, key, err := serverOf(registry)
	if err != nil {
		return err
	}
	file, err := image.DockerConfig()
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
	file, err := image.DockerConfig()
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
