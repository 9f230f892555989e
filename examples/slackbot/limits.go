package main

import (
	"net/http"
	"strings"
	"sync"
	"time"
)

// throttle is an http.RoundTripper that lets requests to paths ending in path pass once in every. It
// is safe for concurrent use.
type throttle struct {
	path  string
	every time.Duration

	mu   sync.Mutex
	next time.Time // when the next one may pass
}

func (t *throttle) RoundTrip(req *http.Request) (*http.Response, error) {
	if strings.HasSuffix(req.URL.Path, t.path) {
		select {
		case <-time.After(t.wait(time.Now())):
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}
	return http.DefaultTransport.RoundTrip(req)
}

// wait books the next turn and returns how far it is from now.
func (t *throttle) wait(now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	turn := t.next
	if turn.Before(now) {
		turn = now
	}
	t.next = turn.Add(t.every)
	return turn.Sub(now)
}

// recent remembers the last limit strings that were added. It is not safe for concurrent use.
type recent struct {
	limit int
	set   map[string]bool
	order []string // oldest first
}

// add says whether s is new.
func (r *recent) add(s string) bool {
	if r.set[s] {
		return false
	}
	if r.set == nil {
		r.set = map[string]bool{}
	}
	if len(r.order) == r.limit {
		delete(r.set, r.order[0])
		r.order = r.order[1:]
	}
	r.set[s], r.order = true, append(r.order, s)
	return true
}
