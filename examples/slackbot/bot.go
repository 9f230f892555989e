package main

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/gorilla/websocket"
	"github.com/slack-go/slack"
	"github.com/slack-go/slack/socketmode"
)

const (
	workers   = 16               // questions answered at once; others wait for their turn
	patience  = 10 * time.Minute // for one answer: in a burst Slack throttles, to a message a second
	grace     = 14 * time.Second // for the answers under way when the bot is told to end
	handshake = 15 * time.Second // for a connection to open
)

type bot struct {
	cfg          config
	log          *slog.Logger
	slack        *socketmode.Client // the Web API as well
	listener     *net.UnixListener  // there while the bot is connected, for slackbot health
	self         atomic.Value       // string: the bot's own user id, once Slack said it
	acks, work   sync.WaitGroup
	turns        chan bool       // has room for as many as are answered at once
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
	dialer := &websocket.Dialer{Proxy: http.ProxyFromEnvironment, HandshakeTimeout: handshake, WriteBufferSize: 32 << 10}
	client := socketmode.New(newSlack(cfg), socketmode.OptionDialer(dialer), socketmode.OptionReadLimit(4<<20))
	return &bot{cfg: cfg, log: log, slack: client, turns: make(chan bool, workers)}
}

// serve answers until ctx ends, which is success, or Slack refuses the tokens, and for at most grace after that.
func (b *bot) serve(ctx context.Context) error {
	reading, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	socket, hangUp := context.WithCancel(late)
	defer hangUp()
	go b.introduce(reading, fail)
	go func() { fail(ofToken(appName, b.slack.RunContext(socket))) }()
	var err error
	for err == nil {
		select {
		case ev := <-b.slack.Events:
			err = b.handle(socket, late, ev)
		case <-reading.Done(): // what comes now is not acknowledged: Slack gives it to the next instance
			err = context.Cause(reading)
		}
	}
	defer time.AfterFunc(grace, cancel).Stop()
	b.connected(false)
	b.log.Info("ending", "answering", len(b.turns))
	b.acks.Wait()
	time.Sleep(100 * time.Millisecond) // the library says when an ack is queued, not when it is sent
	hangUp()
	if b.work.Wait(); ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("connect to Slack: %w", err)
}

// introduce asks who the bot is. Socket Mode does not look at the bot's token: a bad one would show at the first answer only.
func (b *bot) introduce(ctx context.Context, fail func(error)) {
	me, err := b.slack.AuthTestContext(ctx)
	if err != nil {
		if b.log.Warn("who am I?", "err", explain(err)); hopeless(err) {
			fail(ofToken(botName, err))
		}
		return
	}
	b.self.Store(me.UserID)
	b.log.Info("signed in", "user", me.User, "team", me.Team, "missing_scopes", missingScopes(me.Header))
}

// envelope is what Socket Mode sends. With the library's types one unexpected field in a message would lose the question.
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

// handle acknowledges what comes, and has the question in it answered. An error is one that no new attempt can mend.
func (b *bot) handle(socket, late context.Context, ev socketmode.Event) error {
	var e envelope
	switch data := ev.Data.(type) {
	case *slack.ConnectingEvent:
		b.connected(false)
	case *socketmode.ConnectedEvent:
		b.connected(true)
		b.log.Info("connected to Slack")
	case *slack.ConnectionErrorEvent:
		err := ofToken(appName, data.ErrorObj)
		if hopeless(err) {
			return err
		}
		b.log.Warn("not connected", "err", explain(err), "again_in", data.Backoff)
	case *socketmode.ErrorBadMessage: // of a kind that the library does not know, or not in the form that it knows
		_ = json.Unmarshal(data.Message, &e)
	}
	if ev.Request != nil {
		e.ID, e.Type = ev.Request.EnvelopeID, ev.Request.Type
		_ = json.Unmarshal(ev.Request.Payload, &e.Payload)
	}
	if e.ID == "" {
		return nil // hello and its like want no answer
	}
	b.acks.Go(func() { // between two connections the library takes none, and the loop that reads must not wait
		ctx, cancel := context.WithTimeout(socket, 5*time.Second)
		defer cancel()
		if err := b.slack.AckCtx(ctx, e.ID, nil); err != nil {
			b.log.Warn("not acknowledged: Slack will repeat the event", "envelope", e.ID, "err", err)
		}
	})
	p := e.Payload
	q, ask, id := question{p.Text, p.ChannelID, "", p.ResponseURL}, e.Type == "slash_commands", e.ID
	if e.Type == "events_api" && p.Event.Type == "app_mention" { // two bots that mention each other would never end
		ask, id = p.Event.BotID == "" && p.Event.User != "" && p.Event.User != b.self.Load(), cmp.Or(p.EventID, e.ID)
		q = question{p.Event.Text, p.Event.Channel, cmp.Or(p.Event.ThreadTS, p.Event.TS), ""}
	}
	if !ask || b.seen[id] || b.before[id] {
		return nil
	}
	if b.seen == nil || len(b.seen) > 5000 {
		b.before, b.seen = b.seen, map[string]bool{}
	}
	b.seen[id] = true
	b.work.Go(func() {
		b.turns <- true
		defer func() { <-b.turns }()
		b.attend(late, q)
	})
	return nil
}

type question struct { // what somebody asked, and where the answer goes
	text, channel string
	thread        string // "" of a slash command: the answer begins one
	responseURL   string // of a slash command: reaches the asker where the bot may not speak
}
type reply struct { // what the bot says, in Slack's markup, and the file that goes along, if any
	text, file string
	data       []byte
}

//go:embed help.txt
var help string

// attend answers one question. Nothing of it comes back but names of images, and those are escaped.
func (b *bot) attend(ctx context.Context, q question) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	log := b.log.With("channel", q.channel, "thread", q.thread)
	warn := func(err error) string { return ":warning: " + escape(redact(explain(err))) }
	r, err := b.answer(ctx, q.text)
	if err != nil {
		log.Info("explained", "err", err)
		r.text = warn(err)
	}
	if q.thread, err = b.say(ctx, q, r.text); err == nil && r.data != nil {
		if err = upload(ctx, &b.slack.Client, q.channel, q.thread, "", r.file, r.data); err != nil {
			err = ofToken(botName, err)
			_, also := b.say(ctx, q, warn(fmt.Errorf("the report could not be uploaded: %w", err))+"\n"+block(r.data))
			err = errors.Join(err, also)
		}
	}
	if err != nil {
		log.Error("not answered", "err", explain(ofToken(botName, err)))
		return
	}
	log.Info("answered", "file", r.file, "bytes", len(r.data))
}

func (b *bot) answer(ctx context.Context, text string) (reply, error) {
	said := words(text)
	at := slices.IndexFunc(said, func(w string) bool { return strings.Contains(" size diff ping help ", " "+strings.ToLower(w)+" ") })
	if at < 0 {
		return reply{text: "That is none of the things I know. " + help}, nil
	}
	command, names := strings.ToLower(said[at]), said[at+1:]
	switch {
	case command == "help":
		return reply{text: help}, nil
	case command == "ping":
		return reply{text: "pong"}, nil
	case command == "size" && len(names) != 1, command == "diff" && len(names) != 2:
		return reply{text: "`size` wants the name of one image, `diff` the names of two. " + help}, nil
	}
	var images []*image
	for _, name := range names {
		i, err := b.cfg.image(ctx, name)
		if err != nil {
			return reply{}, err
		}
		images = append(images, i)
	}
	return describe(images), nil
}

// say posts text and returns its thread. Where the bot may not speak, a slash command's asker alone is told what to do.
func (b *bot) say(ctx context.Context, q question, text string) (thread string, err error) {
	in := slack.MsgOptionDisableLinkUnfurl()
	if q.thread != "" {
		in = slack.MsgOptionCompose(in, slack.MsgOptionTS(q.thread))
	}
	_, ts, err := b.slack.PostMessageContext(ctx, q.channel, slack.MsgOptionText(text, false), in)
	if _, refused := errors.AsType[slack.SlackErrorResponse](err); refused && q.responseURL != "" {
		_, _, also := b.slack.PostMessageContext(ctx, q.channel, slack.MsgOptionText(":warning: "+escape(explain(err)), false),
			slack.MsgOptionResponseURL(q.responseURL, slack.ResponseTypeEphemeral))
		err = errors.Join(err, also)
	}
	return cmp.Or(q.thread, ts), err
}

// Slack's markup: no mention and no link begins without "<". To undo it, what nobody sees is taken out, too.
var (
	escape   = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace
	unescape = strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&", "\u200b", "", "\u200c", "", "\u200d", "", "\u2060", "", "\ufeff", "").Replace
	markup   = regexp.MustCompile(`<([^<>|]*)(?:\|([^<>]*))?>`)
)

// words splits text as Slack sends it: without mentions, links as the reader saw them, whatever the quotes and spaces.
func words(text string) (out []string) {
	text = markup.ReplaceAllStringFunc(text, func(s string) string {
		m := markup.FindStringSubmatch(s)
		if strings.HasPrefix(m[1], "@") || strings.HasPrefix(m[1], "!") {
			return " "
		}
		return cmp.Or(m[2], strings.TrimPrefix(m[1], "mailto:"))
	})
	between := func(r rune) bool {
		return unicode.IsSpace(r) || strings.ContainsRune("\"'`*~“”„‘’‚«»‹›<>,;!?", r)
	}
	for _, w := range strings.FieldsFunc(unescape(text), between) {
		w = strings.TrimPrefix(strings.TrimPrefix(w, "https://"), "http://")
		if w = strings.TrimRight(w, ".:/"); w != "" {
			out = append(out, w)
		}
	}
	return out
}

// describe makes a message with a short table, and a file with everything. Of two images it tells the difference as well.
func describe(images []*image) reply {
	title, name := images[0].ref.String(), "size"
	table := [][]string{{"image", "platform", "layers", "to pull", "unpacked"}}
	rows := [][]string{{"image", "platform", "what", "bytes to pull", "bytes unpacked", "digest"}}
	for _, i := range images {
		ref := i.ref.String()
		for _, p := range i.platforms {
			table = append(table, []string{ref[strings.LastIndexByte(ref, '/')+1:], p.name, strconv.Itoa(len(p.layers)), megabytes(p.pull), megabytes(p.unpacked)})
			rows = append(rows, []string{ref, p.name, cmp.Or(p.note, "image"), exact(p.pull), exact(p.unpacked), p.digest})
			for at, l := range p.layers {
				rows = append(rows, []string{ref, p.name, fmt.Sprintf("layer %d", at+1), exact(l.Size), exact(l.unpacked), l.Digest})
			}
		}
	}
	if len(images) == 2 {
		title, name = title+" → "+images[1].ref.String(), "diff"
		for _, p := range images[0].platforms {
			for _, q := range images[1].platforms {
				if p.name == q.name {
					row := []string{"difference", p.name, fmt.Sprintf("%+d", len(q.layers)-len(p.layers)), difference(p.pull, q.pull), difference(p.unpacked, q.unpacked)}
					table, rows = append(table, row), append(rows, append(row, ""))
				}
			}
		}
	}
	text := "*" + escape(title) + "*\n```\n" + escape(align(table[:min(len(table), 40)])) + "```"
	if len(rows) <= 100 {
		return reply{text, name + ".txt", []byte(title + "\n\n" + align(rows))}
	}
	var out bytes.Buffer // nobody reads so many rows, but many sort them
	_ = csv.NewWriter(&out).WriteAll(rows)
	return reply{text, name + ".csv", out.Bytes()}
}

const maxBlock = 3500 // bytes of a report in a message, which Slack wants to have 4,000 characters at most

// block is the begin of a report, as much as a message takes: what would have been a file.
func block(data []byte) string {
	text := strings.ReplaceAll(escape(string(data)), "`", "'")
	if rest := ""; len(text) > maxBlock {
		text, rest = text[:maxBlock], text[maxBlock:]
		end := strings.LastIndexByte(text, '\n') + 1
		text = fmt.Sprintf("%s… and %d lines more\n", text[:end], strings.Count(text[end:]+rest, "\n"))
	}
	return "```\n" + text + "```"
}

// align sets rows in columns. What strangers put into names neither breaks a line nor ends the block that it stands in.
func align(rows [][]string) string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 8, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.NewReplacer("\n", " ", "\v", " ", "\f", " ", "\r", " ", "`", "'").Replace(strings.Join(row, "\t")))
	}
	w.Flush()
	return out.String()
}

func megabytes(n int64) string {
	if n == unknown {
		return "-"
	}
	return weight(n, "%.*f")
}

// weight tells bytes in MB, few of them in kB.
func weight(n int64, verb string) string {
	if max(n, -n) < 100_000 {
		return figure(float64(n)/1e3, 1, verb) + " kB"
	}
	return figure(float64(n)/1e6, 2, verb) + " MB"
}

// figure has that many digits behind the point, and more where it would be off by a hundredth of itself, or near to that.
func figure(x float64, digits int, verb string) string {
	for ; ; digits++ {
		text := fmt.Sprintf(verb, digits, x)
		if shown, err := strconv.ParseFloat(text, 64); err != nil || digits == 9 || math.Abs(shown-x) <= math.Abs(x)/200 {
			return text
		}
	}
}

func exact(n int64) string { return strings.TrimPrefix(strconv.FormatInt(n, 10), "-1") }

func difference(a, b int64) string {
	if a == unknown || b == unknown {
		return "-"
	}
	return fmt.Sprintf("%s (%s %%)", weight(b-a, "%+.*f"), figure(100*float64(b-a)/float64(max(a, 1)), 1, "%+.*f"))
}
