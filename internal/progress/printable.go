package progress

import (
	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/skiff-build/skiff/internal/printable"
)

// cleaner makes what a build says fit for a terminal or a log: names and errors hold text of Dockerfiles, files and registries, logs
// hold what steps wrote.
type cleaner struct {
	outputs map[stream]*printable.Output
}

// stream is an output of a step: 1 or 2.
type stream struct {
	vertex digest.Digest
	number int
}

// clean returns s as it may be shown. What needs no change is not copied, and s itself stays as it is: others look at it, too.
func (c *cleaner) clean(s *client.SolveStatus) *client.SolveStatus {
	out := *s
	out.Vertexes = each(s.Vertexes, func(v *client.Vertex) {
		v.Name, v.Error = printable.Line(v.Name), printable.Line(v.Error)
	})
	out.Statuses = each(s.Statuses, func(st *client.VertexStatus) {
		st.ID, st.Name = printable.Line(st.ID), printable.Line(st.Name)
	})
	out.Warnings = each(s.Warnings, func(w *client.VertexWarning) {
		w.Short, w.URL = []byte(printable.Line(string(w.Short))), printable.Line(w.URL)
	})
	out.Logs = each(s.Logs, func(l *client.VertexLog) { l.Data = c.output(l).Clean(l.Data) })
	return &out
}

func each[T any](list []*T, change func(*T)) []*T {
	out := make([]*T, len(list))
	for i, old := range list {
		changed := *old
		change(&changed)
		out[i] = &changed
	}
	return out
}

func (c *cleaner) output(l *client.VertexLog) *printable.Output {
	key := stream{l.Vertex, l.Stream}
	if c.outputs[key] == nil {
		if c.outputs == nil {
			c.outputs = map[stream]*printable.Output{}
		}
		c.outputs[key] = &printable.Output{}
	}
	return c.outputs[key]
}
