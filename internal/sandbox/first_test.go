//go:build linux

package sandbox

import (
	"testing"
)

func first(t *testing.T, c *Child, kill bool) (there bool) {
	t.Helper()
	if err := c.Call(t.Context(), "first", kill, &there, nil); err != nil {
		t.Fatal(err)
	}
	return there
}

func TestFirstInit(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) {
		if !first(t, c, false) {
			t.Fatal("no init was started in advance")
		}
		outside := step(t, "hello", "in the host's network")
		HostNetwork(outside)
		mustRun(t, c, outside)
		if out, err := runReq(t, c, runRequest{Spec: step(t, "cat"), Stdin: "read", FakeIDs: c.Mode() == ModeOneID}); err != nil || out != "read" {
			t.Fatalf("got %q, %v", out, err)
		}
		if !first(t, c, false) {
			t.Fatal("a step that it does not fit has taken it")
		}
		for _, word := range []string{"first", "second"} {
			if out := mustRun(t, c, step(t, "hello", word)); out != "hello "+word+"\n" {
				t.Fatalf("got %q", out)
			}
			if first(t, c, false) {
				t.Fatal("no step has taken it")
			}
		}
	})
}

func TestFirstInitKilled(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) {
		if !first(t, c, true) {
			t.Fatal("no init was started in advance")
		}
		if out := mustRun(t, c, step(t, "hello", "anyway")); out != "hello anyway\n" {
			t.Fatalf("got %q", out)
		}
	})
}
