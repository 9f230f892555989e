//go:build linux

// Package probes holds the rules about what binaries need against what happens: it builds small programs, predicts their needs,
// and runs each in an empty root with and without what was inferred. A Go release that moves an internal function on which a
// rule rests is noticed here.
//
// An ordinary run takes the toolchain at hand and the programs marked short. SKIFF_PROBES names toolchains, separated by commas
// (1.24.9,1.25.3,1.26.8), and runs all programs under each; with -update it writes docs/doctor-probes.md.
package probes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/skiff-build/skiff/internal/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Init(map[string]sandbox.Handler{"run": runInside})
	os.Exit(m.Run())
}

type runRequest struct {
	Spec    *specs.Spec
	FakeIDs bool
}

// runInside runs a step, and sends what it prints.
func runInside(ctx context.Context, c *sandbox.Call) (any, error) {
	var r runRequest
	if err := c.Decode(&r); err != nil {
		return nil, err
	}
	cleanup, err := sandbox.EnsureTargets(r.Spec.Root.Path, r.Spec.Mounts)
	if err != nil {
		return nil, err
	}
	defer cleanup()
	w := eventWriter{c}
	return nil, sandbox.Run(ctx, r.Spec, sandbox.RunOptions{Stdout: w, Stderr: w, FakeIDs: r.FakeIDs})
}

type eventWriter struct{ c *sandbox.Call }

func (w eventWriter) Write(p []byte) (int, error) { return len(p), w.c.Event(string(p)) }

// run is a program's output and, as its last line, how it ended.
// One that serves is ended after a while: 0 is for one that ends by itself.
func run(t *testing.T, c *sandbox.Child, s *specs.Spec, timeout time.Duration) string {
	t.Helper()
	var out bytes.Buffer
	ctx := t.Context()
	if timeout > 0 {
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	err := c.Call(ctx, "run", runRequest{s, c.Mode() == sandbox.ModeOneID}, nil, func(m json.RawMessage) {
		var text string
		if json.Unmarshal(m, &text) == nil {
			out.WriteString(text)
		}
	})
	var exit *sandbox.ExitError
	switch {
	case errors.As(err, &exit):
		fmt.Fprintf(&out, "exit %d %s", exit.Code, exit.Message)
	case err != nil && ctx.Err() == nil:
		t.Fatalf("run %s: %v", strings.Join(s.Process.Args, " "), err)
	}
	return out.String()
}
