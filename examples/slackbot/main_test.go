package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/pem"
	"flag"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var quiet = log.New(io.Discard, "", 0)

// TestMain makes the CA of the servers here the one that the program believes in.
func TestMain(m *testing.M) {
	if os.Getenv("SLACKBOT_TEST_MAIN") != "" {
		main()
		return
	}
	dir, err := os.MkdirTemp("", "slackbot")
	if err != nil {
		log.Fatal(err)
	}
	file := cmp.Or(os.Getenv("SLACKBOT_TEST_CA"), filepath.Join(dir, "ca.pem"))
	if err := os.WriteFile(file, ca(), 0o644); err != nil {
		log.Fatal(err)
	}
	os.Setenv("SSL_CERT_FILE", file)
	os.Setenv("SSL_CERT_DIR", dir)
	flag.Parse()
	flag.Set("test.parallel", "50") // they wait more than they work
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// ca is the certificate of httptest's servers, which is its own CA.
func ca() []byte {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// process is the program, running in this process.
type process struct {
	stop   context.CancelFunc // as SIGTERM does
	code   <-chan int
	stdout output
	stderr output
}

// output can be read while it is written.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// start runs slackbot with args against f.
func start(t *testing.T, f *fakeSlack, args ...string) *process {
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	p := &process{stop: cancel, code: code}
	env := map[string]string{"SLACK_BOT_TOKEN": botToken, "SLACK_APP_TOKEN": appToken, "SLACK_API_URL": f.URL + "/api", "LOG_LEVEL": "debug"}
	done := make(chan struct{})
	go func() {
		defer close(done)
		code <- run(ctx, args, func(name string) string { return env[name] }, &p.stdout, &p.stderr)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		for _, secret := range []string{botToken, appToken, "secretof"} {
			if out := p.stdout.String() + p.stderr.String(); strings.Contains(out, secret) {
				t.Errorf("%q is in the output:\n%s", secret, out)
			}
		}
		if t.Failed() {
			t.Logf("output:\n%s%s", p.stdout.String(), p.stderr.String())
		}
	})
	return p
}

// once runs a command that ends by itself.
func once(t *testing.T, f *fakeSlack, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p := start(t, f, args...)
	code = next(t, p.code, "end")
	return code, p.stdout.String(), p.stderr.String()
}

// says waits until the log has text.
func (p *process) says(t *testing.T, text string) {
	t.Helper()
	until(t, text, func() bool { return strings.Contains(p.stderr.String(), text) })
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for begin := time.Now(); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > 30*time.Second {
			t.Fatalf("no %s within 30 s", what)
		}
	}
}
