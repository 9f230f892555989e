package main

import (
	"bytes"
	"cmp"
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

const maxAnswer, tries = 8 << 20, 5        // bytes of an answer that is read whole; attempts for the network's or the server's sake
const openMethod = "apps.connections.open" // which the library tries for ever, without pauses where sockets are cut at once

// newSlack is the client of Slack's Web API. The library cannot send an upload again, so all trying again is [polite]'s.
func newSlack(cfg config) *slack.Client {
	to := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: handshake, MaxIdleConnsPerHost: workers}
	calls := &polite{to: to, api: cfg.apiURL, timeout: 20 * time.Second, patience: patience, turn: map[string]time.Time{}}
	return slack.New(cfg.botToken, slack.OptionAppLevelToken(cfg.appToken), slack.OptionAPIURL(cfg.apiURL), slack.OptionHTTPClient(&http.Client{Transport: calls}))
}

// upload puts a file into a channel, or a thread of it, in the three steps that Slack wants.
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

// polite is an http.RoundTripper that obeys Retry-After and tries again what failed. It keeps bodies and reads answers whole.
type polite struct {
	to       http.RoundTripper
	api      string        // what addresses of Slack's methods begin with: limits are by method there, by host elsewhere
	timeout  time.Duration // of one attempt; large bodies get more
	patience time.Duration // the longest Retry-After that is waited for
	mu       sync.Mutex
	turn     map[string]time.Time // by method or host: when the next call may begin
}

func (p *polite) RoundTrip(req *http.Request) (*http.Response, error) {
	key, every := req.URL.Host, time.Duration(0)
	if method, ok := strings.CutPrefix(req.URL.String(), p.api); ok && method == openMethod {
		key, every = method, 2*time.Second+rand.N(time.Second/2)
	} else if ok && p.api != "" {
		key, every = method, 50*time.Millisecond // after a pause not all at once
	}
	in := cmp.Or[io.ReadCloser](req.Body, http.NoBody)
	defer in.Close()
	body, err := io.ReadAll(in)
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		if err := p.wait(req.Context(), key, every); err != nil {
			return nil, err
		}
		res, err := p.attempt(req, body)
		pause := time.Second / 4 << try // half a second, doubled each time, and up to as much more
		pause += rand.N(pause)
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
		}
		_ = sleep(req.Context(), pause) // wait looks at the context
	}
}

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

func (p *polite) attempt(req *http.Request, body []byte) (*http.Response, error) {
	limit := p.timeout + time.Duration(len(body)>>16)*time.Second // 64 kB/s at least
	ctx, cancel := context.WithTimeoutCause(req.Context(), limit, errSlow)
	defer cancel()
	again := req.Clone(ctx)
	if len(body) > 0 {
		again.Body, again.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
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

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	return ctx.Err()
}

//go:embed advice.txt
var advice string // lines "ERROR: WHAT TO DO", for errors of Slack's
var errSlow = errors.New("no answer in time")

const botName, appName = "SLACK_BOT_TOKEN", "SLACK_APP_TOKEN"

// ofToken says which of the two tokens it was that Slack refused. Socket Mode's connection is opened by the one of the app, all else is asked with the other.
func ofToken(name string, err error) error {
	if _, is := errors.AsType[slack.SlackErrorResponse](err); !is || !hopeless(err) || strings.Contains(err.Error(), name) {
		return err
	}
	return fmt.Errorf("%s: %w", name, err)
}

func hopeless(err error) bool { // the answer will be the same next time; the library tries some of these for ever
	refused, _ := errors.AsType[slack.SlackErrorResponse](err)
	return untrusted(err) || slices.Contains(strings.Fields("invalid_auth not_authed account_inactive token_revoked token_expired "+
		"not_allowed_token_type missing_scope"), refused.Err)
}

func untrusted(err error) bool {
	_, is := errors.AsType[*tls.CertificateVerificationError](err)
	return is
}

func explain(err error) string {
	text := err.Error()
	if refused, is := errors.AsType[slack.SlackErrorResponse](err); is {
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

func missingScopes(header http.Header) []string { // of those in manifest.yaml; the header of an answer has what the token has
	granted := "," + strings.ReplaceAll(header.Get("X-OAuth-Scopes"), " ", "") + ","
	return slices.DeleteFunc(strings.Fields("app_mentions:read chat:write commands files:write"), func(scope string) bool {
		return granted == ",," || strings.Contains(granted, ","+scope+",")
	})
}

var (
	tokenText   = regexp.MustCompile(`\b(xox[a-z]|xapp)[-.][\w.-]+`)
	addressText = regexp.MustCompile(`(\w+://)(?:[^/\s"@]*@)?([^/?\s"]*)[^\s"<>]*`)
)

// redact takes out tokens, and all of an address but its host: those for sockets, uploads, answers and blobs let one in.
func redact(s string) string {
	return addressText.ReplaceAllString(tokenText.ReplaceAllString(s, "$1-…"), "$1$2")
}
