package gobuild_test

import (
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/skiff-build/skiff/internal/gobuild"
	"github.com/skiff-build/skiff/internal/store"
)

// BenchmarkWriteLayer packs a file of the size of a small server.
func BenchmarkWriteLayer(b *testing.B) {
	st, err := store.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	content := make([]byte, 6<<20)
	rand.NewChaCha8([32]byte{1}).Read(content)
	file := filepath.Join(b.TempDir(), "program")
	if err := os.WriteFile(file, content, 0o644); err != nil {
		b.Fatal(err)
	}
	entries := []gobuild.Entry{{Name: "/program", Mode: 0o755, Time: time.Unix(0, 0), Size: int64(len(content)), Open: func() (io.ReadCloser, error) { return os.Open(file) }}}
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := gobuild.WriteLayer(b.Context(), st, entries); err != nil {
			b.Fatal(err)
		}
	}
}
