package gotoolchain

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/flate"
	"golang.org/x/mod/sumdb/dirhash"
)

// Toolchain is one proved release: its files, by their names below GOROOT. The files are read where they
// lie, a zip or a tree, each time they are asked for.
type Toolchain struct {
	release, arch string
	want          string // h1 of the module that the checksum database has; empty: nothing to compare with
	sum           string // h1 of the machine's tree
	zip           string // path of the module's zip; empty: root is used
	root          string // the machine's GOROOT
	names         []string
	released      bool // its files are, or will be when they are all read, what the checksum database has

	mu     sync.Mutex
	proved func() // called once the files were found to have the checksum wanted; nil: they were
}

// isProved reports whether the files were found to have the checksum that they must have.
func (tc *Toolchain) isProved() bool {
	tc.mu.Lock()
	defer tc.mu.Unlock()
	return tc.proved == nil
}

// maxToolchain bounds the unpacked size in bytes: Go 1.19 and older, with compiled packages, need 450 MB.
const maxToolchain = 2 << 30

// treeToolchain takes the files of a GOROOT that the module would hold and computes the module's checksum
// from them.
func treeToolchain(release, arch, root string) (*Toolchain, error) {
	tc := &Toolchain{release: release, arch: arch, root: root}
	var err error
	if tc.names, err = moduleFiles(release, arch, root); err != nil {
		return nil, err
	}
	prefix := Module + "@" + ModuleVersion(release, arch) + "/"
	inZip := map[string]string{}
	var list []string
	for _, name := range tc.names {
		packed := prefix + name
		if path.Base(name) == "go.mod" {
			packed = prefix + path.Join(path.Dir(name), "_go.mod")
		}
		inZip[packed] = name
		list = append(list, packed)
	}
	tc.sum, err = dirhash.Hash1(list, func(packed string) (io.ReadCloser, error) {
		return tc.openInTree(inZip[packed])
	})
	return tc, err
}

// releasedGoEnv is go.env as all releases from 1.21 on have it. Installers change it (GOTOOLCHAIN=local in
// distributions and in images); it is no part of what a toolchain builds, and the checksum proves the rest.
const releasedGoEnv = `# This file contains the initial defaults for go command configuration.
# Values set by 'go env -w' and written to the user's go/env file override these.
# The environment overrides everything else.

# Use the Go module mirror and checksum database by default.
# See https://proxy.golang.org for details.
GOPROXY=https://proxy.golang.org,direct
GOSUMDB=sum.golang.org

# Automatically download newer toolchains as directed by go.mod files.
# See https://go.dev/doc/toolchain for details.
GOTOOLCHAIN=auto
`

func (tc *Toolchain) openInTree(name string) (io.ReadCloser, error) {
	if name == "go.env" {
		return io.NopCloser(strings.NewReader(releasedGoEnv)), nil
	}
	return os.Open(filepath.Join(tc.root, filepath.FromSlash(name)))
}

// moduleFiles lists the files that Go's own release tool puts into the module of a GOROOT
// (src/cmd/distpack/pack.go); a wrong guess gives another checksum, never a wrong toolchain.
func moduleFiles(release, arch, root string) ([]string, error) {
	var names []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		if d.IsDir() {
			switch name {
			case ".git", ".github", "api", "doc", "misc", "test":
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s: not a regular file", name)
		}
		if inModule(name, release, arch) {
			names = append(names, name)
		}
		return nil
	})
	return names, err
}

func inModule(name, release, arch string) bool {
	switch name {
	case ".gitattributes", ".gitignore", "VERSION.cache", "src/cmd/dist/dist":
		return false
	}
	if strings.HasPrefix(name, "bin/") {
		return name == "bin/go" || name == "bin/gofmt"
	}
	if !strings.HasPrefix(name, "pkg/") || strings.HasPrefix(name, "pkg/include/") {
		return true
	}
	tool, ok := strings.CutPrefix(name, "pkg/tool/linux_"+arch+"/")
	if !ok {
		return false
	}
	if !AtLeast(release, "1.25") {
		return true
	}
	return slices.Contains([]string{"asm", "cgo", "compile", "cover", "fix", "link", "preprofile", "vet"}, tool)
}

// each calls fn for all files by name, in sorted order.
func (tc *Toolchain) each(ctx context.Context, fn func(name string, size int64, open func() (io.ReadCloser, error)) error) error {
	if tc.zip == "" {
		return tc.eachInTree(ctx, fn)
	}
	z, err := zip.OpenReader(tc.zip)
	if err != nil {
		return fmt.Errorf("toolchain: %w", err)
	}
	defer z.Close()
	// A decompressor twice as fast as the standard library's.
	z.RegisterDecompressor(zip.Deflate, flate.NewReader)
	prefix := Module + "@" + ModuleVersion(tc.release, tc.arch) + "/"
	files := map[string]*zip.File{}
	var names []string
	for _, f := range z.File {
		name, ok := strings.CutPrefix(f.Name, prefix)
		if !ok || !fs.ValidPath(name) {
			return fmt.Errorf("toolchain: file %q outside of the module", f.Name)
		}
		// A go.mod inside a module's zip would make a module of its own of that folder, so it is renamed.
		if path.Base(name) == "_go.mod" {
			name = path.Join(path.Dir(name), "go.mod")
		}
		files[name] = f
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if err := ctx.Err(); err != nil {
			return err
		}
		f := files[name]
		if err := fn(name, int64(f.UncompressedSize64), f.Open); err != nil {
			return err
		}
	}
	return nil
}

func (tc *Toolchain) eachInTree(ctx context.Context, fn func(string, int64, func() (io.ReadCloser, error)) error) error {
	names := slices.Sorted(slices.Values(tc.names))
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		info, err := os.Stat(filepath.Join(tc.root, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		size := info.Size()
		if name == "go.env" {
			size = int64(len(releasedGoEnv))
		}
		if err := fn(name, size, func() (io.ReadCloser, error) { return tc.openInTree(name) }); err != nil {
			return err
		}
	}
	return nil
}

// ReadFile returns one file of the toolchain, of at most limit bytes.
func (tc *Toolchain) ReadFile(ctx context.Context, want string, limit int64) (data []byte, err error) {
	found := errors.New("found")
	err = tc.each(ctx, func(name string, _ int64, open func() (io.ReadCloser, error)) error {
		if name != want {
			return nil
		}
		r, err := open()
		if err != nil {
			return err
		}
		defer r.Close()
		if data, err = readLimited(r, name, limit); err != nil {
			return err
		}
		return found
	})
	switch {
	case errors.Is(err, found):
		return data, nil
	case err != nil:
		return nil, err
	}
	return nil, fmt.Errorf("toolchain go %s: %s: %w", tc.release, want, fs.ErrNotExist)
}

// execMode is the mode of a file in a release: the rule of Go's release tool, since the zips of modules
// keep no modes.
func execMode(name string) int64 {
	switch ext := path.Ext(name); {
	case strings.HasPrefix(name, "bin/"), strings.HasPrefix(name, "pkg/tool/"),
		ext == ".bash", ext == ".sh", ext == ".pl", ext == ".rc":
		return 0o755
	}
	if ok, _ := path.Match("go_?*_?*_exec", path.Base(name)); ok {
		return 0o755
	}
	return 0o644
}

// Files calls fn for each file by its name below GOROOT, in sorted order, with the mode that it has in a release. What was not proved
// before is proved on the way: a wrong checksum is an error at the end, and what fn made of the files is to be dropped. fn reads r to its
// end.
func (tc *Toolchain) Files(ctx context.Context, fn func(name string, mode, size int64, r io.Reader) error) error {
	proof := tc.newProof()
	var total int64
	err := tc.each(ctx, func(name string, size int64, open func() (io.ReadCloser, error)) error {
		if total += size; total > maxToolchain {
			return fmt.Errorf("toolchain: more than %d bytes", int64(maxToolchain))
		}
		r, err := open()
		if err != nil {
			return err
		}
		defer r.Close()
		return fn(name, execMode(name), size, proof.file(name, r))
	})
	if err != nil {
		return err
	}
	return proof.check()
}

// Prove reads all files where that was not done yet.
func (tc *Toolchain) Prove(ctx context.Context) error {
	if tc.isProved() {
		return nil
	}
	return tc.Files(ctx, func(_ string, _, _ int64, r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	})
}

// Released reports whether the files are, once they were read, proved to be what the checksum database has.
func (tc *Toolchain) Released() bool { return tc.released }
