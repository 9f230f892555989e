package usernet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// dialTimeout bounds how long a connection outward may take to come about; a program sees its own connect wait meanwhile.
const dialTimeout = 30 * time.Second

// errDenied is the error of an address that a step does not reach.
var errDenied = errors.New("a step does not reach this")

// prefixes are what no step reaches, whatever routes this machine has.
var prefixes = []struct {
	netip.Prefix
	what string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "it means this machine"},
	{netip.MustParsePrefix("::/128"), "it means this machine"},
	{netip.MustParsePrefix("127.0.0.0/8"), "it is this machine's loopback interface"},
	{netip.MustParsePrefix("::1/128"), "it is this machine's loopback interface"},
	{netip.MustParsePrefix("169.254.0.0/16"), "it is link-local, where clouds keep credentials"},
	{netip.MustParsePrefix("fe80::/10"), "it is link-local"},
	{netip.MustParsePrefix("192.0.0.0/24"), "it is of the step's own network, or special"},
	{netip.PrefixFrom(GatewayIP6, prefix6).Masked(), "it is of the step's own network"},
	{netip.MustParsePrefix("224.0.0.0/3"), "it is no single machine"},
	{netip.MustParsePrefix("ff00::/8"), "it is no single machine"},
	// Metadata services outside of link-local addresses: AWS, Google, Scaleway (IPv6), Alibaba, Azure.
	{netip.MustParsePrefix("fd00:ec2::254/128"), "it is a cloud's metadata service"},
	{netip.MustParsePrefix("fd20:ce::254/128"), "it is a cloud's metadata service"},
	{netip.MustParsePrefix("fd00:42::42/128"), "it is a cloud's metadata service"},
	{netip.MustParsePrefix("100.100.100.200/32"), "it is a cloud's metadata service"},
	{netip.MustParsePrefix("168.63.129.16/32"), "it is a cloud's metadata service"},
}

// carriers are the prefixes of IPv6 addresses that carry one of IPv4, and where in it: translators and tunnels
// (RFC 6052, RFC 3056, RFC 4291 2.5.5.1) would lead to that one.
var carriers = []struct {
	netip.Prefix
	at int
}{
	{netip.MustParsePrefix("::/96"), 12},
	{netip.MustParsePrefix("64:ff9b::/96"), 12},
	{netip.MustParsePrefix("2002::/16"), 2},
}

// carried is the address of IPv4 that an address of IPv6 leads to.
func carried(a netip.Addr) (netip.Addr, bool) {
	for _, c := range carriers {
		if raw := a.As16(); a.Is6() && c.Contains(a) {
			return netip.AddrFrom4([4]byte(raw[c.at : c.at+4])), true
		}
	}
	return a, false
}

// refused says why a step does not reach an address, "" where it does. It looks at the address alone.
func refused(a netip.Addr) string {
	if a = a.Unmap().WithZone(""); !a.IsValid() {
		return "it is no address"
	}
	for _, p := range prefixes {
		if p.Contains(a) {
			return p.what
		}
	}
	if inner, ok := carried(a); ok {
		return refused(inner)
	}
	return ""
}

// own says whether a packet to a would come back to this machine. The kernel is asked: it sends to an address of its own
// from that very address.
func own(a netip.Addr) bool {
	if inner, ok := carried(a); ok && own(inner) {
		return true
	}
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 9))) // sends nothing
	if err != nil {
		return false
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap() == a.Unmap()
}

// policy decides where connections of a step go. Safe for concurrent use.
type policy struct {
	doors []Door
	host  bool // see [Options.Host]
}

// throughGateway says whether an address means this machine's loopback interface.
func (p *policy) throughGateway(a netip.Addr) bool {
	return p.host && (a == GatewayIP4 || a == GatewayIP6)
}

// check returns [errDenied], with the reason, for what a step does not reach.
func (p *policy) check(to netip.AddrPort) error {
	if p.throughGateway(to.Addr()) {
		return nil
	}
	why := refused(to.Addr())
	if why == "" && own(to.Addr()) {
		if p.door(to) {
			return nil
		}
		why = "it is an address of this machine"
	}
	if why != "" {
		return fmt.Errorf("%w: %s", errDenied, why)
	}
	return nil
}

// door says whether a door leads to an address of this machine that the step itself has to dial.
func (p *policy) door(to netip.AddrPort) bool {
	for _, d := range p.doors {
		if host, port, err := net.SplitHostPort(d.Target); err == nil && port == fmt.Sprint(to.Port()) {
			list, _ := net.DefaultResolver.LookupNetIP(context.Background(), "ip", host)
			for _, a := range list {
				if a.Unmap() == to.Addr().Unmap() {
					return true
				}
			}
		}
	}
	return false
}

// dial opens the connection that a step asked for. The check is on the address that is dialled, after all names.
func (p *policy) dial(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	if err := p.check(to); err != nil {
		return nil, err
	}
	if p.throughGateway(to.Addr()) {
		to = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), to.Port())
	}
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	return d.DialContext(ctx, network, netip.AddrPortFrom(to.Addr().Unmap(), to.Port()).String())
}
