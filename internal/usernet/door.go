package usernet

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// Door is a way out to one place that the policy would refuse, or whose password a step is not to see. What it leads to is the
// choice of whoever builds: never of a Dockerfile.
type Door struct {
	// Listen is the address, IP:PORT, at which the step finds the door, on the loopback interface of its own. Empty: the step
	// dials the target, an address of this machine, itself.
	Listen string
	// Target is HOST:PORT as this process dials it. Bytes go through as they are.
	Target string
	// Proxy, in the place of Target, is the URL of an HTTP or SOCKS5 proxy, with its password: what comes to the door is sent there.
	Proxy string
	// Server, in the place of both, is the URL of a server, with its password: requests to the door are requests below it.
	Server string
}

// doorIP is where doors are that have no address by nature. The network 127.0.0.0/8 is a step's own, all of it.
var doorIP = netip.MustParseAddr("127.0.83.1")

// firstDoor is the port of the first of them.
const firstDoor = 3128

// Doors makes the doors of a step from the settings of the machine that it gets. The zero value has none.
type Doors struct {
	list []Door
	next int
	made map[string]string // URL → what the step sees in its place
}

// List is what was made.
func (d *Doors) List() []Door { return d.list }

func (d *Doors) add(door Door) {
	for _, o := range d.list {
		if o.Listen == door.Listen && (o.Listen != "" || o.Target == door.Target) {
			return
		}
	}
	d.list = append(d.list, door)
}

// Given lets a step reach what a variable of whoever builds names (--build-arg), whose value the step sees as it is: a list
// such as GOPROXY, or a proxy.
func (d *Doors) Given(name, value string) {
	if strings.EqualFold(name, "GOPROXY") {
		eachURL(value, func(u *url.URL) string {
			d.open(u, Door{Target: hostPort(u)})
			return ""
		})
	} else if u := parseProxy(value); u != nil {
		d.open(u, Door{Proxy: u.String()})
	}
}

// open puts a door where the step will look for what u names: at the same address if that is on the loopback interface.
func (d *Doors) open(u *url.URL, door Door) {
	ip, err := netip.ParseAddr(u.Hostname())
	switch {
	case strings.EqualFold(u.Hostname(), "localhost"):
		for _, host := range []string{"127.0.0.1", "::1"} {
			door.Listen = net.JoinHostPort(host, portOf(u))
			d.add(door)
		}
	case err == nil && ip.Unmap().IsLoopback():
		door.Listen = net.JoinHostPort(ip.Unmap().String(), portOf(u))
		d.add(door)
	default:
		d.add(Door{Target: hostPort(u)})
	}
}

// Proxy is the value for a step of a variable such as HTTP_PROXY: without a password, which the door adds.
func (d *Doors) Proxy(value string) string {
	u := parseProxy(value)
	if u == nil {
		return value
	}
	if ip, err := netip.ParseAddr(u.Hostname()); u.User == nil && (err != nil || ip.IsLoopback() || !own(ip)) {
		d.open(u, Door{Proxy: u.String()})
		return value
	}
	scheme := "http"
	if strings.HasPrefix(u.Scheme, "socks5") {
		scheme = u.Scheme
	}
	return scheme + "://" + d.hide(Door{Proxy: u.String()}, u.String())
}

// GoProxy is the value for a step of GOPROXY, a list.
func (d *Doors) GoProxy(value string) string {
	return eachURL(value, func(u *url.URL) string {
		if u.User == nil {
			d.open(u, Door{Target: hostPort(u)})
			return ""
		}
		server := *u
		server.Path, server.RawPath, server.RawQuery = "", "", ""
		return "http://" + d.hide(Door{Server: server.String()}, server.String()) + u.EscapedPath()
	})
}

// hide puts a door, of which there is one for each key, at an address that names nothing, and returns it.
func (d *Doors) hide(door Door, key string) string {
	if at, ok := d.made[key]; ok {
		return at
	}
	door.Listen = netip.AddrPortFrom(doorIP, uint16(firstDoor+d.next)).String()
	d.next++
	d.list = append(d.list, door)
	if d.made == nil {
		d.made = map[string]string{}
	}
	d.made[key] = door.Listen
	return door.Listen
}

// WithoutPasswords is a value of HTTP_PROXY or GOPROXY for a step that has no door: in the host's network, or in none.
func WithoutPasswords(value string) string {
	return eachURL(value, func(u *url.URL) string {
		if u.User == nil {
			return ""
		}
		bare := *u
		bare.User = nil
		return bare.String()
	})
}

// eachURL replaces the URLs of a list as GOPROXY has it by what fn makes of them; "" leaves one as it is.
func eachURL(list string, fn func(*url.URL) string) string {
	return MapProxies(list, func(entry string) string {
		if u := parseProxy(entry); u != nil {
			return fn(u)
		}
		return ""
	})
}

// MapProxies replaces the entries of a list as GOPROXY has it, without the blanks around them, by what fn makes of them; "" leaves one
// as it is.
func MapProxies(list string, fn func(entry string) string) string {
	var out strings.Builder
	for rest := list; rest != ""; {
		entry, sep := rest, ""
		if i := strings.IndexAny(rest, ",|"); i >= 0 {
			entry, sep, rest = rest[:i], rest[i:i+1], rest[i+1:]
		} else {
			rest = ""
		}
		if new := fn(strings.TrimSpace(entry)); new != "" {
			entry = new
		}
		out.WriteString(entry + sep)
	}
	return out.String()
}

// ports are those of proxies and servers whose URL has none.
var ports = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}

// parseProxy reads what programs take for the address of a proxy, with a scheme or without; nil for what is none.
func parseProxy(text string) *url.URL {
	if text == "" || text == "direct" || text == "off" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || ports[u.Scheme] == "" {
		if u, err = url.Parse("http://" + text); err != nil || strings.Contains(text, "://") {
			return nil
		}
	}
	if u.Hostname() == "" {
		return nil
	}
	return u
}

func portOf(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return ports[u.Scheme]
}

func hostPort(u *url.URL) string { return net.JoinHostPort(u.Hostname(), portOf(u)) }

// String tells where a door leads, without a password.
func (d Door) String() string {
	for _, text := range []string{d.Proxy, d.Server} {
		if u := parseProxy(text); text != "" && u != nil {
			return hostPort(u)
		}
	}
	return fmt.Sprint(d.Target)
}
