package secrets

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skiff-build/skiff/internal/engine"
)

func TestSecrets(t *testing.T) {
	dir := t.TempDir()
	file, large := filepath.Join(dir, "file"), filepath.Join(dir, "large")
	for path, text := range map[string][]byte{file: []byte("text"), large: bytes.Repeat([]byte("x"), maxSecret+1)} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("SKIFF_SECRET", "value")
	secrets := []Secret{{ID: "a", File: file}, {ID: "b", Env: "SKIFF_SECRET"}}
	if err := Check(secrets); err != nil {
		t.Fatal(err)
	}
	read := Reader(secrets)
	for id, want := range map[string]string{"a": "text", "b": "value"} {
		if got, err := read(t.Context(), id); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", id, got, err)
		}
	}
	if _, err := read(t.Context(), "c"); !errors.Is(err, engine.ErrNoSecret) {
		t.Errorf("c: %v", err)
	}
	for want, s := range map[string][]Secret{
		"the id is missing":      {{File: file}},
		"given twice":            {{ID: "a", File: file}, {ID: "a", File: file}},
		"a file or a variable":   {{ID: "a", File: file, Env: "SKIFF_SECRET"}},
		"has no SKIFF_NO_SECRET": {{ID: "a", Env: "SKIFF_NO_SECRET"}},
		"no such file":           {{ID: "a", File: dir + "/nix"}},
		"is a folder":            {{ID: "a", File: dir}},
		"more than 512000 bytes": {{ID: "a", File: large}},
	} {
		if err := Check(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", s, err, want)
		}
	}
}
