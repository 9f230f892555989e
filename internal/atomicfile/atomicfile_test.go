package atomicfile_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/skiff-build/skiff/internal/atomicfile"
)

func put(text string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}
}

// files are the names in a folder, with what they hold.
func files(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e.Name()+"="+string(text))
	}
	return strings.Join(out, " ")
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := atomicfile.Write(at("f"), put("one")); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	err := atomicfile.Write(at("f"), func(w io.Writer) error { return errors.Join(put("half")(w), boom) })
	if !errors.Is(err, boom) || files(t, dir) != "f=one" {
		t.Errorf("after an error: %v, %s", err, files(t, dir))
	}
	if err := os.Chmod(at("f"), 0o640); err != nil {
		t.Fatal(err)
	}
	// A name that could be guessed, and where it leads, is not touched.
	if err := os.WriteFile(at("f.partial"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Write(at("f"), put("two")); err != nil || files(t, dir) != "f=two f.partial=mine" {
		t.Errorf("%v, %s", err, files(t, dir))
	}
	if st, err := os.Stat(at("f")); err != nil || runtime.GOOS != "windows" && st.Mode().Perm() != 0o640 {
		t.Errorf("a file that is replaced keeps its mode: %v, %v", st.Mode(), err)
	}
	if err := atomicfile.Write(dir, put("x")); err == nil || !strings.Contains(err.Error(), "is a folder") {
		t.Errorf("a folder: %v", err)
	}
	if err := atomicfile.Write(at("no/f"), put("x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

func TestWriteThroughLinks(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	real := filepath.Join(other, "real")
	for name, target := range map[string]string{"a": real, "b": "a"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Skipf("symbolic links are missing here: %v", err)
		}
	}
	for _, text := range []string{"new", "replaced"} { // the first leads to nothing yet
		if err := atomicfile.Write(filepath.Join(dir, "b"), put(text)); err != nil || files(t, other) != "real="+text {
			t.Errorf("%v, %s", err, files(t, other))
		}
	}
	if to, err := os.Readlink(filepath.Join(dir, "b")); err != nil || to != "a" {
		t.Errorf("the link is gone: %s, %v", to, err)
	}
	if err := os.Symlink("loop", filepath.Join(dir, "loop")); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Write(filepath.Join(dir, "loop"), put("x")); err == nil {
		t.Error("a link to itself was written through")
	}
}

// TestTwoWriters: two at once do not mix what they write.
func TestTwoWriters(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	for _, c := range "abcdefgh" {
		all.Go(func() {
			err := atomicfile.Write(filepath.Join(dir, "f"), func(w io.Writer) error {
				for range 1000 {
					if err := put(string(c))(w); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	got, ok := strings.CutPrefix(files(t, dir), "f=")
	if !ok || len(got) != 1000 || strings.Trim(got, got[:1]) != "" {
		t.Errorf("%d bytes: %.100s", len(got), got)
	}
}

func TestPlace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	for _, text := range []string{"one", "two"} {
		if err := atomicfile.Place(file, 0o755, put(text)); err != nil || files(t, filepath.Dir(file)) != "f="+text {
			t.Errorf("%v, %s", err, files(t, filepath.Dir(file)))
		}
	}
	if st, err := os.Stat(file); err != nil || runtime.GOOS != "windows" && st.Mode().Perm() != 0o755 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}
