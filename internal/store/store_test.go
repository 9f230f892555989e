package store

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func open(t *testing.T, root string) *Store {
	t.Helper()
	s, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestOpenMakesPrivateRoot(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a", "state")
	s := open(t, root)
	if s.Root() != root {
		t.Errorf("Root() = %s, want %s", s.Root(), root)
	}
	i, err := os.Stat(root)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && i.Mode().Perm() != 0o700 {
		t.Errorf("mode of the root is %v, want 0700", i.Mode().Perm())
	}
	if b, err := os.ReadFile(filepath.Join(root, "oci", "oci-layout")); err != nil || !strings.Contains(string(b), `"imageLayoutVersion":"1.0.0"`) {
		t.Errorf("oci-layout: %q, %v", b, err)
	}
}

func TestOpenTightensRoot(t *testing.T) {
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	open(t, root)
	if i, _ := os.Stat(root); runtime.GOOS != "windows" && i.Mode().Perm() != 0o700 {
		t.Errorf("mode of the root is %v, want 0700", i.Mode().Perm())
	}
}

func TestOpenRefuses(t *testing.T) {
	newer := t.TempDir()
	write(t, filepath.Join(newer, "version"), "2\n")
	foreign := t.TempDir()
	write(t, filepath.Join(foreign, "thesis.doc"), "years of work")
	garbage := t.TempDir()
	write(t, filepath.Join(garbage, "version"), "\x00\x01")
	notDir := filepath.Join(t.TempDir(), "file")
	write(t, notDir, "")
	for _, c := range []struct {
		name, root, want string
		version          bool
	}{
		{"newer", newer, "was made by a newer skiff", true},
		{"garbage version", garbage, "which no skiff wrote", true},
		{"foreign folder", foreign, `"thesis.doc"`, false},
		{"a file", notDir, "SKIFF_ROOT", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Open(c.root)
			var ve *VersionError
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "--root") || errors.As(err, &ve) != c.version {
				t.Errorf("error %v", err)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(foreign, "oci")); err == nil {
		t.Error("something was made in a folder that is not ours")
	}
}

func TestOpenHealsHalfDeleted(t *testing.T) {
	for _, gone := range []string{"version", "oci", "oci/index.json", "oci/oci-layout", "oci/blobs", "layers", "records", "cache", "locks", "tmp", "bin", "synced"} {
		t.Run(gone, func(t *testing.T) {
			root := t.TempDir()
			s := open(t, root)
			if err := s.Put("k", Key{1}, "v"); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(filepath.Join(root, gone)); err != nil {
				t.Fatal(err)
			}
			// The Store that is open goes on as well as a new one.
			for _, s := range []*Store{s, open(t, root)} {
				exercise(t, s)
			}
		})
	}
}

func TestOpenHealsEmptyFiles(t *testing.T) {
	root := t.TempDir()
	open(t, root).Close()
	for _, f := range []string{"version", "oci/index.json", "oci/oci-layout", "synced"} {
		write(t, filepath.Join(root, f), "")
	}
	exercise(t, open(t, root))
}

// exercise uses every part of a store once.
func exercise(t *testing.T, s *Store) {
	t.Helper()
	h := putBlob(t, s, "content")
	if got := readBlob(t, s, h); got != "content" {
		t.Errorf("blob is %q", got)
	}
	if err := s.Put("k", Key{2}, map[string]int{"a": 1}); err != nil {
		t.Error(err)
	}
	var v map[string]int
	if err := s.Get("k", Key{2}, &v); err != nil || v["a"] != 1 {
		t.Errorf("Get: %v %v", v, err)
	}
	if err := s.Tag("docker.io/library/x:1", descriptor(h)); err != nil {
		t.Error(err)
	}
	if d, err := s.Tagged("docker.io/library/x:1"); err != nil || d.Digest != h {
		t.Errorf("Tagged: %v %v", d, err)
	}
	id := commitLayer(t, s, "f", "x")
	if !s.HasLayer(id) {
		t.Error("the layer is not there")
	}
	if err := s.Sync(); err != nil {
		t.Error(err)
	}
}

func TestDefaultRoot(t *testing.T) {
	abs := t.TempDir()
	t.Setenv("SKIFF_ROOT", abs)
	if r, err := DefaultRoot(); err != nil || r != abs {
		t.Errorf("with SKIFF_ROOT: %s %v", r, err)
	}
	t.Setenv("SKIFF_ROOT", "")
	t.Setenv("XDG_DATA_HOME", abs)
	if r, err := DefaultRoot(); err != nil || r != filepath.Join(abs, "skiff") {
		t.Errorf("with XDG_DATA_HOME: %s %v", r, err)
	}
	t.Setenv("XDG_DATA_HOME", "relative") // to be ignored: XDG base directory specification
	t.Setenv("HOME", abs)
	if r, err := DefaultRoot(); runtime.GOOS == "linux" && (err != nil || r != filepath.Join(abs, ".local/share/skiff")) {
		t.Errorf("with HOME: %s %v", r, err)
	}
}

func TestDefaultKeep(t *testing.T) {
	n := DefaultKeep(t.TempDir())
	if n <= 0 || n > 10_000_000_000 {
		t.Errorf("DefaultKeep = %d", n)
	}
}

func TestNewID(t *testing.T) {
	a, b := NewID(), NewID()
	if len(a) != 26 || a == b || a != strings.ToLower(a) {
		t.Errorf("ids %q %q", a, b)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
