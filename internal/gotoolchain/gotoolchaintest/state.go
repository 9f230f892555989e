package gotoolchaintest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skiff-build/skiff/internal/store"
)

// State is a [gotoolchain.State] in a test's folder.
type State struct{ dir string }

// NewState returns an empty state, which goes with the test.
func NewState(t *testing.T) State { t.Helper(); return State{t.TempDir()} }

// Dir is a folder in the test's.
func (s State) Dir() string { return filepath.Join(s.dir, "gobase") }

func (s State) record(kind store.Kind, name string) string {
	return filepath.Join(s.dir, "records", string(kind), strings.ReplaceAll(name, " ", "_")+".json")
}

// Load fills v from a record.
func (s State) Load(kind store.Kind, name string, v any) error {
	data, err := os.ReadFile(s.record(kind, name))
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// Save writes a record.
func (s State) Save(kind store.Kind, name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	path := s.record(kind, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// Names lists the names of the records of a kind.
func (s State) Names(kind store.Kind) []string {
	entries, _ := os.ReadDir(filepath.Join(s.dir, "records", string(kind)))
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".json"))
	}
	return names
}

// Blob returns the path of a blob.
func (s State) Blob(digest string) (string, error) {
	path := filepath.Join(s.dir, digest)
	_, err := os.Stat(path)
	return path, err
}

// WriteBlob keeps r.
func (s State) WriteBlob(_ context.Context, r io.Reader, _ int64) (string, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	return digest, os.WriteFile(filepath.Join(s.dir, digest), data, 0o644)
}

// Lock keeps nobody out: a test's state has one user.
func (s State) Lock(context.Context, string) (func(), error) { return func() {}, nil }
