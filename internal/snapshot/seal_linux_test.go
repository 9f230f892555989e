package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-build/skiff/internal/inode/inodetest"
)

// sealed seals a layer that a test made by hand.
func sealed(t testing.TB, s *Snapshots, id string) {
	t.Helper()
	q, err := newSeal(filepath.Dir(s.layerDir(id)), "")
	if err == nil {
		err = os.WriteFile(s.sealFile(id), q.encode(id), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// fullLayer commits a layer with a bit of everything.
func fullLayer(t *testing.T, s *Snapshots, id string) {
	t.Helper()
	a := prepare(t, s, nil)
	root := a.Root()
	write(t, root, "d/e/one", "one")
	write(t, root, "d/two", "two")
	write(t, root, "three", "three")
	must(t, os.Link(filepath.Join(root, "three"), filepath.Join(root, "d/linked")))
	must(t, os.Symlink("two", filepath.Join(root, "d/link")))
	must(t, os.Mkdir(filepath.Join(root, "empty"), 0o755))
	write(t, root, "closed", "closed")
	must(t, os.Chmod(filepath.Join(root, "closed"), 0))
	commit(t, a, id, false)
}

// What the stamps catch, by what somebody did to the folder of the layer or beside it.
var damages = map[string]func(dir string) error{
	"a file is gone":           func(dir string) error { return os.Remove(dir + "/fs/d/two") },
	"a linked name is gone":    func(dir string) error { return os.Remove(dir + "/fs/d/linked") },
	"a folder is gone":         func(dir string) error { return os.RemoveAll(dir + "/fs/d/e") },
	"an empty folder is gone":  func(dir string) error { return os.Remove(dir + "/fs/empty") },
	"all files are gone":       func(dir string) error { return os.RemoveAll(dir + "/fs") },
	"all but an empty fs":      func(dir string) error { return errors.Join(os.RemoveAll(dir+"/fs"), os.Mkdir(dir+"/fs", 0o755)) },
	"the layer is gone":        os.RemoveAll,
	"the seal is gone":         func(dir string) error { return os.Remove(dir + "/seal") },
	"the seal is cut":          func(dir string) error { return os.Truncate(dir+"/seal", 100) },
	"the seal is empty":        func(dir string) error { return os.Truncate(dir+"/seal", 0) },
	"it completes another one": func(dir string) error { return os.WriteFile(dir+"/over", []byte("other"), 0o600) },
	"a file more":              func(dir string) error { return os.WriteFile(dir+"/fs/d/new", nil, 0o644) },
	"a file is renamed":        func(dir string) error { return os.Rename(dir+"/fs/d/two", dir+"/fs/d/2") },
	"a link leads elsewhere": func(dir string) error {
		return errors.Join(os.Remove(dir+"/fs/d/link"), os.Symlink("owt", dir+"/fs/d/link"))
	},
	"a file is replaced by an equal one": func(dir string) error { // its link is not equal
		return errors.Join(os.Remove(dir+"/fs/d/linked"), os.WriteFile(dir+"/fs/d/linked", []byte("three"), 0o644))
	},
	"a byte is changed": func(dir string) error { return changeByte(dir + "/fs/d/two") },
	"a folder's times are set back": func(dir string) error {
		path := dir + "/fs/d"
		i, err := os.Stat(path)
		return errors.Join(err, os.Remove(path+"/two"), os.Chtimes(path, time.Time{}, i.ModTime()))
	},
	"a mode": func(dir string) error { return os.Chmod(dir+"/fs/d/two", 0o600) },
}

// changeByte changes a byte of a file, and leaves the time of modification as it was, as a failing disk does.
func changeByte(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	i, err := os.Stat(path)
	if err != nil {
		return err
	}
	b[0] ^= 4
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b[:1], 0)
	return errors.Join(err, f.Close(), os.Chtimes(path, time.Time{}, i.ModTime()))
}

func TestSealCatchesDamage(t *testing.T) {
	inodetest.Run(t, func(t *testing.T, mode string) {
		for what, damage := range damages {
			root := t.TempDir()
			s := New(root)
			fullLayer(t, s, "x")
			must(t, s.Close())
			dir := filepath.Join(root, "layers", "x")
			later := newTestSnapshots(t, root)
			must(t, later.Vouch("x"))
			must(t, damage(dir))
			must(t, later.Vouch("x")) // once in a process is enough

			outside := Outside(root)
			var d *Damaged
			if err := outside.Vouch("x"); err == nil || errors.As(err, &d) {
				t.Errorf("%s: from outside: %v", what, err)
			}
			s = newTestSnapshots(t, root)
			for range 2 {
				if err := s.Vouch("x"); !errors.As(err, &d) || !slices.Equal(d.Layers, []string{"x"}) {
					t.Errorf("%s: %v", what, err)
				}
			}
			if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: the damaged layer is still there: %v", what, err)
			}
			fullLayer(t, s, "x") // which heals it
			must(t, newTestSnapshots(t, root).Vouch("x"))
		}
	})
}

// Half of a layer stands where one is to be placed.
func TestPlaceOverDamage(t *testing.T) {
	inodetest.Run(t, func(t *testing.T, mode string) {
		s := newTestSnapshots(t, t.TempDir())
		write(t, s.layerDir("x"), "stray", "")
		fullLayer(t, s, "x")
		must(t, s.Vouch("x"))
		if _, err := os.Lstat(filepath.Join(s.layerDir("x"), "stray")); err == nil {
			t.Error("what stood there is in the layer")
		}
	})
}

// A state that was copied as a whole has other times of change. It is as good as before, and damage in it is found.
func TestSealAfterCopy(t *testing.T) {
	inodetest.Run(t, func(t *testing.T, mode string) {
		root := t.TempDir()
		s := New(root)
		fullLayer(t, s, "x")
		must(t, s.Close())
		moved := func(args ...string) (string, *Snapshots) {
			t.Helper()
			to := t.TempDir()
			out, err := exec.Command("cp", append(args, root+"/layers", to)...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			return to, newTestSnapshots(t, to)
		}
		to, good := moved("-a")
		must(t, good.Vouch("x"))
		q, err := good.compare(t.Context(), "x", false)
		must(t, err)
		if now, err := stamps(good.layerDir("x"), q.stamped); err != nil || now != q.stamps {
			t.Errorf("it was not sealed anew: %v", err)
		}
		must(t, Outside(to).Vouch("x"))

		var d *Damaged
		for what, damage := range damages {
			to, bad := moved("-a")
			must(t, damage(filepath.Join(to, "layers", "x")))
			if err := bad.Vouch("x"); !errors.As(err, &d) {
				t.Errorf("in a copy: %s: %v", what, err)
			}
		}
		// A copy that lost times, or links, is another layer.
		if _, bad := moved("-r"); !errors.As(bad.Vouch("x"), &d) {
			t.Error("a copy without attributes counts")
		}
		// The process that made it was killed before it had digested the content.
		q, err = s.compare(t.Context(), "x", false)
		must(t, err)
		q.content = ""
		must(t, os.WriteFile(s.sealFile("x"), q.encode("x"), 0o600))
		if _, bad := moved("-a"); !errors.As(bad.Vouch("x"), &d) {
			t.Error("a copy of which nothing is known counts")
		}
		// In its place it is good, and is made complete.
		s = New(root)
		must(t, s.Vouch("x"))
		must(t, s.Close())
		_, good = moved("-a")
		must(t, good.Vouch("x"))
	})
}

// In a layer of many files the smallest are looked at by Verify alone.
func TestVerifyLooksAtAll(t *testing.T) {
	inodetest.Run(t, func(t *testing.T, mode string) {
		root := t.TempDir()
		s := New(root)
		a := prepare(t, s, nil)
		for i := range stampedFiles + 100 {
			write(t, a.Root(), fmt.Sprintf("d%d/f%d", i%50, i), strings.Repeat("x", 10+i))
		}
		commit(t, a, "x", false)
		must(t, s.Close())
		var d *Damaged
		must(t, changeByte(filepath.Join(s.layerDir("x"), "d3/f3")))
		s = newTestSnapshots(t, root)
		must(t, s.Vouch("x"))
		if err := s.Verify(context.Background(), "x"); !errors.As(err, &d) {
			t.Errorf("Verify: %v", err)
		}
	})
}

// Errors that say nothing about the layer leave it where it is.
func TestVouchIsNoDamage(t *testing.T) {
	for _, err := range []error{unix.EMFILE, unix.ENOMEM, os.ErrPermission, context.Canceled} {
		if isDamage(fmt.Errorf("look: %w", err)) {
			t.Errorf("%v is taken for damage", err)
		}
	}
	for _, err := range []error{syscall.EIO, os.ErrNotExist, errSeal, errChanged} {
		if !isDamage(fmt.Errorf("look: %w", err)) {
			t.Errorf("%v is not taken for damage", err)
		}
	}
}

// BenchmarkVouch looks at a layer like Go's toolchain: 1,300 folders, 11,500 files.
func BenchmarkVouch(b *testing.B) {
	root := b.TempDir()
	s := New(root)
	for i := range 11_500 {
		file := filepath.Join(s.layerDir("go"), fmt.Sprintf("src/%d/%d/file%d.go", i%36, i%1296, i))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(strings.Repeat("x", i%5000)), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	sealed(b, s, "go")
	for b.Loop() {
		if _, err := New(root).compare(b.Context(), "go", false); err != nil {
			b.Fatal(err)
		}
	}
}
