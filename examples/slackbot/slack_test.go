package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

const (
	botToken = "xoxb-111-222-secretofthebot"
	appToken = "xapp-1-A111-333-secretoftheapp"
)

// fakeSlack is a Slack in this process: the Web API, the address for uploads and the Socket Mode connection, over TLS. It
// checks what it is sent as Slack does, and answers with Slack's errors.
type fakeSlack struct {
	*httptest.Server
	// fault, if it is set, may answer the nth call (from 1) of a method in the place of Slack; it then returns true. Methods
	// are those of the Web API, "upload" for the bytes, "respond" for a response_url, "socket" for the opening of one.
	fault func(method string, n int, w http.ResponseWriter, r *http.Request) bool
	// greet, if it is set, has a new socket after the hello, instead of sockets.
	greet func(*websocket.Conn)

	sockets   chan *websocket.Conn
	acks      chan string     // envelope ids
	posts     chan url.Values // chat.postMessage that succeeded
	files     chan sharedFile // uploads that were completed
	responses chan string     // texts sent to a response_url

	ts    atomic.Int64 // of the last message
	mu    sync.Mutex
	calls map[string][]time.Time // by method
	bytes map[string]*pending    // by file id
	write sync.Mutex             // for sockets: gorilla's are for one writer
}

type pending struct {
	name   string
	length int
	data   []byte
	sent   bool
}

// sharedFile is a file that was put into a channel.
type sharedFile struct {
	channel, thread, comment, name, title string
	data                                  []byte
}

func newFakeSlack(t *testing.T) *fakeSlack {
	f := &fakeSlack{
		sockets: make(chan *websocket.Conn, 100), acks: make(chan string, 1000), posts: make(chan url.Values, 1000),
		files: make(chan sharedFile, 1000), responses: make(chan string, 10),
		calls: map[string][]time.Time{}, bytes: map[string]*pending{},
	}
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(f.serve)) // f is complete before the first request reads it
	f.Config.ErrorLog = quiet
	f.StartTLS()
	t.Cleanup(f.Close)
	return f
}

// called returns when method was called.
func (f *fakeSlack) called(method string) []time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]time.Time(nil), f.calls[method]...)
}

func (f *fakeSlack) serve(w http.ResponseWriter, r *http.Request) {
	method, api := strings.CutPrefix(r.URL.Path, "/api/")
	if !api {
		method, _, _ = strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	}
	f.mu.Lock()
	f.calls[method] = append(f.calls[method], time.Now())
	n := len(f.calls[method])
	f.mu.Unlock()
	if f.fault != nil && f.fault(method, n, w, r) {
		return
	}
	switch {
	case method == "socket":
		f.serveSocket(w, r)
	case method == "upload":
		f.serveUpload(w, r)
	case method == "respond":
		var body struct {
			Text string
			Type string `json:"response_type"`
		}
		if json.NewDecoder(r.Body).Decode(&body) != nil || body.Type != "ephemeral" || r.Header.Get("Authorization") != "" {
			http.Error(w, "invalid_payload", http.StatusBadRequest)
			return
		}
		f.responses <- body.Text
		io.WriteString(w, "ok")
	case api && r.Method == http.MethodPost:
		answer := f.method(method, r)
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.Header().Set("X-OAuth-Scopes", "app_mentions:read,chat:write,commands,files:write")
		_, refused := answer["error"]
		answer["ok"] = !refused
		json.NewEncoder(w).Encode(answer)
	default:
		http.NotFound(w, r)
	}
}

func failed(code string) map[string]any { return map[string]any{"error": code} }

// method is one of the Web API: its answer, with "error" where Slack refuses.
func (f *fakeSlack) method(name string, r *http.Request) map[string]any {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		if err := r.ParseForm(); err != nil {
			return failed("invalid_form_data")
		}
		if token == "" {
			token = r.PostForm.Get("token")
		}
	} else if name != openMethod {
		return failed("invalid_post_type")
	}
	want := map[bool]string{true: appToken, false: botToken}[name == openMethod]
	switch {
	case token == "":
		return failed("not_authed")
	case token != want && (token == botToken || token == appToken):
		return failed("not_allowed_token_type")
	case token != want:
		return failed("invalid_auth")
	}
	form := r.PostForm
	switch name {
	case openMethod:
		return map[string]any{"url": "wss" + strings.TrimPrefix(f.URL, "https") + "/socket/link?ticket=secretofthesocket&app_id=A1"}
	case "auth.test":
		return map[string]any{"url": "https://example.slack.com/", "team": "Example", "user": "slackbot", "team_id": "T1", "user_id": "UBOT", "bot_id": "BBOT"}
	case "chat.postMessage":
		switch {
		case !strings.HasPrefix(form.Get("channel"), "C"):
			return failed("channel_not_found")
		case form.Get("text") == "":
			return failed("no_text")
		case form.Has("thread_ts") && form.Get("thread_ts") == "":
			return failed("invalid_arguments")
		}
		f.posts <- form
		return map[string]any{"channel": form.Get("channel"), "ts": fmt.Sprintf("1700000000.%06d", f.ts.Add(1))}
	case "files.getUploadURLExternal":
		var length int
		fmt.Sscan(form.Get("length"), &length)
		if form.Get("filename") == "" || length <= 0 {
			return failed("invalid_arguments")
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		id := fmt.Sprintf("F%04d", len(f.bytes))
		f.bytes[id] = &pending{name: form.Get("filename"), length: length}
		return map[string]any{"file_id": id, "upload_url": f.URL + "/upload/v1/secretoftheupload?id=" + id}
	case "files.completeUploadExternal":
		var files []struct{ ID, Title string }
		if json.Unmarshal([]byte(form.Get("files")), &files) != nil || len(files) != 1 {
			return failed("invalid_arguments")
		}
		if form.Has("blocks") { // Slack refuses those of markdown here; the bot uses none
			return failed("invalid_blocks")
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		u := f.bytes[files[0].ID]
		switch {
		case u == nil:
			return failed("file_not_found")
		case !u.sent || len(u.data) != u.length:
			return failed("file_update_failed")
		case !strings.HasPrefix(form.Get("channel_id"), "C"):
			return failed("channel_not_found")
		}
		f.files <- sharedFile{form.Get("channel_id"), form.Get("thread_ts"), form.Get("initial_comment"), u.name, files[0].Title, u.data}
		return map[string]any{"files": []any{map[string]any{"id": files[0].ID, "title": files[0].Title}}}
	}
	return failed("unknown_method")
}

// serveUpload takes the bytes of a file, as the body or as a form's file.
func (f *fakeSlack) serveUpload(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	u := f.bytes[r.URL.Query().Get("id")]
	f.mu.Unlock()
	if u == nil || r.Method != http.MethodPost {
		http.Error(w, "no such upload", http.StatusNotFound)
		return
	}
	content := io.Reader(r.Body)
	if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") {
		parts, err := r.MultipartReader()
		if err == nil {
			content, err = parts.NextPart()
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	data, err := io.ReadAll(content)
	if err != nil || len(data) != u.length {
		http.Error(w, "length", http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	u.data, u.sent = data, true
	f.mu.Unlock()
	fmt.Fprintf(w, "OK - %d", len(data))
}

func (f *fakeSlack) serveSocket(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("ticket") == "" {
		http.Error(w, "no ticket", http.StatusForbidden)
		return
	}
	conn, err := (&websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}).Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer conn.Close()
	conn.WriteJSON(map[string]any{"type": "hello", "num_connections": 1, "connection_info": map[string]any{"app_id": "A1"}, "debug_info": map[string]any{"host": "applink-1"}})
	if f.greet != nil {
		f.greet(conn)
		return
	}
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for range time.Tick(5 * time.Second) {
			select {
			case <-stop:
				return
			default:
				conn.WriteControl(websocket.PingMessage, []byte("ping"), time.Now().Add(time.Second))
			}
		}
	}()
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
func (f *fakeSlack) send(t *testing.T, conn *websocket.Conn, envelope, eventID string, event map[string]any) {
	t.Helper()
	f.sendRaw(t, conn, map[string]any{
		"type": "events_api", "envelope_id": envelope, "accepts_response_payload": false, "retry_attempt": 0, "retry_reason": "",
		"payload": map[string]any{"type": "event_callback", "event_id": eventID, "event": event, "team_id": "T1", "api_app_id": "A1",
			"authorizations": []any{map[string]any{"team_id": "T1", "user_id": "UBOT", "is_bot": true}}},
	})
}

func (f *fakeSlack) sendRaw(t *testing.T, conn *websocket.Conn, envelope map[string]any) {
	t.Helper()
	f.write.Lock()
	defer f.write.Unlock()
	if err := conn.WriteJSON(envelope); err != nil {
		t.Fatal(err)
	}
}

func mention(text string) map[string]any {
	return map[string]any{"type": "app_mention", "user": "U1", "text": text, "ts": "1.0", "event_ts": "1.0", "channel": "C1"}
}

// next waits for one value of c.
func next[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(30 * time.Second):
		t.Fatalf("no %s within 30 s", what)
		panic("unreachable")
	}
}

// none fails if c has something within a short time.
func none[T any](t *testing.T, c <-chan T, what string) {
	t.Helper()
	select {
	case v := <-c:
		t.Errorf("%s: %v", what, v)
	case <-time.After(300 * time.Millisecond):
	}
}
