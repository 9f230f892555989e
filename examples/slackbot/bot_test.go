package main

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

func TestSizeIsAnsweredInItsThreadWithAFile(t *testing.T) {
	t.Parallel()
	f, r := newFakeSlack(t), newFakeRegistry(t, plain)
	layer, unpacked := layerOf(3_000_000, true)
	manifest := r.push("1.2", "linux/amd64", layer)
	start(t, f)
	conn := next(t, f.sockets, "connection")

	f.send(t, conn, "e1", "Ev1", mention("<@UBOT> size "+r.host+"/team/app:1.2"))
	if got := next(t, f.acks, "ack"); got != "e1" {
		t.Errorf("acknowledged %q", got)
	}
	post := next(t, f.posts, "answer")
	if post.Get("channel") != "C1" || post.Get("thread_ts") != "1.0" {
		t.Errorf("answer: %v", post)
	}
	if !regexp.MustCompile(`(?m)^app:1\.2 +linux/amd64 +1 +\d\.\d+ kB +3\.00 MB$`).MatchString(post.Get("text")) {
		t.Errorf("no table: %s", post.Get("text"))
	}
	file := next(t, f.files, "file")
	if file.channel != "C1" || file.thread != "1.0" || file.name != "size.txt" || file.comment != "" {
		t.Errorf("file: %+v", file)
	}
	for _, want := range []string{r.host + "/team/app:1.2", digestOf(manifest), digestOf(layer), fmt.Sprint(len(layer)), fmt.Sprint(unpacked)} {
		if !bytes.Contains(file.data, []byte(want)) {
			t.Errorf("%q is not in the report:\n%s", want, file.data)
		}
	}

	reply := mention("<@UBOT> size")
	reply["thread_ts"] = "0.5"
	f.send(t, conn, "e2", "Ev2", reply)
	post = next(t, f.posts, "answer")
	if post.Get("thread_ts") != "0.5" || !strings.Contains(post.Get("text"), "wants the name of one image") {
		t.Errorf("answer in a thread: %v", post)
	}
}

func TestDiff(t *testing.T) {
	t.Parallel()
	f, r := newFakeSlack(t), newFakeRegistry(t, plain)
	base, _ := layerOf(1_000_000, false)
	more, _ := layerOf(500_000, false)
	r.pushIndex("1", map[string][]byte{"linux/amd64": r.push("", "linux/amd64", base), "linux/arm64": r.push("", "linux/arm64", base)})
	r.push("2", "linux/amd64", base, more)
	start(t, f)
	f.send(t, next(t, f.sockets, "connection"), "e1", "Ev1", mention("<@UBOT> diff "+r.host+"/team/app:1 "+r.host+"/team/app:2"))
	text := next(t, f.posts, "answer").Get("text")
	if !regexp.MustCompile(`(?m)^difference +linux/amd64 +\+1 +\+0\.50 MB \(\+50\.\d %\) +\+0\.50 MB \(\+50\.\d %\)`).MatchString(text) {
		t.Errorf("no difference:\n%s", text)
	}
	if n := strings.Count(text, "linux/arm64"); n != 1 {
		t.Errorf("the platform that the second lacks is there %d times:\n%s", n, text)
	}
	file := next(t, f.files, "file")
	if n := strings.Count(string(file.data), digestOf(base)); file.name != "diff.txt" || n != 3 || strings.Count(string(file.data), digestOf(more)) != 1 {
		t.Errorf("%s: the layer of all is there %d times:\n%s", file.name, n, file.data)
	}
}

func TestLongReportsAreCSV(t *testing.T) {
	var layers []descriptor
	for n := range 120 {
		layers = append(layers, descriptor{Digest: fmt.Sprint("sha256:", n), Size: int64(n), unpacked: unknown})
	}
	r := describe([]*image{{reference{"h.example", "a", "1", ""}, []*platform{{"linux/amd64", "sha256:x", 5, unknown, layers, "a note, with a comma"}}}})
	rows, err := csv.NewReader(bytes.NewReader(r.data)).ReadAll()
	if r.file != "size.csv" || err != nil || len(rows) != 122 || !slices.Equal(rows[1], []string{"h.example/a:1", "linux/amd64", "a note, with a comma", "5", "", "sha256:x"}) {
		t.Errorf("%s, %v, %d rows: %q", r.file, err, len(rows), rows[1])
	}
	if !strings.Contains(r.text, "linux/amd64") || len(r.text) > 500 {
		t.Errorf("message: %s", r.text)
	}
}

// TestFigures: none is off by more than a hundredth of itself.
func TestFigures(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0.0 kB", 1: "0.001 kB", 512: "0.51 kB", 1234: "1.23 kB", 20_480: "20.5 kB", 99_999: "100.0 kB", 100_000: "0.10 MB", 123_456: "0.123 MB",
		501_536: "0.50 MB", 3_000_000: "3.00 MB", 57_254_321: "57.25 MB", unknown: "-",
	} {
		if got := megabytes(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	for n := int64(1); n < 1<<40; n += n/7 + 1 {
		value, unit, _ := strings.Cut(megabytes(n), " ")
		x, err := strconv.ParseFloat(value, 64)
		x *= map[string]float64{"kB": 1e3, "MB": 1e6}[unit]
		if err != nil || math.Abs(x-float64(n)) > float64(n)/100 || (unit == "kB") != (n < 100_000) {
			t.Errorf("%d: %s", n, megabytes(n))
		}
	}
	for want, d := range map[string][2]int64{
		"+0.50 MB (+50.0 %)": {1_000_000, 1_500_000}, "-2.0 kB (-0.2 %)": {1_000_000, 998_000}, "+1.0 kB (+0.01 %)": {10_000_000, 10_001_000}, "+0.0 kB (+0.0 %)": {5, 5},
	} {
		if got := difference(d[0], d[1]); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

// TestBlock: of a long report a message has the begin.
func TestBlock(t *testing.T) {
	if got := block([]byte("a <b> `c`\n")); got != "```\na &lt;b&gt; 'c'\n```" {
		t.Errorf("%q", got)
	}
	got := block(bytes.Repeat([]byte("0123456789\n"), 1000))
	if len(got) > 4000 || !strings.HasSuffix(got, "9\n… and 682 lines more\n```") {
		t.Errorf("%d bytes: %s", len(got), got[max(0, len(got)-60):])
	}
}

func TestSlashCommandBeginsAThread(t *testing.T) {
	t.Parallel()
	f, r := newFakeSlack(t), newFakeRegistry(t, plain)
	layer, _ := layerOf(10, true)
	r.push("1", "linux/amd64", layer)
	var refused sync.Map
	f.fault = func(method string, n int, w http.ResponseWriter, _ *http.Request) bool {
		code, ok := refused.Load(method)
		if ok {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"ok":false,"error":%q}`, code)
		}
		return ok
	}
	start(t, f)
	conn := next(t, f.sockets, "connection")
	command := func(envelope, text string) {
		f.sendRaw(t, conn, map[string]any{"type": "slash_commands", "envelope_id": envelope, "accepts_response_payload": true, "payload": map[string]any{
			"command": "/image", "text": text, "channel_id": "C1", "user_id": "U1", "trigger_id": "1.2", "response_url": f.URL + "/respond/secretofthecommand"}})
	}
	command("s1", "size "+r.host+"/team/app:1")
	command("s1", "size "+r.host+"/team/app:1") // the same, sent again
	if post := next(t, f.posts, "answer"); post.Has("thread_ts") {
		t.Errorf("answer: %v", post)
	}
	if file := next(t, f.files, "file"); file.thread != "1700000000.000001" {
		t.Errorf("file in thread %q", file.thread)
	}
	none(t, f.posts, "a second answer")

	refused.Store("chat.postMessage", "not_in_channel")
	command("s2", "help")
	if text := next(t, f.responses, "response"); !strings.Contains(text, "/invite @slackbot") {
		t.Errorf("response: %s", text)
	}
}

func TestWhatGetsNoAnswerIsAcknowledged(t *testing.T) {
	t.Parallel()
	f := newFakeSlack(t)
	p := start(t, f)
	conn := next(t, f.sockets, "connection")
	p.says(t, "signed in")
	f.send(t, conn, "e1", "Ev1", mention("ping"))
	f.send(t, conn, "e2", "Ev1", mention("ping")) // the same event, sent again
	bot, self := mention("ping"), mention("ping")
	bot["bot_id"], self["user"] = "B1", "UBOT"
	f.send(t, conn, "e3", "Ev3", bot)
	f.send(t, conn, "e4", "Ev4", self)
	f.send(t, conn, "e5", "Ev5", map[string]any{"type": "kind_of_the_future"})
	f.sendRaw(t, conn, map[string]any{"type": "kind_of_the_future", "envelope_id": "e6", "payload": "text"})
	f.sendRaw(t, conn, map[string]any{"type": "interactive", "envelope_id": "e7", "payload": map[string]any{"type": "block_actions"}})
	odd := mention("ping")
	odd["blocks"], odd["files"] = "not a list", 7 // the library does not take this
	f.send(t, conn, "e8", "Ev8", odd)
	f.send(t, conn, "e9", "Ev9", map[string]any{"type": "message", "user": "U1", "text": "ping", "channel": "C1", "ts": "1.0"})
	var acked []string
	for range 9 {
		acked = append(acked, next(t, f.acks, "ack"))
	}
	slices.Sort(acked)
	if want := strings.Fields("e1 e2 e3 e4 e5 e6 e7 e8 e9"); !slices.Equal(acked, want) {
		t.Errorf("acknowledged %v", acked)
	}
	for range 2 { // of Ev1 and Ev8
		if got := next(t, f.posts, "answer").Get("text"); got != "pong" {
			t.Errorf("answer %q", got)
		}
	}
	none(t, f.posts, "one answer too many")
}

// TestBurst: acknowledgements do not wait for answers, which Slack throttles here.
func TestBurst(t *testing.T) {
	t.Parallel()
	f := newFakeSlack(t)
	f.fault = func(method string, n int, w http.ResponseWriter, _ *http.Request) bool {
		if method == "chat.postMessage" && n%50 == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		}
		return false
	}
	start(t, f)
	conn := next(t, f.sockets, "connection")
	sent := map[string]time.Time{}
	for n := range 200 {
		id := fmt.Sprint("e", n)
		sent[id] = time.Now()
		f.send(t, conn, id, fmt.Sprint("Ev", n), mention("<@UBOT> ping"))
	}
	for range 200 {
		id := next(t, f.acks, "ack")
		if took := time.Since(sent[id]); took > 3*time.Second {
			t.Errorf("%s was acknowledged after %v", id, took)
		}
		delete(sent, id)
	}
	for range 200 {
		next(t, f.posts, "answer")
	}
	if len(sent) > 0 {
		t.Errorf("not acknowledged: %v", sent)
	}
}

// steps are the calls of one answer with a file.
var steps = []string{"chat.postMessage", "files.getUploadURLExternal", "upload", "files.completeUploadExternal"}

func TestRetryAfterIsObeyed(t *testing.T) {
	t.Parallel()
	for _, step := range append(steps, openMethod) {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := newFakeSlack(t)
			f.fault = func(method string, n int, w http.ResponseWriter, _ *http.Request) bool {
				if method == step && n <= 2 {
					w.Header().Set("Retry-After", "2")
					http.Error(w, `{"ok":false,"error":"ratelimited"}`, http.StatusTooManyRequests)
					return true
				}
				return false
			}
			askForSize(t, f)
			calls := f.called(step)
			for i := 1; i < len(calls); i++ {
				if wait := calls[i].Sub(calls[i-1]); wait < 1990*time.Millisecond {
					t.Errorf("call %d came after %v", i+1, wait)
				}
			}
		})
	}
}

// askForSize has the bot answer one question of the size of an image, and checks the file.
func askForSize(t *testing.T, f *fakeSlack) *process {
	t.Helper()
	r := newFakeRegistry(t, plain)
	layer, _ := layerOf(100, true)
	r.push("1", "linux/amd64", layer)
	p := start(t, f)
	f.send(t, next(t, f.sockets, "connection"), "e1", "Ev1", mention("size "+r.host+"/team/app:1"))
	next(t, f.posts, "answer")
	if file := next(t, f.files, "file"); file.thread != "1.0" || !bytes.Contains(file.data, []byte(digestOf(layer))) {
		t.Errorf("file: %+v", file)
	}
	return p
}

func TestFailuresAreTriedAgain(t *testing.T) {
	t.Parallel()
	for _, step := range append(steps, openMethod, "socket") {
		for name, fail := range map[string]func(w http.ResponseWriter){
			"502": func(w http.ResponseWriter) { http.Error(w, "<html>bad gateway</html>", http.StatusBadGateway) },
			"cut": func(w http.ResponseWriter) { cut(w, "") },
			"cut in the answer": func(w http.ResponseWriter) {
				cut(w, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"ok\":true,")
			},
		} {
			t.Run(step+" "+name, func(t *testing.T) {
				t.Parallel()
				f := newFakeSlack(t)
				f.fault = func(method string, n int, w http.ResponseWriter, _ *http.Request) bool {
					if method != step || n > 2 {
						return false
					}
					fail(w)
					return true
				}
				askForSize(t, f)
			})
		}
	}
}

// cut sends text and closes the connection.
func cut(w http.ResponseWriter, text string) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	conn.Write([]byte(text))
	conn.Close()
}

func TestTryingAgainEnds(t *testing.T) {
	t.Parallel()
	f := newFakeSlack(t)
	f.fault = func(method string, _ int, w http.ResponseWriter, _ *http.Request) bool {
		if method == "chat.postMessage" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		return method == "chat.postMessage"
	}
	p := start(t, f)
	f.send(t, next(t, f.sockets, "connection"), "e1", "Ev1", mention("ping"))
	p.says(t, "not answered")
	calls := f.called("chat.postMessage")
	if len(calls) != tries {
		t.Errorf("%d calls", len(calls))
	}
	if last := calls[len(calls)-1].Sub(calls[len(calls)-2]); last < 4*time.Second {
		t.Errorf("the pauses do not grow: the last is %v", last)
	}
}

func TestConnectsAgainAndLosesNothing(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*websocket.Conn){
		"warning": func(c *websocket.Conn) { c.WriteJSON(map[string]any{"type": "disconnect", "reason": "warning"}) },
		"refresh": func(c *websocket.Conn) {
			c.WriteJSON(map[string]any{"type": "disconnect", "reason": "refresh_requested", "debug_info": map[string]any{"host": "x"}})
		},
		"cut": func(c *websocket.Conn) { c.NetConn().Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeSlack(t)
			start(t, f)
			conn := next(t, f.sockets, "connection")
			for n := range 30 {
				f.send(t, conn, fmt.Sprint("e", n), fmt.Sprint("Ev", n), mention("ping"))
			}
			acked := map[string]bool{next(t, f.acks, "ack"): true}
			f.write.Lock()
			end(conn)
			f.write.Unlock()
			conn = next(t, f.sockets, "second connection")
			for len(f.acks) > 0 {
				acked[<-f.acks] = true
			}
			// Slack sends again what was not acknowledged.
			for n := range 30 {
				if !acked[fmt.Sprint("e", n)] {
					f.send(t, conn, fmt.Sprint("again", n), fmt.Sprint("Ev", n), mention("ping"))
				}
			}
			for range 30 {
				next(t, f.posts, "answer")
			}
			none(t, f.posts, "an event was answered twice")
		})
	}
}

func TestNoStormOfConnections(t *testing.T) {
	t.Parallel()
	f := newFakeSlack(t)
	f.greet = func(*websocket.Conn) {} // the handler's end cuts the socket
	start(t, f)
	until(t, "first connection", func() bool { return len(f.called("socket")) > 0 })
	time.Sleep(6 * time.Second)
	if n := len(f.called("socket")); n > 25 {
		t.Errorf("%d connections in 6 s", n)
	}
	until(t, "further connection", func() bool { return len(f.called("socket")) > 1 })
}

// TestSilentSocketIsLeft takes as long as the silence that is borne.
func TestSilentSocketIsLeft(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	f := newFakeSlack(t)
	f.greet = func(c *websocket.Conn) { c.ReadMessage() } // no ping, no event
	start(t, f)
	begin := time.Now()
	for len(f.called("socket")) < 2 && time.Since(begin) < 75*time.Second {
		time.Sleep(100 * time.Millisecond)
	}
	if n := len(f.called("socket")); n < 2 {
		t.Error("a silent socket was kept for 75 s")
	}
}

func TestEndsAfterTheAnswersUnderWay(t *testing.T) {
	t.Parallel()
	f := newFakeSlack(t)
	release := make(chan struct{})
	f.fault = func(method string, n int, _ http.ResponseWriter, _ *http.Request) bool {
		if method == "chat.postMessage" && n == 1 {
			<-release
		}
		return false
	}
	p := start(t, f)
	conn := next(t, f.sockets, "connection")
	f.send(t, conn, "e1", "Ev1", mention("ping"))
	next(t, f.acks, "ack")
	until(t, "answer", func() bool { return len(f.called("chat.postMessage")) > 0 })
	p.stop()
	time.Sleep(50 * time.Millisecond)
	f.write.Lock()
	conn.WriteJSON(map[string]any{"type": "events_api", "envelope_id": "e2", "payload": map[string]any{"type": "event_callback", "event_id": "Ev2", "event": mention("ping")}})
	f.write.Unlock()
	none(t, f.acks, "new work was taken")
	close(release)
	next(t, f.posts, "the answer under way")
	if code := next(t, p.code, "end"); code != 0 {
		t.Errorf("exit code %d", code)
	}
	none(t, f.posts, "new work was done")
}

func TestEndsWithoutAnAnswerThatHangs(t *testing.T) {
	t.Parallel()
	f := newFakeSlack(t)
	f.fault = func(method string, _ int, _ http.ResponseWriter, r *http.Request) bool {
		if method == "chat.postMessage" {
			io.Copy(io.Discard, r.Body) // only then the server sees the client go
			<-r.Context().Done()
		}
		return false
	}
	p := start(t, f)
	f.send(t, next(t, f.sockets, "connection"), "e1", "Ev1", mention("ping"))
	until(t, "answer", func() bool { return len(f.called("chat.postMessage")) > 0 })
	begin := time.Now()
	p.stop()
	if code := next(t, p.code, "end"); code != 0 || time.Since(begin) > 15*time.Second {
		t.Errorf("exit code %d after %v", code, time.Since(begin))
	}
}

func TestNothingComesBackAlive(t *testing.T) {
	t.Parallel()
	f := newFakeSlack(t)
	start(t, f)
	conn := next(t, f.sockets, "connection")
	for n, text := range []string{"<!channel>", "size <!channel>", "size &lt;!channel&gt;", "size &lt;@U123&gt;", "diff <@U123> <!here|here>", "size `<!everyone>`",
		"size <http://x.example/<!channel>|&lt;!channel&gt;>", "size x.example/a:&lt;!channel&gt;", "say <!subteam^S1>", "size &amp;lt;!channel&amp;gt;"} {
		f.send(t, conn, fmt.Sprint("e", n), fmt.Sprint("Ev", n), mention("<@UBOT> "+text))
		if got := next(t, f.posts, "answer").Get("text"); regexp.MustCompile(`<[!@#h]`).MatchString(got) {
			t.Errorf("%s: %s", text, got)
		}
	}
}

func TestWords(t *testing.T) {
	for text, want := range map[string]string{
		"<@UBOT> size alpine":                       "size alpine",
		"<@UBOT|slackbot>\u00a0size\u2003alpine":    "size alpine",
		"size “alpine”":                             "size alpine",
		"size ‘alpine:3.22’, please":                "size alpine:3.22 please",
		"size `ghcr.io/a/b:1`":                      "size ghcr.io/a/b:1",
		"size <http://ghcr.io/a/b:1|ghcr.io/a/b:1>": "size ghcr.io/a/b:1",
		"size <https://ghcr.io/a/b>":                "size ghcr.io/a/b",
		"size https://ghcr.io/a/b/":                 "size ghcr.io/a/b",
		"size a@<mailto:b@c.example|b@c.example>":   "size a@b@c.example",
		"size a\u200b\ufeff":                        "size a",
		"a &lt;b&gt; &amp;amp;":                     "a b &amp",
		"*size* alpine":                             "size alpine",
		"<#C1|general> size":                        "general size",
		"size: alpine.":                             "size alpine",
		" \n\t ":                                    "",
		"size <http://127.0.0.1:5000/a:1|127.0.0.1:5000/a:1> <!here>": "size 127.0.0.1:5000/a:1",
	} {
		if got := strings.Join(words(text), " "); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func FuzzWords(f *testing.F) {
	f.Add("<@UBOT> size <http://a|b> &lt;")
	f.Fuzz(func(t *testing.T, text string) {
		for _, w := range words(text) {
			if w == "" || regexp.MustCompile(`<[!@]`).MatchString(escape(w)) {
				t.Errorf("%q: %q", text, w)
			}
		}
	})
}

// TestSlackErrors: what Slack refuses is said in the thread where that works, and in the log with what to do.
func TestSlackErrors(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		"not_in_channel": "/invite @slackbot", "channel_not_found": "/invite @slackbot", "is_archived": "unarchive it",
		"invalid_auth": "copy it again", "missing_scope": "the token lacks a scope: add it at api.slack.com/apps", "file_uploads_disabled": "ask its administrator",
		"some_error_of_the_future": "some_error_of_the_future",
	} {
		for _, step := range []string{"chat.postMessage", "files.getUploadURLExternal", "files.completeUploadExternal"} {
			t.Run(step+" "+code, func(t *testing.T) {
				t.Parallel()
				f, r := newFakeSlack(t), newFakeRegistry(t, plain)
				layer, _ := layerOf(10, true)
				r.push("1", "linux/amd64", layer)
				f.fault = func(method string, _ int, w http.ResponseWriter, _ *http.Request) bool {
					if method == step {
						w.Header().Set("Content-Type", "application/json")
						fmt.Fprintf(w, `{"ok":false,"error":%q,"needed":"files:write","provided":"chat:write"}`, code)
					}
					return method == step
				}
				p := start(t, f)
				f.send(t, next(t, f.sockets, "connection"), "e1", "Ev1", mention("size "+r.host+"/team/app:1"))
				if step != "chat.postMessage" {
					next(t, f.posts, "answer")
					if post := next(t, f.posts, "explanation"); !strings.Contains(post.Get("text"), want) || post.Get("thread_ts") != "1.0" ||
						!strings.Contains(post.Get("text"), digestOf(layer)) || code == "missing_scope" && !strings.Contains(post.Get("text"), "SLACK_BOT_TOKEN") {
						t.Errorf("explanation: %v", post)
					}
				}
				p.says(t, "not answered")
				if log := p.stderr.String(); !strings.Contains(log, want) || code == "missing_scope" && !strings.Contains(log, "files:write") {
					t.Errorf("log: %s", log)
				}
			})
		}
	}
}

func TestRegistryErrorsAreExplainedInTheThread(t *testing.T) {
	t.Parallel()
	f, r := newFakeSlack(t), newFakeRegistry(t, plain)
	start(t, f)
	f.send(t, next(t, f.sockets, "connection"), "e1", "Ev1", mention("size "+r.host+"/team/app:gone"))
	if post := next(t, f.posts, "explanation"); post.Get("thread_ts") != "1.0" || !strings.Contains(post.Get("text"), r.host+"/team/app:gone: look at its spelling and its tag") {
		t.Errorf("explanation: %v", post)
	}
}

func TestRefusedTokensEndTheBot(t *testing.T) {
	t.Parallel()
	for _, method := range []string{openMethod, "auth.test"} {
		for _, code := range []string{"invalid_auth", "missing_scope", "not_allowed_token_type", "token_revoked"} {
			t.Run(method+" "+code, func(t *testing.T) {
				t.Parallel()
				f := newFakeSlack(t)
				f.fault = func(m string, _ int, w http.ResponseWriter, _ *http.Request) bool {
					if m == method {
						w.Header().Set("Content-Type", "application/json")
						fmt.Fprintf(w, `{"ok":false,"error":%q,"needed":"connections:write"}`, code)
					}
					return m == method
				}
				if exit, _, said := once(t, f); exit != 1 || !strings.Contains(said, "slackbot: connect to Slack: ") || !strings.Contains(said, code+": ") ||
					!strings.Contains(said, map[bool]string{true: "SLACK_APP_TOKEN: " + code, false: "SLACK_BOT_TOKEN: " + code}[method == openMethod]) {
					t.Errorf("exit code %d: %s", exit, said)
				}
			})
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	f := newFakeSlack(t)
	code, said, _ := once(t, f, "check")
	if code != 0 || said != "SLACK_BOT_TOKEN: ok, slackbot (UBOT) in Example (T1)\nSLACK_APP_TOKEN: ok, Socket Mode is on\n" {
		t.Errorf("exit code %d: %s", code, said)
	}
	f = newFakeSlack(t)
	f.fault = func(method string, _ int, w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-OAuth-Scopes", "chat:write, commands,files:read")
		if method == openMethod {
			fmt.Fprint(w, `{"ok":false,"error":"missing_scope","needed":"connections:write","provided":""}`)
		} else {
			fmt.Fprint(w, `{"ok":true,"user":"slackbot","user_id":"UBOT","team":"Example","team_id":"T1"}`)
		}
		return true
	}
	code, _, said = once(t, f, "check")
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"lacks scopes: [app_mentions:read files:write]: add them", "SLACK_APP_TOKEN", "connections:write"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not in: %s", want, said)
		}
	}
}

func TestNotify(t *testing.T) {
	t.Parallel()
	f := newFakeSlack(t)
	report := filepath.Join(t.TempDir(), "report.csv")
	if err := os.WriteFile(report, []byte("layer,bytes\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	code, said, _ := once(t, f, "notify", "--channel", "C0123", "--report="+report, "--comment", "fix <!channel> & more", "--thread", "5.5")
	file := next(t, f.files, "file")
	if code != 0 || said != "uploaded report.csv (12 bytes) to C0123\n" || string(file.data) != "layer,bytes\n" ||
		file.channel != "C0123" || file.thread != "5.5" || file.comment != "fix &lt;!channel&gt; &amp; more" || file.name != "report.csv" {
		t.Errorf("exit code %d: %s: %+v", code, said, file)
	}
	empty := filepath.Join(t.TempDir(), "empty")
	os.WriteFile(empty, nil, 0o644)
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{2, "--channel and --report", []string{"--report", report}},
		{2, "--channel and --report", []string{"--channel", "C1"}},
		{2, "--channel and --report", []string{"--channel", "C1", "--report", report, "more"}},
		{2, "-chanel", []string{"--chanel", "C1"}},
		{1, "no such file", []string{"--channel", "C1", "--report", report + ".gone"}},
		{1, "Slack takes no empty file", []string{"--channel", "C1", "--report", empty}},
		{1, "is no channel, or it is private", []string{"--channel", "general", "--report", report}},
	} {
		code, _, said := once(t, f, append([]string{"notify"}, c.args...)...)
		if code != c.code || !strings.Contains(said, strings.Replace(c.want, "is no", "is no such", 1)) {
			t.Errorf("%v: exit code %d: %s", c.args, code, said)
		}
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	f := newFakeSlack(t)
	healthy := func() bool { code, _, _ := once(t, f, "health"); return code == 0 }
	if healthy() {
		t.Error("healthy without a bot")
	}
	p := start(t, f)
	conn := next(t, f.sockets, "connection")
	until(t, "healthy state", healthy)
	for range 3 {
		if !healthy() {
			t.Error("not healthy though connected")
		}
	}
	conn.NetConn().Close()
	until(t, "unhealthy state after a cut", func() bool { return !healthy() })
	next(t, f.sockets, "second connection")
	until(t, "healthy state again", healthy)
	p.stop()
	next(t, p.code, "end")
	if healthy() {
		t.Error("healthy after the end")
	}
}

func TestSettings(t *testing.T) {
	for _, c := range []struct {
		env  string
		want []string // parts of the error; none: no error
	}{
		{"", []string{"SLACK_BOT_TOKEN is not set", "SLACK_APP_TOKEN is not set", "connections:write"}},
		{"SLACK_BOT_TOKEN=xapp-secret SLACK_APP_TOKEN=xapp-1", []string{"SLACK_BOT_TOKEN is not the right kind", "xoxb-"}},
		{"SLACK_BOT_TOKEN=xoxb-1 SLACK_APP_TOKEN=xapp-1", nil},
		{"SLACK_BOT_TOKEN=xoxb-1 SLACK_APP_TOKEN=xapp-1 SLACK_API_URL=secret", []string{"SLACK_API_URL is no address"}},
		{"SLACK_BOT_TOKEN=xoxb-1 SLACK_APP_TOKEN=xapp-1 LOG_LEVEL=secret", []string{"LOG_LEVEL is none of"}},
		{"SLACK_BOT_TOKEN=xoxb-1 SLACK_APP_TOKEN=xapp-1 DOCKER_AUTH_CONFIG=secret", []string{"DOCKER_AUTH_CONFIG is not"}},
	} {
		env := map[string]string{}
		for _, v := range strings.Fields(c.env) {
			name, value, _ := strings.Cut(v, "=")
			env[name] = value
		}
		_, err := configFrom(func(name string) string { return env[name] }, true)
		if (err == nil) != (c.want == nil) || err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", c.env, err)
		}
		for _, part := range c.want {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v lacks %q", c.env, err, part)
			}
		}
	}
	cfg, err := configFrom(func(name string) string {
		return map[string]string{"SLACK_BOT_TOKEN": " xoxb-1\n", "SLACK_APP_TOKEN": "xapp-1", "SLACK_API_URL": "https://x.example/api", "REGISTRY_ALLOW": "a.example, b.example:5",
			"DOCKER_AUTH_CONFIG": `{"auths":{"https://index.docker.io/v1/":{"auth":"aA=="},"ghcr.io":{"auth":"bB=="}}}`}[name]
	}, true)
	if err != nil || cfg.botToken != "xoxb-1" || cfg.apiURL != "https://x.example/api/" || !slices.Equal(cfg.allow, []string{"a.example", "b.example:5"}) ||
		cfg.login["docker.io"] != "aA==" || cfg.login["ghcr.io"] != "bB==" {
		t.Errorf("%+v, %v", cfg, err)
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	f := newFakeSlack(t)
	for _, flag := range []string{"--help", "-h", "help"} {
		if code, said, _ := once(t, f, flag); code != 0 || !strings.Contains(said, "SLACK_BOT_TOKEN") {
			t.Errorf("%s: exit code %d: %s", flag, code, said)
		}
	}
	for _, args := range [][]string{{"serv"}, {"check", "more"}, {"health", "more"}} {
		if code, _, said := once(t, f, args...); code != 2 || !strings.Contains(said, "--help") {
			t.Errorf("%v: exit code %d: %s", args, code, said)
		}
	}
}

func TestRedact(t *testing.T) {
	for text, want := range map[string]string{
		"token " + botToken + "!": "token xoxb-…!",
		`dial "wss://wss-primary.slack.com/link/?ticket=abc&app_id=d": EOF`:    `dial "wss://wss-primary.slack.com": EOF`,
		`Post "https://hooks.slack.com/commands/T1/2/abc": EOF`:                `Post "https://hooks.slack.com": EOF`,
		`parse "wss://user:pass@x.example/%zz"`:                                `parse "wss://x.example"`,
		"xoxe.xoxp-1-abc and xapp-1-A-2-abc":                                   "xoxe-… and xapp-…",
		"create a token (xoxb-…) at api.slack.com/apps under App-Level Tokens": "create a token (xoxb-…) at api.slack.com/apps under App-Level Tokens",
	} {
		if got := redact(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
