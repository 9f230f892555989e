package gobase

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

// folderState is a State in a test's folder.
type folderState struct{ dir string }

func newState(t *testing.T) folderState { t.Helper(); return folderState{t.TempDir()} }

func (s folderState) Dir() string { return filepath.Join(s.dir, "gobase") }

func (s folderState) record(kind store.Kind, name string) string {
	return filepath.Join(s.dir, "records", string(kind), strings.ReplaceAll(name, " ", "_")+".json")
}

func (s folderState) Load(kind store.Kind, name string, v any) error {
	data, err := os.ReadFile(s.record(kind, name))
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

func (s folderState) Save(kind store.Kind, name string, v any) error {
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

func (s folderState) Names(kind store.Kind) []string {
	entries, _ := os.ReadDir(filepath.Join(s.dir, "records", string(kind)))
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".json"))
	}
	return names
}

func (s folderState) Blob(digest string) (string, error) {
	path := filepath.Join(s.dir, digest)
	_, err := os.Stat(path)
	return path, err
}

func (s folderState) WriteBlob(_ context.Context, r io.Reader, _ int64) (string, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	return digest, os.WriteFile(filepath.Join(s.dir, digest), data, 0o644)
}

func (s folderState) Lock(context.Context, string) (func(), error) { return func() {}, nil }
