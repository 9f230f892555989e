package skiff

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/moby/buildkit/client"
)

// slowImage takes its time to tell its layers, and counts who waits.
type slowImage struct {
	v1.Image
	inside *atomic.Int64
	first  *sync.Once
	asked  chan struct{} // closed when the first has asked
}

func (i slowImage) Layers() ([]v1.Layer, error) {
	i.inside.Add(1)
	i.first.Do(func() { close(i.asked) })
	time.Sleep(100 * time.Millisecond)
	defer i.inside.Add(-1)
	return i.Image.Layers()
}

// After an export that failed the doctor must not run on: it would write records into a state that is closed.
func TestFailedExportWaitsForTheDoctor(t *testing.T) {
	state, err := Open(Config{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	inner, err := random.Image(1000, 2)
	if err != nil {
		t.Fatal(err)
	}
	if inner, err = mutate.ConfigFile(inner, &v1.ConfigFile{OS: "linux", Architecture: "amd64"}); err != nil {
		t.Fatal(err)
	}
	img := slowImage{inner, &atomic.Int64{}, &sync.Once{}, make(chan struct{})}
	o := BuildOptions{Examine: true, Outputs: []Output{{Type: "image"}}}
	steps := &steps{show: func(*client.SolveStatus) {}}
	d := &delivery{state: state, o: o, steps: steps, doctor: newCheckup(state, o, steps, &origin{File: "Dockerfile", Text: []byte("FROM scratch\n")})}
	made := content{Content: brokenImage{inner, img.asked}, id: "x", images: []v1.Image{img}}
	if _, err := d.deliver(t.Context(), nil, made, &BuildResult{}); !errors.Is(err, errBroken) {
		t.Fatalf("the export: %v", err)
	}
	if n := img.inside.Load(); n != 0 {
		t.Errorf("%d still read the image", n)
	}
}

var errBroken = errors.New("broken")

// brokenImage cannot be exported, which shows when the doctor is at it.
type brokenImage struct {
	v1.Image
	asked chan struct{}
}

func (i brokenImage) fail() error {
	select {
	case <-i.asked:
	case <-time.After(10 * time.Second):
	}
	return errBroken
}

func (i brokenImage) MediaType() (types.MediaType, error) { return "", i.fail() }
func (i brokenImage) Digest() (v1.Hash, error)            { return v1.Hash{}, i.fail() }
func (i brokenImage) Size() (int64, error)                { return 0, i.fail() }
func (i brokenImage) RawManifest() ([]byte, error)        { return nil, i.fail() }
func (i brokenImage) Layers() ([]v1.Layer, error)         { return nil, i.fail() }
