package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"
)

// check tests both tokens and the scopes, and says what to do about what is missing.
func check(ctx context.Context, cfg config, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	api := newSlack(cfg)
	var errs []error
	if me, err := api.AuthTestContext(ctx); err != nil {
		errs = append(errs, errors.New("SLACK_BOT_TOKEN: "+explain(err)))
	} else {
		fmt.Fprintf(stdout, "SLACK_BOT_TOKEN: ok, %s (%s) in %s (%s)\n", me.User, me.UserID, me.Team, me.TeamID)
		for _, s := range missingScopes(me.Header) {
			errs = append(errs, fmt.Errorf("SLACK_BOT_TOKEN lacks the scope %s: add it at api.slack.com/apps, install the app again and take the new token", s))
		}
	}
	if _, _, err := api.StartSocketModeContext(ctx); err != nil {
		errs = append(errs, errors.New("SLACK_APP_TOKEN, with the scope connections:write: "+explain(err)))
	} else {
		fmt.Fprintln(stdout, "SLACK_APP_TOKEN: ok, Socket Mode is on")
	}
	return errors.Join(errs...)
}

const maxReport = 64 << 20 // bytes, which are held in memory

// notify uploads a report from CI. A wrong command line is told before settings, whose error it gets, are.
func notify(ctx context.Context, cfg config, settings error, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("notify", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	channel, thread := flags.String("channel", "", ""), flags.String("thread", "", "")
	report, comment := flags.String("report", "", ""), flags.String("comment", "", "")
	switch err := flags.Parse(args); {
	case err != nil:
		return fmt.Errorf("notify: %w: %w", err, errUsage)
	case *channel == "" || *report == "" || flags.NArg() > 0:
		return fmt.Errorf("notify wants --channel and --report, and nothing but flags: %w", errUsage)
	case settings != nil:
		return settings
	}
	file, name := os.Stdin, "report.txt"
	if *report != "-" {
		var err error
		if file, err = os.Open(*report); err != nil {
			return fmt.Errorf("notify: %w", err)
		}
		defer file.Close()
		name = filepath.Base(*report)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxReport+1))
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	if len(data) == 0 || len(data) > maxReport {
		return fmt.Errorf("notify: %s has %d bytes: Slack takes no empty file, and I none of more than %d", *report, len(data), maxReport)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	// Comments hold what people wrote into commits: it notifies nobody.
	if err := upload(ctx, newSlack(cfg), *channel, *thread, escape(*comment), name, data); err != nil {
		return fmt.Errorf("notify %s: %w", *channel, err)
	}
	_, err = fmt.Fprintf(stdout, "uploaded %s (%d bytes) to %s\n", name, len(data), *channel)
	return err
}

// healthAddress is an abstract socket, of Linux: it needs neither a port nor a file, which an ordinary user in a scratch
// image has no place for. The tokens are in the name since containers may share a network.
func healthAddress(cfg config) *net.UnixAddr {
	sum := sha256.Sum256([]byte(cfg.botToken + " " + cfg.appToken + " " + cfg.apiURL))
	return &net.UnixAddr{Name: fmt.Sprintf("@slackbot-%x", sum[:8]), Net: "unix"}
}

// publish returns what says whether the bot is connected: only then the socket takes calls.
func publish(cfg config, log *slog.Logger) func(connected bool) {
	var l *net.UnixListener
	return func(connected bool) {
		if l != nil {
			l.Close()
		}
		var err error
		if l = nil; !connected {
			return
		} else if l, err = net.ListenUnix("unix", healthAddress(cfg)); err != nil {
			log.Warn("slackbot health will not work", "err", err)
			return
		}
		go func(l *net.UnixListener) {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				c.Close()
			}
		}(l)
	}
}

func health(cfg config) error {
	c, err := net.DialUnix("unix", nil, healthAddress(cfg))
	if err != nil {
		return fmt.Errorf("health: no bot with these tokens is connected to Slack here: %w", err)
	}
	return c.Close()
}
