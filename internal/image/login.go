package image

import (
	"context"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// CheckLogin asks a registry ("host:port"; "docker.io" is Docker Hub) whether it knows a user. Under the same
// rules as everything else here: time limits, and plain http only where it is allowed.
func (r *Registry) CheckLogin(ctx context.Context, registry, user, password string) error {
	reg, err := name.NewRegistry(registry, r.nameOptions(registry, false)...)
	if err != nil {
		return err
	}
	return failure(ctx, "login", registry, registry, r.checkLogin(ctx, reg, &authn.Basic{Username: user, Password: password}))
}

func (r *Registry) checkLogin(ctx context.Context, reg name.Registry, auth authn.Authenticator) error {
	rt, err := transport.NewWithContext(ctx, reg, auth, r.transport, nil)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, reg.Scheme()+"://"+reg.RegistryStr()+"/v2/", nil)
	if err != nil {
		return err
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return transport.CheckError(resp, http.StatusOK)
}
