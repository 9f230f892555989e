package gocache

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	modzip "golang.org/x/mod/zip"
)

// TestModules: a module of a step's cache is taken if its parts agree, and only with names that the go command gives.
func TestModules(t *testing.T) {
	v := module.Version{Path: "example.com/Mod/v2", Version: "v2.1.0"}
	const base, folder = "cache/download/example.com/!mod/v2/@v/v2.1.0", "example.com/!mod/v2@v2.1.0"
	// fetch lays a module out as the go command does.
	fetch := func(t *testing.T, cache string) {
		src := t.TempDir()
		write(t, filepath.Join(src, "go.mod"), "module example.com/Mod/v2\n")
		must(t, os.Mkdir(filepath.Join(src, "sub"), 0o755))
		write(t, filepath.Join(src, "sub", "a.go"), "package sub\n")
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(cache, base)), 0o755))
		name := filepath.Join(cache, base+".zip")
		f, err := os.Create(name)
		must(t, err)
		must(t, modzip.CreateFromDir(f, v, src))
		must(t, f.Close())
		must(t, modzip.Unzip(filepath.Join(cache, folder), v, name))
		sum, err := dirhash.HashZip(name, dirhash.Hash1)
		must(t, err)
		write(t, filepath.Join(cache, base+".ziphash"), sum)
		write(t, filepath.Join(cache, base+".mod"), "module example.com/Mod/v2\n")
		write(t, filepath.Join(cache, base+".info"), `{"Version":"v2.1.0"}`)
	}
	for _, c := range []struct {
		name   string
		spoil  func(t *testing.T, cache string)
		module bool // is counted as whole
		folder bool // is taken over
	}{
		{"whole", func(*testing.T, string) {}, true, true},
		{"a changed source", func(t *testing.T, cache string) {
			must(t, os.Remove(filepath.Join(cache, folder, "sub", "a.go"))) // it is read-only
			write(t, filepath.Join(cache, folder, "sub", "a.go"), "package evil\n")
		}, true, false},
		{"one more source", func(t *testing.T, cache string) {
			write(t, filepath.Join(cache, folder, "sub", "b.go"), "package sub\n")
		}, true, false},
		{"a link for a source", func(t *testing.T, cache string) {
			must(t, os.Remove(filepath.Join(cache, folder, "sub", "a.go")))
			must(t, os.Symlink("/etc/passwd", filepath.Join(cache, folder, "sub", "a.go")))
		}, true, false},
		{"another checksum", func(t *testing.T, cache string) {
			write(t, filepath.Join(cache, base+".ziphash"), "h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")
		}, false, false},
		{"no checksum", func(t *testing.T, cache string) { must(t, os.Remove(filepath.Join(cache, base+".ziphash"))) }, false, false},
		{"no zip", func(t *testing.T, cache string) { write(t, filepath.Join(cache, base+".zip"), "PK") }, false, false},
		{"no go.mod beside the zip", func(t *testing.T, cache string) { must(t, os.Remove(filepath.Join(cache, base+".mod"))) }, false, true},
		{"not unpacked", func(t *testing.T, cache string) { must(t, os.RemoveAll(filepath.Join(cache, folder))) }, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			step, own, below := t.TempDir(), t.TempDir(), t.TempDir()
			fetch(t, step)
			must(t, os.Chmod(filepath.Join(step, folder), 0o755))
			must(t, os.Chmod(filepath.Join(step, folder, "sub"), 0o755))
			c.spoil(t, step)
			write(t, filepath.Join(step, "PWNED"), "")
			write(t, filepath.Join(step, base+".sh"), "")
			mods, err := Modules(step, own, []string{own, below}, false)
			must(t, err)
			if got := slices.ContainsFunc(mods, func(m Module) bool { return m.Path == v.Path && m.Version == v.Version }); got != c.module {
				t.Errorf("taken for whole: %v, want %v", got, c.module)
			}
			_, err = os.Stat(filepath.Join(own, folder, "go.mod"))
			if got := err == nil; got != c.folder {
				t.Errorf("folder taken: %v, want %v", got, c.folder)
			}
			_, err = os.Stat(filepath.Join(own, base+".zip"))
			if got := err == nil; got != (c.module || c.folder) {
				t.Errorf("zip taken: %v, want %v", got, c.module)
			}
			for _, name := range []string{"PWNED", base + ".sh"} {
				if _, err := os.Lstat(filepath.Join(own, name)); err == nil {
					t.Errorf("%s was taken", name)
				}
			}
			if c.module {
				if mods[0].ModSum == "" || mods[0].Sum == "" {
					t.Errorf("%+v: checksums are missing", mods[0])
				}
				shared := t.TempDir()
				must(t, ShareModules(t.Context(), own, shared, mods))
				if _, err := os.Stat(filepath.Join(shared, base+".ziphash")); err != nil {
					t.Error(err)
				}
				_, err = os.Stat(filepath.Join(shared, folder, "go.mod"))
				if (err == nil) != c.folder {
					t.Errorf("folder shared: %v, want %v", err == nil, c.folder)
				}
				wrong := t.TempDir()
				mods[0].Sum = "h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
				must(t, ShareModules(t.Context(), own, wrong, mods))
				if entries, err := os.ReadDir(wrong); err != nil || len(entries) > 0 {
					t.Errorf("shared with another checksum than it has: %v, %v", entries, err)
				}
			}
			// A second step that unpacks only what the first has fetched.
			second := t.TempDir()
			fetch(t, second)
			must(t, os.RemoveAll(filepath.Join(second, "cache")))
			_, err = Modules(second, own, []string{own, below}, false)
			must(t, err)
			if _, err = os.Stat(filepath.Join(own, folder, "go.mod")); c.module && err != nil {
				t.Errorf("the folder of a second step: %v", err)
			}
		})
	}
}

// TestShareReplaced: what came to be at the place of what was proved is not shared in its stead.
func TestShareReplaced(t *testing.T) {
	v := module.Version{Path: "example.com/a", Version: "v1.0.0"}
	const base, folder = "cache/download/example.com/a/@v/v1.0.0", "example.com/a@v1.0.0"
	step, own := t.TempDir(), t.TempDir()
	layOut(t, step, v, "package a\n")
	mods, err := Modules(step, own, []string{own}, true)
	must(t, err)
	if len(mods) != 1 || mods[0].Zip == "" || mods[0].Folder == "" {
		t.Fatalf("%+v: one module, with stamps, is expected", mods)
	}
	other := t.TempDir()
	layOut(t, other, v, "package b\n")
	for _, name := range []string{base + ".zip", folder} {
		must(t, os.RemoveAll(filepath.Join(own, name)))
		must(t, os.Rename(filepath.Join(other, name), filepath.Join(own, name)))
		shared := t.TempDir()
		must(t, ShareModules(t.Context(), own, shared, mods))
		if _, err := os.Lstat(filepath.Join(shared, name)); err == nil {
			t.Errorf("%s: another one than the proved one is shared", name)
		}
		layOut(t, other, v, "package b\n")
		must(t, os.RemoveAll(filepath.Join(own, name)))
		again := t.TempDir()
		layOut(t, again, v, "package a\n")
		must(t, os.Rename(filepath.Join(again, name), filepath.Join(own, name)))
		shared = t.TempDir()
		must(t, ShareModules(t.Context(), own, shared, mods))
		if _, err := os.Lstat(filepath.Join(shared, name)); err != nil {
			t.Errorf("%s: the same content, found by its checksum, is not shared: %v", name, err)
		}
	}
}

// TestMovePromotedOnce: of two steps that wrote one version, the later replaces nothing, and does not count as where it came from.
func TestMovePromotedOnce(t *testing.T) {
	v := module.Version{Path: "example.com/a", Version: "v1.0.0"}
	own := t.TempDir()
	for i, text := range []string{"package a\n", "package b\n"} {
		step := t.TempDir()
		layOut(t, step, v, text)
		mods, err := Modules(step, own, nil, true) // as if both had begun before either ended
		must(t, err)
		if want := 1 - i; len(mods) != want {
			t.Errorf("step %d: %d modules, want %d", i, len(mods), want)
		}
	}
	got, err := os.ReadFile(filepath.Join(own, "example.com/a@v1.0.0/a.go"))
	must(t, err)
	if string(got) != "package a\n" {
		t.Errorf("the first step's folder has become %q", got)
	}
}

// TestZipBesideItsChecksum: wherever a process was killed that put a zip and its checksum into a cache, whoever comes next makes them
// agree, or leaves none that the go command would believe.
func TestZipBesideItsChecksum(t *testing.T) {
	v := module.Version{Path: "example.com/a", Version: "v1.0.0"}
	const base = "cache/download/example.com/a/@v/v1.0.0"
	for _, left := range []struct {
		name string
		exts []string
	}{
		{"nothing", nil},
		{"a zip alone", []string{".zip"}},
		{"a checksum alone", []string{".ziphash"}},
		{"go.mod and a zip", []string{".mod", ".zip"}},
		{"all", []string{".mod", ".info", ".zip", ".ziphash"}},
	} {
		for _, text := range []string{"package a\n", "package b\n"} { // the left one is of package a
			debris := func() string {
				old, cache := t.TempDir(), t.TempDir()
				layOut(t, old, v, "package a\n")
				for _, ext := range left.exts {
					must(t, os.MkdirAll(filepath.Dir(filepath.Join(cache, base)), 0o755))
					must(t, os.Rename(filepath.Join(old, base+ext), filepath.Join(cache, base+ext)))
				}
				return cache
			}
			check := func(what, cache string) {
				t.Helper()
				hash, err := os.ReadFile(filepath.Join(cache, base+".ziphash"))
				sum, zipErr := dirhash.HashZip(filepath.Join(cache, base+".zip"), dirhash.Hash1)
				if err == nil && zipErr == nil && string(hash) != sum {
					t.Errorf("%s was left, %q came, %s: the zip has another checksum than the file beside it", left.name, text, what)
				}
				// Only a checksum alone of another zip keeps this one out.
				if other := len(left.exts) == 1 && left.exts[0] == ".ziphash" && text != "package a\n"; !other && (err != nil || zipErr != nil) {
					t.Errorf("%s was left, %q came, %s: %v, %v", left.name, text, what, err, zipErr)
				}
			}
			step, own := t.TempDir(), debris()
			layOut(t, step, v, text)
			_, err := Modules(step, own, []string{own}, true)
			must(t, err)
			check("moved", own)

			step, own = t.TempDir(), t.TempDir()
			layOut(t, step, v, text)
			mods, err := Modules(step, own, []string{own}, true)
			must(t, err)
			shared := debris()
			must(t, ShareModules(t.Context(), own, shared, mods))
			check("shared", shared)
		}
	}
}

// layOut lays out a module in a cache as the go command does.
func layOut(t *testing.T, cache string, v module.Version, text string) {
	t.Helper()
	base := filepath.Join(cache, "cache/download", v.Path, "@v", v.Version)
	src := t.TempDir()
	write(t, filepath.Join(src, "go.mod"), "module "+v.Path+"\n")
	write(t, filepath.Join(src, "a.go"), text)
	must(t, os.MkdirAll(filepath.Dir(base), 0o755))
	f, err := os.Create(base + ".zip")
	must(t, err)
	must(t, modzip.CreateFromDir(f, v, src))
	must(t, f.Close())
	folder := filepath.Join(cache, v.Path+"@"+v.Version)
	must(t, os.RemoveAll(folder))
	must(t, modzip.Unzip(folder, v, base+".zip"))
	must(t, filepath.WalkDir(folder, func(p string, d fs.DirEntry, err error) error { // so that the test can clean up
		if err == nil && d.IsDir() {
			err = os.Chmod(p, 0o755)
		}
		return err
	}))
	sum, err := dirhash.HashZip(base+".zip", dirhash.Hash1)
	must(t, err)
	write(t, base+".ziphash", sum)
	write(t, base+".mod", "module "+v.Path+"\n")
	write(t, base+".info", `{"Version":"`+v.Version+`"}`)
}
