package gocache

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/klauspost/compress/flate"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// download is where the go command keeps what it fetched (go.dev/ref/mod#module-cache).
const download = "cache/download"

// maxModule bounds the unpacked size of a module, in bytes, as the go command does (golang.org/x/mod/zip, MaxZipFile).
const maxModule = 500 << 20

// Modules takes what has the form of a module out of the module cache that a step wrote to over others (below), and moves it to
// to: a zip whose content has the checksum in the file beside it, go.mod and info of a version, and a folder that holds what the
// zip does. A script may have changed what it was given: whatever does not agree stays in from. It returns the modules of which it
// moved all files, so that they come from this step and no other.
//
// Of a step that ran the go command alone, which has read the zips itself, they are not read again, and answers of the checksum
// database are taken over, too; the go command proves those when it uses them.
func Modules(from, to string, below []string, goAlone bool) ([]Module, error) {
	m := moduleMover{from: from, to: to, below: below, goAlone: goAlone}
	versions, err := m.versions()
	if err != nil {
		return nil, fmt.Errorf("module cache: look through what a step wrote: %w", err)
	}
	var done []Module
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	limit := make(chan struct{}, runtime.GOMAXPROCS(0))
	for _, v := range versions {
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			mod, whole, err := m.move(v)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("module cache: %s@%s: %w", v.Path, v.Version, err))
			} else if whole {
				done = append(done, mod)
			}
		})
	}
	wg.Wait()
	if goAlone {
		errs = append(errs, m.moveTree(filepath.Join(download, "sumdb")))
	}
	slices.SortFunc(done, func(a, b Module) int { return strings.Compare(a.Path+"@"+a.Version, b.Path+"@"+b.Version) })
	return done, errors.Join(errs...)
}

type moduleMover struct {
	from, to string
	below    []string // topmost first
	goAlone  bool
}

// versions lists the modules of which a step wrote something.
func (m *moduleMover) versions() (list []module.Version, err error) {
	found := map[module.Version]bool{}
	add := func(escapedPath, escapedVersion string) {
		p, err := module.UnescapePath(filepath.ToSlash(escapedPath))
		if err != nil {
			return
		}
		v, err := module.UnescapeVersion(escapedVersion)
		if err == nil && semver.IsValid(v) && module.CanonicalVersion(v) == v && module.Check(p, v) == nil {
			found[module.Version{Path: p, Version: v}] = true
		}
	}
	root := filepath.Join(m.from, download)
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return ignoreMissing(err)
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		if d.IsDir() && rel == "sumdb" {
			return filepath.SkipDir
		}
		if dir, file := filepath.Split(rel); d.Type().IsRegular() && filepath.Base(dir) == "@v" {
			ext := filepath.Ext(file)
			if slices.Contains([]string{".zip", ".mod", ".info"}, ext) {
				add(filepath.Dir(filepath.Clean(dir)), strings.TrimSuffix(file, ext))
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	dirs, err := extracted(m.from)
	for _, name := range dirs {
		if p, v, ok := strings.Cut(name, "@"); ok {
			add(p, v)
		}
	}
	for v := range found {
		list = append(list, v)
	}
	return list, err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// move moves what a step wrote of one version. whole says that the zip and go.mod come from this step.
func (m *moduleMover) move(v module.Version) (mod Module, whole bool, err error) {
	mod = Module{Path: v.Path, Version: v.Version}
	name, folder, err := moduleFiles(v)
	if err != nil {
		return mod, false, err
	}
	if mod.ModSum, err = modSum(filepath.Join(m.from, name+".mod")); err != nil {
		mod.ModSum = ""
	}
	if mod.Info, err = m.moveFile(name + ".info"); err != nil {
		return mod, false, err
	}
	moved, err := m.moveFile(name + ".mod")
	if err != nil {
		return mod, false, err
	}
	whole = moved && mod.ModSum != ""
	known := false
	if mod.Sum, known = m.known(name + ".ziphash"); !known {
		if m.goAlone {
			mod.Sum, _ = (&moduleMover{below: []string{m.from}}).known(name + ".ziphash")
		} else if mod.Sum, err = m.checkZip(v, name+".zip", name+".ziphash"); err != nil {
			return mod, false, err
		}
		if mod.Sum == "" {
			return mod, false, nil
		}
		// The checksum comes last: without it the go command does not take the zip for whole.
		for _, ext := range []string{".zip", ".ziphash"} {
			moved, err := m.moveFile(name + ext)
			if err != nil {
				return mod, false, err
			}
			whole = whole && moved
		}
	}
	return mod, whole && !known, m.moveFolder(v, folder, mod.Sum)
}

// moduleFiles are where a module cache has the files of a version, without what tells them apart, and what is unpacked.
func moduleFiles(v module.Version) (name, folder string, err error) {
	escaped, err := module.EscapePath(v.Path)
	if err != nil {
		return "", "", err
	}
	version, err := module.EscapeVersion(v.Version)
	return filepath.Join(download, escaped, "@v", version), escaped + "@" + version, err
}

// modSum is the checksum of a go.mod file (cmd/go/internal/modfetch, goModSum).
func modSum(name string) (string, error) {
	f, err := openRegular(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := newTreeHash()
	budget := int64(maxModule)
	if err := h.add("go.mod", f, &budget); err != nil {
		return "", err
	}
	return h.sum(), nil
}

// ShareModules lets another cache have modules of one, by links: the zips, whose content has the checksums that mods say, what lies
// beside them, and what was unpacked from them. Nobody may be meant to write either cache in place.
func ShareModules(ctx context.Context, from, to string, mods []Module) error {
	m := moduleMover{from: from, to: to}
	for _, mod := range mods {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := m.share(mod); err != nil {
			return fmt.Errorf("share module %s@%s: %w", mod.Path, mod.Version, err)
		}
	}
	return nil
}

func (m *moduleMover) share(mod Module) error {
	v := module.Version{Path: mod.Path, Version: mod.Version}
	name, folder, err := moduleFiles(v)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(m.to, name+".ziphash")); err == nil {
		return nil // another project was first
	}
	if sum, err := m.checkZip(v, name+".zip", name+".ziphash"); err != nil || sum != mod.Sum {
		return err
	}
	if sum, err := modSum(filepath.Join(m.from, name+".mod")); err != nil || sum != mod.ModSum {
		return ignoreMissing(err)
	}
	if err := m.linkFolder(v, folder, mod.Sum); err != nil {
		return err
	}
	// The checksum comes last: without it the go command does not take the zip for whole.
	for _, ext := range []string{".mod", ".info", ".zip", ".ziphash"} {
		if ext == ".info" && !mod.Info {
			continue // there is none, or it is of another step
		}
		to := filepath.Join(m.to, name+ext)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.Link(filepath.Join(m.from, name+ext), to); err != nil && !errors.Is(err, fs.ErrExist) {
			return ignoreMissing(err)
		}
	}
	return nil
}

// linkFolder makes a folder appear whole, by links to the files of the one that a module was unpacked to, if it has the checksum.
func (m *moduleMover) linkFolder(v module.Version, name, sum string) error {
	dir, to := filepath.Join(m.from, name), filepath.Join(m.to, name)
	if _, err := os.Lstat(to); err == nil || !m.isModule(v, dir, sum) {
		return nil
	}
	tmp, err := os.MkdirTemp(m.to, ".skiff-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	part := filepath.Join(tmp, "m")
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Mkdir(filepath.Join(part, rel), 0o755)
		}
		return os.Link(p, filepath.Join(part, rel))
	})
	if err != nil {
		return err
	}
	return placeFolder(part, to)
}

// placeFolder renames a folder to where there is none.
func placeFolder(dir, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	err := os.Rename(dir, to)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTEMPTY) {
		return nil // another step was first
	}
	return err
}

// known is the checksum that a cache below has, which is not written again.
func (m *moduleMover) known(name string) (sum string, ok bool) {
	for _, dir := range m.below {
		if data, err := readRegular(filepath.Join(dir, name), 1<<10); err == nil {
			return strings.TrimSpace(string(data)), true
		}
	}
	return "", false
}

// checkZip returns the checksum of a zip if it is what the file beside it says.
func (m *moduleMover) checkZip(v module.Version, name, hashName string) (string, error) {
	want, err := readRegular(filepath.Join(m.from, hashName), 1<<10)
	if err != nil {
		return "", nil
	}
	f, err := openRegular(filepath.Join(m.from, name))
	if err != nil {
		return "", nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() > maxModule {
		return "", err
	}
	z, err := zip.NewReader(f, info.Size())
	if err != nil {
		return "", nil
	}
	z.RegisterDecompressor(zip.Deflate, flate.NewReader) // twice as fast as the standard library's
	h := newTreeHash()
	budget := int64(maxModule)
	for _, e := range z.File {
		if strings.HasSuffix(e.Name, "/") || !strings.HasPrefix(e.Name, v.Path+"@"+v.Version+"/") {
			return "", nil
		}
		r, err := e.Open()
		if err != nil {
			return "", nil
		}
		err = h.add(e.Name, r, &budget)
		r.Close()
		if err != nil {
			return "", nil
		}
	}
	if sum := h.sum(); sum == strings.TrimSpace(string(want)) {
		return sum, nil
	}
	return "", nil
}

// moveFolder moves what was unpacked, if it is what the checksum says.
func (m *moduleMover) moveFolder(v module.Version, name, sum string) error {
	dir, to := filepath.Join(m.from, name), filepath.Join(m.to, name)
	if _, err := os.Lstat(to); err == nil || !m.isModule(v, dir, sum) {
		return nil
	}
	err := placeFolder(dir, to)
	if errors.Is(err, syscall.EXDEV) {
		err = m.copyFolder(dir, to)
	}
	return err
}

// isModule says whether a folder holds the files of a module that have the checksum, and nothing else.
func (m *moduleMover) isModule(v module.Version, dir, sum string) bool {
	h := newTreeHash()
	budget := int64(maxModule)
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := openRegular(p)
		if err != nil {
			return err
		}
		defer f.Close()
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		return h.add(v.Path+"@"+v.Version+"/"+filepath.ToSlash(rel), f, &budget)
	})
	return err == nil && h.sum() == sum
}

// copyFolder makes the folder appear whole.
func (m *moduleMover) copyFolder(dir, to string) error {
	tmp, err := os.MkdirTemp(m.to, ".skiff-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	part := filepath.Join(tmp, "m")
	if err := os.CopyFS(part, os.DirFS(dir)); err != nil {
		return err
	}
	return placeFolder(part, to)
}

// moveFile moves a regular file that no cache below has.
func (m *moduleMover) moveFile(name string) (moved bool, err error) {
	for _, dir := range append([]string{m.to}, m.below...) {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return false, nil
		}
	}
	from := filepath.Join(m.from, name)
	f, err := openRegular(from)
	if err != nil {
		return false, nil // none, or no file
	}
	defer f.Close()
	to := filepath.Join(m.to, name)
	err = renameInto(from, to, 0o644)
	if errors.Is(err, syscall.EXDEV) {
		err = Dir(m.to).place(to, func(w io.Writer) error {
			_, err := io.Copy(w, f)
			return err
		})
	}
	return err == nil, err
}

// moveTree moves the regular files below a folder.
func (m *moduleMover) moveTree(name string) error {
	root := filepath.Join(m.from, name)
	return filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return ignoreMissing(err)
		}
		rel, err := filepath.Rel(m.from, p)
		if err != nil {
			return err
		}
		_, err = m.moveFile(rel)
		return err
	})
}

// treeHash computes the h1 checksum of a module's files (golang.org/x/mod/sumdb/dirhash, Hash1).
type treeHash struct{ lines []string }

func newTreeHash() *treeHash { return &treeHash{} }

var errTooLarge = errors.New("larger than a module may be")

// add reads a file; what all files together have is bounded by budget.
func (h *treeHash) add(name string, r io.Reader, budget *int64) error {
	if strings.Contains(name, "\n") {
		return errors.New("a file name with a newline")
	}
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(r, *budget+1))
	if *budget -= n; err == nil && *budget < 0 {
		err = errTooLarge
	}
	h.lines = append(h.lines, name+"\x00"+fmt.Sprintf("%x", sum.Sum(nil)))
	return err
}

func (h *treeHash) sum() string {
	slices.Sort(h.lines) // by name: no name has a byte below the separator
	all := sha256.New()
	for _, l := range h.lines {
		name, sum, _ := strings.Cut(l, "\x00")
		fmt.Fprintf(all, "%s  %s\n", sum, name)
	}
	return "h1:" + base64.StdEncoding.EncodeToString(all.Sum(nil))
}
