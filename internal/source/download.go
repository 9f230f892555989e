package source

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/skiff-build/skiff/internal/store"
	"github.com/skiff-build/skiff/internal/usernet"
)

// Time limits of a request that a server holds up. Connecting to one that is far away takes less.
const (
	connectLimit = 30 * time.Second
	stallLimit   = time.Minute
)

// maxRedirects is what Go's client allows, and BuildKit with it.
const maxRedirects = 10

// download gets the content of a URL into the store, unless the server says that it still is the one of old,
// which is then returned.
func (f *Fetcher) download(ctx context.Context, src HTTP, old httpRecord) (httpRecord, error) {
	rec, err := f.tryDownload(ctx, src, old)
	if err != nil {
		return rec, fmt.Errorf("get %s: %w", redact(src.URL), plain(err))
	}
	return rec, nil
}

func (f *Fetcher) tryDownload(ctx context.Context, src HTTP, old httpRecord) (rec httpRecord, err error) {
	ctx, stall := withStall(ctx, f.Stall)
	defer stall.stop()
	req, err := f.request(ctx, src)
	if err != nil {
		return rec, err
	}
	if old.ETag != "" {
		req.Header.Set("If-None-Match", old.ETag)
	} else if old.LastModified != "" {
		req.Header.Set("If-Modified-Since", old.LastModified)
	}
	resp, err := f.client().Do(req)
	if err != nil {
		return rec, stall.explain(err)
	}
	defer resp.Body.Close()
	switch etag := resp.Header.Get("ETag"); {
	case resp.StatusCode == http.StatusNotModified && len(old.Blobs) > 0:
		return old, nil
	case resp.StatusCode/100 != 2:
		return rec, fmt.Errorf("the server answers %s%s", resp.Status, hint(resp.StatusCode))
	case etag != "" && opaque(etag) == opaque(old.ETag):
		return old, nil // a server that knows etags but not If-None-Match
	}
	rec = httpRecord{ETag: resp.Header.Get("ETag"), LastModified: resp.Header.Get("Last-Modified"), Filename: responseName(resp.Header)}
	h, err := f.save(ctx, stall.reader(resp.Body), src.Checksum, resp.ContentLength)
	if err != nil {
		return rec, stall.explain(err)
	}
	rec.Blobs = []string{h.String()}
	return rec, nil
}

// opaque is the part of an ETag that is compared (RFC 9110, 8.8.3.2: weak comparison).
func opaque(etag string) string { return strings.TrimPrefix(etag, "W/") }

func hint(status int) string {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return " (credentials: --secret id=HTTP_AUTH_TOKEN_HOST or HTTP_AUTH_HEADER_HOST)"
	}
	return ""
}

// request makes a GET with the credentials that the build has for the host.
func (f *Fetcher) request(ctx context.Context, src HTTP) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, src.URL, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "skiff")
	for name, v := range src.Header {
		req.Header[name] = v
	}
	if src.AuthSecret != "" {
		v := f.secret(ctx, src.AuthSecret)
		if v == "" {
			return nil, fmt.Errorf("secret %s is not given to this build", src.AuthSecret)
		}
		req.Header.Set("Authorization", v)
		return req, nil
	}
	if v := f.secret(ctx, "HTTP_AUTH_HEADER_"+req.URL.Hostname()); v != "" {
		req.Header.Set("Authorization", v)
	}
	if v := f.secret(ctx, "HTTP_AUTH_TOKEN_"+req.URL.Hostname()); v != "" {
		req.Header.Set("Authorization", "Bearer "+v)
	}
	return req, nil
}

// save stores a body and verifies its checksum.
func (f *Fetcher) save(ctx context.Context, body io.Reader, checksum string, size int64) (v1.Hash, error) {
	var want v1.Hash
	var other hash.Hash // of a checksum that the store does not verify
	var sum string
	switch {
	case strings.HasPrefix(checksum, "sha256:"):
		var err error
		if want, err = v1.NewHash(checksum); err != nil {
			return want, err
		}
	case checksum != "":
		newHash, s, err := parseChecksum(checksum)
		if err != nil {
			return want, err
		}
		other, sum = newHash(), s
		body = io.TeeReader(body, other)
	}
	got, _, err := f.Store.WriteBlob(ctx, body, want, size)
	var mismatch *store.DigestError
	if errors.As(err, &mismatch) && checksum != "" {
		return got, fmt.Errorf("the content does not match the checksum %s: %w", checksum, err)
	}
	if err != nil {
		return got, err
	}
	if other != nil && fmt.Sprintf("%x", other.Sum(nil)) != sum {
		return got, fmt.Errorf("the content does not match the checksum %s: it has %x", checksum, other.Sum(nil))
	}
	return got, nil
}

func (f *Fetcher) client() *http.Client {
	if f.Client != nil {
		return f.Client
	}
	return defaultClient
}

var defaultClient = &http.Client{
	Transport: usernet.GuardRedirects(&http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		TLSHandshakeTimeout: connectLimit,
		ForceAttemptHTTP2:   true,
		MaxIdleConns:        10,
		IdleConnTimeout:     connectLimit,
	}, net.Dialer{Timeout: connectLimit}),
	CheckRedirect: func(_ *http.Request, via []*http.Request) error {
		if len(via) >= maxRedirects {
			return fmt.Errorf("more than %d redirects", maxRedirects)
		}
		return nil
	},
}

// plain takes away what http.Client says around an error: the URL is in our own words already.
func plain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// redact hides the password of a URL.
func redact(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.User == nil {
		return s
	}
	u.User = url.User("xxxxx")
	return u.String()
}

// stall ends a context when nothing has arrived for too long.
type stall struct {
	cancel context.CancelCauseFunc
	ctx    context.Context
	timer  *time.Timer
	limit  time.Duration
}

func withStall(ctx context.Context, limit time.Duration) (context.Context, *stall) {
	if limit == 0 {
		limit = stallLimit
	}
	ctx, cancel := context.WithCancelCause(ctx)
	s := &stall{cancel: cancel, ctx: ctx, limit: limit}
	s.timer = time.AfterFunc(limit, func() { cancel(fmt.Errorf("nothing arrived for %s", limit)) })
	return ctx, s
}

func (s *stall) stop() {
	s.timer.Stop()
	s.cancel(nil)
}

// explain says why the context ended where an error comes of that.
func (s *stall) explain(err error) error {
	if cause := context.Cause(s.ctx); cause != nil {
		return cause
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the connection was cut: %w", err)
	}
	return err
}

// reader puts the end off with each byte.
func (s *stall) reader(r io.Reader) io.Reader { return &stallReader{r, s} }

type stallReader struct {
	r io.Reader
	s *stall
}

func (r *stallReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if n > 0 {
		r.s.timer.Reset(r.s.limit)
	}
	return n, err
}
