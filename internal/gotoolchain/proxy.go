package gotoolchain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// proxies fetches files by the module proxy protocol from the list that GOPROXY holds
// (go.dev/ref/mod#environment-variables): after a comma the next entry is tried only where this one has
// no such file (404, 410), after a bar always. "direct" and "off" end the list: a toolchain has no
// repository to be fetched from. Safe for concurrent use.
type proxies struct {
	list    []proxyEntry
	setting string
	client  *http.Client
}

type proxyEntry struct {
	url      *url.URL
	fallback bool // also after errors other than "not found"
}

// errProxyEnd is a list that ended in "off" or "direct", or had no entry.
var errProxyEnd = errors.New("no module proxy to ask")

func newProxies(goproxy string) (*proxies, error) {
	p := &proxies{setting: goproxy, client: proxyClient()}
	for rest := goproxy; rest != ""; {
		text, fallback := rest, false
		if i := strings.IndexAny(rest, ",|"); i >= 0 {
			text, fallback, rest = rest[:i], rest[i] == '|', rest[i+1:]
		} else {
			rest = ""
		}
		text = strings.TrimSpace(text)
		if text == "off" || text == "direct" {
			break
		}
		if text == "" {
			continue
		}
		if !strings.Contains(text, ":/") {
			text = "https://" + text
		}
		u, err := url.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("GOPROXY: %w", err)
		}
		p.list = append(p.list, proxyEntry{u, fallback})
	}
	return p, nil
}

// proxyClient gives up a server that does not answer for a minute, and a download after twenty: a toolchain has
// 70 to 120 MB.
func proxyClient() *http.Client {
	c := &http.Client{Timeout: 20 * time.Minute}
	if t, ok := http.DefaultTransport.(*http.Transport); ok {
		t = t.Clone()
		t.ResponseHeaderTimeout = time.Minute
		c.Transport = t
	}
	return c
}

// fileOnly reports that the list is one directory: cmd/go asks no checksum database for toolchains then.
func (p *proxies) fileOnly() bool {
	return strings.HasPrefix(p.setting, "file://") && !strings.ContainsAny(p.setting, ",|")
}

// open fetches name, such as "golang.org/toolchain/@v/list", from the first proxy that has it; size is -1
// where the server does not say. The caller closes the body. What no proxy has is [fs.ErrNotExist].
func (p *proxies) open(ctx context.Context, name string) (body io.ReadCloser, size int64, err error) {
	best := error(errProxyEnd)
	for _, entry := range p.list {
		body, size, err := p.openAt(ctx, entry.url, name)
		if err == nil {
			return body, size, nil
		}
		missing := errors.Is(err, fs.ErrNotExist)
		if errors.Is(best, errProxyEnd) || !missing {
			best = err
		}
		if !missing && !entry.fallback {
			break
		}
	}
	return nil, 0, best
}

// base returns the first proxy that serves name, for a database that stays with the proxy it found.
func (p *proxies) base(ctx context.Context, name string) (*url.URL, error) {
	best := error(errProxyEnd)
	for _, entry := range p.list {
		body, _, err := p.openAt(ctx, entry.url, name)
		if err == nil {
			body.Close()
			return entry.url, nil
		}
		missing := errors.Is(err, fs.ErrNotExist)
		if !missing {
			best = err
			if !entry.fallback {
				break
			}
		}
	}
	return nil, best
}

func (p *proxies) openAt(ctx context.Context, base *url.URL, name string) (io.ReadCloser, int64, error) {
	if base.Scheme == "file" {
		f, err := os.Open(filepath.Join(filepath.FromSlash(base.Path), filepath.FromSlash(name)))
		if err != nil {
			return nil, 0, err
		}
		return f, -1, nil
	}
	u := base.JoinPath(name)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, 0, err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, 0, fmt.Errorf("fetch %s: %w", u.Redacted(), err)
	}
	switch {
	case resp.StatusCode == http.StatusOK:
		return resp.Body, resp.ContentLength, nil
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone:
		err = fmt.Errorf("fetch %s: %s: %w", u.Redacted(), resp.Status, fs.ErrNotExist)
	default:
		err = fmt.Errorf("fetch %s: %s", u.Redacted(), resp.Status)
	}
	resp.Body.Close()
	return nil, 0, err
}

// read fetches a small file of at most limit bytes.
func (p *proxies) read(ctx context.Context, name string, limit int64) ([]byte, error) {
	body, _, err := p.open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return readLimited(body, name, limit)
}

func readLimited(r io.Reader, name string, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s: longer than %d bytes", name, limit)
	}
	return data, nil
}
