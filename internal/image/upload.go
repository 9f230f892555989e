package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// upload sends a blob in one PATCH, as Docker does and every registry understands, and then has it put in its place. When the
// connection breaks it asks how much has arrived and sends the rest. A registry that cannot tell (many have lost the session
// by then), or tells something that turns out wrong, gets all of it again. Pieces of a size of our choice go only to those
// that take no more at once (413): of the others, some refuse all but small pieces, and some count them wrong.
type upload struct {
	client *http.Client
	new    string // the address for new uploads
	mount  string // a repository of the registry that may have the blob; "": none is known
	// open reads the blob from a byte on; what it does not read to the end is not sent.
	open func(ctx context.Context, at int64) (io.ReadCloser, error)
	// end waits until digest and size are known.
	end    func(ctx context.Context) (v1.Hash, int64, error)
	size   int64                                        // bytes; -1: not known yet
	there  func(context.Context, v1.Hash) (bool, error) // asks the registry
	report func(sent int64)

	to      *url.URL // of the session; nil: there is none
	at      int64    // bytes that have arrived
	piece   int64    // bytes for each request; 0: all that is left
	asked   bool     // at is what the registry told
	fresh   bool     // each try begins anew
	mounted bool     // the registry had it: nothing was sent

	sent   atomic.Int64 // bytes that have been read for it, at most
	mu     sync.Mutex
	failed error  // of open
	parked parked // where the next piece goes on
	over   bool   // there is no next piece
}

type parked struct {
	in io.ReadCloser // nil: none
	at int64
}

// sourceError is an error of what is to be sent: no other try helps.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// smaller goes over to pieces, or to smaller ones: what proxies mostly take, then the least that registries ask for.
func (u *upload) smaller() bool {
	for _, n := range []int64{32 << 20, 4 << 20} {
		if (u.piece == 0 || n < u.piece) && (u.size < 0 || n < u.size) {
			u.piece = n
			return true
		}
	}
	return false
}

// send does all that is needed, as long as e allows.
func (u *upload) send(ctx context.Context, e endurance) error {
	defer u.finish()
	for restarts := 0; ; {
		err := u.try(ctx)
		var own *sourceError
		switch {
		case err == nil || ended(ctx):
			return err
		case errors.As(err, &own):
			return own.err
		}
		e.reached(u.at)
		status := statusOf(err)
		switch {
		case u.to == nil || status == http.StatusUnauthorized || status == http.StatusForbidden:
			// no session to be had
		case (status == http.StatusRequestEntityTooLarge || status == http.StatusRequestedRangeNotSatisfiable && u.piece > 0) && u.smaller():
			u.forget()
			continue
		case status/100 == 4 && !busy(status) && status != http.StatusRequestEntityTooLarge && restarts < 2:
			// The session is gone, or what the registry told of it was wrong.
			restarts++
			u.fresh = u.fresh || u.asked
			u.forget()
			continue
		}
		if err := e.again(ctx, err); err != nil {
			return err
		}
		if !u.ask(ctx) {
			u.forget()
		}
	}
}

// try opens a session where there is none, sends what is left, and ends it.
func (u *upload) try(ctx context.Context) error {
	if u.to == nil {
		if err := u.begin(ctx); err != nil || u.mounted {
			return err
		}
	}
	if u.size < 0 && (u.at > 0 || u.piece > 0) {
		if err := u.learn(ctx); err != nil {
			return err
		}
	}
	for u.size < 0 || u.at < u.size {
		if err := u.patch(ctx); err != nil {
			return err
		}
	}
	return u.commit(ctx)
}

// learn waits for the size.
func (u *upload) learn(ctx context.Context) (err error) {
	if _, u.size, err = u.end(ctx); err != nil {
		u.size = -1
		return &sourceError{err}
	}
	return nil
}

// forget gives the session up.
func (u *upload) forget() {
	u.to, u.at, u.asked = nil, 0, false
	u.sent.Store(0)
	u.park(parked{})
}

// begin opens a session, or has the registry take the blob from another repository of its own.
func (u *upload) begin(ctx context.Context) error {
	addr, mounting := u.new, u.mount != ""
	if mounting {
		h, _, err := u.end(ctx)
		if err != nil {
			return &sourceError{err}
		}
		addr += "?" + url.Values{"mount": {h.String()}, "from": {u.mount}}.Encode()
		u.mount = ""
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, addr, nil)
	if err != nil {
		return err
	}
	resp, err := u.client.Do(req)
	if err == nil {
		defer resp.Body.Close()
		err = transport.CheckError(resp, http.StatusCreated, http.StatusAccepted)
	}
	if err != nil {
		if mounting && !ended(ctx) {
			return u.begin(ctx) // some registries refuse instead of opening a session
		}
		return err
	}
	if resp.StatusCode == http.StatusCreated {
		if !mounting {
			return errors.New("the registry says that it has a blob which it was not sent")
		}
		u.mounted = true
		return nil
	}
	return u.follow(resp)
}

// follow takes the address of the next request from an answer.
func (u *upload) follow(resp *http.Response) error {
	next, err := nextAddress(resp.Request.URL, resp.Header.Get("Location"))
	if err == nil {
		u.to = next
	}
	return err
}

func nextAddress(from *url.URL, location string) (*url.URL, error) {
	if location == "" {
		return nil, errors.New("the registry gives no address for the upload")
	}
	next, err := from.Parse(location)
	if err != nil {
		return nil, fmt.Errorf("the registry's address for the upload: %w", err)
	}
	if next.Scheme != "http" && next.Scheme != "https" || next.Host == "" {
		return nil, fmt.Errorf("the registry's address for the upload is %q", location)
	}
	return next, checkHost(from.Hostname(), next.Hostname())
}

// patch sends what is left, or a piece of it.
func (u *upload) patch(ctx context.Context) error {
	n := int64(-1)
	if u.size >= 0 {
		if n = u.size - u.at; u.piece > 0 {
			n = min(n, u.piece)
		}
	}
	start := u.at
	body := func() (io.ReadCloser, error) { return &sending{ctx: ctx, u: u, at: start, left: n}, nil }
	first, _ := body()
	req, err := http.NewRequestWithContext(ctx, http.MethodPatch, u.to.String(), first)
	if err != nil {
		return err
	}
	req.GetBody, req.ContentLength = body, n
	req.Header.Set("Content-Type", "application/octet-stream")
	if u.at > 0 || u.piece > 0 {
		req.Header.Set("Content-Range", fmt.Sprintf("%d-%d", u.at, u.at+n-1))
	}
	resp, err := u.client.Do(req)
	if failed := u.sourceFailed(); failed != nil {
		if err == nil {
			resp.Body.Close()
		}
		return &sourceError{failed}
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := transport.CheckError(resp, http.StatusAccepted, http.StatusNoContent, http.StatusCreated); err != nil {
		return err
	}
	if n < 0 {
		if err := u.learn(ctx); err != nil {
			return err
		}
		n = u.size
	}
	// Not what the answer says in Range: some registries do not count on. The digest tells in the end.
	u.at += n
	return u.follow(resp)
}

// ask finds out how much has arrived. false: the upload has to begin anew.
func (u *upload) ask(ctx context.Context) bool {
	if u.fresh || u.to == nil || u.sent.Load() == 0 {
		return false
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.to.String(), nil)
	if err != nil {
		return false
	}
	resp, err := u.client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusAccepted && resp.StatusCode != http.StatusOK {
		return false
	}
	n, ok := arrived(resp.Header.Get("Range"))
	if !ok || n < u.at || n > u.sent.Load() {
		return false
	}
	if resp.Header.Get("Location") != "" && u.follow(resp) != nil {
		return false
	}
	u.at, u.asked = n, true
	u.sent.Store(n)
	u.park(parked{})
	return true
}

// arrived reads how many bytes a registry has, from the Range of its answer: "0-99" is 100, and "0-0" none.
func arrived(header string) (int64, bool) {
	first, last, ok := parseSpan(strings.TrimPrefix(strings.TrimSpace(header), "bytes="))
	if !ok || first != 0 {
		return 0, false
	}
	if last == 0 {
		return 0, true
	}
	return last + 1, last+1 > 0
}

// commit has the blob put in its place.
func (u *upload) commit(ctx context.Context) error {
	h, _, err := u.end(ctx)
	if err != nil {
		return &sourceError{err}
	}
	to := *u.to
	q := to.Query()
	q.Set("digest", h.String())
	to.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, to.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := u.client.Do(req)
	if err == nil {
		defer resp.Body.Close()
		err = transport.CheckError(resp, http.StatusCreated, http.StatusNoContent)
	}
	if err == nil || ended(ctx) {
		return err
	}
	if ok, _ := u.there(ctx, h); ok {
		return nil // it was done, and the answer was lost
	}
	return err
}

// cancel tells the registry that the session is over. It may as well find out by itself.
func (u *upload) cancel(ctx context.Context) {
	if u.to == nil {
		return
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, u.to.String(), nil)
	if err != nil {
		return
	}
	if resp, err := u.client.Do(req); err == nil {
		resp.Body.Close()
	}
}

func (u *upload) sourceFailed() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.failed
}

// park keeps an open reader for the next piece, and closes the one before.
func (u *upload) park(p parked) {
	u.mu.Lock()
	old, over := u.parked.in, u.over
	u.parked = p
	if over {
		u.parked = parked{}
	}
	u.mu.Unlock()
	if old != nil {
		old.Close()
	}
	if over && p.in != nil {
		p.in.Close()
	}
}

func (u *upload) finish() {
	u.mu.Lock()
	u.over = true
	u.mu.Unlock()
	u.park(parked{})
}

func (u *upload) openAt(ctx context.Context, at int64) (io.ReadCloser, error) {
	u.mu.Lock()
	p := u.parked
	if p.in != nil && p.at == at {
		u.parked = parked{}
		u.mu.Unlock()
		return p.in, nil
	}
	u.mu.Unlock()
	return u.open(ctx, at)
}

// sending is the body of a request. It opens what is sent when it is first read.
type sending struct {
	ctx  context.Context
	u    *upload
	at   int64 // of the next byte
	left int64 // bytes; negative: to the end

	mu     sync.Mutex
	in     io.ReadCloser
	whole  bool // all of it was read
	closed bool
}

func (s *sending) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	in, err := s.opened()
	if err != nil {
		return 0, s.fail(err)
	}
	if s.left > 0 && int64(len(p)) > s.left {
		p = p[:s.left]
	}
	n, err := in.Read(p)
	s.at += int64(n)
	if s.left > 0 {
		if s.left -= int64(n); s.left > 0 && err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if s.left == 0 && s.at == s.u.size && err == nil {
			// Whether it is what it should be shows behind the last byte.
			if _, err = in.Read(make([]byte, 1)); err == io.EOF {
				err = nil
			}
		}
	}
	for most := s.u.sent.Load(); s.at > most && !s.u.sent.CompareAndSwap(most, s.at); {
		most = s.u.sent.Load()
	}
	s.u.report(s.at)
	if err != nil && err != io.EOF {
		return n, s.fail(err)
	}
	s.mu.Lock()
	s.whole = s.left == 0 || err == io.EOF
	s.mu.Unlock()
	return n, err
}

func (s *sending) opened() (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, io.ErrClosedPipe
	}
	var err error
	if s.in == nil {
		s.in, err = s.u.openAt(s.ctx, s.at)
	}
	return s.in, err
}

// fail notes an error of the source, apart from what comes of closing it.
func (s *sending) fail(err error) error {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if !closed {
		s.u.mu.Lock()
		s.u.failed = err
		s.u.mu.Unlock()
	}
	return err
}

func (s *sending) Close() error {
	s.mu.Lock()
	in, whole := s.in, s.whole
	s.in, s.closed = nil, true
	s.mu.Unlock()
	if in == nil {
		return nil
	}
	if whole && s.left == 0 {
		s.u.park(parked{in, s.at})
		return nil
	}
	return in.Close()
}
