//go:build linux

package probes

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// peer is who the probes talk to: servers and clients on 127.0.0.1 whose certificates a root of the test's own has signed.
type peer struct {
	root []byte // PEM: what the CA bundle holds
	name string // of the TLS server, with its port
	env  []string
}

// peerName is a name of 127.0.0.1 in the roots. It is of no domain that exists (RFC 2606).
const peerName = "peer.example"

func newPeer(t *testing.T) *peer {
	t.Helper()
	root, rootKey := certificate(t, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	leaf, key := certificate(t, &x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{peerName}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, root, rootKey)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	own := tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}
	config := &tls.Config{Certificates: []tls.Certificate{own}}

	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "hello") })
	plain := httptest.NewServer(hello)
	t.Cleanup(plain.Close)
	secure := httptest.NewUnstartedServer(hello)
	secure.TLS, secure.EnableHTTP2 = config, true
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	_, port, err := net.SplitHostPort(secure.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return &peer{name: peerName + ":" + port, root: []byte(block("CERTIFICATE", root.Raw)), env: []string{
		"CA_PEM=" + block("CERTIFICATE", root.Raw), "CERT_PEM=" + block("CERTIFICATE", leaf.Raw), "KEY_PEM=" + block("PRIVATE KEY", der),
		"PLAIN=" + plain.Listener.Addr().String(), "TLS=" + secure.Listener.Addr().String(),
		"SMTP=" + listen(t, func(c net.Conn) { serveMail(c, config) }),
		"CLIENT=" + listen(t, func(c net.Conn) {
			tc := tls.Client(c, &tls.Config{Certificates: []tls.Certificate{own}, InsecureSkipVerify: true})
			if tc.Handshake() == nil {
				io.Copy(io.Discard, tc)
			}
		}),
	}}
}

func certificate(t *testing.T, c, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber, c.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: "probes"}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if parent == nil {
		parent, parentKey = c, key
	} else {
		c.Subject.CommonName = "127.0.0.1"
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c, key
}

// listen serves connections until the test ends and returns the address.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(time.Minute))
				serve(c)
			}()
		}
	}()
	return l.Addr().String()
}

// serveMail takes a message (RFC 5321), over TLS when asked (RFC 3207).
func serveMail(c net.Conn, config *tls.Config) {
	fmt.Fprint(c, "220 probe\r\n")
	for in := bufio.NewReader(c); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		switch verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " "); verb {
		case "EHLO":
			fmt.Fprint(c, "250-probe\r\n250 STARTTLS\r\n")
		case "STARTTLS":
			fmt.Fprint(c, "220 go on\r\n")
			c = tls.Server(c, config)
			in = bufio.NewReader(c)
		case "DATA":
			fmt.Fprint(c, "354 go on\r\n")
			for line != ".\r\n" {
				if line, err = in.ReadString('\n'); err != nil {
					return
				}
			}
			fmt.Fprint(c, "250 taken\r\n")
		case "QUIT":
			fmt.Fprint(c, "221 bye\r\n")
			return
		default:
			fmt.Fprint(c, "250 fine\r\n")
		}
	}
}
