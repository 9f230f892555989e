package sandbox

import (
	"context"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// firstInit starts the init that [Options.Step] asks for, once. It is of the usual kind, and waits for what it is to run, as
// all do; nil where it could not be started: then a step meets the same, and tells.
var firstInit = sync.OnceValue(func() *spareInit {
	s := &spareInit{stdout: &laterWriter{}, stderr: &laterWriter{}}
	p, err := startInit(context.Background(), usualInit, RunOptions{Stdout: s.stdout, Stderr: s.stderr})
	if err != nil {
		return nil
	}
	s.Prepared = p
	return s
})

// usualInit is what nearly every step wants: a network namespace of its own, with a network in it or without.
var usualInit = PrepareOptions{Network: true}

// firstTaken says that a step has it.
var firstTaken atomic.Bool

type spareInit struct {
	*Prepared
	stdout, stderr *laterWriter
}

// takeFirst gives the first init to a step that it fits; nil where there is none.
func takeFirst(ctx context.Context, po PrepareOptions, o RunOptions) *Prepared {
	fits := po == usualInit && o.Stdin == nil && byPipe(o.Stdout) && byPipe(o.Stderr)
	if !self.Step || !fits || ctx.Err() != nil || firstTaken.Swap(true) {
		return nil
	}
	s := firstInit()
	if s == nil {
		return nil
	}
	p := s.Prepared
	if pid, err := zombie(unix.P_PID, p.cmd.Process.Pid); err != nil || pid != 0 { // killed meanwhile, for want of memory
		p.Cancel()
		return nil
	}
	s.stdout.set(o.Stdout)
	s.stderr.set(o.Stderr)
	p.stop()
	p.o, p.ooms = o, oomKills()
	p.follow(ctx)
	return p
}

// byPipe says whether a program's output comes to w through a pipe that this process reads.
func byPipe(w io.Writer) bool {
	_, file := w.(*os.File)
	return w != nil && !file
}

// laterWriter is a writer that is known only when there is something to write.
type laterWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *laterWriter) set(w io.Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.w = w
}

func (l *laterWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	w := l.w
	l.mu.Unlock()
	if w == nil {
		return len(p), nil // the last words of an init that nobody has asked for
	}
	return w.Write(p)
}
