package image

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Manifests go through go-containerregistry's Puller and Pusher. Blobs are moved here, since theirs begin anew whenever
// a connection breaks. Both share one login and its token.

// login opens a repository for what scopes name ("pull"; "push,pull"), with credentials where there are some. A program for
// credentials that gives none counts only when the registry refuses who comes without: much is public, and Docker Desktop leaves
// the name of its program behind.
func (r *Registry) login(ctx context.Context, repo name.Repository, t *limitedTransport, scopes ...string) (http.RoundTripper, error) {
	auth, err := authn.Resolve(ctx, r.o.Keychain, repo)
	var helper *helperError
	switch {
	case errors.As(err, &helper):
		auth = authn.Anonymous
		r.mu.Lock()
		r.helpers[repo.RegistryStr()] = helper
		r.mu.Unlock()
	case err != nil:
		return nil, err
	}
	return transport.NewWithContext(ctx, repo.Registry, auth, transport.NewUserAgent(t, "skiff"), scopes)
}

// clientOf is for what is not a manifest.
func clientOf(rt http.RoundTripper) *http.Client {
	return &http.Client{Transport: rt, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) >= 10 {
			return errors.New("the registry redirects ten times")
		}
		return checkHost(via[0].URL.Hostname(), req.URL.Hostname())
	}}
}

// checkHost refuses to be sent from one host to an address of a private network: a registry could reach through this machine
// into a network that it does not see itself. go-containerregistry has the same rule for manifests.
func checkHost(from, to string) error {
	ip, err := netip.ParseAddr(to)
	if err != nil || from == to {
		return nil
	}
	ip = ip.Unmap()
	if ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() {
		return fmt.Errorf("%s redirects to %s, an address of a private network", from, to)
	}
	return nil
}

// reader is a source that has been logged in to.
type reader struct {
	mu        sync.Mutex // while it logs in
	client    *http.Client
	manifests *remote.Puller
}

// reader logs in to a source once. A failure is not kept.
func (r *Registry) reader(ctx context.Context, s source) (*reader, error) {
	r.mu.Lock()
	got, ok := r.readers[s]
	if !ok {
		got = &reader{}
		r.readers[s] = got
	}
	r.mu.Unlock()
	got.mu.Lock()
	defer got.mu.Unlock()
	if got.client != nil {
		return got, nil
	}
	t := r.transport
	if s.mirror {
		t = r.once
	}
	rt, err := r.login(ctx, s.repo, t, s.repo.Scope(transport.PullScope))
	if err != nil {
		return nil, err
	}
	if got.manifests, err = remote.NewPuller(remote.WithTransport(rt)); err != nil {
		return nil, err
	}
	got.client = clientOf(rt)
	return got, nil
}

func (r *Registry) puller(ctx context.Context, s source) (*remote.Puller, error) {
	got, err := r.reader(ctx, s)
	if err != nil {
		return nil, err
	}
	return got.manifests, nil
}

// blobURL is the address of a blob, or with "uploads/" that of new ones.
func blobURL(repo name.Repository, what string) string {
	return fmt.Sprintf("%s://%s/v2/%s/blobs/%s", repo.Scheme(), repo.RegistryStr(), repo.RepositoryStr(), what)
}

// endurance decides how often a transfer that breaks off is continued: as long as it gets on.
type endurance struct {
	wait  time.Duration // before the first of the next tries
	fails int           // since it last got on
	best  int64         // bytes
}

// gain is how many bytes count as getting on.
const gain = 1 << 20

// reached tells how many bytes are safe.
func (e *endurance) reached(n int64) {
	if n >= e.best+gain {
		e.best, e.fails = n, 0
	}
}

// again waits before the next try, or returns err, which ended this one, where no other is worth it. Who has got nowhere has
// two more tries, who has got on five in a row. A connection that went silent is tried once more: it makes the user wait for
// long each time.
func (e *endurance) again(ctx context.Context, err error) error {
	if ended(ctx) {
		return err
	}
	most := 2
	if e.best > 0 {
		most = 5
	}
	var slow *timeoutError
	switch {
	case errors.As(err, &slow) && slow.what != "did not answer":
		most = 1
	case statusOf(err) != 0: // tried again below
		return err
	case retryable(err), e.best > 0 && unreached(err):
	default:
		return err
	}
	e.fails++
	if e.fails > most {
		return err
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(e.wait << (e.fails - 1)):
		return nil
	}
}

// blobError says which part of an image err is about.
type blobError struct {
	blob string // "sha256:…"
	err  error
}

func (e *blobError) Error() string { return "blob " + ShortDigest(e.blob) + ": " + e.err.Error() }
func (e *blobError) Unwrap() error { return e.err }

// ShortDigest is as much of a digest as people compare.
func ShortDigest(d string) string {
	hex := strings.TrimPrefix(d, "sha256:")
	return hex[:min(12, len(hex))]
}
