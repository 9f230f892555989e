package doctor_test

import (
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/skiff-build/skiff/internal/doctor"
	"github.com/skiff-build/skiff/internal/skifftest"
)

// TestPretendedSize: a program that has eight gigabytes only by its header is not copied to be read.
func TestPretendedSize(t *testing.T) {
	head := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 505)...)
	head[16], head[18] = 2, 62 // an executable for amd64
	img := skifftest.Image(t, v1.Config{Entrypoint: []string{"/app"}}, static.NewLayer(skifftest.Sparse(t, "app", head, 8<<30-1), types.OCIUncompressedLayer))
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
