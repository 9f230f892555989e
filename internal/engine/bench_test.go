package engine

import (
	"fmt"
	"testing"

	"github.com/moby/buildkit/client/llb"
)

// BenchmarkUnchanged evaluates a chain of stages, each of which copies from the one before, where nothing changed: decoding,
// keys and records.
func BenchmarkUnchanged(b *testing.B) {
	for _, stages := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("stages=%d", stages), func(b *testing.B) {
			at := newBench(b)
			at.write("f", "text")
			st := llb.Scratch().File(llb.Copy(llb.Local("context"), "/f", "/f"))
			for range stages - 1 {
				st = llb.Scratch().File(llb.Copy(st, "/f", "/f"))
			}
			at.must(st)
			b.ReportAllocs()
			for b.Loop() {
				if out := at.must(st); out.child {
					b.Fatalf("something was done:\n%s", out.text())
				}
			}
		})
	}
}
