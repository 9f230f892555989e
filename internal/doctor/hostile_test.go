package doctor_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/skiff-build/skiff/internal/doctor"
	"github.com/skiff-build/skiff/internal/skifftest"
)

// sparse is a tar of one executable, of which the file stored is the beginning, and that pretends to have size bytes: the old format of
// GNU (tar(5), "GNU tar archives"), which archive/tar reads and does not write.
func sparse(t *testing.T, name string, head []byte, size int64) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(head)), Format: tar.FormatGNU}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(head); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	h := b.Bytes()[:512]
	h[156] = 'S'
	copy(h[386:], fmt.Sprintf("%011o\x00%011o\x00%011o\x00%011o\x00", 0, len(head), size, 0))
	copy(h[483:], fmt.Sprintf("%011o\x00", size))
	copy(h[148:], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b.Bytes()
}

// TestPretendedSize: a program that has eight gigabytes only by its header is not copied to be read.
func TestPretendedSize(t *testing.T) {
	head := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 505)...)
	head[16], head[18] = 2, 62 // an executable for amd64
	img := skifftest.Image(t, v1.Config{Entrypoint: []string{"/app"}}, static.NewLayer(sparse(t, "app", head, 8<<30-1), types.OCIUncompressedLayer))
	report, err := doctor.Examine(t.Context(), img, doctor.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(report.Undecided, "\n"); !strings.Contains(got, "/app could not be read: ") || !strings.Contains(got, "larger than 1 GiB") {
		t.Errorf("undecided: %q", got)
	}
	if report.Bytes != 8<<30-1 {
		t.Errorf("%d bytes", report.Bytes)
	}
}
