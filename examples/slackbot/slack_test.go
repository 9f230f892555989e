package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// fakeSlack is a Slack in this process: the Web API over HTTP and the Socket Mode connection over a
// WebSocket.
type fakeSlack struct {
	*httptest.Server
	open func() string // answer of apps.connections.open other than success, if any
	post func() int    // HTTP status of chat.postMessage

	sockets chan *websocket.Conn // every connection that was opened
	acks    chan string          // envelope ids
	posts   chan url.Values      // chat.postMessage calls that succeeded

	mu    sync.Mutex
	calls map[string]int // by API method
}

func newFakeSlack(t *testing.T) *fakeSlack {
	f := &fakeSlack{
		open: func() string { return "" }, post: func() int { return http.StatusOK },
		sockets: make(chan *websocket.Conn, 10), acks: make(chan string, 10), posts: make(chan url.Values, 10),
		calls: map[string]int{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/api/apps.connections.open", f.serveOpen)
	mux.HandleFunc("/api/chat.postMessage", f.servePost)
	mux.HandleFunc("/socket", f.serveSocket)
	f.Server = httptest.NewUnstartedServer(mux) // f is complete before the first request reads it
	f.Start()
	t.Cleanup(f.Close)
	return f
}

func (f *fakeSlack) count(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[method]
}

func (f *fakeSlack) called(method string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[method]++
}

func (f *fakeSlack) serveOpen(w http.ResponseWriter, r *http.Request) {
	f.called("open")
	w.Header().Set("Content-Type", "application/json")
	if answer := f.open(); answer != "" {
		w.Write([]byte(answer))
		return
	}
	if r.Header.Get("Authorization") != "Bearer xapp-test" {
		w.Write([]byte(`{"ok":false,"error":"invalid_auth"}`))
		return
	}
	json.NewEncoder(w).Encode(map[string]any{"ok": true, "url": "ws" + strings.TrimPrefix(f.URL, "http") + "/socket"})
}

func (f *fakeSlack) servePost(w http.ResponseWriter, r *http.Request) {
	f.called("post")
	r.ParseForm()
	w.Header().Set("Content-Type", "application/json")
	if status := f.post(); status != http.StatusOK {
		w.WriteHeader(status)
		return
	}
	w.Write([]byte(`{"ok":true,"channel":"C1","ts":"2.0"}`))
	f.posts <- r.PostForm
}

func (f *fakeSlack) serveSocket(w http.ResponseWriter, r *http.Request) {
	conn, err := (&websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}).Upgrade(w, r, nil)
	if err != nil {
		return
	}
	conn.WriteJSON(map[string]any{"type": "hello", "num_connections": 1})
	f.sockets <- conn
	for {
		var ack struct {
			ID string `json:"envelope_id"`
		}
		if conn.ReadJSON(&ack) != nil {
			return
		}
		f.acks <- ack.ID
	}
}

// send puts an event of the Events API into an envelope and sends it.
func send(t *testing.T, conn *websocket.Conn, envelope, eventID string, event map[string]any) {
	t.Helper()
	err := conn.WriteJSON(map[string]any{
		"type": "events_api", "envelope_id": envelope,
		"payload": map[string]any{"type": "event_callback", "event_id": eventID, "event": event},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func mention(text string) map[string]any {
	return map[string]any{"type": "app_mention", "user": "U1", "text": text, "ts": "1.0", "channel": "C1"}
}

// next waits for one value of c.
func next[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Fatalf("no %s within 20 s", what)
		panic("unreachable")
	}
}
