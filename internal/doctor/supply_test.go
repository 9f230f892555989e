package doctor_test

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/skiff-build/skiff/internal/doctor"
)

func needing(level doctor.Level, kinds ...doctor.NeedKind) []*doctor.Binary {
	b := &doctor.Binary{Arch: "amd64"}
	for _, k := range kinds {
		b.Needs = append(b.Needs, doctor.Need{Kind: k, Level: level})
	}
	return []*doctor.Binary{b}
}

func TestSupplyIsTheSameEachTime(t *testing.T) {
	write := func() []byte {
		s, err := doctor.Complete(needing(doctor.Linked, doctor.NeedHome, doctor.NeedZones, doctor.NeedCA, doctor.NeedUsers, doctor.NeedTemp),
			doctor.SupplyOptions{User: "65532"})
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := s.WriteLayer(&b, time.Unix(0, 0)); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	layer := write()
	if !bytes.Equal(layer, write()) {
		t.Error("two layers of the same supply differ")
	}
	names := map[string]*tar.Header{}
	var last string
	for r := tar.NewReader(bytes.NewReader(layer)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSuffix(h.Name, "/") <= last {
			t.Errorf("%s comes after %s", h.Name, last)
		}
		last = strings.TrimSuffix(h.Name, "/")
		names[h.Name] = h
	}
	if h := names["tmp/"]; h == nil || h.Mode != 0o1777 {
		t.Errorf("/tmp: %+v", h)
	}
	if h := names["home/nonroot/"]; h == nil || h.Uid != 65532 || h.Gid != 65532 || h.Mode != 0o700 {
		t.Errorf("the home: %+v", h)
	}
	if len(names) < 500 {
		t.Errorf("%d files: not all time zones", len(names))
	}
}

func TestSupplyByLevel(t *testing.T) {
	for level, want := range map[doctor.Level]bool{doctor.None: false, doctor.Possible: false, doctor.Likely: true, doctor.Linked: true} {
		s, err := doctor.Complete(needing(level, doctor.NeedCA), doctor.SupplyOptions{})
		if err != nil || s.Empty() == want {
			t.Errorf("%s: %+v, %v", level, s, err)
		}
	}
	s, err := doctor.Complete(needing(doctor.Linked, doctor.NeedHome), doctor.SupplyOptions{})
	if err != nil || !s.Empty() {
		t.Errorf("the superuser makes its home: %+v, %v", s, err)
	}
}

// TestClosure takes the loader and the libraries of this machine's shell, where that is linked dynamically.
func TestClosure(t *testing.T) {
	sh, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Skip("there is no /bin/sh")
	}
	f, err := elf.Open(sh)
	if err != nil {
		t.Skip("/bin/sh is no ELF file")
	}
	defer f.Close()
	b := &doctor.Binary{Arch: map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64"}[f.Machine]}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			text, err := io.ReadAll(p.Open())
			if err != nil {
				t.Fatal(err)
			}
			b.Interp = strings.TrimRight(string(text), "\x00")
		}
	}
	if b.Libraries, err = f.ImportedLibraries(); err != nil || b.Interp == "" || b.Arch == "" {
		t.Skipf("/bin/sh names no loader: %v", err)
	}
	b.Needs = []doctor.Need{{Kind: doctor.NeedLoader, Level: doctor.Linked}}

	s, err := doctor.Complete([]*doctor.Binary{b}, doctor.SupplyOptions{Loaders: os.DirFS("/")})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append([]string{b.Interp}, b.Libraries...) {
		i := slices.IndexFunc(s.Files, func(f doctor.File) bool { return f.Path == name || filepath.Base(f.Path) == name })
		if i < 0 {
			t.Errorf("%s is not among %+v", name, s.Files)
			continue
		}
		r, err := s.Files[i].Open()
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, r); err != nil || n != s.Files[i].Size || s.Files[i].Mode&0o111 == 0 {
			t.Errorf("%s: %d bytes of %d, mode %o, %v", name, n, s.Files[i].Size, s.Files[i].Mode, err)
		}
		r.Close()
	}

	var missing *doctor.MissingLibraryError
	loader := fstest.MapFS{strings.TrimPrefix(b.Interp, "/"): &fstest.MapFile{Data: []byte("x"), Mode: 0o755}}
	if _, err := doctor.Closure(b, loader); len(b.Libraries) > 0 && (!errors.As(err, &missing) || missing.Name != b.Libraries[0]) {
		t.Errorf("a library that is nowhere: %v", err)
	}
	if _, err := doctor.Closure(b, fstest.MapFS{}); !errors.As(err, &missing) || missing.Name != b.Interp || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a loader that is nowhere: %v", err)
	}
	if _, err := doctor.Complete([]*doctor.Binary{b}, doctor.SupplyOptions{}); err == nil || !strings.Contains(err.Error(), "CGO_ENABLED=0") {
		t.Errorf("nowhere to take them from: %v", err)
	}
}
