package doctor

import (
	"crypto/tls"
	"net/http"
	"testing"
	"unsafe"
)

// TestOffsets: the fields lie where the rules about trust look for them.
func TestOffsets(t *testing.T) {
	if got := unsafe.Offsetof(tls.Config{}.RootCAs); got != configRootCAs {
		t.Errorf("RootCAs is at %d", got)
	}
	if got := unsafe.Offsetof(tls.Config{}.InsecureSkipVerify); got != configInsecure {
		t.Errorf("InsecureSkipVerify is at %d", got)
	}
	if got := unsafe.Offsetof(http.Transport{}.TLSClientConfig); got != transportTLS {
		t.Errorf("TLSClientConfig is at %d", got)
	}
	if got := unsafe.Offsetof(http.Transport{}.DialTLSContext); got != transportDial {
		t.Errorf("DialTLSContext is at %d", got)
	}
	if got := unsafe.Offsetof(tls.Dialer{}.Config); got != dialerConfig {
		t.Errorf("Config of a dialer is at %d", got)
	}
	if got := unsafe.Offsetof(http.Client{}.Transport); got != clientRoundTr {
		t.Errorf("Transport is at %d", got)
	}
}

func TestPlainURL(t *testing.T) {
	for u, want := range map[string]bool{
		"http://localhost:8080/healthz": true, "http://127.0.0.1/": true, "http://[::1]:80/x": true, "http://localhost": true, "http://unix/v1/x": true, "http:///x": false,
		"https://localhost": false, "http://example.com": false, "localhost": false, "": false, "http://localhost.example.com/": false,
		"http://127.0.0.1.example.com/": false, "http://[2001:db8::1]/": false,
	} {
		if got := plainURL(u); got != want {
			t.Errorf("%s: %t", u, got)
		}
	}
	for u, want := range map[string]bool{
		"http://localhost:": true, "http://127.0.0.1:8080/x?": true, "http://[::1]:": true, "http://unix/": true, "http://api:8080": true,
		"http://localhost": false, "http://127.0.0.1": false, "https://localhost:": false, "http://": false, "http:": false, "": false,
		"http://example.com/": false, "http://127.0.0.1.example.com/": false,
	} {
		if got := plainBegin(u); got != want {
			t.Errorf("%s: %t", u, got)
		}
	}
}
