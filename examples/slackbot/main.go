// Command slackbot tells a Slack channel what container images weigh, and uploads the whole report as a file. A file per
// topic, in the order in which a mention meets them: main (commands, settings), socket (connection, workers), bot (question,
// answer), registry, report; then calls, which all requests go through, with advice on errors, and oneshot, other commands.
package main

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"os/signal"
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

// run is the program. It returns the exit code.
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
	if errors.Is(err, errUsage) {
		return 2
	}
	return 1
}

// config is what the environment says.
type config struct {
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
