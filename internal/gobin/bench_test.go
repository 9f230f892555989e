package gobin

import (
	"os"
	"testing"
)

// BenchmarkOpen reads this test's own executable, or the one that SKIFF_BENCH_BINARY names.
func BenchmarkOpen(b *testing.B) {
	name := os.Getenv("SKIFF_BENCH_BINARY")
	if name == "" {
		var err error
		if name, err = os.Executable(); err != nil {
			b.Fatal(err)
		}
	}
	f, err := os.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(st.Size())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Open(f, st.Size()); err != nil {
			b.Fatal(err)
		}
	}
}
