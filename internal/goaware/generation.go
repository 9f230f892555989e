package goaware

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/skiff-build/skiff/internal/store"
)

// RecordKind is the kind of the record that holds the module cache's generation. Whoever removes cache directories of
// ours deletes it (or calls [NewGeneration]), so that steps which left their modules there run again.
const RecordKind = store.KindGoGeneration

type generation struct {
	ID string `json:"id"`
}

// Generation returns the generation of the module cache that st keeps, and draws one where there is none.
func Generation(st *store.Store) (string, error) { return generationOf(st, "generation", false) }

// NewGeneration draws a generation. Two processes that draw at once leave the later one: the other's steps run again.
func NewGeneration(st *store.Store) (string, error) { return generationOf(st, "generation", true) }

// CgoGeneration returns what names the caches of steps that use cgo. It is drawn anew where steps run again by the
// user's wish: what those install may be newer, and Go would not see it.
func CgoGeneration(st *store.Store, again bool) (string, error) {
	return generationOf(st, "cgo", again)
}

func generationOf(st *store.Store, what string, anew bool) (string, error) {
	key := store.Key(sha256.Sum256([]byte(what)))
	var g generation
	err := st.Get(RecordKind, key, &g)
	switch {
	case err == nil && g.ID != "" && !anew:
		return g.ID, nil
	case err == nil || errors.Is(err, store.ErrMiss):
		g.ID = store.NewID()
		err = st.Put(RecordKind, key, g)
	}
	if err != nil {
		return "", fmt.Errorf("%s of Go's caches: %w", what, err)
	}
	return g.ID, nil
}
