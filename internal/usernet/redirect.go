package usernet

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
)

// GuardRedirects has t, which is the caller's own, refuse to be sent by a host on the Internet to an address of a private network,
// whichever name leads there: a server could reach through this machine into a network that it does not see itself. The check is on the
// address that is dialled. A host in a private network may send to others there. d is what t dials with.
func GuardRedirects(t *http.Transport, d net.Dialer) http.RoundTripper {
	guarded := d
	guarded.ControlContext = func(ctx context.Context, _, address string, _ syscall.RawConn) error {
		sent, _ := ctx.Value(redirectKey{}).(redirect)
		to, err := netip.ParseAddrPort(address)
		if err != nil || !private(to.Addr()) || sent.byNeighbour(ctx) {
			return nil
		}
		return fmt.Errorf("%s redirects to %s, which is %s, an address of a private network", sent.from, sent.to, to.Addr())
	}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if sent, ok := ctx.Value(redirectKey{}).(redirect); ok && err == nil && strings.EqualFold(host, sent.to) { // else it is a proxy
			return guarded.DialContext(ctx, network, address)
		}
		return d.DialContext(ctx, network, address)
	}
	return guard{t}
}

type guard struct{ *http.Transport }

// redirect is a request that another host than its own asked for.
type redirect struct{ from, to string }

type redirectKey struct{}

// RoundTrip implements [http.RoundTripper].
func (g guard) RoundTrip(req *http.Request) (*http.Response, error) {
	first := req
	for first.Response != nil && first.Response.Request != nil {
		first = first.Response.Request
	}
	if from, to := first.URL.Hostname(), req.URL.Hostname(); !strings.EqualFold(from, to) {
		req = req.WithContext(context.WithValue(req.Context(), redirectKey{}, redirect{from, to}))
	}
	return g.Transport.RoundTrip(req)
}

// byNeighbour says whether the host that redirects is in a private network itself.
func (r redirect) byNeighbour(ctx context.Context) bool {
	list, err := net.DefaultResolver.LookupNetIP(ctx, "ip", r.from)
	if err != nil || len(list) == 0 {
		return false
	}
	for _, a := range list {
		if !private(a) {
			return false
		}
	}
	return true
}

// private says whether an address is not one of the Internet.
func private(a netip.Addr) bool {
	if inner, ok := carried(a.Unmap()); ok && private(inner) {
		return true
	}
	return a.Unmap().IsPrivate() || refused(a) != ""
}
