package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/docker/cli/cli/config"
)

// LoadIntoDocker sends images to a Docker daemon (the Engine API's POST /images/load). The daemon is $DOCKER_HOST,
// else that of Docker's current context, else the socket of this machine. It returns what the daemon says.
func LoadIntoDocker(ctx context.Context, images []Named, epoch time.Time) (string, error) {
	d, err := findDaemon()
	if err != nil {
		return "", fmt.Errorf("load into docker: %w", err)
	}
	said, err := d.load(ctx, images, epoch)
	if err != nil {
		return "", fmt.Errorf("load into docker: %s: %w", d.host, err)
	}
	return said, nil
}

// daemon is where a Docker daemon listens.
type daemon struct {
	host   string // as the user knows it: "unix:///var/run/docker.sock"
	base   string // "http://docker"
	client *http.Client
}

func findDaemon() (*daemon, error) {
	host, certs := os.Getenv("DOCKER_HOST"), ""
	if host == "" {
		var err error
		if host, certs, err = contextEndpoint(); err != nil {
			return nil, err
		}
	} else if os.Getenv("DOCKER_TLS_VERIFY") != "" {
		certs = os.Getenv("DOCKER_CERT_PATH")
		if certs == "" {
			certs = dockerDir()
		}
	}
	if host == "" {
		host = defaultDockerHost
	}
	return newDaemon(host, certs)
}

// newDaemon speaks to host, with the ca.pem, cert.pem and key.pem in the folder certs ("": no TLS).
func newDaemon(host, certs string) (*daemon, error) {
	u, err := url.Parse(host)
	if err != nil {
		return nil, fmt.Errorf("DOCKER_HOST=%s: %w", host, err)
	}
	d := &daemon{host: host, base: "http://docker"}
	t := &http.Transport{ResponseHeaderTimeout: 10 * time.Minute, DisableCompression: true}
	d.client = &http.Client{Transport: t}
	dialer := &net.Dialer{Timeout: 15 * time.Second}
	switch u.Scheme {
	case "unix":
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", u.Path)
		}
	case "npipe":
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dialPipe(ctx, u.Path) }
	case "tcp", "http", "https":
		t.DialContext = dialer.DialContext
		d.base = "http://" + u.Host
		if certs != "" || u.Scheme == "https" {
			d.base = "https://" + u.Host
			if t.TLSClientConfig, err = clientTLS(certs); err != nil {
				return nil, err
			}
		}
	case "ssh":
		return nil, fmt.Errorf("DOCKER_HOST=%s: ssh is not supported: use `skiff save | ssh HOST docker load`", host)
	default:
		return nil, fmt.Errorf("DOCKER_HOST=%s: it has to start with unix://, tcp:// or npipe://", host)
	}
	return d, nil
}

func clientTLS(dir string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if dir == "" {
		return c, nil
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err == nil {
		c.Certificates = []tls.Certificate{cert}
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	if ca, err := os.ReadFile(filepath.Join(dir, "ca.pem")); err == nil {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(ca) {
			return nil, fmt.Errorf("read certificate: %s holds none", filepath.Join(dir, "ca.pem"))
		}
	}
	return c, nil
}

func dockerDir() string {
	if d := os.Getenv("DOCKER_CONFIG"); d != "" {
		return d
	}
	return config.Dir()
}

// contextEndpoint returns address and certificates of Docker's current context, "" for the default one
// (docker/cli: cli/context/store keeps contexts by the sha256 of their names).
func contextEndpoint() (host, certs string, err error) {
	name := os.Getenv("DOCKER_CONTEXT")
	if name == "" {
		var c struct {
			CurrentContext string `json:"currentContext"`
		}
		if b, err := os.ReadFile(filepath.Join(dockerDir(), "config.json")); err == nil && json.Unmarshal(b, &c) == nil {
			name = c.CurrentContext
		}
	}
	if name == "" || name == "default" {
		return "", "", nil
	}
	sum := sha256.Sum256([]byte(name))
	id := hex.EncodeToString(sum[:])
	b, err := os.ReadFile(filepath.Join(dockerDir(), "contexts", "meta", id, "meta.json"))
	if err != nil {
		return "", "", fmt.Errorf("docker context %q: %w", name, err)
	}
	var m struct {
		Endpoints map[string]struct{ Host string }
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return "", "", fmt.Errorf("docker context %q: %w", name, err)
	}
	tlsDir := filepath.Join(dockerDir(), "contexts", "tls", id, "docker")
	if _, err := os.Stat(tlsDir); err == nil {
		certs = tlsDir
	}
	return m.Endpoints["docker"].Host, certs, nil
}

func (d *daemon) load(ctx context.Context, images []Named, epoch time.Time) (string, error) {
	pr, pw := io.Pipe()
	defer pr.Close()
	go func() { pw.CloseWithError(WriteDocker(ctx, pw, images, epoch)) }()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.base+"/images/load?quiet=1", pr)
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-tar")
	resp, err := d.client.Do(req)
	if err != nil {
		if ctx.Err() == nil && isDial(err) {
			return "", fmt.Errorf("no Docker daemon answers there: start it, or set DOCKER_HOST: %w", err)
		}
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		var m struct{ Message string }
		if json.Unmarshal(body, &m) != nil || m.Message == "" {
			m.Message = strings.TrimSpace(string(body))
		}
		return "", fmt.Errorf("the daemon refuses (%s): %s", resp.Status, m.Message)
	}
	return daemonSaid(body)
}

func isDial(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// daemonSaid reads the daemon's messages, JSON objects one after another; one of them may be an error.
func daemonSaid(body []byte) (string, error) {
	var said strings.Builder
	for dec := json.NewDecoder(bytes.NewReader(body)); ; {
		var m struct{ Stream, Error string }
		if err := dec.Decode(&m); err == io.EOF {
			return strings.TrimSpace(said.String()), nil
		} else if err != nil {
			return "", fmt.Errorf("the daemon's answer: %w", err)
		}
		if m.Error != "" {
			return "", errors.New(m.Error)
		}
		said.WriteString(m.Stream)
	}
}
