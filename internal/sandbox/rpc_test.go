//go:build linux

package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var cancelled atomic.Int32 // counted in the child

func rpcHandlers() map[string]Handler {
	return map[string]Handler{
		"upper": func(_ context.Context, c *Call) (any, error) {
			var s string
			if err := c.Decode(&s); err != nil {
				return nil, err
			}
			return strings.ToUpper(s), nil
		},
		"count": func(_ context.Context, c *Call) (any, error) {
			var n int
			if err := c.Decode(&n); err != nil {
				return nil, err
			}
			for i := range n {
				if err := c.Event(i); err != nil {
					return nil, err
				}
			}
			return n, nil
		},
		"fail": func(_ context.Context, c *Call) (any, error) {
			var kind string
			c.Decode(&kind)
			switch kind {
			case "exit":
				return nil, fmt.Errorf("step: %w", &ExitError{Code: 137, Signal: syscall.SIGKILL})
			case "path":
				_, err := os.Open("/no/such/file")
				return nil, err
			case "unavailable":
				return nil, &Unavailable{"a cause", "a mend"}
			case "large":
				return strings.Repeat("x", maxFrame+1), nil
			}
			panic("as asked")
		},
		"hang": func(ctx context.Context, c *Call) (any, error) {
			c.Event("started")
			<-ctx.Done()
			cancelled.Add(1)
			return nil, ctx.Err()
		},
		"cancelled": func(context.Context, *Call) (any, error) { return cancelled.Load(), nil },
		"file": func(_ context.Context, c *Call) (any, error) {
			var texts []string
			for _, f := range c.Files() {
				b, err := io.ReadAll(f)
				if err != nil {
					return nil, err
				}
				texts = append(texts, string(b))
			}
			return texts, nil
		},
		// orphan leaves the child a process that ends soon, by way of one that ends at once.
		"orphan": func(context.Context, *Call) (any, error) {
			return nil, exec.Command("/bin/sh", "-c", "sleep 0.1 & exit 0").Run()
		},
		"zombie": func(context.Context, *Call) (any, error) { return zombie(unix.P_ALL, 0) },
		// look has a reaper look now, and again the given number of seconds later.
		"look": func(_ context.Context, c *Call) (any, error) {
			var seconds int
			err := c.Decode(&seconds)
			var r reaper
			r.look(time.Now())
			r.look(time.Now().Add(time.Duration(seconds) * time.Second))
			return nil, err
		},
		"die": func(context.Context, *Call) (any, error) {
			fmt.Fprintln(os.Stderr, "last words")
			os.Exit(3)
			return nil, nil
		},
	}
}

func TestCallsRunConcurrently(t *testing.T) {
	c := enter(t)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			var got string
			if err := c.Call(t.Context(), "upper", fmt.Sprintf("call %d", i), &got, nil); err != nil {
				t.Error(err)
			}
			if want := fmt.Sprintf("CALL %d", i); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
	wg.Wait()
}

func TestEventsArriveInOrderBeforeTheResult(t *testing.T) {
	c := enter(t)
	next, total := 0, 0
	err := c.Call(t.Context(), "count", 20000, &total, func(m json.RawMessage) {
		if string(m) != fmt.Sprint(next) {
			t.Fatalf("event %s where %d was due", m, next)
		}
		next++
	})
	if err != nil || total != 20000 || next != total {
		t.Fatalf("%v: %d events, result %d", err, next, total)
	}
}

// A call from within onEvent must not wait for events that only this goroutine can take.
func TestCallFromWithinAnEvent(t *testing.T) {
	c := enter(t)
	err := c.Call(t.Context(), "count", 5000, nil, func(m json.RawMessage) {
		if string(m) == "0" {
			var got string
			if err := c.Call(t.Context(), "upper", "a", &got, nil); err != nil || got != "A" {
				t.Errorf("%q, %v", got, err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestLargePayload(t *testing.T) {
	c := enter(t)
	in := strings.Repeat("0123456789abcdef", 1<<20) // 16 MiB
	var out string
	if err := c.Call(t.Context(), "upper", in, &out, nil); err != nil {
		t.Fatal(err)
	}
	if out != strings.ToUpper(in) {
		t.Fatal("not what was sent")
	}
	if err := c.Call(t.Context(), "fail", "large", &out, nil); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Fatalf("a result above the bound: %v", err)
	}
	if err := c.Call(t.Context(), "upper", "still there", &out, nil); err != nil {
		t.Fatal(err)
	}
}

func TestErrorsSurvive(t *testing.T) {
	c := enter(t)
	fail := func(kind string) error { return c.Call(t.Context(), "fail", kind, nil, nil) }

	err := fail("exit")
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Code != 137 || exit.Signal != syscall.SIGKILL || err.Error() != "step: exit code: 137" {
		t.Errorf("exit error came as %v (%+v)", err, exit)
	}
	err = fail("path")
	if !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, syscall.ENOENT) || err.Error() != "open /no/such/file: no such file or directory" {
		t.Errorf("path error came as %v", err)
	}
	var un *Unavailable
	if err = fail("unavailable"); !errors.As(err, &un) || un.Cause != "a cause" || un.Mend != "a mend" {
		t.Errorf("unavailable came as %v", err)
	}
	if err = fail("panic"); err == nil || !strings.Contains(err.Error(), "internal error: as asked") || strings.Contains(err.Error(), "goroutine") {
		t.Errorf("panic came as %v", err)
	}
	if err = c.Call(t.Context(), "no such method", nil, nil, nil); err == nil || !strings.Contains(err.Error(), "unknown method") {
		t.Errorf("unknown method: %v", err)
	}
}

func TestCancelReachesTheHandler(t *testing.T) {
	c := enter(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := c.Call(ctx, "hang", nil, nil, func(json.RawMessage) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if !eventually(func() bool {
		var n int32
		if err := c.Call(t.Context(), "cancelled", nil, &n, nil); err != nil || n > 1 {
			t.Fatalf("the handler saw %d cancels, %v", n, err)
		}
		return n == 1
	}) {
		t.Fatal("the handler never ended")
	}
}

func TestFilesArePassed(t *testing.T) {
	c := enter(t)
	var files []*os.File
	for _, text := range []string{"one", "two"} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		io.WriteString(w, text)
		w.Close()
		files = append(files, r)
	}
	var got []string
	if err := c.CallFiles(t.Context(), "file", nil, files, &got, nil); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != "[one two]" {
		t.Fatalf("got %q", got)
	}
}

func TestDeathOfTheChildIsTold(t *testing.T) {
	c := enter(t)
	err := c.Call(t.Context(), "die", nil, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "last words") {
		t.Fatal(err)
	}
	if err := c.Call(t.Context(), "upper", "x", nil, nil); err == nil {
		t.Fatal("a call to a dead child worked")
	}
}

func TestCallsEndWithClose(t *testing.T) {
	c := enter(t)
	done := make(chan error)
	go func() {
		done <- c.Call(t.Context(), "hang", nil, nil, func(json.RawMessage) { go c.Close() })
	}()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), ErrClosed.Error()) {
			t.Fatal(err)
		}
	case <-time.After(5 * time.Minute):
		t.Fatal("the call hangs")
	}
	if err := c.Call(t.Context(), "upper", "x", nil, nil); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

func TestOrphansAreReaped(t *testing.T) {
	c := enter(t)
	if err := c.Call(t.Context(), "orphan", nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	zombies := func() (pid int) {
		if err := c.Call(t.Context(), "zombie", nil, &pid, nil); err != nil {
			t.Fatal(err)
		}
		return pid
	}
	if !eventually(func() bool { return zombies() != 0 }) {
		t.Fatal("the orphan never ended")
	}
	look := func(seconds int) {
		if err := c.Call(t.Context(), "look", seconds, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if look(25); zombies() == 0 {
		t.Fatal("a process that a handler may yet wait for was taken away")
	}
	if look(31); zombies() != 0 {
		t.Fatal("the orphan is a zombie still")
	}
}
