package skiff

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/containerd/platforms"
	"github.com/docker/go-units"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skiff-build/skiff/internal/engine"
	"github.com/skiff-build/skiff/internal/image"
	"github.com/skiff-build/skiff/internal/printable"
)

// registryFor is how this State reaches registries; what it has to say goes to log.
func (s *State) registryFor(log func(string), progress func(image.Transfer)) (*image.Registry, error) {
	o := s.registry
	o.Log, o.Progress = log, progress
	return image.NewRegistry(o)
}

// imageSource gives the engine its base images.
type imageSource struct {
	registry *image.Registry

	mu        sync.Mutex
	followers map[string][]*func(int64) // by digest of the blob
}

// imagesFor is where an engine has its base images from; what registries have to say goes to log.
func (s *State) imagesFor(log func(string), pull PullPolicy) (*imageSource, error) {
	i := &imageSource{followers: map[string][]*func(int64){}}
	o := s.registry
	o.Log, o.Progress, o.Never = log, i.fetched, pull == PullNever
	var err error
	i.registry, err = image.NewRegistry(o)
	return i, err
}

func (i *imageSource) fetched(t image.Transfer) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, told := range i.followers[t.Digest] {
		(*told)(t.Done)
	}
}

func (i *imageSource) Follow(digest string, told func(int64)) func() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.followers[digest] = append(i.followers[digest], &told)
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.followers[digest] = slices.DeleteFunc(i.followers[digest], func(f *func(int64)) bool { return f == &told })
	}
}

func (i *imageSource) Resolve(ctx context.Context, ref string, p *ocispecs.Platform, o engine.ResolveOpt) (engine.ResolvedImage, error) {
	r, err := i.registry.Resolve(ctx, ref, platformOf(p), image.ResolveOptions{Pull: o.Pull, Log: o.Log})
	if err != nil {
		return engine.ResolvedImage{}, err
	}
	return engine.ResolvedImage{Name: r.Name, Digest: digest.Digest(r.Digest.String()), Config: r.Config}, nil
}

func (i *imageSource) Image(ctx context.Context, ref string, p *ocispecs.Platform) (v1.Image, error) {
	return i.registry.Image(ctx, ref, platformOf(p))
}

func platformOf(p *ocispecs.Platform) *v1.Platform {
	if p == nil {
		return nil
	}
	return &v1.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion, OSFeatures: p.OSFeatures}
}

func parsePlatform(text string) (*ocispecs.Platform, error) {
	if text == "" {
		return nil, nil
	}
	p, err := platforms.Parse(text)
	if err != nil {
		return nil, option(fmt.Errorf("platform %q: %w", text, err))
	}
	p = platforms.Normalize(p)
	return &p, nil
}

// PullOptions of [State.Pull].
type PullOptions struct {
	Platform string    // "os/arch[/variant]"; "" is this machine's
	Progress io.Writer // nil shows nothing
}

// Compression is that of an image's own layers when they leave; those of its base go as they came.
type Compression struct {
	Kind  string // "gzip", "zstd", "uncompressed"; "" is the default
	Level int    // 0 is that of the kind
}

// PushOptions of [State.Push].
type PushOptions struct {
	Progress    io.Writer   // nil shows nothing
	Compression Compression // gzip by default
}

// Moved is an image that went to or came from a registry.
type Moved struct {
	Name   string // in full
	Digest string // in the registry
}

// Pull fetches what name means in its registry now and keeps it under that name.
func (s *State) Pull(ctx context.Context, name string, o PullOptions) (Moved, error) {
	p, err := parsePlatform(o.Platform)
	if err != nil {
		return Moved{}, err
	}
	full, err := image.ParseName(name)
	if err != nil {
		return Moved{}, option(err)
	}
	report := transfers{w: o.Progress}
	registry, err := s.registryFor(report.say, report.show)
	if err != nil {
		return Moved{}, err
	}
	d, err := registry.Pull(ctx, name, platformOf(p), false)
	if err == nil {
		report.sum("fetched")
	}
	return Moved{Name: full, Digest: d.Digest.String()}, err
}

// Push sends the image of that name to its registry.
func (s *State) Push(ctx context.Context, name string, o PushOptions) (Moved, error) {
	full, err := image.ParseName(name)
	if err != nil {
		return Moved{}, option(err)
	}
	content, err := s.library.Open(ctx, name)
	if err != nil {
		return Moved{}, err
	}
	report := transfers{w: o.Progress}
	registry, err := s.registryFor(report.say, nil)
	if err != nil {
		return Moved{}, err
	}
	h, err := registry.Push(ctx, content, full, image.PushOptions{
		Progress: report.show, Format: image.Format{Compression: o.Compression.Kind, Level: o.Compression.Level},
	})
	if err == nil {
		report.sum("sent")
	}
	return Moved{Name: full, Digest: h.String()}, err
}

// transfers prints a line for each blob that has arrived, how far the others are where it takes long, and what else there is
// to say.
type transfers struct {
	w    io.Writer // nil prints nothing
	mu   sync.Mutex
	done map[string]bool
	last time.Time // when something was printed

	moved, there int64 // bytes
}

// tellEvery is how often there is news of blobs that take long.
const tellEvery = 5 * time.Second

func (t *transfers) say(text string) {
	if t.w != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		fmt.Fprintln(t.w, printable.Line(text))
	}
}

func (t *transfers) show(x image.Transfer) {
	if t.w == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done == nil {
		t.done, t.last = map[string]bool{}, time.Now()
	}
	if t.done[x.Digest] {
		return
	}
	name := image.ShortDigest(x.Digest)
	if x.Total < 0 || x.Done < x.Total {
		if time.Since(t.last) > tellEvery {
			t.last = time.Now()
			of := ""
			if x.Total >= 0 {
				of = " of " + humanSize(x.Total)
			}
			fmt.Fprintf(t.w, "%s: %s%s\n", name, humanSize(x.Done), of)
		}
		return
	}
	t.done[x.Digest], t.last = true, time.Now()
	what := "done"
	if x.Exists {
		what = "already there"
		t.there += x.Total
	} else {
		t.moved += x.Total
	}
	fmt.Fprintf(t.w, "%s: %s, %s\n", name, what, humanSize(x.Total))
}

// sum says what all came to.
func (t *transfers) sum(verb string) {
	if t.w == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.w, "%s %s, %s were already there\n", verb, humanSize(t.moved), humanSize(t.there))
}

func humanSize(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }

// SaveOptions of [State.Save].
type SaveOptions struct {
	Images      []string
	Format      string      // "docker" or "oci"
	Compression Compression // by default layers go as they are kept
}

// Save writes images, given by name or ID, as an archive: docker save's, or OCI's.
func (s *State) Save(ctx context.Context, w io.Writer, o SaveOptions) error {
	return s.library.Save(ctx, o.Images, image.SaveOptions{
		Stdout: w, OCI: o.Format == "oci", Format: image.Format{Compression: o.Compression.Kind, Level: o.Compression.Level},
	})
}

// Load keeps the images of an archive of either kind, plain or compressed, and returns their names, or the IDs of those that
// have none.
func (s *State) Load(ctx context.Context, r io.Reader) ([]string, error) {
	loaded, err := s.library.Load(ctx, r)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, l := range loaded {
		for _, n := range l.Names {
			out = append(out, image.FamiliarName(n))
		}
		if len(l.Names) == 0 {
			out = append(out, l.ID.String())
		}
	}
	return out, nil
}
