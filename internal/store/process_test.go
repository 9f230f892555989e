package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMain lets the test binary be the other process: see helper.
func TestMain(m *testing.M) {
	if what := os.Getenv("SKIFF_STORE_HELPER"); what != "" {
		if err := helper(what, os.Getenv("SKIFF_STORE_ROOT")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func helper(what, root string) error {
	s, err := Open(root)
	if err != nil {
		return err
	}
	defer s.Close()
	ctx := context.Background()
	switch what {
	case "count": // read, think, write: only a lock makes the sum right
		for range 20 {
			unlock, err := s.Lock(ctx, "counter")
			if err != nil {
				return err
			}
			var n int
			if err := s.Get("n", Key{}, &n); err != nil && !errors.Is(err, ErrMiss) {
				return err
			}
			time.Sleep(time.Millisecond)
			err = s.Put("n", Key{}, n+1)
			unlock()
			if err != nil {
				return err
			}
			if err := s.Tag("docker.io/library/p"+strconv.Itoa(os.Getpid())+":"+strconv.Itoa(n), descriptor(hashOf("x"))); err != nil {
				return err
			}
		}
	case "blobs": // all processes write the same blobs
		for i := range 50 {
			content := strings.Repeat(strconv.Itoa(i), 10_000)
			if _, _, err := s.WriteBlob(ctx, strings.NewReader(content), hashOf(content), int64(len(content))); err != nil {
				return err
			}
			if err := s.Put("b", Key{byte(i)}, refs{Blobs: nil}); err != nil {
				return err
			}
		}
		return s.Sync()
	case "hold": // holds a lock and a temporary folder until it is killed
		if _, err := s.Lock(ctx, "held"); err != nil {
			return err
		}
		dir, _, err := s.TempDir("held")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o600); err != nil {
			return err
		}
		if _, err := s.createTemp("blob"); err != nil {
			return err
		}
		fmt.Println("held")
		io.Copy(io.Discard, os.Stdin)
	}
	return nil
}

func start(t *testing.T, what, root string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(exe)
	c.Env = append(os.Environ(), "SKIFF_STORE_HELPER="+what, "SKIFF_STORE_ROOT="+root)
	c.Stderr = os.Stderr
	return c
}

func TestProcessesTogether(t *testing.T) {
	root := t.TempDir()
	var wg sync.WaitGroup
	for _, what := range []string{"count", "count", "count", "blobs", "blobs"} {
		c := start(t, what, root)
		wg.Go(func() {
			if err := c.Run(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	wg.Wait()
	s := open(t, root)
	var n int
	if err := s.Get("n", Key{}, &n); err != nil || n != 60 {
		t.Errorf("the counter is %d, %v; want 60", n, err)
	}
	if ds, err := s.Tags(); err != nil || len(ds) != 60 {
		t.Errorf("%d tags, %v; want 60", len(ds), err)
	}
	for i := range 50 {
		content := strings.Repeat(strconv.Itoa(i), 10_000)
		if got := readBlob(t, s, hashOf(content)); got != content {
			t.Errorf("blob %d differs", i)
		}
	}
	tmpEmpty(t, s)
}

func TestKilledProcessLeavesNothing(t *testing.T) {
	root := t.TempDir()
	c := start(t, "hold", root)
	stdin, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "held\n" {
		t.Fatalf("%q %v", line, err)
	}
	s := open(t, root)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Lock(ctx, "held"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a lock held elsewhere: %v", err)
	}
	if f, err := s.Trim(t.Context(), 0, nil); err != nil || !f.Skipped {
		t.Errorf("Trim beside another process: %+v %v", f, err)
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	c.Wait()
	unlock, err := s.Lock(t.Context(), "held")
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	trim(t, s, 0)
	tmpEmpty(t, s)
}

func TestLockBetweenGoroutines(t *testing.T) {
	s := open(t, t.TempDir())
	var wg sync.WaitGroup
	var inside, sum int
	for range 50 {
		wg.Go(func() {
			unlock, err := s.Lock(t.Context(), "a name / with \x00 all sorts")
			if err != nil {
				t.Error(err)
				return
			}
			inside++
			if inside != 1 {
				t.Error("two inside")
			}
			sum++
			inside--
			unlock()
		})
	}
	wg.Wait()
	if sum != 50 {
		t.Errorf("%d", sum)
	}
}

func TestLockGivesUp(t *testing.T) {
	s := open(t, t.TempDir())
	unlock, err := s.Lock(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Lock(ctx, "x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	unlock()
	unlock, err = s.Lock(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

// A lock file that somebody removes while it is waited for must not let two in.
func TestLockFileRemoved(t *testing.T) {
	s := open(t, t.TempDir())
	for range 20 {
		unlock, err := s.Lock(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		os.RemoveAll(s.path("locks"))
		unlock()
	}
}
