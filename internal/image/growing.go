package image

import (
	"context"
	"io"
	"sync"

	"github.com/skiff-build/skiff/internal/store"
)

// growing is a blob that is being made. Others read what there is of it meanwhile, at their own pace: the file stands between.
type growing struct {
	ctx   context.Context // of whoever makes it
	draft *store.Draft

	mu    sync.Mutex
	more  chan struct{} // closed, and replaced, when there is more to read
	n     int64         // bytes that are there
	over  bool          // made and err stand
	made  compressed
	err   error
	users int
}

// newGrowing takes over draft. It is closed with the last user; the one who makes it is one.
func newGrowing(ctx context.Context, draft *store.Draft) *growing {
	return &growing{ctx: ctx, draft: draft, more: make(chan struct{}), users: 1}
}

func (g *growing) retain() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.users++
}

func (g *growing) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.users--; g.users == 0 {
		g.draft.Close()
	}
}

func (g *growing) Write(b []byte) (int, error) {
	if ended(g.ctx) {
		return 0, context.Cause(g.ctx)
	}
	n, err := g.draft.Write(b)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n += int64(n)
	g.wake()
	return n, err
}

// end says what became of it.
func (g *growing) end(c compressed, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.over, g.made, g.err = true, c, err
	g.wake()
}

func (g *growing) wake() {
	close(g.more)
	g.more = make(chan struct{})
}

// wait returns how many bytes there are once there are more than n, and whether that is all.
func (g *growing) wait(ctx context.Context, n int64) (int64, bool, error) {
	for {
		g.mu.Lock()
		have, over, err, more := g.n, g.over, g.err, g.more
		g.mu.Unlock()
		if err != nil || over || have > n {
			return have, over, err
		}
		select {
		case <-more:
		case <-ctx.Done():
			return have, false, context.Cause(ctx)
		}
	}
}

// result waits for the end.
func (g *growing) result(ctx context.Context) (compressed, error) {
	for n := int64(0); ; {
		var over bool
		var err error
		if n, over, err = g.wait(ctx, n); err != nil {
			return compressed{}, err
		}
		if over {
			return g.made, nil
		}
	}
}

// from reads from a byte on, to the end that it will have.
func (g *growing) from(ctx context.Context, at int64) io.ReadCloser {
	return &follower{ctx: ctx, g: g, at: at}
}

type follower struct {
	ctx context.Context
	g   *growing
	at  int64
}

func (f *follower) Read(p []byte) (int, error) {
	have, over, err := f.g.wait(f.ctx, f.at)
	if err != nil {
		return 0, err
	}
	if f.at >= have && over {
		return 0, io.EOF
	}
	n, err := f.g.draft.ReadAt(p[:min(int64(len(p)), have-f.at)], f.at)
	f.at += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

func (f *follower) Close() error { return nil }
