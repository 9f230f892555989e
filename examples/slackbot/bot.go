package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/slack-go/slack"
)

// question is what somebody asked, and where the answer goes.
type question struct {
	text, channel string
	thread        string // "" of a slash command: the answer begins one
	responseURL   string // of a slash command: reaches the asker where the bot may not speak
}

// reply is what the bot says, in Slack's markup, and the file that goes along, if any.
type reply struct {
	text, file string
	data       []byte
}

const help = "I tell what container images weigh:\n" +
	"• `size registry.example/app:1.2` its platforms, layers and bytes\n" +
	"• `diff registry.example/app:1.2 registry.example/app:1.3` what changed\n" +
	"• `ping` whether I am here\n" +
	"Mention me with one of these, or write it after `/image`. The whole report comes as a file."

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
		if err = upload(ctx, b.api, q.channel, q.thread, "", r.file, r.data); err != nil {
			_, also := b.say(ctx, q, warn(fmt.Errorf("the report could not be uploaded: %w", err)))
			err = errors.Join(err, also)
		}
	}
	if err != nil {
		log.Error("not answered", "err", explain(err))
		return
	}
	log.Info("answered", "file", r.file, "bytes", len(r.data))
}

// answer does what text asks for.
func (b *bot) answer(ctx context.Context, text string) (reply, error) {
	said := words(text)
	at := slices.IndexFunc(said, func(w string) bool { return slices.Contains(commands, strings.ToLower(w)) })
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

var commands = []string{"size", "diff", "ping", "help"}

// say posts text and returns the thread that it went to or began. A slash command can come from a channel that the bot
// is no member of: then the asker alone is told what to do.
func (b *bot) say(ctx context.Context, q question, text string) (thread string, err error) {
	post := func(text string, option slack.MsgOption) (string, error) {
		_, ts, err := b.api.PostMessageContext(ctx, q.channel, slack.MsgOptionText(text, false), slack.MsgOptionDisableLinkUnfurl(), option)
		return ts, err
	}
	in := slack.MsgOptionCompose()
	if q.thread != "" {
		in = slack.MsgOptionTS(q.thread)
	}
	ts, err := post(text, in)
	if refused := (slack.SlackErrorResponse{}); q.responseURL != "" && errors.As(err, &refused) {
		_, also := post(":warning: "+escape(explain(err)), slack.MsgOptionResponseURL(q.responseURL, slack.ResponseTypeEphemeral))
		err = errors.Join(err, also)
	}
	return cmp.Or(q.thread, ts), err
}

// Slack's markup: no mention and no link begins without "<".
// https://docs.slack.dev/messaging/formatting-message-text#escaping
var (
	escape   = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace
	unescape = strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&").Replace
)

var markup = regexp.MustCompile(`<([^<>|]*)(?:\|([^<>]*))?>`)

// words splits text as Slack sends it: mentions are left out, links are what the reader saw of them, and quotes and
// spaces that an editor put in the place of plain ones do not matter.
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
	for _, w := range strings.FieldsFunc(zeroWidth.Replace(unescape(text)), between) {
		w = strings.TrimPrefix(strings.TrimPrefix(w, "https://"), "http://")
		if w = strings.TrimRight(w, ".:/"); w != "" {
			out = append(out, w)
		}
	}
	return out
}

var zeroWidth = strings.NewReplacer("\u200b", "", "\u200c", "", "\u200d", "", "\u2060", "", "\ufeff", "", "\u00ad", "")
