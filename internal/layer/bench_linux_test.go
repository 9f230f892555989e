package layer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/skiff-build/skiff/internal/inode"
)

// benchLayer is 2000 files of 8 kB in 40 directories, and one of 64 MB: like a Go module cache and a binary.
func benchLayer(b *testing.B) string {
	dir := b.TempDir()
	text := bytes.Repeat([]byte("0123456789abcde\n"), 512)
	for n := range 2000 {
		sub := filepath.Join(dir, fmt.Sprint("d", n%40))
		must(b, os.MkdirAll(sub, 0o755))
		file := filepath.Join(sub, fmt.Sprint("f", n))
		must(b, os.WriteFile(file, text, 0o644))
		must(b, inode.Set(file, inode.Info{Mode: inode.TypeFile | 0o644, UID: os.Getuid(), GID: os.Getgid()}))
	}
	must(b, os.WriteFile(filepath.Join(dir, "big"), bytes.Repeat(text, 8192), 0o755))
	return dir
}

func BenchmarkPack(b *testing.B) {
	dir := benchLayer(b)
	for b.Loop() {
		p, err := Pack(context.Background(), io.Discard, dir, PackOptions{})
		must(b, err)
		b.SetBytes(p.Size)
	}
}

func BenchmarkUnpack(b *testing.B) {
	var data bytes.Buffer
	_, err := Pack(context.Background(), &data, benchLayer(b), PackOptions{})
	must(b, err)
	b.SetBytes(int64(data.Len()))
	for b.Loop() {
		// What is unpacked is not removed meanwhile: for seconds after that ext4 without a journal makes new
		// files slowly, and the benchmark would be of that.
		_, err := Unpack(context.Background(), bytes.NewReader(data.Bytes()), b.TempDir(), UnpackOptions{MaxBytes: 1 << 40})
		must(b, err)
	}
}
