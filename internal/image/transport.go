package image

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/skiff-build/skiff/internal/usernet"
)

// limitedTransport is the http transport to registries. Each request of it ends: dialling, the head of an
// answer and silence within a body have time limits, manifests a size limit. Requests without a body are
// tried again when the registry is busy (connections that break are tried again by go-containerregistry, by
// [retryable]). Plain http goes only where it is allowed.
type limitedTransport struct {
	inner    http.RoundTripper
	answerIn time.Duration
	stallIn  time.Duration
	retries  int
	wait     time.Duration
	log      func(string)
	plain    func(host string) bool
	unsigned http.RoundTripper // for hosts that are configured as insecure: certificates are not checked
	insecure []string
}

func newTransport(o RegistryOptions) *limitedTransport {
	t := &limitedTransport{inner: o.Transport, answerIn: o.AnswerIn, stallIn: o.StallIn, retries: 3, wait: o.RetryWait, log: o.Log}
	t.plain = (&Registry{o: o}).isInsecure
	if t.inner == nil {
		inner := http.DefaultTransport.(*http.Transport).Clone()
		dialer := net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}
		inner.TLSHandshakeTimeout = 15 * time.Second
		inner.MaxIdleConnsPerHost = 16
		// Bodies are digested as they were sent.
		inner.DisableCompression = true
		lax := inner.Clone()
		t.inner = usernet.GuardRedirects(inner, dialer)
		lax.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the user asked for it, by host
		t.unsigned, t.insecure = usernet.GuardRedirects(lax, dialer), o.Insecure
	}
	return t
}

// commitPatience is how many times longer a registry may take to put a blob in its place than for another answer.
const commitPatience = 10

// maxRetryAfter bounds how long a registry may make us wait between two tries.
const maxRetryAfter = 30 * time.Second

// RoundTrip implements [http.RoundTripper].
func (t *limitedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme == "http" && !t.plain(req.URL.Host) {
		return nil, &plainHTTPError{req.URL.Host}
	}
	wait := t.wait
	for try := 0; ; try++ {
		resp, err := t.once(req)
		empty := req.Body == nil || req.Body == http.NoBody
		again := try < t.retries && (empty || req.GetBody != nil) && req.Context().Err() == nil
		if !again || err != nil && !(empty && retryable(err)) || err == nil && !busy(resp.StatusCode) {
			return resp, err
		}
		pause := wait
		if err == nil {
			if after, ok := retryAfter(resp); ok {
				if after > maxRetryAfter {
					return resp, nil // the caller says what the registry wants
				}
				pause = after
			}
			io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
			resp.Body.Close()
			if pause > 2*time.Second && t.log != nil {
				t.log(fmt.Sprintf("%s answers %s: trying again in %v", req.URL.Host, resp.Status, pause.Round(time.Second)))
			}
		}
		wait *= 2
		select {
		case <-req.Context().Done():
			return nil, req.Context().Err()
		case <-time.After(pause):
		}
	}
}

func busy(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

func retryAfter(resp *http.Response) (time.Duration, bool) {
	h := resp.Header.Get("Retry-After")
	if s, err := strconv.Atoi(h); err == nil && s >= 0 {
		return time.Duration(s) * time.Second, true
	}
	if at, err := http.ParseTime(h); err == nil {
		return max(0, time.Until(at)), true
	}
	return 0, false
}

// retryable tells whether a request that ended in err may end better the next time. Time limits do not count:
// who hung once would make the user wait as long again.
func retryable(err error) bool {
	var status *transport.Error
	if errors.As(err, &status) {
		return busy(status.StatusCode)
	}
	var slow *timeoutError
	if errors.As(err, &slow) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	for _, broken := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE, net.ErrClosed} {
		if errors.Is(err, broken) {
			return true
		}
	}
	// HTTP/2 breaks off in words of its own, whose types net/http hides.
	return err != nil && (strings.Contains(err.Error(), "http2: ") || strings.Contains(err.Error(), "stream error: "))
}

// unreached tells whether err comes of a host that could not be reached: its network may be back in a moment.
func unreached(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &op) || errors.As(err, &dns)
}

// once does one request under the time limits. They end the request's context; the body of the answer keeps
// the watch until it is closed.
func (t *limitedTransport) once(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	w := &watch{cancel: cancel, host: req.URL.Host}
	out := req.WithContext(ctx)
	switch {
	case req.Body != nil && req.Body != http.NoBody:
		body := req.Body
		if req.GetBody != nil {
			// What is above sends a request once more when its token has expired: with the body from its beginning.
			req.Body.Close()
			var err error
			if body, err = req.GetBody(); err != nil {
				cancel(nil)
				return nil, err
			}
		}
		// An upload: silence counts from the last byte that was taken.
		w.start(t.stallIn, "took no data")
		out.Body = &watchedBody{ReadCloser: body, w: w, left: -1, keep: true}
	case req.Method == http.MethodPut:
		w.start(commitPatience*t.answerIn, "did not answer") // it digests and moves a whole blob first
	default:
		w.start(t.answerIn, "did not answer")
	}
	inner := t.inner
	if t.unsigned != nil && slices.Contains(t.insecure, req.URL.Host) {
		inner = t.unsigned
	}
	resp, err := inner.RoundTrip(out)
	if err != nil {
		w.stop()
		if cause := context.Cause(ctx); cause != nil && req.Context().Err() == nil {
			err = cause
		}
		cancel(nil)
		return nil, err
	}
	w.start(t.stallIn, "sent no data")
	body := &watchedBody{ReadCloser: resp.Body, w: w, ctx: ctx, left: -1}
	if strings.Contains(req.URL.Path, "/manifests/") || strings.HasSuffix(req.URL.Path, "/v2/") || resp.StatusCode >= 400 {
		body.left = maxManifest
	}
	resp.Body = body
	return resp, nil
}

// timeoutError says that a registry was silent for too long.
type timeoutError struct {
	host, what string
	after      time.Duration
}

func (e *timeoutError) Error() string {
	return fmt.Sprintf("%s %s for %v", e.host, e.what, e.after)
}

// plainHTTPError says that a registry speaks http only, and is not one of those that may.
type plainHTTPError struct{ host string }

func (e *plainHTTPError) Error() string {
	return fmt.Sprintf("plain http to %s is not allowed: it can be, by \"insecure\": [%q] in skiff's config.json", e.host, e.host)
}

// watch ends a request after a time of silence.
type watch struct {
	cancel context.CancelCauseFunc
	host   string
	timer  atomic.Pointer[time.Timer]
	limit  atomic.Int64
}

func (w *watch) start(limit time.Duration, what string) {
	w.stop()
	w.limit.Store(int64(limit))
	w.timer.Store(time.AfterFunc(limit, func() { w.cancel(&timeoutError{w.host, what, limit}) }))
}

func (w *watch) seen() {
	if t := w.timer.Load(); t != nil {
		t.Reset(time.Duration(w.limit.Load()))
	}
}

func (w *watch) stop() {
	if t := w.timer.Load(); t != nil {
		t.Stop()
	}
}

// watchedBody is a body under a watch.
type watchedBody struct {
	io.ReadCloser
	w    *watch
	ctx  context.Context // of the request, for the cause of its end; nil for an upload
	left int64           // bytes that may still come; negative: any number
	keep bool            // the watch goes on after Close, for the answer
}

var errTooLarge = fmt.Errorf("the answer is longer than the %d bytes allowed for a manifest", maxManifest)

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.w.seen()
	if err != nil && err != io.EOF && b.ctx != nil {
		if cause := context.Cause(b.ctx); cause != nil {
			err = cause
		}
	}
	if b.left >= 0 {
		if int64(n) > b.left {
			return int(b.left), errTooLarge
		}
		b.left -= int64(n)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	if !b.keep {
		b.w.stop()
		b.w.cancel(nil)
	}
	return b.ReadCloser.Close()
}
