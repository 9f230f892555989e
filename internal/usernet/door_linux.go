package usernet

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// openDoors listens in the network namespace of the calling thread.
func (n *Network) openDoors(doors []Door) error {
	for _, d := range doors {
		if d.Listen == "" {
			continue
		}
		l, err := net.Listen("tcp", d.Listen)
		if errors.Is(err, syscall.EADDRNOTAVAIL) && strings.HasPrefix(d.Listen, "[") {
			continue // a machine without IPv6, whose localhost is 127.0.0.1 alone
		}
		if err != nil {
			return fmt.Errorf("open the door to %s: %w", d, err)
		}
		n.doors = append(n.doors, l)
		n.work.Go(func() { n.serveDoor(l, d) })
	}
	return nil
}

func (n *Network) serveDoor(l net.Listener, d Door) {
	var h http.Handler
	switch u := parseProxy(d.Proxy + d.Server); {
	case d.Server != "" && u != nil:
		h = n.serverDoor(u)
	case d.Proxy != "" && u != nil && strings.HasPrefix(u.Scheme, "http"):
		h = n.proxyDoor(u)
	case d.Proxy != "" && u != nil:
		n.pass(l, d, func(ctx context.Context, inside net.Conn) (net.Conn, error) { return n.openSOCKS(ctx, inside, u) })
		return
	default:
		n.pass(l, d, func(ctx context.Context, _ net.Conn) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", d.Target)
		})
		return
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 30 * time.Second, ErrorLog: log.New(io.Discard, "", 0), BaseContext: func(net.Listener) context.Context { return n.ctx }}
	stop := context.AfterFunc(n.ctx, func() { s.Close() })
	defer stop()
	_ = s.Serve(l)
}

var dialer = net.Dialer{Timeout: dialTimeout}

// pass joins each connection to the door with one outside.
func (n *Network) pass(l net.Listener, d Door, dial func(context.Context, net.Conn) (net.Conn, error)) {
	for {
		inside, err := l.Accept()
		if err != nil {
			return
		}
		n.work.Go(func() {
			defer inside.Close()
			outside, err := dial(n.ctx, inside)
			if err != nil {
				n.notes.add(fmt.Sprintf("connect to %s: %v", d, cause(err)))
				return
			}
			n.join(inside, outside)
		})
	}
}

// join splices two connections and closes them, at the latest with the network.
func (n *Network) join(inside, outside net.Conn) {
	defer inside.Close()
	if !n.hold(outside, maxConnections) {
		outside.Close()
		return
	}
	defer n.release(outside)
	if n.hold(inside, 2*maxConnections) {
		defer n.release(inside)
		splice(inside, outside)
	}
}

// serverDoor passes requests on to a server, with its password. Where that sends them elsewhere the step goes by itself.
func (n *Network) serverDoor(server *url.URL) http.Handler {
	user := server.User
	bare := *server
	bare.User = nil
	return &httputil.ReverseProxy{
		Transport: n.transport(http.ProxyFromEnvironment), // this machine's way there
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&bare)
			password, _ := user.Password()
			r.Out.SetBasicAuth(user.Username(), password)
		},
		ErrorHandler: n.doorError(&bare), ErrorLog: log.New(io.Discard, "", 0),
	}
}

// proxyDoor is a proxy that asks another one, with its password, if it has one.
func (n *Network) proxyDoor(proxy *url.URL) http.Handler {
	forward := &httputil.ReverseProxy{
		Transport:    n.transport(http.ProxyURL(proxy)),
		Rewrite:      func(r *httputil.ProxyRequest) { r.Out.Header.Del("Proxy-Authorization") },
		ErrorHandler: n.doorError(proxy), ErrorLog: log.New(io.Discard, "", 0),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.URL.Host
		if r.Method == http.MethodConnect {
			host = r.Host
		}
		switch err := n.checkProxied(r.Context(), proxy, host); {
		case err != nil:
			n.notes.add(fmt.Sprintf("%s, by the proxy %s: %v", host, proxy.Host, err))
			http.Error(w, "skiff: "+err.Error(), http.StatusForbidden)
		case r.Method == http.MethodConnect:
			n.connect(w, r, proxy)
		case !r.URL.IsAbs():
			http.Error(w, "skiff: this is a proxy", http.StatusBadRequest)
		default:
			forward.ServeHTTP(w, r)
		}
	})
}

// checkProxied refuses what a step would not reach by itself either: a proxy on this machine would lead it back to it.
func (n *Network) checkProxied(ctx context.Context, proxy *url.URL, host string) error {
	name := (&url.URL{Host: host}).Hostname()
	if ip, err := netip.ParseAddr(name); err == nil {
		return n.policy.check(netip.AddrPortFrom(ip, 0))
	}
	if strings.EqualFold(strings.TrimSuffix(name, "."), "localhost") || strings.HasSuffix(strings.ToLower(strings.TrimSuffix(name, ".")), ".localhost") {
		return fmt.Errorf("%w: it is this machine's loopback interface", errDenied)
	}
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	list, _ := net.DefaultResolver.LookupNetIP(ctx, "ip", name) // what only the proxy knows is nothing of this machine
	for _, ip := range list {
		if err := n.policy.check(netip.AddrPortFrom(ip, 0)); err != nil {
			return err
		}
	}
	return nil
}

func (n *Network) transport(proxy func(*http.Request) (*url.URL, error)) *http.Transport {
	t := &http.Transport{Proxy: proxy, DialContext: dialer.DialContext, ForceAttemptHTTP2: true, IdleConnTimeout: 90 * time.Second, DisableCompression: true}
	context.AfterFunc(n.ctx, t.CloseIdleConnections)
	return t
}

func (n *Network) doorError(to *url.URL) func(http.ResponseWriter, *http.Request, error) {
	return func(w http.ResponseWriter, _ *http.Request, err error) {
		if n.ctx.Err() == nil {
			n.notes.add(fmt.Sprintf("connect to %s: %v", to.Host, cause(err)))
		}
		http.Error(w, fmt.Sprintf("skiff: %s cannot be reached: %v", to.Host, cause(err)), http.StatusBadGateway)
	}
}

// connect opens a tunnel by the proxy.
func (n *Network) connect(w http.ResponseWriter, r *http.Request, proxy *url.URL) {
	outside, err := dialer.DialContext(n.ctx, "tcp", hostPort(proxy))
	if err == nil && proxy.Scheme == "https" {
		t := tls.Client(outside, &tls.Config{ServerName: proxy.Hostname()})
		if err = t.HandshakeContext(n.ctx); err != nil {
			outside.Close()
		}
		outside = t
	}
	if err != nil {
		n.doorError(proxy)(w, r, err)
		return
	}
	ask := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: r.Host}, Host: r.Host, Header: http.Header{}}
	if u := proxy.User; u != nil {
		password, _ := u.Password()
		ask.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	_ = outside.SetDeadline(time.Now().Add(dialTimeout))
	read := bufio.NewReader(outside)
	var answer *http.Response
	if err = ask.Write(outside); err == nil {
		answer, err = http.ReadResponse(read, ask)
	}
	if err != nil {
		outside.Close()
		n.doorError(proxy)(w, r, err)
		return
	}
	if answer.StatusCode != http.StatusOK {
		outside.Close()
		n.notes.add(fmt.Sprintf("%s, by the proxy %s: %s", r.Host, proxy.Host, answer.Status))
		http.Error(w, "skiff: the proxy says "+answer.Status, answer.StatusCode)
		return
	}
	_ = outside.SetDeadline(time.Time{})
	inside, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		outside.Close()
		return
	}
	_, _ = io.WriteString(inside, "HTTP/1.1 200 Connection established\r\n\r\n")
	n.join(readAhead{inside, buffered.Reader}, readAhead{outside, read})
}

// readAhead is a connection of which something has been read already.
type readAhead struct {
	net.Conn
	r io.Reader
}

func (c readAhead) Read(b []byte) (int, error) { return c.r.Read(b) }

// CloseWrite implements halfConn where the connection does.
func (c readAhead) CloseWrite() error {
	if h, ok := c.Conn.(halfConn); ok {
		return h.CloseWrite()
	}
	return c.Conn.Close()
}

// openSOCKS greets the step as a SOCKS5 proxy does (RFC 1928), logs in at the real one (RFC 1929) and passes the step's request on. What
// follows are bytes of the connection.
func (n *Network) openSOCKS(ctx context.Context, inside net.Conn, proxy *url.URL) (net.Conn, error) {
	_ = inside.SetDeadline(time.Now().Add(dialTimeout))
	defer inside.SetDeadline(time.Time{})
	head := make([]byte, 2)
	if _, err := io.ReadFull(inside, head); err != nil || head[0] != 5 {
		return nil, errors.New("the program does not speak SOCKS5")
	}
	if _, err := io.CopyN(io.Discard, inside, int64(head[1])); err != nil {
		return nil, err
	}
	if _, err := inside.Write([]byte{5, 0}); err != nil { // no password, whatever was offered
		return nil, err
	}
	request, host, err := readSOCKSRequest(inside)
	if err != nil {
		return nil, err
	}
	if err := n.checkProxied(ctx, proxy, host); err != nil {
		_, _ = inside.Write([]byte{5, 2, 0, 1, 0, 0, 0, 0, 0, 0}) // not allowed by ruleset
		return nil, err
	}
	outside, err := dialer.DialContext(ctx, "tcp", hostPort(proxy))
	if err != nil {
		return nil, err
	}
	_ = outside.SetDeadline(time.Now().Add(dialTimeout))
	if err = loginSOCKS(outside, proxy.User); err == nil {
		_, err = outside.Write(request)
	}
	if err != nil {
		outside.Close()
		return nil, err
	}
	_ = outside.SetDeadline(time.Time{})
	return outside, nil
}

// readSOCKSRequest returns a request as it came, and the host that it names.
func readSOCKSRequest(r io.Reader) (raw []byte, host string, err error) {
	raw = make([]byte, 5)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, "", err
	}
	var size int // of what follows the fifth byte, which is the address's first
	switch raw[3] {
	case 1:
		size = 4 - 1
	case 4:
		size = 16 - 1
	case 3:
		size = int(raw[4])
	default:
		return nil, "", errors.New("a SOCKS5 request for an address of an unknown kind")
	}
	rest := make([]byte, size+2)
	if _, err := io.ReadFull(r, rest); err != nil {
		return nil, "", err
	}
	raw = append(raw, rest...)
	if raw[3] == 3 {
		return raw, string(raw[5 : 5+size]), nil
	}
	ip, _ := netip.AddrFromSlice(raw[4 : len(raw)-2])
	if ip.Is6() {
		return raw, "[" + ip.String() + "]", nil
	}
	return raw, ip.String(), nil
}

func loginSOCKS(c net.Conn, user *url.Userinfo) error {
	method := byte(0)
	if user != nil {
		method = 2
	}
	answer := make([]byte, 2)
	if _, err := c.Write([]byte{5, 1, method}); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, answer); err != nil {
		return err
	}
	if answer[0] != 5 || answer[1] != method {
		return errors.New("the SOCKS5 proxy takes no password, or wants one")
	}
	if user == nil {
		return nil
	}
	name := user.Username()
	password, _ := user.Password()
	if len(name) > 255 || len(password) > 255 {
		return errors.New("a user or a password of more than 255 bytes, which SOCKS5 does not know")
	}
	login := append([]byte{1, byte(len(name))}, name...)
	login = append(append(login, byte(len(password))), password...)
	if _, err := c.Write(login); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, answer); err != nil {
		return err
	}
	if answer[1] != 0 {
		return errors.New("the SOCKS5 proxy refuses the password")
	}
	return nil
}
