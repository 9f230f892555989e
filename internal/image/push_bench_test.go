package image

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// link is a network of bytes per second, for all connections together, in both directions.
type link struct {
	net.Listener
	rate int64

	mu   sync.Mutex
	free time.Time // when the next byte may pass
}

func (l *link) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		c.(*net.TCPConn).SetReadBuffer(64 << 10)
		c = &linkConn{c, l}
	}
	return c, err
}

func (l *link) pass(n int) {
	l.mu.Lock()
	// What waits in the buffers of a network goes on while this process has no processor.
	if least := time.Now().Add(-100 * time.Millisecond); l.free.Before(least) {
		l.free = least
	}
	l.free = l.free.Add(time.Duration(n) * time.Second / time.Duration(l.rate))
	until := l.free
	l.mu.Unlock()
	time.Sleep(time.Until(until))
}

type linkConn struct {
	net.Conn
	l *link
}

func (c *linkConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p[:min(len(p), 64<<10)])
	c.l.pass(n)
	return n, err
}

func (c *linkConn) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		var k int
		k, err = c.Conn.Write(p[:min(len(p), 64<<10)])
		c.l.pass(k)
		n, p = n+k, p[k:]
	}
	return n, err
}

func behindLink(b *testing.B, rate int64) (host string) {
	b.Helper()
	srv := httptest.NewUnstartedServer(discarding{registry.New(registry.Logger(log.New(io.Discard, "", 0)))})
	srv.Listener = &link{Listener: srv.Listener, rate: rate}
	srv.Start()
	b.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

// discarding takes blobs and forgets them, so that the registry costs no time of its own.
type discarding struct{ http.Handler }

func (d discarding) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.Contains(r.URL.Path, "/blobs/") {
		d.Handler.ServeHTTP(w, r)
		return
	}
	io.Copy(io.Discard, r.Body)
	w.Header().Set("Location", strings.TrimSuffix(r.URL.Path, "/")+"/1")
	code := map[string]int{http.MethodHead: 404, http.MethodPost: 202, http.MethodPatch: 202, http.MethodPut: 201}[r.Method]
	w.WriteHeader(code)
}

// BenchmarkPush pushes an image of four layers that were never compressed, each a piece of this program. The bytes counted are
// those of the layers before compression.
func BenchmarkPush(b *testing.B) {
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		b.Fatal(err)
	}
	const layers = 4
	size := min(len(program), 16<<20) / layers
	var tars [][]byte
	for i := range layers {
		tars = append(tars, makeTar(b, file{name: "f", content: string(program[i*size : (i+1)*size])}))
	}
	for _, rate := range []int64{20_000_000, 5_000_000} {
		b.Run(fmt.Sprintf("%dMBps", rate/1_000_000), func(b *testing.B) { benchmarkPush(b, rate, tars) })
	}
}

func benchmarkPush(b *testing.B, rate int64, tars [][]byte) {
	host := behindLink(b, rate)
	b.SetBytes(int64(len(tars) * len(tars[0])))
	for b.Loop() {
		b.StopTimer()
		l := newLibrary(b)
		s := Spec{Config: []byte(plainConfig)}
		for _, t := range tars {
			s.Layers = append(s.Layers, layerOf(t))
		}
		img, err := l.Assemble(b.Context(), s)
		if err != nil {
			b.Fatal(err)
		}
		r, err := NewRegistry(RegistryOptions{Store: l.st, Keychain: authn.NewMultiKeychain()})
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if _, err := r.Push(b.Context(), img, host+"/x:1", PushOptions{}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		reportSent(b, l, img, rate)
		b.StartTimer()
	}
}

// reportSent says how long the bytes alone take on the link.
func reportSent(b *testing.B, l *Library, img v1.Image, rate int64) {
	c, err := l.Convert(b.Context(), img, Format{})
	if err != nil {
		b.Fatal(err)
	}
	m, err := c.(v1.Image).Manifest()
	if err != nil {
		b.Fatal(err)
	}
	var n int64
	for _, d := range m.Layers {
		n += d.Size
	}
	b.ReportMetric(float64(n)/float64(rate), "s-of-link/op")
}
