package skiff

import (
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Who follows a blob is told what has come of it while it is fetched, and nothing afterwards.
func TestFollowBlob(t *testing.T) {
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	img, err := random.Image(1<<20, 2)
	if err != nil {
		t.Fatal(err)
	}
	full := strings.TrimPrefix(srv.URL, "http://") + "/x:1"
	ref, err := name.ParseReference(full)
	if err == nil {
		err = remote.Write(ref, img)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(Config{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	images, err := s.imagesFor(nil, PullMissing)
	if err != nil {
		t.Fatal(err)
	}
	got, err := images.registry.Image(t.Context(), full, nil)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := got.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, _ := layers[0].Digest()
	size, _ := layers[0].Size()
	var told []int64
	stop := images.Follow(digest.String(), func(n int64) { told = append(told, n) })
	for i, l := range layers {
		if i == 1 {
			stop()
		}
		r, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
	}
	if len(told) == 0 || told[len(told)-1] != size {
		t.Errorf("told of %v, the blob has %d bytes", told, size)
	}
	before := len(told)
	if r, err := layers[0].Compressed(); err != nil {
		t.Error(err)
	} else {
		r.Close()
	}
	if len(told) != before {
		t.Error("told after the end")
	}
}
