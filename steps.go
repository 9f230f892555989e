package skiff

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"
)

// steps shows what this package does itself beside the engine's steps: notes and exports.
type steps struct {
	show  func(*client.SolveStatus)
	count atomic.Int64
}

// note shows one line.
func (s *steps) note(text string) {
	_ = s.run(context.Background(), text, func(context.Context, *step) error { return nil })
}

// step is one of them while it runs.
type step struct {
	of     *steps
	vertex client.Vertex
}

// run shows name while f runs, and how f ended.
func (s *steps) run(ctx context.Context, name string, f func(context.Context, *step) error) error {
	now := time.Now()
	st := &step{of: s, vertex: client.Vertex{
		Digest: digest.FromString(fmt.Sprintf("skiff %d %s", s.count.Add(1), name)), Name: name, Started: &now,
	}}
	s.send(&client.SolveStatus{Vertexes: []*client.Vertex{new(st.vertex)}})
	err := f(ctx, st)
	end := time.Now()
	st.vertex.Completed = &end
	if err != nil {
		st.vertex.Error = err.Error()
	}
	s.send(&client.SolveStatus{Vertexes: []*client.Vertex{new(st.vertex)}})
	return err
}

// cached shows that a step had nothing to do.
func (s *step) cached() { s.vertex.Cached = true }

// log shows a line that a step printed.
func (s *step) log(line string) {
	s.of.send(&client.SolveStatus{Logs: []*client.VertexLog{{
		Vertex: s.vertex.Digest, Stream: 2, Data: []byte(line + "\n"), Timestamp: time.Now(),
	}}})
}

// did shows a part of a step that is done.
func (s *step) did(what string) {
	now := time.Now()
	s.of.send(&client.SolveStatus{Statuses: []*client.VertexStatus{{
		ID: what, Vertex: s.vertex.Digest, Name: what, Timestamp: now, Started: &now, Completed: &now,
	}}})
}

// progress shows how far a part of a step is, in bytes; a negative total is not known yet.
func (s *step) progress(what string, done, total int64) {
	now := time.Now()
	v := &client.VertexStatus{ID: what, Vertex: s.vertex.Digest, Name: what, Current: done, Total: max(0, total), Timestamp: now, Started: s.vertex.Started}
	if total >= 0 && done >= total {
		v.Completed = &now
	}
	s.of.send(&client.SolveStatus{Statuses: []*client.VertexStatus{v}})
}

func (s *steps) send(status *client.SolveStatus) {
	if s.show != nil {
		s.show(status)
	}
}
