package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/skiff-build/skiff/internal/store"
)

// RegistryOptions say how registries are reached. The zero value, with a Store, works.
type RegistryOptions struct {
	Store *store.Store // where tags, manifests and layers are kept; required

	// Mirrors by registry ("docker.io"): addresses asked first, in this order ("https://mirror.example/prefix").
	// What no mirror has comes from the registry itself.
	Mirrors map[string][]string
	// Insecure lists registries ("host:port") that may be spoken to in plain http, or with a certificate that
	// nobody signed. Loopback addresses may always be spoken to in plain http.
	Insecure []string

	// Never keeps all registries from being asked: what is not in the store is an error.
	Never bool

	Keychain authn.Keychain // nil: Docker's configuration, else Podman's
	// Log takes messages for the user, one at a time; nil drops them.
	Log func(string)
	// Progress is told of each layer as it is fetched; nil for nobody. It is called from several goroutines.
	Progress func(Transfer)

	Transport http.RoundTripper // nil: one with time limits, by the environment's proxies
	// AnswerIn bounds the wait for the head of an answer; 0: 30 s. StallIn bounds the time without a byte
	// within an answer or an upload; 0: 60 s.
	AnswerIn, StallIn time.Duration
	// RetryWait is the wait before the first of three retries, doubled for each; 0: 500 ms.
	RetryWait time.Duration
}

// Transfer is the progress of a blob.
type Transfer struct {
	Digest string // of a layer that is sent while it is compressed its diff ID, until the end
	Layer  string // at that end: the diff ID; else ""
	Done   int64  // bytes
	Total  int64  // bytes; -1: not known yet
	Exists bool   // it was there already: nothing was transferred
}

// Registry pulls from and pushes to registries.
type Registry struct {
	o         RegistryOptions
	lib       *Library
	transport *limitedTransport
	once      *limitedTransport // for mirrors: what one does not give at once, its registry does

	mu      sync.Mutex
	readers map[source]*reader
	helpers map[string]*helperError // by registry: why there were no credentials for it
}

// NewRegistry returns a Registry. It reads no file: see [LoadRegistryConfig].
func NewRegistry(o RegistryOptions) (*Registry, error) {
	for reg, mirrors := range o.Mirrors {
		for _, m := range mirrors {
			if _, err := parseMirror(m); err != nil {
				return nil, fmt.Errorf("mirror of %s: %w", reg, err)
			}
		}
	}
	log, mu := o.Log, new(sync.Mutex)
	o.Log = func(s string) {
		mu.Lock()
		defer mu.Unlock()
		if log != nil {
			log(s)
		}
	}
	if o.Keychain == nil {
		o.Keychain = defaultKeychain{}
	}
	o.AnswerIn = orDefault(o.AnswerIn, 30*time.Second)
	o.StallIn = orDefault(o.StallIn, 60*time.Second)
	o.RetryWait = orDefault(o.RetryWait, 500*time.Millisecond)
	r := &Registry{o: o, lib: NewLibrary(o.Store)}
	r.transport, r.readers, r.helpers = newTransport(o), map[source]*reader{}, map[string]*helperError{}
	once := *r.transport
	once.retries = 0
	r.once = &once
	return r, nil
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// RegistryConfig is $XDG_CONFIG_HOME/skiff/config.json.
type RegistryConfig struct {
	Mirrors  map[string][]string `json:"mirrors"`
	Insecure []string            `json:"insecure"`
}

// LoadRegistryConfig reads the user's configuration of registries, {"mirrors": {"docker.io": ["http://…"]},
// "insecure": ["host:port"]}, from the folder skiff in the user's configuration. No file is no error.
func LoadRegistryConfig() (RegistryConfig, error) {
	var c RegistryConfig
	dir := os.Getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(dir) {
		var err error
		if dir, err = os.UserConfigDir(); err != nil {
			return c, nil // no home, no configuration
		}
	}
	path := filepath.Join(dir, "skiff", "config.json")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("read configuration: %w", err)
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, fmt.Errorf("read configuration: %w", jsonError(path, b, d.InputOffset(), err))
	}
	return c, nil
}

// source is a place where an image may be: its registry, or a mirror of that.
type source struct {
	repo   name.Repository
	mirror bool
}

func (s source) tag(t string) name.Reference { return s.repo.Tag(t) }
func (s source) digest(h string) name.Digest { return s.repo.Digest(h) }
func (s source) String() string              { return s.repo.Name() }

// sources lists where the repository of n is looked for: mirrors first.
func (r *Registry) sources(n reference.Named) ([]source, error) {
	var out []source
	host, repo := reference.Domain(n), reference.Path(n)
	for _, m := range append(r.o.Mirrors[host], r.o.Mirrors["*"]...) {
		u, err := parseMirror(m)
		if err != nil {
			return nil, err
		}
		path := strings.Trim(u.Path, "/")
		full, err := name.NewRepository(u.Host+"/"+strings.TrimPrefix(path+"/"+repo, "/"), r.nameOptions(u.Host, u.Scheme == "http")...)
		if err != nil {
			return nil, fmt.Errorf("mirror %s: %w", m, err)
		}
		out = append(out, source{repo: full, mirror: true})
	}
	own, err := name.NewRepository(host+"/"+repo, r.nameOptions(host, false)...)
	if err != nil {
		return nil, err
	}
	return append(out, source{repo: own}), nil
}

func (r *Registry) nameOptions(host string, insecure bool) []name.Option {
	if insecure || r.isInsecure(host) {
		return []name.Option{name.Insecure}
	}
	return nil
}

// isInsecure tells whether plain http to host ("name:port") is allowed.
func (r *Registry) isInsecure(host string) bool {
	for _, h := range r.o.Insecure {
		if h == host {
			return true
		}
	}
	for _, mirrors := range r.o.Mirrors {
		for _, m := range mirrors {
			if u, err := parseMirror(m); err == nil && u.Scheme == "http" && u.Host == host {
				return true
			}
		}
	}
	return isLoopback(host)
}

func isLoopback(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}

func parseMirror(m string) (*url.URL, error) {
	if !strings.Contains(m, "://") {
		m = "https://" + m
	}
	u, err := url.Parse(m)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("%q is not an address of a registry: it has to look like https://host:port", m)
	}
	return u, nil
}

// logf tells the user something.
func (r *Registry) logf(format string, a ...any) { r.o.Log(fmt.Sprintf(format, a...)) }

// ended tells whether err is there because ctx has ended, so that nothing else is worth a try.
func ended(ctx context.Context) bool { return ctx.Err() != nil }
