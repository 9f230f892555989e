package dockerfile

import (
	"bytes"
	"context"
	"fmt"
	"maps"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerfile/builder"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	digest "github.com/opencontainers/go-digest"
)

// sessionID is one for all builds: the frontend puts it into local sources, and makes one up when there is none, so that the
// same Dockerfile would give another graph each time.
const sessionID = "skiff"

// frontendClient is what the frontend sees of an engine: the engine, with this Dockerfile's attributes.
type frontendClient struct {
	gwclient.Client
	attrs map[string]string
	of    *Dockerfile
}

func (d *Dockerfile) client(c gwclient.Client, attrs map[string]string) *frontendClient {
	return &frontendClient{Client: c, attrs: attrs, of: d}
}

// BuildOpts hands out a fresh map each time, since the frontend writes into it. Of the gateway's capabilities the frontend asks
// for those that are calls of this interface, which are there.
func (c *frontendClient) BuildOpts() gwclient.BuildOpts {
	o := c.Client.BuildOpts()
	o.Opts, o.SessionID, o.Caps = maps.Clone(c.attrs), sessionID, gwpb.Caps.CapSet(gwpb.Caps.All())
	return o
}

// Inputs are what another frontend would hand over: there is none.
func (c *frontendClient) Inputs(context.Context) (map[string]llb.State, error) { return nil, nil }

// Solve passes graphs on. A frontend in an image is asked for by a "# syntax=" line of any kind: docker's own is the one
// that is linked here.
func (c *frontendClient) Solve(ctx context.Context, req gwclient.SolveRequest) (*gwclient.Result, error) {
	switch req.Frontend {
	case "":
		return c.Client.Solve(ctx, req)
	case "gateway.v0":
		source := req.FrontendOpt["source"]
		if !isDockerfileFrontend(source) {
			return nil, fmt.Errorf("syntax image %s: only docker/dockerfile is served (it is built in); "+
				"other frontends need BuildKit", source)
		}
		return builder.Build(ctx, c.of.client(c.Client, req.FrontendOpt))
	}
	return nil, fmt.Errorf("frontend %q: not known", req.Frontend)
}

func isDockerfileFrontend(ref string) bool {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return false
	}
	switch named.Name() {
	case "docker.io/docker/dockerfile", "docker.io/docker/dockerfile-upstream":
		return true
	}
	return false
}

// Warn keeps a warning for the end of the build and passes it on, once: the frontend may run again.
func (c *frontendClient) Warn(ctx context.Context, vertex digest.Digest, msg string, opts gwclient.WarnOpts) error {
	w := client.VertexWarning{
		Vertex: vertex, Level: opts.Level, Short: []byte(msg), Detail: opts.Detail, URL: opts.URL,
		SourceInfo: opts.SourceInfo, Range: opts.Range,
	}
	if !c.of.warn(w) {
		return nil
	}
	return c.Client.Warn(ctx, vertex, msg, opts)
}

func (d *Dockerfile) warn(w client.VertexWarning) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, k := range d.warnings {
		if bytes.Equal(k.Short, w.Short) { // the text ends with the line
			return false
		}
	}
	d.warnings = append(d.warnings, w)
	return true
}
