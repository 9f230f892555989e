package main

import (
	"bytes"
	"context"
	"crypto/tls"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/slack-go/slack"
)

const (
	maxAnswer = 8 << 20 // bytes, of an answer that is read whole; registries allow manifests of 4 MiB
	tries     = 5       // of a call that fails for the network's or the server's sake
)

// newSlack is the client of Slack's Web API. The library cannot send an upload again, so all trying again is [polite]'s.
func newSlack(cfg config) *slack.Client {
	calls := &polite{to: http.DefaultTransport, api: cfg.apiURL, timeout: 20 * time.Second, patience: patience, turn: map[string]time.Time{}}
	return slack.New(cfg.botToken, slack.OptionAppLevelToken(cfg.appToken), slack.OptionAPIURL(cfg.apiURL), slack.OptionHTTPClient(&http.Client{Transport: calls}))
}

// upload puts a file into a channel, or a thread of it, in the three steps that Slack wants.
// https://docs.slack.dev/messaging/working-with-files
func upload(ctx context.Context, api *slack.Client, channel, thread, comment, name string, data []byte) error {
	at, err := api.GetUploadURLExternalContext(ctx, slack.GetUploadURLExternalParameters{FileName: name, FileSize: len(data)})
	if err != nil {
		return fmt.Errorf("files.getUploadURLExternal: %w", err)
	} else if err = api.UploadToURL(ctx, slack.UploadToURLParameters{UploadURL: at.UploadURL, Filename: name, Reader: bytes.NewReader(data)}); err != nil {
		return fmt.Errorf("upload of %d bytes: %w", len(data), err)
	} else if _, err = api.CompleteUploadExternalContext(ctx, slack.CompleteUploadExternalParameters{
		Files: []slack.FileSummary{{ID: at.FileID, Title: name}}, Channel: channel, ThreadTimestamp: thread, InitialComment: comment,
	}); err != nil {
		return fmt.Errorf("files.completeUploadExternal: %w", err)
	}
	return nil
}

// polite is an http.RoundTripper that obeys Retry-After, and tries again what failed for the network's or the server's
// sake. For that it keeps bodies and reads answers whole. It is safe for concurrent use.
type polite struct {
	to       http.RoundTripper
	api      string        // what addresses of Slack's methods begin with: limits are by method there, by host elsewhere
	timeout  time.Duration // of one attempt; large bodies get more
	patience time.Duration // the longest Retry-After that is waited for

	mu   sync.Mutex
	turn map[string]time.Time // by method or host: when the next call may begin
}

// openMethod opens a connection. The library tries it for ever, with pauses between attempts that failed, but with none
// between connections that opened and were cut at once. So the pause is made here, and the trying left to the library.
const openMethod = "apps.connections.open"

func (p *polite) RoundTrip(req *http.Request) (*http.Response, error) {
	key, every := req.URL.Host, time.Duration(0)
	if method, ok := strings.CutPrefix(req.URL.String(), p.api); ok && p.api != "" {
		key, every = method, 50*time.Millisecond // after a pause not all at once
	}
	if key == openMethod {
		every = 2*time.Second + rand.N(time.Second/2)
	}
	var body []byte
	if req.Body != nil {
		var err error
		body, err = io.ReadAll(req.Body)
		if err = errors.Join(err, req.Body.Close()); err != nil {
			return nil, err
		}
	}
	for try := 1; ; try++ {
		if err := p.wait(req.Context(), key, every); err != nil {
			return nil, err
		}
		res, err := p.attempt(req, body)
		pause := backoff(try)
		if err == nil && res.StatusCode == http.StatusTooManyRequests {
			after, _ := time.ParseDuration(res.Header.Get("Retry-After") + "s")
			pause = max(pause, after)
			p.mu.Lock()
			p.turn[key] = time.Now().Add(pause) // for the other callers, too
			p.mu.Unlock()
			try-- // to be told to wait is no failure
		} else if err == nil && res.StatusCode < 500 || try >= tries || untrusted(err) || errors.Is(err, errForbidden) || errors.Is(err, errSlow) && try > 1 {
			return res, err
		}
		if end, ends := req.Context().Deadline(); key == openMethod || pause > p.patience || ends && time.Until(end) < pause {
			return res, err
		} else if err := sleep(req.Context(), pause); err != nil {
			return nil, err
		}
	}
}

// wait waits for the turn of a call, and books the next one.
func (p *polite) wait(ctx context.Context, key string, every time.Duration) error {
	for {
		p.mu.Lock()
		pause := time.Until(p.turn[key])
		if pause <= 0 {
			p.turn[key] = time.Now().Add(every)
		}
		p.mu.Unlock()
		if err := sleep(ctx, pause); pause <= 0 || err != nil {
			return err
		}
	}
}

var errSlow = errors.New("no answer in time")

// attempt sends req once, with body, and reads the answer.
func (p *polite) attempt(req *http.Request, body []byte) (*http.Response, error) {
	limit := p.timeout + time.Duration(len(body)>>16)*time.Second // 64 kB/s at least
	ctx, cancel := context.WithTimeoutCause(req.Context(), limit, errSlow)
	defer cancel()
	again := req.Clone(ctx)
	if body != nil {
		again.Body, again.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		again.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	}
	res, err := p.to.RoundTrip(again)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return nil, err
	} else if len(answer) > maxAnswer {
		return nil, fmt.Errorf("%w: an answer of more than %d MB", errForbidden, maxAnswer>>20)
	}
	res.Body = io.NopCloser(bytes.NewReader(answer))
	return res, nil
}

// backoff is the pause after an attempt, the first being 1: half a second, doubled each time, and up to half less.
func backoff(try int) time.Duration {
	d := min(time.Second/2<<min(try-1, 5), 10*time.Second)
	return d/2 + rand.N(d/2)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	return ctx.Err()
}

// advice has lines "ERROR: WHAT TO DO" for errors of Slack's.
//
//go:embed advice.txt
var advice string

// hopeless says whether the answer will be the same next time; the library tries some of these for ever.
func hopeless(err error) bool {
	refused := slack.SlackErrorResponse{}
	return untrusted(err) || errors.As(err, &refused) && slices.Contains([]string{"invalid_auth", "not_authed", "account_inactive",
		"token_revoked", "token_expired", "not_allowed_token_type", "missing_scope"}, refused.Err)
}

// untrusted says whether err is a certificate that nobody here vouches for.
func untrusted(err error) bool {
	bad := (*tls.CertificateVerificationError)(nil)
	return errors.As(err, &bad)
}

// explain is err in words, with what to do about it where that is known.
func explain(err error) string {
	text, refused := err.Error(), slack.SlackErrorResponse{}
	if errors.As(err, &refused) {
		_, after, _ := strings.Cut("\n"+advice, "\n"+refused.Err+": ")
		what, _, _ := strings.Cut(after, "\n")
		text = strings.Trim(text+": "+what+": "+refused.Needed, ": ")
	} else if untrusted(err) {
		text += ": is /etc/ssl/certs/ca-certificates.crt in the image? SSL_CERT_FILE names another file of CAs"
	} else if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errSlow) {
		text += ": it took too long: try again later"
	}
	return text
}

// missingScopes compares those of manifest.yaml with what Slack says of the token beside an answer.
func missingScopes(header http.Header) (missing []string) {
	granted := strings.FieldsFunc(header.Get("X-OAuth-Scopes"), func(r rune) bool { return r == ',' || r == ' ' })
	for _, s := range []string{"app_mentions:read", "chat:write", "commands", "files:write"} {
		if len(granted) > 0 && !slices.Contains(granted, s) {
			missing = append(missing, s)
		}
	}
	return missing
}

var (
	tokenText   = regexp.MustCompile(`\b(xox[a-z]|xapp)[-.][\w.-]+`)
	addressText = regexp.MustCompile(`(\w+://)(?:[^/\s"@]*@)?([^/?\s"]*)[^\s"<>]*`)
)

// redact takes out what lets somebody in: tokens, and all of an address but its host. Slack's addresses for sockets,
// uploads and answers are secrets, and so are those of a registry's blobs.
func redact(s string) string {
	return addressText.ReplaceAllString(tokenText.ReplaceAllString(s, "$1-…"), "$1$2")
}
