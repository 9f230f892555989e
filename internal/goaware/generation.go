package goaware

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/skiff-build/skiff/internal/store"
)

// RecordKind is the kind of the record that holds the module cache's generation. Whoever removes cache directories of
// ours deletes it (or calls [NewGeneration]), so that steps which left their modules there run again.
const RecordKind = "gomod"

type generation struct {
	ID string `json:"id"`
}

func generationKey() store.Key { return sha256.Sum256([]byte("generation")) }

// Generation returns the generation of the module cache that st keeps, and draws one where there is none.
func Generation(st *store.Store) (string, error) {
	var g generation
	err := st.Get(RecordKind, generationKey(), &g)
	if errors.Is(err, store.ErrMiss) || err == nil && g.ID == "" {
		return NewGeneration(st)
	}
	if err != nil {
		return "", fmt.Errorf("generation of the module cache: %w", err)
	}
	return g.ID, nil
}

// NewGeneration draws a generation. Two processes that draw at once leave the later one: the other's steps run again.
func NewGeneration(st *store.Store) (string, error) {
	g := generation{ID: store.NewID()}
	if err := st.Put(RecordKind, generationKey(), g); err != nil {
		return "", fmt.Errorf("generation of the module cache: %w", err)
	}
	return g.ID, nil
}
