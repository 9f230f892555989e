package gocache

import (
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

	"archive/zip"

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
// moved all files, so that they come from this step and no other. sumdb takes over answers of the checksum database, too, which the go command proves when it uses them.
func Modules(from, to string, below []string, sumdb bool) ([]Module, error) {
	m := moduleMover{from: from, to: to, below: below}
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
	if sumdb {
		errs = append(errs, m.moveTree(filepath.Join(download, "sumdb")))
	}
	slices.SortFunc(done, func(a, b Module) int { return strings.Compare(a.Path+"@"+a.Version, b.Path+"@"+b.Version) })
	return done, errors.Join(errs...)
}

type moduleMover struct {
	from, to string
	below    []string // topmost first
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

// move moves what a step wrote of one version. whole says that the zip, go.mod and info all come from this step.
func (m *moduleMover) move(v module.Version) (mod Module, whole bool, err error) {
	mod = Module{Path: v.Path, Version: v.Version}
	name, folder, err := moduleFiles(v)
	if err != nil {
		return mod, false, err
	}
	if mod.ModSum, err = modSum(filepath.Join(m.from, name+".mod")); err != nil {
		mod.ModSum = ""
	}
	whole = mod.ModSum != ""
	for _, ext := range []string{".mod", ".info"} {
		moved, err := m.moveFile(name + ext)
		if err != nil {
			return mod, false, err
		}
		whole = whole && moved
	}
	known := false
	if mod.Sum, known = m.known(name + ".ziphash"); !known {
		if mod.Sum, err = m.checkZip(v, name+".zip", name+".ziphash"); err != nil || mod.Sum == "" {
			return mod, false, err
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

// ShareModules moves modules from one cache to another, which has none of them in part: the files that came together, and what
// was unpacked from them.
func ShareModules(from, to string, mods []Module) error {
	m := moduleMover{from: from, to: to}
	for _, mod := range mods {
		name, folder, err := moduleFiles(module.Version{Path: mod.Path, Version: mod.Version})
		if err != nil {
			return fmt.Errorf("share module %s: %w", mod.Path, err)
		}
		// Another process may have been here first, and the checksum beside the zip comes last.
		if sum, there := (&moduleMover{below: []string{to}}).known(name + ".ziphash"); there && sum != mod.Sum {
			continue
		}
		if err := m.moveUnpacked(folder); err != nil {
			return fmt.Errorf("share module %s: %w", mod.Path, err)
		}
		for _, ext := range []string{".mod", ".info", ".zip", ".ziphash"} {
			if _, err := m.moveFile(name + ext); err != nil {
				return fmt.Errorf("share module %s: %w", mod.Path, err)
			}
		}
	}
	return nil
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
	dir := filepath.Join(m.from, name)
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
	if err != nil || h.sum() != sum {
		return nil // none was unpacked, or something else stands there
	}
	return m.moveUnpacked(name)
}

// moveUnpacked moves a folder, if there is one, to where there is none.
func (m *moduleMover) moveUnpacked(name string) error {
	dir, to := filepath.Join(m.from, name), filepath.Join(m.to, name)
	if info, err := os.Lstat(dir); err != nil || !info.IsDir() {
		return ignoreMissing(err)
	}
	if _, err := os.Lstat(to); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	err := os.Rename(dir, to)
	if errors.Is(err, syscall.EXDEV) {
		err = m.copyFolder(dir, to)
	}
	if errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTEMPTY) {
		return nil // another step was first
	}
	return err
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
	return os.Rename(part, to)
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
