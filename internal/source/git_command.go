package source

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// protocols that git may speak. A submodule that names a folder of this machine, or a program (ext::), must
// not reach it.
const protocols = "http:https:git:ssh"

// gitCommand runs git with a home of its own, whose configuration is all that it reads.
type gitCommand struct {
	program string
	home    string
	env     []string
	log     func(string)
	close   func()
}

// newGit prepares git for a remote. The caller closes it, which removes the credentials from the disk.
func (f *Fetcher) newGit(ctx context.Context, src Git) (*gitCommand, error) {
	program := f.GitCommand
	if program == "" {
		program = "git"
	}
	program, err := exec.LookPath(program)
	if err != nil {
		return nil, fmt.Errorf("this machine has no git command, which a git source needs: install git (apt-get install git, apk add git): %w", err)
	}
	home, release, err := f.Store.TempDir("git")
	if err != nil {
		return nil, err
	}
	g := &gitCommand{program: program, home: home, log: f.Log, close: release}
	if err := g.prepare(ctx, f, src); err != nil {
		release()
		return nil, err
	}
	return g, nil
}

func (g *gitCommand) prepare(ctx context.Context, f *Fetcher, src Git) error {
	config := gitConfig + g.authConfig(f.authorization(ctx, src), src.Remote)
	if err := os.WriteFile(filepath.Join(g.home, ".gitconfig"), []byte(config), 0o600); err != nil {
		return err
	}
	ssh, err := g.sshEnv(f, src)
	if err != nil {
		return err
	}
	g.env = append(ssh, "PATH="+os.Getenv("PATH"), "HOME="+g.home, "XDG_CONFIG_HOME="+g.home, "GIT_CONFIG_NOSYSTEM=1",
		"GIT_TERMINAL_PROMPT=0", "LC_ALL=C")
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "SYSTEMROOT"} {
		for _, n := range []string{name, strings.ToLower(name)} {
			if v, ok := os.LookupEnv(n); ok {
				g.env = append(g.env, n+"="+v)
			}
		}
	}
	return nil
}

// gitConfig is the configuration for all commands. A transfer that stalls ends; the threads that pack objects
// would make a pack differ from one time to the next.
const gitConfig = `[core]
	hooksPath = /dev/null
	fsmonitor = false
	symlinks = true
	fileMode = true
	autocrlf = false
[init]
	defaultBranch = master
	templateDir =
[safe]
	directory = *
[credential]
	helper =
[http]
	lowSpeedLimit = 1
	lowSpeedTime = 60
[gc]
	auto = 0
[maintenance]
	auto = false
[pack]
	threads = 1
[advice]
	detachedHead = false
[fetch]
	recurseSubmodules = false
`

// authConfig sends the header to the remote alone; one for GitHub is for all of GitHub, whose submodules
// commonly need it.
func (g *gitCommand) authConfig(header, remote string) string {
	if header == "" {
		return ""
	}
	scope := remote
	for _, prefix := range []string{"https://github.com/", "https://www.github.com/"} {
		if strings.HasPrefix(remote, prefix) {
			scope = prefix
		}
	}
	return fmt.Sprintf("[http %s]\n\textraheader = %s\n", quoteConfig(scope), quoteConfig("Authorization: "+header))
}

func basicAuth(user, password string) string {
	return "basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// quoteConfig quotes a value for a git configuration file (git-config(1), "Syntax").
func quoteConfig(s string) string {
	s = strings.NewReplacer("\r", "", "\n", "").Replace(s)
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// sshEnv lets ssh use the build's agent and known hosts, and nothing of the user's.
func (g *gitCommand) sshEnv(f *Fetcher, src Git) ([]string, error) {
	command := "ssh -F /dev/null -o BatchMode=yes -o ConnectTimeout=30"
	if src.KnownHosts == "" {
		command += " -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null" // as BuildKit
	} else {
		file := filepath.Join(g.home, "known_hosts")
		if err := os.WriteFile(file, []byte(src.KnownHosts), 0o600); err != nil {
			return nil, err
		}
		command += " -o UserKnownHostsFile='" + strings.ReplaceAll(file, "'", `'\''`) + "'"
	}
	env := []string{"GIT_SSH_COMMAND=" + command}
	if src.SSH == "" {
		return env, nil
	}
	if f.SSH == nil {
		return nil, fmt.Errorf("it needs the ssh agent %s: --ssh %s", src.SSH, src.SSH)
	}
	socket, err := f.SSH(src.SSH)
	if err != nil {
		return nil, fmt.Errorf("it needs the ssh agent %s (--ssh %s): %w", src.SSH, src.SSH, err)
	}
	return append(env, "SSH_AUTH_SOCK="+socket), nil
}

// run runs git and returns its output. The error holds what git said.
func (g *gitCommand) run(ctx context.Context, args ...string) (string, error) {
	return g.runWith(ctx, []string{"GIT_ALLOW_PROTOCOL=" + protocols}, args...)
}

// runLocal is run for a fetch from a folder of our own.
func (g *gitCommand) runLocal(ctx context.Context, args ...string) (string, error) {
	return g.runWith(ctx, []string{"GIT_ALLOW_PROTOCOL=file"}, args...)
}

func (g *gitCommand) runWith(ctx context.Context, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, g.program, args...)
	cmd.Dir, cmd.Env = g.home, append(env, g.env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = 5 * time.Second
	killGroup(cmd)
	err := cmd.Run()
	if err == nil {
		g.tell(stderr.String())
		return stdout.String(), nil
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	return "", &gitError{err: err, said: redactText(strings.TrimSpace(stderr.String()))}
}

// tell passes warnings on. What a failed command said is in its error, if nothing else helps.
func (g *gitCommand) tell(output string) {
	if g.log == nil {
		return
	}
	for line := range strings.Lines(output) {
		g.log(redactText(strings.TrimRight(line, "\n")))
	}
}

// gitError is a git command that failed.
type gitError struct {
	err  error
	said string
}

func (e *gitError) Unwrap() error { return e.err }

func (e *gitError) Error() string {
	said := e.said
	if said == "" {
		return "git: " + e.err.Error()
	}
	if strings.Contains(said, "could not read Username") || strings.Contains(said, "Authentication failed") || strings.Contains(said, "error: 403") {
		said += "\ncredentials: --secret id=GIT_AUTH_TOKEN, for a private repository"
	}
	return "git: " + said
}

// redactText hides the passwords of URLs within a text.
func redactText(s string) string {
	words := strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(" \t\n'\"", r) })
	for _, w := range words {
		if strings.Contains(w, "://") && strings.Contains(w, "@") {
			s = strings.ReplaceAll(s, w, redact(w))
		}
	}
	return s
}
