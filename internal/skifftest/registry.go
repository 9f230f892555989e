package skifftest

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Registry is an image registry on the loopback, in this process, with its blobs on disk.
type Registry struct {
	Host string // 127.0.0.1:PORT, the first part of its images' names
}

// NewRegistry starts one; it ends with the test. wrap, unless nil, sees each request first: to count, refuse, or lie.
func NewRegistry(t testing.TB, wrap func(http.Handler) http.Handler) *Registry {
	t.Helper()
	var h http.Handler = registry.New(
		registry.Logger(log.New(io.Discard, "", 0)),
		registry.WithBlobHandler(registry.NewDiskBlobHandler(t.TempDir())))
	if wrap != nil {
		h = wrap(h)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return &Registry{Host: strings.TrimPrefix(s.URL, "http://")}
}

// Push puts img under repository:tag and returns the full name.
func (r *Registry) Push(t testing.TB, repository string, img v1.Image) string {
	t.Helper()
	full := r.Host + "/" + repository
	ref, err := name.ParseReference(full)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img, remote.WithContext(t.Context())); err != nil {
		t.Fatalf("push %s: %v", full, err)
	}
	return full
}
