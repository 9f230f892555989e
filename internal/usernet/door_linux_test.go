package usernet

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
)

// httpProxy is a proxy of this machine that wants a password, where one is given.
func httpProxy(t *testing.T, login string) *url.URL {
	forward := &httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if want := "Basic " + base64.StdEncoding.EncodeToString([]byte(login)); login != "" && r.Header.Get("Proxy-Authorization") != want {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		if r.Method != http.MethodConnect {
			forward.ServeHTTP(w, r)
			return
		}
		to, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		c, _, _ := http.NewResponseController(w).Hijack()
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		splice(c, to)
	}))
	t.Cleanup(s.Close)
	return mustURL(t, s.URL)
}

func mustURL(t *testing.T, text string) *url.URL {
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// socksProxy wants a user and a password, and connects to whatever it is told.
func socksProxy(t *testing.T, login string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	serve := func(c net.Conn) {
		defer c.Close()
		b := make([]byte, 512)
		if n, _ := c.Read(b); n < 3 || b[2] != 2 {
			_, _ = c.Write([]byte{5, 0xff})
			return
		}
		_, _ = c.Write([]byte{5, 2})
		n, _ := c.Read(b)
		user, password, _ := strings.Cut(login, ":")
		if want := fmt.Sprintf("\x01%c%s%c%s", len(user), user, len(password), password); string(b[:n]) != want {
			_, _ = c.Write([]byte{1, 1})
			return
		}
		_, _ = c.Write([]byte{1, 0})
		raw, host, err := readSOCKSRequest(c)
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", host+":"+fmt.Sprint(int(raw[len(raw)-2])<<8|int(raw[len(raw)-1])))
		if err != nil {
			return
		}
		_, _ = c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
		splice(c, to)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return l.Addr().String()
}

// Issue 12, D4: the doors add the passwords of this machine's proxies, and a step sees none; nor does a proxy on this machine lead a
// step back to it.
func TestProxyDoors(t *testing.T) {
	secret := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "SECRET") }))
	defer secret.Close()
	mods := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		fmt.Fprintf(w, "%s as %s:%s", r.URL.Path, user, password)
	}))
	defer mods.Close()
	withPassword, without := httpProxy(t, "me:hunter2"), httpProxy(t, "")
	withPassword.User = url.UserPassword("me", "hunter2")
	var d Doors
	seen := map[string]string{
		"password": d.Proxy(withPassword.String()),
		"loopback": d.Proxy(without.String()),
		"socks":    d.Proxy("socks5://me:hunter2@" + socksProxy(t, "me:hunter2")),
		"goproxy":  d.GoProxy(strings.Replace(mods.URL, "http://", "http://me:hunter2@", 1) + "/go"),
	}
	for name, value := range seen {
		if strings.Contains(value, "hunter2") {
			t.Errorf("%s: %s", name, value)
		}
	}
	s, n := step(t, Options{Doors: d.List()})
	if got := s.ask("get", "", seen["goproxy"]+"/example.com/m/@v/list"); got != "200 /go/example.com/m/@v/list as me:hunter2" {
		t.Errorf("GOPROXY: %s", got)
	}
	for _, name := range []string{"password", "loopback", "socks"} {
		if got := s.ask("get", seen[name], "http://203.0.113.5:7780/page"); got != "200 world /page" {
			t.Errorf("%s: %s", name, got)
		}
		if got := s.ask("get", seen[name], "https://203.0.113.5:7781/page"); got != "200 world /page" {
			t.Errorf("%s, by a tunnel: %s", name, got)
		}
		_, port, _ := net.SplitHostPort(strings.TrimPrefix(secret.URL, "http://"))
		for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "a.localhost"} {
			for _, scheme := range []string{"http", "https"} {
				if got := s.ask("get", seen[name], scheme+"://"+host+":"+port); strings.Contains(got, "SECRET") || strings.Contains(got, "HTTP response to HTTPS") || strings.Contains(got, "EOF") {
					t.Errorf("%s led to this machine by %s %s: %s", name, scheme, host, got)
				}
			}
		}
	}
	if notes := strings.Join(n.Notes(), "\n"); strings.Contains(notes, "hunter2") {
		t.Errorf("a password in the notes: %s", notes)
	}
}

func TestDoorsOfSettings(t *testing.T) {
	var d Doors
	d.Given("GOPROXY", "http://localhost:3000,https://proxy.example|direct")
	d.Given("HTTP_PROXY", "http://me:x@127.0.0.1:8080")
	d.Given("NONSENSE_PROXY", "::")
	got := fmt.Sprintf("%q", d.List())
	if want := `["localhost:3000" "localhost:3000" "proxy.example:443" "127.0.0.1:8080"]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for in, want := range map[string]string{
		"https://me:x@h/p|direct": "https://h/p|direct", "me:x@h:3": "http://h:3", "off": "off", "https://h": "https://h", "": "",
	} {
		if got := WithoutPasswords(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

func FuzzSOCKSRequest(f *testing.F) {
	f.Add([]byte{5, 1, 0, 3, 1, 'a', 0, 80})
	f.Add([]byte{5, 1, 0, 4, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, _ = readSOCKSRequest(bufio.NewReader(strings.NewReader(string(b))))
	})
}

func FuzzDNS(f *testing.F) {
	f.Add([]byte("\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = questionName(b)
		if a := servfail(b); a != nil && (len(a) > len(b) || a[2]&0x80 == 0) {
			t.Errorf("%x: %x", b, a)
		}
	})
}
