package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// startTimeout bounds the start of the child, which takes some 10 to 30 ms.
const startTimeout = 20 * time.Second

// closeTimeout is how long Close waits for the child to end by itself before it kills it.
const closeTimeout = 3 * time.Second

// Child is the process in the namespaces. Its methods are safe for concurrent use.
type Child struct {
	*client
	mode    Mode
	note    string
	cmd     *exec.Cmd
	stderr  *tail
	waited  chan struct{} // closed when the process is gone
	closing sync.Once
}

// Enter starts the child. ctx bounds the start alone. Where the machine has no namespaces for us the error is
// [*Unavailable]. The caller must Close the child.
func Enter(ctx context.Context, o Options) (*Child, error) {
	if !exists("/proc/self/exe") {
		return nil, findCause("clone", syscall.ENOENT)
	}
	if o.Root != "" {
		root, err := filepath.Abs(o.Root)
		if err != nil {
			return nil, err
		}
		o.Root = root
	}
	if o.Mode == ModeFiles {
		return start(ctx, plan{mode: ModeFiles}, o)
	}
	list, note := plans()
	var first error
	for _, p := range list {
		if o.Mode != "" && o.Mode != p.mode {
			continue
		}
		c, err := start(ctx, p, o)
		if err == nil {
			if p.mode == ModeOneID {
				c.note = note
			}
			return c, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if first == nil {
			first, note = err, err.Error()
		}
	}
	if first == nil {
		return nil, modeUnavailable(o.Mode, note)
	}
	return nil, first
}

// modeUnavailable is for a mode that was asked for and is not among the plans.
func modeUnavailable(m Mode, note string) error {
	switch m {
	case ModeRoot:
		return &Unavailable{"mode root needs root with CAP_SYS_ADMIN, free to mount", "leave the mode out to take the best there is"}
	case ModeSubIDs:
		return &Unavailable{"mode subids cannot be had: " + cmpOr(note, "no subordinate ids"), "run as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER"}
	case ModeOneID:
		return &Unavailable{"mode oneid cannot be had: " + note, "leave the mode out to take the best there is"}
	}
	return fmt.Errorf("unknown mode %q (root, subids, oneid)", m)
}

func start(ctx context.Context, p plan, o Options) (*Child, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	link, err := newSocketLink(ours)
	if err != nil {
		return nil, err
	}
	c := &Child{client: newClient(link), mode: p.mode, stderr: &tail{}, waited: make(chan struct{})}
	c.cmd = childCommand(p, theirs, c.stderr)
	if err := c.cmd.Start(); err != nil {
		link.Close()
		return nil, findCause("clone", err)
	}
	theirs.Close()
	go func() { c.cmd.Wait(); close(c.waited) }()
	if p.subs != nil {
		if err := p.subs.apply(ctx, c.cmd.Process.Pid); err != nil {
			c.kill()
			return nil, fmt.Errorf("map subordinate ids: %w", err)
		}
	}
	if err := c.greet(ctx, p, o); err != nil {
		c.kill()
		return nil, err
	}
	go c.receive(c.ended)
	return c, nil
}

func childCommand(p plan, sock *os.File, stderr io.Writer) *exec.Cmd {
	stage := stageChild
	if p.subs != nil {
		stage = stageWait
	}
	flags := unix.CLONE_NEWNS | unix.CLONE_NEWPID | p.flags
	if p.mode == ModeFiles {
		stage, flags = stageFiles, 0
	}
	cmd := &exec.Cmd{
		Path:       "/proc/self/exe",
		Args:       []string{initArg0, stage},
		Stdout:     stderr,
		Stderr:     stderr,
		ExtraFiles: []*os.File{sock},
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags:  flags,
			UidMappings: p.uids,
			GidMappings: p.gids,
			// setgroups stays denied with one id: the kernel asks for it (user_namespaces(7)).
			GidMappingsEnableSetgroups: p.mode == ModeSubIDs,
			// A session of its own: Ctrl-C at the terminal is the parent's to act on.
			Setsid: true,
		},
		WaitDelay: time.Second,
	}
	return cmd
}

// greet sends the child what it needs and waits until it is ready.
func (c *Child) greet(ctx context.Context, p plan, o Options) error {
	stop := context.AfterFunc(ctx, func() { c.link.Close() })
	defer stop()
	body, err := json.Marshal(startInfo{Root: o.Root, Mode: p.mode, Step: o.Step})
	if err != nil {
		return err
	}
	if err := c.link.send(frame{Kind: kindStart, Body: body}, nil); err != nil {
		return c.startError(ctx, err)
	}
	f, _, err := c.link.recv()
	switch {
	case err != nil:
		return c.startError(ctx, err)
	case f.Kind != kindHello:
		return fmt.Errorf("start sandbox: unexpected message %q (does main call skiff.Init first?)", f.Kind)
	case f.Err != nil:
		return findCause("mount", f.Err.error())
	}
	return nil
}

func (c *Child) startError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("start sandbox: %w", ctx.Err())
	}
	return fmt.Errorf("start sandbox: the child ended at once (does main call skiff.Init first?): %w%s", err, c.stderr.text())
}

// ended makes the error of calls that the end of the link cut short.
func (c *Child) ended(err error) error {
	select {
	case <-c.waited:
	case <-time.After(closeTimeout):
		return fmt.Errorf("sandbox: connection lost: %w", err)
	}
	if s := c.cmd.ProcessState; s != nil && !s.Success() {
		return fmt.Errorf("sandbox: the child process ended: %s%s", s, c.stderr.text())
	}
	return ErrClosed
}

// Mode the child runs in.
func (c *Child) Mode() Mode { return c.mode }

// Note says why the mode is not a better one; it is empty when there is nothing to say.
func (c *Child) Note() string { return c.note }

// Call asks the child to run the handler of that name: req and resp go as JSON, resp may be nil. onEvent, which may
// be nil, gets the handler's events one after the other in this goroutine. When ctx ends so does the handler's, and
// Call returns ctx's error once the handler has returned (or after 5 s). An error of the handler keeps its text;
// [*ExitError], [*Unavailable], errno values and the sentinels of io/fs and context are found by [errors.As] and Is.
func (c *Child) Call(ctx context.Context, method string, req, resp any, onEvent func(json.RawMessage)) error {
	return c.call(ctx, method, req, nil, resp, onEvent)
}

// CallFiles is Call with open files for the handler ([Call.Files]), at most 16. They stay the caller's to close.
func (c *Child) CallFiles(ctx context.Context, method string, req any, files []*os.File, resp any, onEvent func(json.RawMessage)) error {
	return c.call(ctx, method, req, files, resp, onEvent)
}

// Close ends the child and everything in it: running handlers are cancelled first. It may be called again.
func (c *Child) Close() error {
	c.closing.Do(func() {
		c.fail(ErrClosed)
		c.link.Close()
		select {
		case <-c.waited:
		case <-time.After(closeTimeout):
			c.kill()
		}
	})
	return nil
}

func (c *Child) kill() {
	c.link.Close()
	c.cmd.Process.Kill()
	<-c.waited
}

// tail keeps the end of what the child writes to stderr: the text of a crash.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 16 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if os.Getenv("SKIFF_DEBUG") != "" {
		os.Stderr.Write(p)
	}
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

// text is empty, or a colon and what was written.
func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := strings.TrimSpace(string(bytes.ToValidUTF8(t.buf, []byte("?")))); s != "" {
		return ": " + s
	}
	return ""
}
