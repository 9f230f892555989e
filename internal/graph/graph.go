// Package graph holds an LLB definition as pointers: a vertex for each operation, edges to the vertices that it reads.
//
// A [*pb.Definition] is a list of marshalled operations that name their inputs by digest. [Decode] turns it into a
// [Graph], which can be walked and rewritten without a thought for digests, and [Encode] turns that back, digests anew;
// the digest of a vertex that nobody touched, and whose inputs nobody touched, stays what it was. What a Decode accepts
// is sound: every input is there, indices of inputs are within range, and the size is bounded, so that those who read
// the graph need not check again. A Graph is not safe for concurrent changes.
package graph

import (
	"errors"
	"fmt"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/proto"
)

// maxVertices bounds a definition. The largest Dockerfiles known have some 300 instructions, each one to three vertices.
const maxVertices = 1 << 16

// ErrInvalid is wrapped by all errors that say that a definition is not sound.
var ErrInvalid = errors.New("invalid LLB definition")

// Vertex is one operation. Op.Inputs is what came in and is ignored afterwards: Inputs counts.
type Vertex struct {
	Digest digest.Digest // of the marshalled operation as it was decoded; set anew by [Encode]
	Op     *pb.Op
	Inputs []Edge
	Meta   *pb.OpMetadata   // nil: none
	Source []*pb.Location   // where it stands in the source files of the graph
	infos  []*pb.SourceInfo // the files that Source points into
}

// Edge is one output of a vertex. The zero Edge is no output: scratch.
type Edge struct {
	Vertex *Vertex
	Index  int
}

// Graph is a definition. Root is what it gives; a Root without vertex is an empty result (FROM scratch and no more).
type Graph struct {
	Root  Edge
	Infos []*pb.SourceInfo // the source files that vertices point into

	end *pb.OpMetadata // of the last operation, which names the root
}

// Decode reads a definition. A nil or an empty one is an empty graph. Operations that the root does not need are
// dropped. The definition is not changed, and not referred to afterwards but for its source files.
func Decode(def *pb.Definition) (*Graph, error) {
	if def == nil || len(def.Def) == 0 {
		return &Graph{}, nil
	}
	if len(def.Def) > maxVertices {
		return nil, fmt.Errorf("%w: %d operations, at most %d", ErrInvalid, len(def.Def), maxVertices)
	}
	d := decoder{def: def, raw: make(map[digest.Digest][]byte, len(def.Def)), done: map[digest.Digest]*Vertex{}}
	if err := d.checkSource(); err != nil {
		return nil, err
	}
	for _, dt := range def.Def {
		d.raw[digest.FromBytes(dt)] = dt
	}
	// The last operation is no operation: its one input says which output of the others is the result.
	var last pb.Op
	if err := last.UnmarshalVT(def.Def[len(def.Def)-1]); err != nil {
		return nil, fmt.Errorf("%w: last operation: %w", ErrInvalid, err)
	}
	if last.Op != nil || len(last.Inputs) != 1 {
		return nil, fmt.Errorf("%w: the last operation does not name the result", ErrInvalid)
	}
	g := &Graph{end: def.Metadata[digest.FromBytes(def.Def[len(def.Def)-1]).String()].CloneVT()}
	if def.Source != nil {
		g.Infos = def.Source.Infos
	}
	root, err := d.edge(last.Inputs[0])
	if err != nil {
		return nil, err
	}
	g.Root = root
	return g, nil
}

type decoder struct {
	def  *pb.Definition
	raw  map[digest.Digest][]byte
	done map[digest.Digest]*Vertex // nil while its inputs are being read
}

func (d *decoder) checkSource() error {
	if d.def.Source == nil {
		return nil
	}
	for _, info := range d.def.Source.Infos {
		if info == nil {
			return fmt.Errorf("%w: a source file that is nil", ErrInvalid)
		}
	}
	for dgst, locs := range d.def.Source.Locations {
		for _, l := range locs.GetLocations() {
			if l == nil || l.SourceIndex < 0 || int(l.SourceIndex) >= len(d.def.Source.Infos) {
				return fmt.Errorf("%w: source location of %s", ErrInvalid, dgst)
			}
			for _, r := range l.Ranges {
				if r == nil || r.Start == nil || r.End == nil {
					return fmt.Errorf("%w: source range of %s", ErrInvalid, dgst)
				}
			}
		}
	}
	return nil
}

func (d *decoder) edge(in *pb.Input) (Edge, error) {
	if in == nil || in.Index < 0 || in.Index >= maxVertices {
		return Edge{}, fmt.Errorf("%w: output index of an input", ErrInvalid)
	}
	v, err := d.vertex(digest.Digest(in.Digest))
	if err != nil {
		return Edge{}, err
	}
	if n := outputs(v.Op); int(in.Index) >= n {
		return Edge{}, fmt.Errorf("%w: output %d of %s, which has %d", ErrInvalid, in.Index, v.Digest, n)
	}
	return Edge{Vertex: v, Index: int(in.Index)}, nil
}

func (d *decoder) vertex(dgst digest.Digest) (*Vertex, error) {
	if v, ok := d.done[dgst]; ok {
		if v == nil { // would need a collision of sha256; still no reason to recurse for ever
			return nil, fmt.Errorf("%w: %s needs itself", ErrInvalid, dgst)
		}
		return v, nil
	}
	dt, ok := d.raw[dgst]
	if !ok {
		return nil, fmt.Errorf("%w: input %q is missing", ErrInvalid, dgst)
	}
	d.done[dgst] = nil
	op := &pb.Op{}
	if err := op.UnmarshalVT(dt); err != nil {
		return nil, fmt.Errorf("%w: operation %s: %w", ErrInvalid, dgst, err)
	}
	if err := validate(op); err != nil {
		return nil, fmt.Errorf("%w: operation %s: %w", ErrInvalid, dgst, err)
	}
	v := &Vertex{Digest: dgst, Op: op, Inputs: make([]Edge, len(op.Inputs))}
	for i, in := range op.Inputs {
		var err error
		if v.Inputs[i], err = d.edge(in); err != nil {
			return nil, err
		}
	}
	if md := d.def.Metadata[string(dgst)]; md != nil {
		v.Meta = md.CloneVT()
	}
	if d.def.Source != nil {
		v.Source, v.infos = d.def.Source.Locations[string(dgst)].GetLocations(), d.def.Source.Infos
	}
	d.done[dgst] = v
	return v, nil
}

// Encode is the inverse of [Decode]; it sets the Digest of each vertex. Operations come after their inputs, in the
// order of a walk. Vertices that are equal after a rewrite become one. An empty graph is an empty definition.
func Encode(g *Graph) (*pb.Definition, error) {
	def := &pb.Definition{Metadata: map[string]*pb.OpMetadata{}}
	if g.Root.Vertex == nil {
		return def, nil
	}
	src := &pb.Source{Infos: g.Infos, Locations: map[string]*pb.Locations{}}
	seen := map[digest.Digest]bool{}
	err := Walk(g, func(v *Vertex) error {
		dt, err := marshal(v)
		if err != nil {
			return err
		}
		v.Digest = digest.FromBytes(dt)
		if seen[v.Digest] {
			return nil
		}
		seen[v.Digest] = true
		def.Def = append(def.Def, dt)
		if v.Meta != nil {
			def.Metadata[v.Digest.String()] = v.Meta
		}
		if len(v.Source) > 0 {
			src.Locations[v.Digest.String()] = &pb.Locations{Locations: v.Source}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	last := &Vertex{Op: &pb.Op{}, Inputs: []Edge{g.Root}}
	dt, err := marshal(last)
	if err != nil {
		return nil, err
	}
	def.Def = append(def.Def, dt)
	if g.end != nil {
		def.Metadata[digest.FromBytes(dt).String()] = g.end
	}
	if len(src.Infos) > 0 {
		def.Source = src
	}
	return def, nil
}

// marshal writes a vertex whose inputs have their digests, as the llb package does: deterministically.
func marshal(v *Vertex) ([]byte, error) {
	v.Op.Inputs = nil
	for _, e := range v.Inputs {
		v.Op.Inputs = append(v.Op.Inputs, &pb.Input{Digest: e.Vertex.Digest.String(), Index: int64(e.Index)})
	}
	dt, err := proto.MarshalOptions{Deterministic: true}.Marshal(v.Op)
	if err != nil {
		return nil, fmt.Errorf("encode operation: %w", err)
	}
	return dt, nil
}

// Walk calls fn once for every vertex that the root needs, inputs first, in the order in which vertices name them. It
// ends at the first error. A graph that a rewrite has tied into a circle is [ErrInvalid].
func Walk(g *Graph, fn func(*Vertex) error) error {
	const open, closed = 1, 2
	state := map[*Vertex]int{}
	var visit func(v *Vertex) error
	visit = func(v *Vertex) error {
		switch state[v] {
		case open:
			return fmt.Errorf("%w: a vertex needs itself", ErrInvalid)
		case closed:
			return nil
		}
		state[v] = open
		for _, e := range v.Inputs {
			if e.Vertex == nil {
				return fmt.Errorf("%w: an input without a vertex", ErrInvalid)
			}
			if err := visit(e.Vertex); err != nil {
				return err
			}
		}
		state[v] = closed
		return fn(v)
	}
	if g.Root.Vertex == nil {
		return nil
	}
	return visit(g.Root.Vertex)
}

// Info is the source file that l, one of v.Source, points into; nil when there is none.
func (v *Vertex) Info(l *pb.Location) *pb.SourceInfo {
	if l.SourceIndex < 0 || int(l.SourceIndex) >= len(v.infos) {
		return nil
	}
	return v.infos[l.SourceIndex]
}
