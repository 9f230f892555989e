package engine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/skiff-build/skiff/internal/localdir"
	"github.com/skiff-build/skiff/internal/sandbox"
	"github.com/skiff-build/skiff/internal/skifftest"
	"github.com/skiff-build/skiff/internal/store"
)

// The test binary is the child and the step's init as well.
func TestMain(m *testing.M) {
	sandbox.Init(Handlers())
	code := m.Run()
	if toolDir != "" {
		os.RemoveAll(toolDir)
	}
	os.Exit(code)
}

var toolDir string

// tool is the program that steps run, compiled once.
var tool = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "skiff-engine-tool-")
	if err != nil {
		return nil, err
	}
	toolDir = dir
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(dir, "tool"), "./testdata/tool")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return os.ReadFile(filepath.Join(dir, "tool"))
})

// bench is an engine's surroundings: a store that lives as long as the test, a registry, a context.
type bench struct {
	t       testing.TB
	store   *store.Store
	context string
	images  *registryImages
	options func(*Options) // changes what the next engines get
}

func newBench(t testing.TB) *bench {
	t.Helper()
	skifftest.NoLeftovers(t)
	if _, err := sandbox.Probe(); err != nil {
		t.Skip("steps cannot run here: ", err)
	}
	b := &bench{t: t, context: t.TempDir(), images: &registryImages{}}
	root := t.TempDir()
	st, err := store.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	b.store = st
	t.Cleanup(func() {
		e := b.engine(nil)
		if err := e.remove(context.Background(), []string{filepath.Join(root, "layers"), filepath.Join(root, "cache"), filepath.Join(root, "tmp")}); err != nil {
			t.Error(err)
		}
		e.Close()
		st.Close()
	})
	return b
}

// engine starts one; the test or run closes it.
func (b *bench) engine(rec *recorder) *Engine {
	b.t.Helper()
	o := Options{Store: b.store, Images: b.images, Locals: map[string]localdir.Selection{"context": {Dir: b.context}}}
	if rec != nil {
		o.Status = rec.status
	}
	if b.options != nil {
		b.options(&o)
	}
	e, err := New(o)
	if err != nil {
		b.t.Fatal(err)
	}
	return e
}

// write puts files into the context: name and content by turns.
func (b *bench) write(pairs ...string) {
	b.t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		p := filepath.Join(b.context, pairs[i])
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			b.t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(pairs[i+1]), 0o644); err != nil {
			b.t.Fatal(err)
		}
		if err := os.Chmod(p, 0o644); err != nil { // whatever the umask: modes are in keys
			b.t.Fatal(err)
		}
	}
}

// outcome is what one build did.
type outcome struct {
	*recorder
	layers []Layer
	err    error
	child  bool // a child was started
	files  map[string]string
}

// build evaluates a state in an engine of its own, packs it, and reads the files that are named.
func (b *bench) build(st llb.State, files ...string) outcome {
	b.t.Helper()
	rec := &recorder{}
	e := b.engine(rec)
	defer e.Close()
	out := outcome{recorder: rec, files: map[string]string{}}
	ref, err := solve(b.t, e, st)
	if err == nil {
		out.layers, err = e.Layers(b.t.Context(), ref, LayerOptions{})
	}
	for _, f := range files {
		if err != nil {
			break
		}
		var data []byte
		data, err = ref.ReadFile(b.t.Context(), gwclient.ReadRequest{Filename: f})
		out.files[f] = string(data)
	}
	_, out.child = e.child.peek()
	out.err = err
	return out
}

// must is build for what has to succeed.
func (b *bench) must(st llb.State, files ...string) outcome {
	b.t.Helper()
	out := b.build(st, files...)
	if out.err != nil {
		b.t.Fatalf("build: %v\n%s", out.err, out.text())
	}
	return out
}

func solve(t testing.TB, e *Engine, st llb.State) (gwclient.Reference, error) {
	t.Helper()
	def, err := st.Marshal(t.Context(), llb.LinuxAmd64)
	if err != nil {
		t.Fatal(err)
	}
	res, err := e.Solve(t.Context(), gwclient.SolveRequest{Definition: def.ToPB()})
	if err != nil {
		return nil, err
	}
	return res.SingleRef()
}

// base is a root file system with the tool as /bin/sh, and passwd and group.
func (b *bench) base() llb.State {
	b.t.Helper()
	bin, err := tool()
	if err != nil {
		b.t.Fatal(err)
	}
	return llb.Scratch().
		File(llb.Mkdir("/bin", 0o755).Mkdir("/etc", 0o755).Mkdir("/tmp", 0o1777).
			Mkfile("/bin/sh", 0o755, bin).
			Mkfile("/etc/passwd", 0o644, []byte("root:x:0:0::/root:/bin/sh\nweb:x:33:44::/home/web:/bin/sh\n")).
			Mkfile("/etc/group", 0o644, []byte("root:x:0:\nweb:x:44:\nextra:x:55:web\n")))
}

// run runs the tool: commands separated by " ; ".
func run(commands string, more ...llb.RunOption) llb.RunOption {
	opts := []llb.RunOption{llb.Args(append([]string{"/bin/sh"}, strings.Fields(commands)...))}
	return runOptions(append(opts, more...))
}

type runOptions []llb.RunOption

func (o runOptions) SetRunOption(ei *llb.ExecInfo) {
	for _, r := range o {
		r.SetRunOption(ei)
	}
}

// recorder keeps what an engine told.
type recorder struct {
	mu       sync.Mutex
	vertices map[digest.Digest]*client.Vertex
	order    []digest.Digest
	logs     bytes.Buffer
	statuses []client.VertexStatus
	warnings []client.VertexWarning
}

func (r *recorder) status(s *client.SolveStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.vertices == nil {
		r.vertices = map[digest.Digest]*client.Vertex{}
	}
	for _, v := range s.Vertexes {
		if r.vertices[v.Digest] == nil {
			r.order = append(r.order, v.Digest)
		}
		r.vertices[v.Digest] = v
	}
	for _, l := range s.Logs {
		r.logs.Write(l.Data)
	}
	for _, st := range s.Statuses {
		r.statuses = append(r.statuses, *st)
	}
	for _, w := range s.Warnings {
		r.warnings = append(r.warnings, *w)
	}
}

// text is the vertices in the order in which they came up, with what became of them.
func (r *recorder) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	for _, d := range r.order {
		v := r.vertices[d]
		state := "running"
		switch {
		case v.Error != "":
			state = "failed"
		case v.Cached:
			state = "cached"
		case v.Completed != nil:
			state = "done"
		}
		fmt.Fprintf(&b, "%s %s\n", state, v.Name)
	}
	return b.String() + r.logs.String()
}

// ran lists the names of the vertices that were done anew and hold part.
func (r *recorder) ran(part string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, v := range r.vertices {
		if strings.Contains(v.Name, part) && v.Completed != nil && !v.Cached && v.Error == "" {
			n++
		}
	}
	return n
}

func (r *recorder) log() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.logs.String()
}

// registryImages gives images of a registry.
type registryImages struct {
	mu       sync.Mutex
	resolved int
	opened   int
}

// Follow says that 7 bytes have come.
func (s *registryImages) Follow(_ string, told func(int64)) func() {
	time.Sleep(2 * taskInterval)
	told(7)
	return func() {}
}

func (s *registryImages) Resolve(ctx context.Context, ref string, p *ocispecs.Platform, o ResolveOpt) (ResolvedImage, error) {
	s.mu.Lock()
	s.resolved++
	s.mu.Unlock()
	r, err := name.ParseReference(ref)
	if err != nil {
		return ResolvedImage{}, err
	}
	d, err := remote.Get(r, remote.WithContext(ctx), remote.WithPlatform(v1.Platform{OS: p.OS, Architecture: p.Architecture}))
	if err != nil {
		return ResolvedImage{}, err
	}
	img, err := d.Image()
	if err != nil {
		return ResolvedImage{}, err
	}
	config, err := img.RawConfigFile()
	return ResolvedImage{Name: ref, Digest: digest.Digest(d.Digest.String()), Config: config}, err
}

func (s *registryImages) Image(ctx context.Context, ref string, p *ocispecs.Platform) (v1.Image, error) {
	s.mu.Lock()
	s.opened++
	s.mu.Unlock()
	at, dgst, _ := strings.Cut(ref, "@")
	r, err := name.ParseReference(at[:strings.LastIndex(at, ":")] + "@" + dgst)
	if err != nil {
		return nil, err
	}
	return remote.Image(r, remote.WithContext(ctx), remote.WithPlatform(v1.Platform{OS: p.OS, Architecture: p.Architecture}))
}

func readAll(t testing.TB, open func(context.Context) (io.ReadCloser, error)) []byte {
	t.Helper()
	r, err := open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// newServer serves h on the loopback as long as the test runs, and returns its URL.
func newServer(t testing.TB, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}
