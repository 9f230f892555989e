package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/slack-go/slack"
	"github.com/slack-go/slack/slackevents"
	"github.com/slack-go/slack/socketmode"
)

// reconnectInterval is the least time between two connections. The library waits between attempts
// that fail, not between connections that opened and were cut at once.
const reconnectInterval = 2 * time.Second

// grace is how long an answer that was begun may take when the bot is told to end, and how long an
// acknowledgement waits for a connection. Docker kills ten seconds after SIGTERM.
const grace = 5 * time.Second

// bot is one connection to one workspace.
type bot struct {
	api    *slack.Client
	socket *socketmode.Client
	seen   recent         // event ids that were answered: Slack sends an event again when an ack was lost
	work   sync.WaitGroup // answers under way
}

func newBot(cfg config) *bot {
	retry := slack.DefaultRetryConfig()
	retry.Handlers = append(slack.AllBuiltinRetryHandlers(retry), slack.NewServerErrorRetryHandler(retry))
	api := slack.New(cfg.botToken,
		slack.OptionAppLevelToken(cfg.appToken),
		slack.OptionAPIURL(cfg.apiURL),
		slack.OptionHTTPClient(&http.Client{
			Timeout:   30 * time.Second,
			Transport: &throttle{path: "/apps.connections.open", every: reconnectInterval},
		}),
		slack.OptionRetryConfig(retry)) // after OptionHTTPClient, which it wraps
	return &bot{api: api, socket: socketmode.New(api), seen: recent{limit: 1000}}
}

// serve answers events until ctx ends or Slack refuses the tokens for good. It returns after the
// answers that were under way.
func (b *bot) serve(ctx context.Context) error {
	defer b.work.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan error, 1)
	go func() { ended <- b.socket.RunContext(ctx) }()
	for {
		select {
		case err := <-ended:
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return fmt.Errorf("connect to Slack: %w", err)
		case ev := <-b.socket.Events:
			if err := b.handle(ctx, ev); err != nil {
				cancel(err)
			}
		}
	}
}

// handle takes one event of the connection. An error is one that no new attempt can mend.
func (b *bot) handle(ctx context.Context, ev socketmode.Event) error {
	switch data := ev.Data.(type) {
	case *slack.ConnectionErrorEvent:
		if hopeless(data.ErrorObj) {
			return fmt.Errorf("connect to Slack: %w", data.ErrorObj)
		}
		log.Printf("connect to Slack: %v; next attempt in %v", data.ErrorObj, data.Backoff)
	case *socketmode.ConnectedEvent:
		log.Print("connected to Slack")
	case *socketmode.ErrorBadMessage:
		// An event of a kind that the library does not know. Slack repeats it until it is acknowledged.
		var envelope struct {
			ID string `json:"envelope_id"`
		}
		if json.Unmarshal(data.Message, &envelope) == nil {
			b.ack(ctx, envelope.ID)
		}
	case slackevents.EventsAPIEvent:
		b.ack(ctx, ev.Request.EnvelopeID)
		b.event(ctx, data)
	default:
		if ev.Request != nil {
			b.ack(ctx, ev.Request.EnvelopeID)
		}
	}
	return nil
}

// hopeless says whether Slack's answer will be the same next time; the library tries these for ever.
func hopeless(err error) bool {
	var refused slack.SlackErrorResponse
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.Err {
	case "missing_scope", "not_allowed_token_type", "invalid_auth", "not_authed", "account_inactive", "token_revoked":
		return true
	}
	return false
}

func (b *bot) ack(ctx context.Context, envelope string) {
	if envelope == "" {
		return // hello and its like want no answer
	}
	// Between connections nobody sends acks, and a loop that waited here would not drain the events
	// that the next connection needs room for.
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if err := b.socket.AckCtx(ctx, envelope, nil); err != nil {
		log.Printf("acknowledge %s: %v", envelope, err)
	}
}

// event answers a mention, beside the loop that reads: a slow answer must not hold up the acks.
func (b *bot) event(ctx context.Context, ev slackevents.EventsAPIEvent) {
	mention, ok := ev.InnerEvent.Data.(*slackevents.AppMentionEvent)
	if !ok || mention.BotID != "" { // two bots that mention each other would never end
		return
	}
	if outer, ok := ev.Data.(*slackevents.EventsAPICallbackEvent); ok && !b.seen.add(outer.EventID) {
		return
	}
	b.work.Go(func() {
		ctx, cancel := outlive(ctx)
		defer cancel()
		thread := mention.ThreadTimeStamp
		if thread == "" {
			thread = mention.TimeStamp
		}
		_, _, err := b.api.PostMessageContext(ctx, mention.Channel,
			slack.MsgOptionText(answer(mention.User, mention.Text), false), slack.MsgOptionTS(thread))
		if err != nil {
			log.Printf("answer in %s: %v", mention.Channel, err)
		}
	})
}

// outlive returns a context that ends grace after ctx does.
func outlive(ctx context.Context) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	return longer, func() { stop(); cancel() }
}

// answer is what the bot says. It repeats nothing of text: a message is not escaped, so a user could
// make the bot notify a whole channel.
func answer(user, text string) string {
	text = strings.TrimSpace(text)
	last := text[strings.LastIndexFunc(text, unicode.IsSpace)+1:]
	switch strings.ToLower(last) {
	case "ping":
		return fmt.Sprintf("<@%s> pong", user)
	case "help":
		return fmt.Sprintf("<@%s> Mention me with `ping` and I say pong; with anything else I say hello.", user)
	}
	return fmt.Sprintf("Hello <@%s>! Mention me with `help` to see what I can do.", user)
}
