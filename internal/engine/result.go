package engine

import (
	"slices"
	"strings"

	"github.com/skiff-build/skiff/internal/store"
)

// emptyLayer stands in a chain for a layer that a step made without writing anything: the image has a layer there, as
// its history says, but there is no directory for it.
const emptyLayer = "empty"

// result is one output of a vertex.
type result struct {
	Layers []string `json:"layers"`           // lowest first, with emptyLayer for those that hold nothing
	GoBase bool     `json:"gobase,omitempty"` // it stands on a built-in base
}

// identity is the result as a part of keys: equal identities, equal files.
func (r result) identity() string {
	s := "layers " + strings.Join(realLayers(r.Layers), " ")
	if r.GoBase {
		s += " gobase"
	}
	return s
}

// with is the result that stands on r, with one layer more. An empty id is a layer that holds nothing.
func (r result) with(id string) result {
	if id == "" {
		id = emptyLayer
	}
	return result{Layers: append(slices.Clone(r.Layers), id), GoBase: r.GoBase}
}

// realLayers leaves out what has no directory.
func realLayers(chain []string) []string {
	real := make([]string, 0, len(chain))
	for _, id := range chain {
		if id != emptyLayer {
			real = append(real, id)
		}
	}
	return real
}

// resultRecord is what is stored under the keys of a vertex. The top-level "layers" tells the store what to keep.
type resultRecord struct {
	Layers  []string `json:"layers"`
	Outputs []result `json:"outputs"`
}

const kindResult = store.KindResult

func (e *Engine) newRecord(outs []result) resultRecord {
	rec := resultRecord{Outputs: outs}
	for _, o := range outs {
		for _, id := range e.withBelow(realLayers(o.Layers)) {
			if !slices.Contains(rec.Layers, id) {
				rec.Layers = append(rec.Layers, id)
			}
		}
	}
	return rec
}

// withBelow adds the layers that some of these complete: they have to stay, too.
func (e *Engine) withBelow(ids []string) []string {
	var out []string
	for _, id := range ids {
		if below := e.o.Store.LayerBelow(id); below != "" {
			out = append(out, below)
		}
		out = append(out, id)
	}
	return out
}

// lookup returns the results stored under a key, if all their layers are still there, and what is known of them.
func (e *Engine) lookup(key store.Key) ([]result, bool) {
	var rec resultRecord
	if err := e.o.Store.Get(kindResult, key, &rec); err != nil || len(rec.Outputs) == 0 {
		return nil, false // a miss, or broken, which is one
	}
	for _, o := range rec.Outputs {
		for _, id := range realLayers(o.Layers) {
			if !e.knows(id) {
				return nil, false
			}
		}
	}
	return rec.Outputs, true
}

func (e *Engine) knows(id string) bool {
	if strings.HasPrefix(id, basePrefix) {
		if _, err := e.base(id); err != nil {
			return false
		}
	}
	return e.o.Store.HasLayer(id)
}

func (e *Engine) save(key store.Key, outs []result) error {
	return e.o.Store.Put(kindResult, key, e.newRecord(outs))
}
