// Command slackbot answers when somebody mentions it in Slack. It connects by Socket Mode, so it
// needs no public address: two tokens in the environment are all.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, "slackbot:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends, which is success, or until Slack refuses the tokens.
func run(ctx context.Context, getenv func(string) string) error {
	cfg, err := configFrom(getenv)
	if err != nil {
		return err
	}
	if err := newBot(cfg).serve(ctx); ctx.Err() == nil {
		return err
	}
	return nil
}

// config is what the environment says.
type config struct {
	botToken string // SLACK_BOT_TOKEN, xoxb-…: what the bot says
	appToken string // SLACK_APP_TOKEN, xapp-…: the Socket Mode connection
	apiURL   string // SLACK_API_URL: another server than Slack, for tests; ends in a slash
}

// configFrom reads the configuration and names everything that is wrong with it at once.
func configFrom(getenv func(string) string) (config, error) {
	cfg := config{getenv("SLACK_BOT_TOKEN"), getenv("SLACK_APP_TOKEN"), getenv("SLACK_API_URL")}
	if cfg.apiURL == "" {
		cfg.apiURL = "https://slack.com/api/"
	} else if !strings.HasSuffix(cfg.apiURL, "/") {
		cfg.apiURL += "/"
	}
	return cfg, errors.Join(
		checkToken("SLACK_BOT_TOKEN", cfg.botToken, "xoxb-", "OAuth & Permissions"),
		checkToken("SLACK_APP_TOKEN", cfg.appToken, "xapp-", "Basic Information, App-Level Tokens, with the scope connections:write"))
}

func checkToken(name, value, prefix, page string) error {
	switch {
	case value == "":
		return fmt.Errorf("%s is not set: create a token (%s…) at https://api.slack.com/apps under %s", name, prefix, page)
	case !strings.HasPrefix(value, prefix):
		return fmt.Errorf("%s is not the right kind of token: it must begin with %s (https://api.slack.com/apps, %s)", name, prefix, page)
	}
	return nil
}
