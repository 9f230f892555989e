package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"
)

// maxFrame bounds one message, in bytes: a result of more should be a file. It keeps a broken peer from asking for
// all memory.
const maxFrame = 64 << 20

// maxQueued is how many bytes of events may wait for a slow caller before the child is held up.
const maxQueued = 4 << 20

// cancelGrace is how long a call waits for its handler to end after its context did. A handler's end matters, since
// it unmounts what it mounted, but a build has to end within a second or so.
const cancelGrace = 5 * time.Second

// The kinds of frames: call and cancel go to the child; event and result come from it.
const (
	kindStart  = "start"
	kindHello  = "hello"
	kindCall   = "call"
	kindCancel = "cancel"
	kindEvent  = "event"
	kindResult = "result"
)

// frame is one message in either direction. ID is the call it belongs to. Body is JSON, too, but travels beside the
// rest, so that large ones are not parsed twice.
type frame struct {
	ID     uint64          `json:"id,omitempty"`
	Kind   string          `json:"kind"`
	Method string          `json:"method,omitempty"`
	Body   json.RawMessage `json:"-"`
	Err    *wireError      `json:"err,omitempty"`
}

// link carries frames. send is safe for concurrent use, recv is for one goroutine. recv gives io.EOF at the end.
// Files received belong to the caller of recv; those sent stay the sender's.
type link interface {
	send(f frame, files []*os.File) error
	recv() (frame, []*os.File, error)
	Close() error
}

// wireError is an error on its way through the pipe: its text, and what callers branch on.
type wireError struct {
	Text        string        `json:"text"`
	Exit        *ExitError    `json:"exit,omitempty"`
	Unavailable *Unavailable  `json:"unavailable,omitempty"`
	Errno       syscall.Errno `json:"errno,omitempty"`
	Sentinel    int           `json:"sentinel,omitempty"` // 1 + index in sentinels
}

var sentinels = []error{context.Canceled, context.DeadlineExceeded, io.EOF, io.ErrUnexpectedEOF, fs.ErrNotExist, fs.ErrExist, fs.ErrPermission}

func toWire(err error) *wireError {
	w := &wireError{Text: err.Error()}
	errors.As(err, &w.Exit)
	errors.As(err, &w.Unavailable)
	errors.As(err, &w.Errno)
	for i, s := range sentinels {
		if errors.Is(err, s) {
			w.Sentinel = i + 1
			break
		}
	}
	return w
}

// remoteError is an error of the child: its text unchanged, and below it what errors.Is and errors.As found there.
type remoteError struct {
	text  string
	below []error
}

func (e *remoteError) Error() string   { return e.text }
func (e *remoteError) Unwrap() []error { return e.below }

func (w *wireError) error() error {
	e := &remoteError{text: w.Text}
	if w.Exit != nil {
		e.below = append(e.below, w.Exit)
	}
	if w.Unavailable != nil {
		e.below = append(e.below, w.Unavailable)
	}
	if w.Errno != 0 {
		e.below = append(e.below, w.Errno)
	}
	if w.Sentinel > 0 && w.Sentinel <= len(sentinels) {
		e.below = append(e.below, sentinels[w.Sentinel-1])
	}
	return e
}

// client is the parent's side of a link.
type client struct {
	link link

	mu      sync.Mutex
	next    uint64
	pending map[uint64]*inbox
	err     error // why the link ended; set once
}

func newClient(l link) *client {
	return &client{link: l, pending: map[uint64]*inbox{}}
}

// receive hands incoming frames to the calls that wait for them until the link ends, and then fails those.
// why makes the error of that end.
func (c *client) receive(why func(error) error) {
	for {
		f, files, err := c.link.recv()
		closeAll(files)
		if err != nil {
			c.fail(why(err))
			return
		}
		c.mu.Lock()
		in := c.pending[f.ID]
		c.mu.Unlock()
		if in != nil {
			in.put(f)
		}
	}
}

func (c *client) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
	for id, in := range c.pending {
		in.put(frame{ID: id, Kind: kindResult, Err: toWire(c.err)})
	}
}

func (c *client) call(ctx context.Context, method string, req any, files []*os.File, resp any, onEvent func(json.RawMessage)) error {
	body, err := json.Marshal(req)
	if err != nil {
		return fmt.Errorf("%s: encode request: %w", method, err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	id, in, err := c.register()
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	defer c.forget(id, in)
	if err := c.link.send(frame{ID: id, Kind: kindCall, Method: method, Body: body}, files); err != nil {
		return fmt.Errorf("%s: send request: %w", method, err)
	}
	return c.wait(ctx, id, in, resp, onEvent)
}

// wait delivers events until the result is there. After ctx has ended it asks the child to stop, and waits for that.
func (c *client) wait(ctx context.Context, id uint64, in *inbox, resp any, onEvent func(json.RawMessage)) error {
	done := ctx.Done()
	var giveUp <-chan time.Time
	for {
		select {
		case <-in.ready:
		case <-done:
			done = nil
			t := time.NewTimer(cancelGrace)
			defer t.Stop()
			giveUp = t.C
			if err := c.link.send(frame{ID: id, Kind: kindCancel}, nil); err != nil {
				return ctx.Err()
			}
			continue
		case <-giveUp:
			return ctx.Err()
		}
		for _, f := range in.take() {
			switch {
			case f.Kind == kindEvent:
				if onEvent != nil {
					onEvent(f.Body)
				}
			case f.Err != nil:
				if ctx.Err() != nil && f.Err.Exit == nil {
					return fmt.Errorf("%w", ctx.Err())
				}
				return f.Err.error()
			case resp != nil:
				if err := json.Unmarshal(f.Body, resp); err != nil {
					return fmt.Errorf("decode result: %w", err)
				}
				return nil
			default:
				return nil
			}
		}
	}
}

func (c *client) register() (uint64, *inbox, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, nil, c.err
	}
	c.next++
	in := newInbox()
	c.pending[c.next] = in
	return c.next, in, nil
}

func (c *client) forget(id uint64, in *inbox) {
	c.mu.Lock()
	delete(c.pending, id)
	c.mu.Unlock()
	in.close()
}

// inbox is the queue of one call: unbounded in number, bounded in bytes, so that many short lines do not stop the
// reader, which serves all calls, and a flood does not fill the memory.
type inbox struct {
	ready chan struct{} // holds one token while frames may be there

	mu     sync.Mutex
	room   *sync.Cond
	frames []frame
	bytes  int
	closed bool
}

func newInbox() *inbox {
	in := &inbox{ready: make(chan struct{}, 1)}
	in.room = sync.NewCond(&in.mu)
	return in
}

func (in *inbox) put(f frame) {
	in.mu.Lock()
	for in.bytes > maxQueued && !in.closed && f.Kind == kindEvent {
		in.room.Wait()
	}
	if !in.closed {
		in.frames = append(in.frames, f)
		in.bytes += len(f.Body)
	}
	in.mu.Unlock()
	select {
	case in.ready <- struct{}{}:
	default:
	}
}

func (in *inbox) take() []frame {
	in.mu.Lock()
	defer in.mu.Unlock()
	frames := in.frames
	in.frames, in.bytes = nil, 0
	in.room.Broadcast()
	return frames
}

func (in *inbox) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closed = true
	in.room.Broadcast()
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
