// Command slackbot tells a Slack channel what container images weigh, and uploads the whole report as a file. A file per
// topic: main (settings, other commands), bot (connection, questions, answers), registry, calls (what all requests go through).
package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

//go:embed usage.txt
var usage string
var errUsage = errors.New("see slackbot --help")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	command := append(args, "serve")[0]
	cfg, err := configFrom(getenv, command != "notify")
	switch {
	case command == "notify":
		err = notify(ctx, cfg, err, args[1:], stdout)
	case len(args) > 1:
		err = fmt.Errorf("unexpected %q: %w", args[1], errUsage)
	case command == "help" || command == "--help" || command == "-h":
		_, err = fmt.Fprint(stdout, usage)
	case command == "health":
		err = health(cfg)
	case command != "check" && command != "serve":
		err = fmt.Errorf("unknown command %q: %w", command, errUsage)
	case err == nil && command == "check":
		err = check(ctx, cfg, stdout)
	case err == nil:
		err = newBot(cfg, stderr).serve(ctx)
	}
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "slackbot:", redact(explain(err)))
	return map[bool]int{false: 1, true: 2}[errors.Is(err, errUsage)]
}

type config struct { // what the environment says
	botToken, appToken, apiURL string // apiURL ends in a slash
	level                      slog.Level
	allow, plain               []string          // registries: the only ones that are asked (empty: any); those without TLS
	login                      map[string]string // by registry: "user:password" in base64
}

// configFrom names all that is wrong with the settings. It repeats no value: it could be a token, misplaced.
func configFrom(getenv func(string) string, socketMode bool) (cfg config, err error) {
	get := func(name string) string { return strings.TrimSpace(getenv(name)) }
	bad := func(format string, args ...any) { err = errors.Join(err, fmt.Errorf(format, args...)) }
	token := func(name, prefix, page string) string {
		value := get(name)
		if value == "" {
			bad("%s is not set: create a token (%s…) at api.slack.com/apps under %s", name, prefix, page)
		} else if !strings.HasPrefix(value, prefix) {
			bad("%s is not the right kind of token: it must begin with %s (api.slack.com/apps, %s)", name, prefix, page)
		}
		return value
	}
	cfg.botToken = token("SLACK_BOT_TOKEN", "xoxb-", "OAuth & Permissions")
	if socketMode {
		cfg.appToken = token("SLACK_APP_TOKEN", "xapp-", "Basic Information, App-Level Tokens, with the scope connections:write")
	}
	cfg.apiURL = strings.TrimSuffix(cmp.Or(get("SLACK_API_URL"), "https://slack.com/api"), "/") + "/"
	if u, err := url.Parse(cfg.apiURL); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		bad("SLACK_API_URL is no address like https://slack.com/api/")
	}
	if cfg.level.UnmarshalText([]byte(cmp.Or(get("LOG_LEVEL"), "info"))) != nil {
		bad("LOG_LEVEL is none of debug, info, warn, error")
	}
	comma := func(r rune) bool { return r == ',' || r == ' ' }
	cfg.allow, cfg.plain = strings.FieldsFunc(get("REGISTRY_ALLOW"), comma), strings.FieldsFunc(get("REGISTRY_PLAIN_HTTP"), comma)
	var docker struct {
		Auths map[string]struct{ Auth string }
	}
	if json.Unmarshal([]byte(cmp.Or(get("DOCKER_AUTH_CONFIG"), "{}")), &docker) != nil {
		bad(`DOCKER_AUTH_CONFIG is not of the form {"auths": {"HOST": {"auth": "base64 of user:password"}}}`)
	}
	cfg.login = map[string]string{}
	for host, a := range docker.Auths {
		cfg.login[strings.Replace(host, "https://index.docker.io/v1/", hub, 1)] = a.Auth
	}
	return cfg, err
}

func check(ctx context.Context, cfg config, stdout io.Writer) error {
	api := newSlack(cfg)
	me, err := api.AuthTestContext(ctx)
	if err != nil {
		err = errors.New("SLACK_BOT_TOKEN: " + explain(err))
	} else if fmt.Fprintf(stdout, "SLACK_BOT_TOKEN: ok, %s (%s) in %s (%s)\n", me.User, me.UserID, me.Team, me.TeamID); len(missingScopes(me.Header)) > 0 {
		err = fmt.Errorf("SLACK_BOT_TOKEN lacks scopes: %v: add them at api.slack.com/apps, install the app again and take the new token", missingScopes(me.Header))
	}
	if _, _, open := api.StartSocketModeContext(ctx); open != nil {
		return errors.Join(err, errors.New("SLACK_APP_TOKEN, with the scope connections:write: "+explain(open)))
	}
	fmt.Fprintln(stdout, "SLACK_APP_TOKEN: ok, Socket Mode is on")
	return err
}

// notify uploads a report. A wrong command line is told before settings are, whose error it gets.
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
	data, err := os.ReadFile(*report)
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	} else if len(data) == 0 {
		return fmt.Errorf("notify: %s is empty, and Slack takes no empty file", *report)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	name := filepath.Base(*report) // and a comment holds what people wrote into commits: it notifies nobody
	if err := upload(ctx, newSlack(cfg), *channel, *thread, escape(*comment), name, data); err != nil {
		return fmt.Errorf("notify %s: %w", *channel, ofToken(botName, err))
	}
	_, err = fmt.Fprintf(stdout, "uploaded %s (%d bytes) to %s\n", name, len(data), *channel)
	return err
}

// healthAddress is an abstract socket: it needs no port and no writable folder. Containers that share a network differ in tokens.
func healthAddress(cfg config) *net.UnixAddr {
	sum := sha256.Sum256([]byte(cfg.botToken + cfg.appToken + cfg.apiURL))
	return &net.UnixAddr{Name: fmt.Sprintf("@slackbot-%x", sum[:8]), Net: "unix"}
}

func (b *bot) connected(yes bool) { // a connection is all that slackbot health asks for
	if b.listener != nil {
		b.listener.Close()
	}
	var err error
	if b.listener = nil; !yes {
		return
	} else if b.listener, err = net.ListenUnix("unix", healthAddress(b.cfg)); err != nil {
		b.log.Warn("slackbot health will not work", "err", err)
		return
	}
	go func(l *net.UnixListener) {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			c.Close()
		}
	}(b.listener)
}

func health(cfg config) error {
	c, err := net.DialUnix("unix", nil, healthAddress(cfg))
	if err != nil {
		return fmt.Errorf("health: no bot with these tokens is connected to Slack here: %w", err)
	}
	return c.Close()
}
