package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"time"
)

// serve answers calls from l until it ends, then cancels what still runs and gives it grace to clean up.
func serve(l link, handlers map[string]Handler, grace time.Duration) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var (
		mu      sync.Mutex
		running = map[uint64]context.CancelFunc{}
		wg      sync.WaitGroup
	)
	finish := func(err error) error {
		cancel()
		ended := make(chan struct{})
		go func() { wg.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(grace):
		}
		return err
	}
	for {
		f, files, err := l.recv()
		if err != nil {
			return finish(err)
		}
		switch f.Kind {
		case kindCancel:
			mu.Lock()
			if stop := running[f.ID]; stop != nil {
				stop()
			}
			mu.Unlock()
			closeAll(files)
		case kindCall:
			callCtx, stop := context.WithCancel(ctx)
			mu.Lock()
			running[f.ID] = stop
			mu.Unlock()
			wg.Go(func() {
				answer(callCtx, l, handlers[f.Method], f, files)
				mu.Lock()
				delete(running, f.ID)
				mu.Unlock()
				stop()
			})
		default:
			closeAll(files)
		}
	}
}

// answer runs the handler of one call and sends its result. Errors of sending are left to serve, whose recv will see
// the end of the link as well.
func answer(ctx context.Context, l link, h Handler, f frame, files []*os.File) {
	defer closeAll(files)
	c := &Call{body: f.Body, files: files, event: func(v any) error {
		body, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("encode event: %w", err)
		}
		return l.send(frame{ID: f.ID, Kind: kindEvent, Body: body}, nil)
	}}
	out := frame{ID: f.ID, Kind: kindResult}
	res, err := safely(ctx, f.Method, h, c)
	if err == nil {
		out.Body, err = json.Marshal(res)
	}
	if err != nil {
		out.Err, out.Body = toWire(err), nil
	}
	if err := l.send(out, nil); err != nil {
		l.send(frame{ID: f.ID, Kind: kindResult, Err: toWire(fmt.Errorf("%s: send result: %w", f.Method, err))}, nil)
	}
}

// safely turns a panic of the handler into an error: one bad step must not end the others. The stack goes to stderr
// with SKIFF_DEBUG alone; it says nothing to a user.
func safely(ctx context.Context, method string, h Handler, c *Call) (res any, err error) {
	if h == nil {
		return nil, fmt.Errorf("%s: unknown method", method)
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: internal error: %v", method, p)
			if os.Getenv("SKIFF_DEBUG") != "" {
				fmt.Fprintf(os.Stderr, "%v\n%s", err, debug.Stack())
			}
		}
	}()
	return h(ctx, c)
}
