package engine

import (
	"context"
	"sync"
)

// flight does something once for all who ask, and keeps what came of it. When the one who does it is cancelled, another
// of those who wait does it instead. The zero flight is ready. It is safe for concurrent use.
type flight[T any] struct {
	mu      sync.Mutex
	running chan struct{} // closed when the one under way ends; nil: none is
	done    bool
	value   T
	err     error
}

func (f *flight[T]) do(ctx context.Context, fn func(context.Context) (T, error)) (T, error) {
	var none T
	for {
		f.mu.Lock()
		if f.done {
			defer f.mu.Unlock()
			return f.value, f.err
		}
		if f.running == nil {
			f.running = make(chan struct{})
			f.mu.Unlock()
			return f.run(ctx, fn)
		}
		running := f.running
		f.mu.Unlock()
		select {
		case <-running:
		case <-ctx.Done():
			return none, context.Cause(ctx)
		}
	}
}

func (f *flight[T]) run(ctx context.Context, fn func(context.Context) (T, error)) (T, error) {
	value, err := fn(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.running)
	f.running = nil
	if err != nil && ctx.Err() != nil {
		return value, err // says nothing about the thing itself
	}
	f.done, f.value, f.err = true, value, err
	return value, err
}

// peek returns the value when it is there and was no error.
func (f *flight[T]) peek() (T, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.value, f.done && f.err == nil
}

// forget lets go of the value, which is made again for the next who asks.
func (f *flight[T]) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	var none T
	f.done, f.value, f.err = false, none, nil
}
