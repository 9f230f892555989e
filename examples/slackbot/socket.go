package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"github.com/slack-go/slack"
	"github.com/slack-go/slack/socketmode"
)

const (
	workers   = 16               // questions answered at once
	waiting   = 2000             // questions that were acknowledged and wait for a worker
	patience  = 10 * time.Minute // for one answer: in a burst Slack throttles, to a message a second
	grace     = 14 * time.Second // for the answers under way when the bot is told to end
	handshake = 15 * time.Second // for a connection to open
	ackTime   = 5 * time.Second  // for an acknowledgement to find an open one
)

// bot is one connection to one workspace.
type bot struct {
	cfg       config
	log       *slog.Logger
	api       *slack.Client
	socket    *socketmode.Client
	connected func(bool)    // publishes the state, for slackbot health
	self      atomic.Value  // string: the bot's own user id, once Slack said it
	questions chan question // a queue: whoever reads the socket must not wait for a registry
	acks      sync.WaitGroup

	seen, before map[string]bool // ids of questions that were taken: Slack repeats an event whose ack was lost
}

func newBot(cfg config, stderr io.Writer) *bot {
	clean := func(_ []string, a slog.Attr) slog.Attr {
		if k := a.Value.Kind(); k == slog.KindString || k == slog.KindAny {
			a.Value = slog.StringValue(redact(a.Value.String()))
		}
		return a
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: cfg.level, ReplaceAttr: clean}))
	api := newSlack(cfg)
	dialer := &websocket.Dialer{Proxy: http.ProxyFromEnvironment, HandshakeTimeout: handshake, WriteBufferSize: 32 << 10}
	socket := socketmode.New(api, socketmode.OptionDialer(dialer), socketmode.OptionReadLimit(4<<20))
	return &bot{cfg: cfg, log: log, api: api, socket: socket, connected: publish(cfg, log), questions: make(chan question, waiting)}
}

// serve answers until ctx ends, which is success, or until Slack refuses the tokens for good. It returns after the
// answers that were under way, at most grace later.
func (b *bot) serve(ctx context.Context) error {
	reading, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	socket, hangUp := context.WithCancel(late)
	defer hangUp()
	var work sync.WaitGroup
	for range workers {
		work.Go(func() {
			for q := range b.questions {
				b.attend(late, q)
			}
		})
	}
	go b.introduce(reading, fail)
	go func() { fail(b.socket.RunContext(socket)) }()
	var err error
	for err == nil {
		select {
		case ev := <-b.socket.Events:
			err = b.handle(socket, ev)
		case <-reading.Done(): // what comes now is not acknowledged: Slack gives it to the next instance
			err = context.Cause(reading)
		}
	}

	defer time.AfterFunc(grace, cancel).Stop()
	b.connected(false)
	close(b.questions)
	b.log.Info("ending", "waiting", len(b.questions))
	b.acks.Wait()
	time.Sleep(100 * time.Millisecond) // the library says when an ack is queued, not when it is sent
	hangUp()
	work.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("connect to Slack: %w", err)
}

// introduce asks who the bot is. Socket Mode does not look at the bot's token: a bad one would show at the first answer only.
func (b *bot) introduce(ctx context.Context, fail func(error)) {
	me, err := b.api.AuthTestContext(ctx)
	if err != nil && hopeless(err) {
		fail(fmt.Errorf("SLACK_BOT_TOKEN: %w", err))
	} else if err != nil {
		b.log.Warn("who am I?", "err", explain(err))
	} else {
		b.self.Store(me.UserID)
		b.log.Info("signed in", "user", me.User, "team", me.Team, "missing_scopes", missingScopes(me.Header))
	}
}

// handle takes one event of the connection. An error is one that no new attempt can mend.
func (b *bot) handle(ctx context.Context, ev socketmode.Event) error {
	var e envelope
	switch data := ev.Data.(type) {
	case *slack.ConnectingEvent:
		b.connected(false)
	case *socketmode.ConnectedEvent:
		b.connected(true)
		b.log.Info("connected to Slack")
	case *slack.ConnectionErrorEvent:
		if hopeless(data.ErrorObj) {
			return data.ErrorObj
		}
		b.log.Warn("not connected", "err", explain(data.ErrorObj), "again_in", data.Backoff)
	case *socketmode.ErrorBadMessage: // of a kind that the library does not know, or not in the form that it knows
		_ = json.Unmarshal(data.Message, &e) // what can be read of it has to do
	}
	if ev.Request != nil {
		e.ID, e.Type = ev.Request.EnvelopeID, ev.Request.Type
		_ = json.Unmarshal(ev.Request.Payload, &e.Payload)
	}
	if e.ID != "" { // hello and its like want no answer
		b.receive(ctx, e)
	}
	return nil
}

// envelope is what Socket Mode sends, as far as it matters here. The library's own types are not used: one unexpected
// field in a message's blocks would lose the question.
type envelope struct {
	ID      string `json:"envelope_id"`
	Type    string // events_api, slash_commands, or another that is only acknowledged
	Payload struct {
		EventID string `json:"event_id"`
		Event   struct {
			Type, User, Text, Channel, TS string
			BotID                         string `json:"bot_id"`
			ThreadTS                      string `json:"thread_ts"`
		}
		Text        string // of a slash command, like the following
		ChannelID   string `json:"channel_id"`
		ResponseURL string `json:"response_url"`
	}
}

// receive acknowledges an envelope, and queues the question that is in it.
func (b *bot) receive(ctx context.Context, e envelope) {
	p := e.Payload
	q, ask, id := question{p.Text, p.ChannelID, "", p.ResponseURL}, e.Type == "slash_commands", e.ID
	if e.Type == "events_api" && p.Event.Type == "app_mention" { // two bots that mention each other would never end
		ask, id = p.Event.BotID == "" && p.Event.User != "" && p.Event.User != b.self.Load(), cmp.Or(p.EventID, e.ID)
		q = question{p.Event.Text, p.Event.Channel, cmp.Or(p.Event.ThreadTS, p.Event.TS), ""}
	}
	if ask && len(b.questions) == cap(b.questions) {
		b.log.Error("too many questions: this one is not acknowledged, so that Slack repeats it", "channel", q.channel)
		return
	}
	b.acks.Go(func() { // between two connections the library takes none, and the loop that reads must not wait
		ctx, cancel := context.WithTimeout(ctx, ackTime)
		defer cancel()
		if err := b.socket.AckCtx(ctx, e.ID, nil); err != nil {
			b.log.Warn("not acknowledged: Slack will repeat the event", "envelope", e.ID, "err", err)
		}
	})
	if !ask || b.seen[id] || b.before[id] {
		return
	}
	if b.seen == nil || len(b.seen) > waiting {
		b.before, b.seen = b.seen, map[string]bool{}
	}
	b.seen[id] = true
	b.questions <- q
}
