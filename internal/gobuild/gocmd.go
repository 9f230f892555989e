package gobuild

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"
)

// ErrNoGo says that there is no go command.
var ErrNoGo = errors.New("no go command in PATH: install Go (https://go.dev/dl), or build from a Dockerfile, which needs none")

// ExitError is a go command that failed. Output is what it printed, to be shown as it is.
type ExitError struct {
	Verb   string // "build", "list"
	Code   int
	Output []byte
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("go %s: exit status %d", e.Verb, e.Code)
}

// stopWait is how long an interrupted go command may remove its temporary files.
const stopWait = 500 * time.Millisecond

// goCommand runs the go command and returns what it printed to standard output.
func (b *build) goCommand(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, b.golang, args...)
	cmd.Dir, cmd.Env = b.dir, slices.Concat(b.env, b.added, []string{"PWD=" + b.dir})
	cmd.WaitDelay = stopWait
	interruptible(cmd)
	var stdout bytes.Buffer
	said := &lines{each: b.o.Log}
	cmd.Stdout, cmd.Stderr = &stdout, said
	err := cmd.Run()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return stdout.Bytes(), &ExitError{Verb: args[0], Code: exit.ExitCode(), Output: said.all.Bytes()}
	}
	if err != nil {
		return nil, fmt.Errorf("go %s: %w", args[0], err)
	}
	said.rest()
	return stdout.Bytes(), nil
}

// lines collects what a go command prints. What it says of its downloads is passed on at once, all else when it has
// succeeded: after a failure it is shown once, as a whole.
type lines struct {
	each func(string)

	mu   sync.Mutex
	all  bytes.Buffer
	seen int // bytes of all that were looked at
	kept []string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all.Write(p)
	for {
		line, _, ok := bytes.Cut(l.all.Bytes()[l.seen:], []byte("\n"))
		if !ok {
			return len(p), nil
		}
		l.seen += len(line) + 1
		if text := string(line); strings.HasPrefix(text, "go: downloading ") {
			l.each(text)
		} else {
			l.kept = append(l.kept, text)
		}
	}
}

func (l *lines) rest() {
	for _, text := range append(l.kept, string(l.all.Bytes()[l.seen:])) {
		if text != "" {
			l.each(text)
		}
	}
}
