package gotoolchain

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/skiff-build/skiff/internal/store"
)

// StoreState is a [State] in the store.
func StoreState(s *store.Store) State { return storeState{s} }

type storeState struct{ store *store.Store }

// named wraps a record with its name: the store knows records by digest alone. The fields of the value
// stand at the top level too, where the store looks for blobs to keep.
type named struct {
	Name  string          `json:"name"`
	Blobs []string        `json:"blobs,omitempty"`
	Value json.RawMessage `json:"value"`
}

func recordKey(kind store.Kind, name string) store.Key {
	return sha256.Sum256([]byte("gobase record\n" + string(kind) + "\n" + name + "\n"))
}

func (s storeState) Dir() string { return filepath.Join(s.store.Root(), "cache", "gobase") }

func (s storeState) Load(kind store.Kind, name string, v any) error {
	var n named
	if err := s.store.Get(kind, recordKey(kind, name), &n); err != nil {
		return err
	}
	return json.Unmarshal(n.Value, v)
}

func (s storeState) Save(kind store.Kind, name string, v any) error {
	value, err := json.Marshal(v)
	if err != nil {
		return err
	}
	n := named{Name: name, Value: value}
	var refs struct {
		Blobs []string `json:"blobs"`
	}
	if json.Unmarshal(value, &refs) == nil {
		n.Blobs = refs.Blobs
	}
	return s.store.Put(kind, recordKey(kind, name), n)
}

func (s storeState) Names(kind store.Kind) []string {
	var names []string
	// An unreadable record is no record; what is found here is looked at again before it is used.
	_ = s.store.Each(kind, func(_ store.Key, raw []byte, _ time.Time) error {
		var n named
		if json.Unmarshal(raw, &n) == nil && n.Name != "" {
			names = append(names, n.Name)
		}
		return nil
	})
	return names
}

func (s storeState) Blob(digest string) (string, error) {
	h, err := v1.NewHash(digest)
	if err != nil {
		return "", fmt.Errorf("blob %s: %w", digest, err)
	}
	path, _, err := s.store.Blob(h)
	return path, err
}

func (s storeState) WriteBlob(ctx context.Context, r io.Reader, size int64) (string, error) {
	h, _, err := s.store.WriteBlob(ctx, r, v1.Hash{}, size)
	return h.String(), err
}

func (s storeState) Lock(ctx context.Context, name string) (func(), error) {
	return s.store.Lock(ctx, "gobase-"+name)
}
