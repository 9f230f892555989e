package main

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// start runs the bot against f and returns its result.
func start(t *testing.T, f *fakeSlack) (stop func(), result <-chan error) {
	ctx, cancel := context.WithCancel(t.Context())
	c := make(chan error, 1)
	go func() { c <- run(ctx, f.env) }()
	return cancel, c
}

func (f *fakeSlack) env(name string) string {
	return map[string]string{"SLACK_BOT_TOKEN": "xoxb-test", "SLACK_APP_TOKEN": "xapp-test", "SLACK_API_URL": f.URL + "/api"}[name]
}

func TestMentionIsAcknowledgedAndAnsweredInItsThread(t *testing.T) {
	f := newFakeSlack(t)
	stop, result := start(t, f)
	conn := next(t, f.sockets, "connection")

	send(t, conn, "e1", "Ev1", mention("<@UBOT> ping"))
	if got := next(t, f.acks, "ack"); got != "e1" {
		t.Errorf("acknowledged %q", got)
	}
	post := next(t, f.posts, "answer")
	if post.Get("channel") != "C1" || post.Get("thread_ts") != "1.0" || post.Get("text") != "<@U1> pong" {
		t.Errorf("answer: %v", post)
	}

	reply := mention("<@UBOT> good morning")
	reply["thread_ts"] = "0.5"
	send(t, conn, "e2", "Ev2", reply)
	post = next(t, f.posts, "answer")
	if post.Get("thread_ts") != "0.5" || !strings.HasPrefix(post.Get("text"), "Hello <@U1>!") {
		t.Errorf("answer in a thread: %v", post)
	}

	stop()
	if err := next(t, result, "end"); err != nil {
		t.Errorf("told to end: %v", err)
	}
}

func TestEventsThatGetNoAnswer(t *testing.T) {
	f := newFakeSlack(t)
	start(t, f)
	conn := next(t, f.sockets, "connection")

	send(t, conn, "e1", "Ev1", mention("ping"))
	send(t, conn, "e2", "Ev1", mention("ping")) // the same event, sent again
	bot := mention("ping")
	bot["bot_id"] = "B1"
	send(t, conn, "e3", "Ev3", bot)
	send(t, conn, "e4", "Ev4", map[string]any{"type": "kind_of_the_future"})
	for _, want := range []string{"e1", "e2", "e3", "e4"} {
		if got := next(t, f.acks, "ack"); got != want {
			t.Errorf("acknowledged %q, want %q", got, want)
		}
	}
	send(t, conn, "e5", "Ev5", mention("help"))
	first, second := next(t, f.posts, "answer"), next(t, f.posts, "second answer")
	if both := first.Get("text") + second.Get("text"); !strings.Contains(both, "pong") || !strings.Contains(both, "Mention me with `ping`") {
		t.Errorf("answers: %q", both)
	}
	if n := f.count("post"); n != 2 {
		t.Errorf("%d answers, want 2", n)
	}
}

func TestReconnectsWhenSlackAsks(t *testing.T) {
	f := newFakeSlack(t)
	start(t, f)
	conn := next(t, f.sockets, "connection")
	begin := time.Now()
	conn.WriteJSON(map[string]any{"type": "disconnect", "reason": "refresh_requested"})
	conn = next(t, f.sockets, "second connection")
	if wait := time.Since(begin); wait < reconnectInterval/2 {
		t.Errorf("connected again after %v: a server that cuts at once would be called without end", wait)
	}
	send(t, conn, "e1", "Ev1", mention("ping"))
	next(t, f.posts, "answer")
}

func TestAnswerIsTriedAgain(t *testing.T) {
	f := newFakeSlack(t)
	var calls atomic.Int32
	f.post = func() int {
		if calls.Add(1) == 1 {
			return http.StatusBadGateway
		}
		return http.StatusOK
	}
	start(t, f)
	send(t, next(t, f.sockets, "connection"), "e1", "Ev1", mention("ping"))
	next(t, f.posts, "answer")
	if n := f.count("post"); n != 2 {
		t.Errorf("%d calls, want 2", n)
	}
}

func TestRefusedTokensEndTheBot(t *testing.T) {
	for _, code := range []string{"invalid_auth", "missing_scope", "not_allowed_token_type"} {
		t.Run(code, func(t *testing.T) {
			f := newFakeSlack(t)
			f.open = func() string { return `{"ok":false,"error":"` + code + `"}` }
			_, result := start(t, f)
			if err := next(t, result, "end"); err == nil || !strings.Contains(err.Error(), "connect to Slack: "+code) {
				t.Errorf("error: %v", err)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		bot, app string
		want     []string // parts of the error; none: no error
	}{
		{"", "", []string{"SLACK_BOT_TOKEN is not set", "SLACK_APP_TOKEN is not set"}},
		{"xoxb-1", "", []string{"SLACK_APP_TOKEN is not set", "connections:write"}},
		{"xapp-1", "xapp-1", []string{"SLACK_BOT_TOKEN is not the right kind", "xoxb-"}},
		{"xoxb-1", "xapp-1", nil},
	} {
		_, err := configFrom(func(name string) string {
			return map[string]string{"SLACK_BOT_TOKEN": c.bot, "SLACK_APP_TOKEN": c.app}[name]
		})
		if (err == nil) != (c.want == nil) {
			t.Errorf("%q %q: %v", c.bot, c.app, err)
		}
		for _, part := range c.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q %q: %v lacks %q", c.bot, c.app, err, part)
			}
		}
	}
}

func TestAnswerRepeatsNothing(t *testing.T) {
	for _, text := range []string{"", " ", "<!channel>", "<@UBOT> say <!here>"} {
		if got := answer("U1", text); strings.Contains(got, "<!") {
			t.Errorf("%q: %q", text, got)
		}
	}
}

func TestRecentForgetsTheOldest(t *testing.T) {
	r := recent{limit: 2}
	for i, c := range []struct {
		s   string
		new bool
	}{{"a", true}, {"a", false}, {"b", true}, {"c", true}, {"a", true}, {"c", false}} {
		if got := r.add(c.s); got != c.new {
			t.Errorf("%d: add(%q) = %v", i, c.s, got)
		}
	}
}

// TestProcess runs the program itself: the message without tokens, and the end on SIGTERM.
func TestProcess(t *testing.T) {
	if os.Getenv("SLACKBOT_TEST_MAIN") != "" {
		main()
		return
	}
	command := func(env ...string) (*exec.Cmd, *bytes.Buffer) {
		var out bytes.Buffer
		cmd := exec.Command(os.Args[0], "-test.run=^TestProcess$")
		cmd.Env = append([]string{"SLACKBOT_TEST_MAIN=1"}, env...)
		cmd.Stderr = &out
		return cmd, &out
	}

	cmd, out := command()
	if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(out.String(), "slackbot: SLACK_BOT_TOKEN is not set") {
		t.Errorf("without tokens: %v: %s", err, out)
	}

	f := newFakeSlack(t)
	cmd, out = command("SLACK_BOT_TOKEN=xoxb-test", "SLACK_APP_TOKEN=xapp-test", "SLACK_API_URL="+f.URL+"/api/")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	next(t, f.sockets, "connection")
	cmd.Process.Signal(syscall.SIGTERM)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := next(t, ended, "end after SIGTERM"); err != nil {
		t.Errorf("after SIGTERM: %v: %s", err, out)
	}
}
