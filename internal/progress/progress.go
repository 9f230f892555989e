// Package progress shows a build while it runs. It is BuildKit's own display (util/progress/progressui), so what a user
// sees is what docker build shows: statuses go in, lines or a live terminal view come out. The quiet mode, which shows
// nothing of a build that succeeds, still prints the last lines of a step that failed.
package progress

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/progress/progressui"
)

// Modes are the values of --progress that docker build takes, in the order in which help lists them.
var Modes = []string{"auto", "plain", "tty", "quiet", "rawjson"}

// Mode is the mode to show a build with: what the flag says, else the environment's BUILDKIT_PROGRESS, else auto.
func Mode(flag string, getenv func(string) string) (string, error) {
	mode, from := flag, "--progress"
	if mode == "" {
		mode, from = getenv("BUILDKIT_PROGRESS"), "BUILDKIT_PROGRESS"
	}
	switch mode {
	case "":
		return "auto", nil
	case "none": // what buildx called quiet first
		return "quiet", nil
	}
	for _, m := range Modes {
		if m == mode {
			return m, nil
		}
	}
	return "", fmt.Errorf("%s: %q is not a mode: choose one of %s", from, mode, strings.Join(Modes, ", "))
}

// Display is a running display. Status and Close may be called from several goroutines.
type Display struct {
	tail  tail
	clean cleaner
	raw   bool // for programs, which get all as it is
	done  chan struct{}

	mu     sync.Mutex
	closed bool
	ch     chan *client.SolveStatus
}

// New starts a display in one of [Modes] that writes to out, which has to be a terminal for "tty". The caller closes it.
func New(mode string, out io.Writer) (*Display, error) {
	d, err := progressui.NewDisplay(out, progressui.DisplayMode(mode))
	if err != nil {
		return nil, fmt.Errorf("show progress: %s: %w", mode, err)
	}
	p := &Display{done: make(chan struct{}), ch: make(chan *client.SolveStatus)}
	switch progressui.DisplayMode(mode) {
	case progressui.QuietMode:
		p.tail.out = out
	case progressui.RawJSONMode:
		p.raw = true
	}
	go func() {
		defer close(p.done)
		// The display ends with its channel, never with the build's context: what was cancelled is shown, too. It
		// returns no other error than that context's.
		_, _ = d.UpdateFrom(context.Background(), p.ch)
	}()
	return p, nil
}

// Status shows what s says, without the control characters in it. After Close it does nothing.
func (p *Display) Status(s *client.SolveStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || s == nil {
		return
	}
	if !p.raw {
		s = p.clean.clean(s)
	}
	p.tail.add(s)
	p.ch <- s
}

// Close ends the display and returns when its last line is written. It may be called again.
func (p *Display) Close() {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		close(p.ch)
	}
	p.mu.Unlock()
	<-p.done
	p.tail.print()
}
