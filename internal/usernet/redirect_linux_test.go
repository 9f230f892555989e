package usernet

import (
	"net"
	"net/http"
	"strings"
	"testing"
)

// Issue 12, D4: a host of the Internet (the world's 203.0.113.5, which is none of a private network) sends to this machine, by address
// and by a name; a neighbour may.
func TestRedirectsToPrivateAddresses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:7790")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	reached := false
	mux := http.NewServeMux()
	mux.HandleFunc("/secret", func(http.ResponseWriter, *http.Request) { reached = true })
	mux.HandleFunc("/near", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://localhost:7790/secret", http.StatusFound)
	})
	go http.Serve(l, mux)
	client := func() *http.Client {
		tr := &http.Transport{DisableKeepAlives: true}
		return &http.Client{Transport: GuardRedirects(tr, net.Dialer{})}
	}
	for _, to := range []string{"localhost:7790", "127.0.0.1:7790", "[::ffff:127.0.0.1]:7790"} {
		reached = false
		_, err := client().Get("http://203.0.113.5:7780/redirect?http://" + to + "/secret")
		if err == nil || !strings.Contains(err.Error(), "an address of a private network") || reached {
			t.Errorf("to %s: reached %v, %v", to, reached, err)
		}
	}
	for _, from := range []string{"http://127.0.0.1:7790/near", "http://203.0.113.5:7780/redirect?http://198.51.100.7:7780/page"} {
		r, err := client().Get(from)
		if err != nil {
			t.Errorf("%s: %v", from, err)
			continue
		}
		r.Body.Close()
	}
	if !reached {
		t.Error("a neighbour's redirect was not followed")
	}
}

// Published ports lead into the namespace, to what listens on more than its loopback interface.
func TestPorts(t *testing.T) {
	p, err := ParsePort("127.0.0.1:7791:7792")
	if err != nil {
		t.Fatal(err)
	}
	s, _ := step(t, Options{Ports: []Port{p}})
	if got := s.ask("listen", "0.0.0.0:7792"); got != "listening" {
		t.Fatal(got)
	}
	if got := act([]string{"dial", "tcp", "127.0.0.1:7791", "hello"}); got != "echo hello" {
		t.Error(got)
	}
	for _, bad := range []string{"", "x", "1:2:3:4", "0", "70000", "80/udp", "h:1:2"} {
		if _, err := ParsePort(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
