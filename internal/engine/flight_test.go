package engine

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/skiff-build/skiff/internal/sandbox"
)

func TestFlightOnce(t *testing.T) {
	var f flight[int]
	var runs atomic.Int64
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if v, err := f.do(t.Context(), func(context.Context) (int, error) { runs.Add(1); return 7, nil }); v != 7 || err != nil {
				t.Errorf("got %d, %v", v, err)
			}
		})
	}
	wg.Wait()
	if runs.Load() != 1 {
		t.Errorf("it ran %d times", runs.Load())
	}
	if v, ok := f.peek(); v != 7 || !ok {
		t.Errorf("got %d, %v", v, ok)
	}
}

// Who waits for one that is cancelled takes over; an error that is no cancellation stays.
func TestFlightTakesOver(t *testing.T) {
	var f flight[int]
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan struct{})
	first := make(chan error, 1)
	go func() {
		_, err := f.do(ctx, func(ctx context.Context) (int, error) {
			close(started)
			<-ctx.Done()
			return 0, ctx.Err()
		})
		first <- err
	}()
	<-started
	second := make(chan error, 1)
	broken := errors.New("broken")
	go func() {
		_, err := f.do(t.Context(), func(context.Context) (int, error) { return 0, broken })
		second <- err
	}()
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first: %v", err)
	}
	if err := <-second; err != broken {
		t.Errorf("the second: %v", err)
	}
	if _, err := f.do(t.Context(), func(context.Context) (int, error) { return 1, nil }); err != broken {
		t.Errorf("later: %v", err)
	}
}

func asUnavailable(err error, to **sandbox.Unavailable) bool { return errors.As(err, to) }
