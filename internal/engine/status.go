package engine

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// status hands out what happens, one message at a time. It is safe for concurrent use.
type status struct {
	mu  sync.Mutex
	fn  func(*client.SolveStatus)
	now func() time.Time
}

func newStatus(fn func(*client.SolveStatus)) *status { return &status{fn: fn, now: time.Now} }

func (s *status) send(st *client.SolveStatus) {
	if s.fn == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fn(st)
}

// vertexState is how far the user was told of a vertex.
type vertexState struct {
	mu      sync.Mutex
	started *time.Time
	ended   bool
}

func (n *node) vertex() *client.Vertex {
	v := &client.Vertex{Digest: n.v.Digest, Name: n.v.Name(), ProgressGroup: n.v.Meta.GetProgressGroup()}
	for _, in := range n.inputs {
		v.Inputs = append(v.Inputs, in.v.Digest)
	}
	return v
}

// started, completed, cached and ended tell the user; each tells a thing once.
func (n *node) started() {
	n.shown.mu.Lock()
	defer n.shown.mu.Unlock()
	if n.shown.started != nil {
		return
	}
	now := n.e.status.now()
	n.shown.started = &now
	v := n.vertex()
	v.Started = &now
	n.e.status.send(&client.SolveStatus{Vertexes: []*client.Vertex{v}})
}

func (n *node) completed() { n.ended(false, nil) }

// cached tells of this vertex, and of those below it that nobody needed to look at. Their records are read, so that the
// store does not take them for unused: a change above will need them.
func (n *node) cached() {
	for _, in := range n.inputs {
		in.cachedBelow()
	}
	n.ended(true, nil)
}

func (n *node) cachedBelow() {
	_, source := n.v.Op.Op.(*pb.Op_Source)
	n.shown.mu.Lock()
	running := n.shown.started != nil && !source // a source may have been looked at, and then not needed
	ended := n.shown.ended
	n.shown.mu.Unlock()
	if running || ended {
		return
	}
	if key, ok := n.defKey.peek(); ok && !n.isLocal() {
		n.e.lookup(key)
	}
	n.cached()
}

func (n *node) ended(cached bool, err error) {
	n.shown.mu.Lock()
	defer n.shown.mu.Unlock()
	if n.shown.ended {
		return
	}
	n.shown.ended = true
	now := n.e.status.now()
	if n.shown.started == nil {
		n.shown.started = &now
	}
	v := n.vertex()
	v.Started, v.Completed, v.Cached = n.shown.started, &now, cached
	if err != nil {
		v.Error = err.Error()
	}
	n.e.status.send(&client.SolveStatus{Vertexes: []*client.Vertex{v}})
}

// task is a line below a vertex: a download, or something unpacked. done ends it.
type task struct {
	io.Reader
	n    *node
	s    client.VertexStatus
	last time.Time
}

// taskInterval bounds how often the bytes of a download are told.
const taskInterval = 100 * time.Millisecond

func (n *node) task(name string) *task { return n.counting(name, 0, nil) }

// counting is a task that tells what is read from r, of total bytes.
func (n *node) counting(name string, total int64, r io.Reader) *task {
	now := n.e.status.now()
	t := &task{Reader: r, n: n, s: client.VertexStatus{ID: name, Vertex: n.v.Digest, Name: name, Total: total, Started: &now}}
	t.tell()
	return t
}

func (t *task) Read(p []byte) (int, error) {
	k, err := t.Reader.Read(p)
	t.s.Current += int64(k)
	if now := t.n.e.status.now(); now.Sub(t.last) > taskInterval {
		t.tell()
	}
	return k, err
}

// reached tells of bytes that were not read from the task's reader.
func (t *task) reached(done int64) {
	t.s.Current = done
	if now := t.n.e.status.now(); now.Sub(t.last) > taskInterval {
		t.tell()
	}
}

func (t *task) tell() {
	t.last = t.n.e.status.now()
	s := t.s
	s.Timestamp = t.last
	t.n.e.status.send(&client.SolveStatus{Statuses: []*client.VertexStatus{&s}})
}

func (t *task) done(err error) {
	if err != nil {
		return // the vertex says it
	}
	now := t.n.e.status.now()
	t.s.Completed = &now
	if t.s.Total > 0 {
		t.s.Current = t.s.Total
	}
	t.tell()
}

// stepLog passes on what a step prints, at most maxLog bytes of each stream, and keeps the last lines for the error.
type stepLog struct {
	n    *node
	mu   sync.Mutex
	sent [3]int
	tail []byte
}

const (
	maxLog  = 2 << 20 // bytes of a stream (util/progress/logs in BuildKit: defaultMaxLogSize)
	maxTail = 8 << 10 // bytes kept for the error
)

func (l *stepLog) write(stream int, data []byte) {
	if stream != 1 && stream != 2 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = append(l.tail, data...)
	if over := len(l.tail) - maxTail; over > 0 {
		l.tail = slices.Delete(l.tail, 0, over)
	}
	room := maxLog - l.sent[stream]
	if room < 0 {
		return
	}
	l.sent[stream] += len(data)
	if len(data) > room {
		data = append(slices.Clone(data[:room]), fmt.Sprintf("\n[output clipped, log limit %dMiB reached]\n", maxLog>>20)...)
		l.sent[stream] = maxLog + 1
	}
	l.n.log(stream, data)
}

func (n *node) log(stream int, data []byte) {
	n.e.status.send(&client.SolveStatus{Logs: []*client.VertexLog{{Vertex: n.v.Digest, Stream: stream, Data: data, Timestamp: n.e.status.now()}}})
}

// lines returns the last lines that the step printed, at most n.
func (l *stepLog) lines(n int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := strings.TrimRight(strings.ToValidUTF8(string(l.tail), "�"), "\n")
	if text == "" {
		return nil
	}
	lines := strings.Split(text, "\n")
	if len(l.tail) == maxTail && len(lines) > 1 {
		lines = lines[1:] // cut in the middle
	}
	return lines[max(0, len(lines)-n):]
}

// internalVertex shows work that is no vertex of a graph, such as a look at a registry.
func (e *Engine) internalVertex(name string, work func(log func(line string)) error) error {
	now := e.status.now()
	v := client.Vertex{Digest: digest.FromString("skiff internal " + name), Name: name, Started: &now}
	first := v
	e.status.send(&client.SolveStatus{Vertexes: []*client.Vertex{&first}})
	err := work(func(line string) {
		e.status.send(&client.SolveStatus{Logs: []*client.VertexLog{{Vertex: v.Digest, Stream: 2, Data: []byte(line + "\n"), Timestamp: e.status.now()}}})
	})
	end := e.status.now()
	v.Completed = &end
	if err != nil {
		v.Error = err.Error()
	}
	e.status.send(&client.SolveStatus{Vertexes: []*client.Vertex{&v}})
	return err
}

func (e *Engine) warn(w *client.VertexWarning) {
	e.status.send(&client.SolveStatus{Warnings: []*client.VertexWarning{w}})
}
