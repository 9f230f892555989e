package progress

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"
)

// tailLines is how many lines of a failed step are shown: as many as progressui keeps (printer.go, logsBuffer).
const tailLines = 10

// tail keeps the last lines of each step for the quiet mode, where the display itself drops them. With a nil out it keeps
// nothing.
type tail struct {
	out    io.Writer
	lines  map[digest.Digest][]string
	part   map[digest.Digest][]byte // what came after the last newline
	failed []*client.Vertex
}

func (t *tail) add(s *client.SolveStatus) {
	if t.out == nil {
		return
	}
	if t.lines == nil {
		t.lines, t.part = map[digest.Digest][]string{}, map[digest.Digest][]byte{}
	}
	for _, l := range s.Logs {
		data := append(t.part[l.Vertex], l.Data...)
		for {
			line, rest, ok := bytes.Cut(data, []byte("\n"))
			if !ok {
				break
			}
			t.keep(l.Vertex, string(line))
			data = rest
		}
		t.part[l.Vertex] = bytes.Clone(data)
	}
	for _, v := range s.Vertexes {
		known := slices.ContainsFunc(t.failed, func(f *client.Vertex) bool { return f.Digest == v.Digest })
		if v.Error != "" && !known && !strings.HasSuffix(v.Error, context.Canceled.Error()) {
			t.failed = append(t.failed, v)
		}
	}
}

func (t *tail) keep(v digest.Digest, line string) {
	l := append(t.lines[v], line)
	t.lines[v] = l[max(0, len(l)-tailLines):]
}

// print writes the failed steps in the form that progressui gives them in the other modes, once.
func (t *tail) print() {
	for _, v := range t.failed {
		fmt.Fprintf(t.out, "------\n > %s:\n", v.Name)
		if p := t.part[v.Digest]; len(p) > 0 {
			t.keep(v.Digest, string(p))
		}
		for _, line := range t.lines[v.Digest] {
			fmt.Fprintln(t.out, line)
		}
		fmt.Fprintln(t.out, "------")
	}
	t.failed = nil
}
