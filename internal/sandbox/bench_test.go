//go:build linux

package sandbox

import (
	"testing"
)

// BenchmarkEnter is the start of a child, to be had once a build; mark: 40 ms.
func BenchmarkEnter(b *testing.B) {
	for b.Loop() {
		c, err := Enter(b.Context(), Options{Root: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		c.Close()
		b.StartTimer()
	}
}

// BenchmarkRun is a step that does nothing, its own start (some 3 ms of this test binary) included; mark: 15 ms, with its commit.
func BenchmarkRun(b *testing.B) {
	c := enter(b)
	s := step(b, "hello")
	mustRun(b, c, s)
	for b.Loop() {
		mustRun(b, c, s)
	}
}

// BenchmarkCall is a call that does nothing, there and back.
func BenchmarkCall(b *testing.B) {
	c := enter(b)
	var s string
	for b.Loop() {
		if err := c.Call(b.Context(), "upper", "x", &s, nil); err != nil {
			b.Fatal(err)
		}
	}
}
