package gocache

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
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
	"golang.org/x/sys/unix"
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
// Of a step that ran the go command alone, answers of the checksum database are taken over, too; the go command proves those when it
// uses them.
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
	sum, known := m.known(name)
	found := zipped{sum: sum}
	if !known {
		if found, err = m.checkZip(v, name, folder); err != nil || found.sum == "" {
			return mod, false, err
		}
		moved, err := m.moveZip(name, found.sum)
		if err != nil {
			return mod, false, err
		}
		whole = whole && moved
	}
	mod.Sum = found.sum
	if known && m.isModule(v, filepath.Join(m.from, folder), mod.Sum) || !known && found.folder {
		unpacked, err := m.moveFolder(folder)
		if err != nil {
			return mod, false, err
		}
		if unpacked {
			mod.Folder = stampOf(filepath.Join(m.to, folder))
		}
	}
	mod.Zip = stampOf(filepath.Join(m.to, name+".zip"))
	return mod, whole && !known, nil
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
	f, err := openPlain(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := newTreeHash(maxModule)
	if err := h.add("go.mod", f); err != nil {
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
	if _, there := knownAt(m.to, name); there {
		return nil // another project was first
	}
	if sum, _ := knownAt(m.from, name); sum != mod.Sum {
		return nil
	}
	if !mod.Zip.stands(filepath.Join(m.from, name+".zip")) {
		if found, err := m.checkZip(v, name, folder); err != nil || found.sum != mod.Sum {
			return err
		}
	}
	if sum, err := modSum(filepath.Join(m.from, name+".mod")); err != nil || sum != mod.ModSum {
		return ignoreMissing(err)
	}
	if err := m.linkFolder(v, folder, mod); err != nil {
		return err
	}
	link := func(ext string) (bool, error) {
		to := filepath.Join(m.to, name+ext)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return false, err
		}
		if err := os.Link(filepath.Join(m.from, name+ext), to); err != nil && !errors.Is(err, fs.ErrExist) {
			return false, err
		}
		return true, nil
	}
	for _, ext := range []string{".mod", ".info"} {
		if ext == ".info" && !mod.Info {
			continue // there is none, or it is of another step
		}
		if _, err := link(ext); err != nil {
			return ignoreMissing(err)
		}
	}
	_, err = m.placeZip(name, mod.Sum, link)
	return ignoreMissing(err)
}

// placeZip puts a zip and its checksum, sum, to where neither is yet, by place, which replaces nothing. The go command believes the
// checksum beside a zip without looking, so that they must never come from two steps, whoever else places at the same time and
// wherever all of them are killed. Hence the checksum comes first: one alone means nothing to the go command, which writes them in
// this order, too (cmd/go/internal/modfetch, downloadZip). Whose it is has decided what the zip may be; and a zip that was left
// without one is nobody's.
func (m *moduleMover) placeZip(name, sum string, place func(ext string) (bool, error)) (placed bool, err error) {
	to := filepath.Join(m.to, name)
	if _, err := os.Lstat(to + ".ziphash"); errors.Is(err, fs.ErrNotExist) {
		if err := os.Remove(to + ".zip"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	if _, err := place(".ziphash"); err != nil {
		return false, err
	}
	if there, err := readRegular(to+".ziphash", 1<<10); err != nil || strings.TrimSpace(string(there)) != sum {
		return false, ignoreMissing(err)
	}
	return place(".zip")
}

// moveZip moves a zip that has the checksum sum, and the file that says so.
func (m *moduleMover) moveZip(name, sum string) (moved bool, err error) {
	return m.placeZip(name, sum, func(ext string) (bool, error) { return m.placeFile(name + ext) })
}

// linkFolder makes a folder appear whole, by links to the files of the one that a module was unpacked to, if it has the checksum.
func (m *moduleMover) linkFolder(v module.Version, name string, mod Module) error {
	dir, to := filepath.Join(m.from, name), filepath.Join(m.to, name)
	if _, err := os.Lstat(to); err == nil || !mod.Folder.stands(dir) && !m.isModule(v, dir, mod.Sum) {
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
	_, err = placeFolder(part, to)
	return err
}

// placeFolder renames a folder to where there is none; moved: no other step was first.
func placeFolder(dir, to string) (moved bool, err error) {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return false, err
	}
	return renameNew(dir, to)
}

// renameNew renames to where there is nothing yet.
func renameNew(from, to string) (moved bool, err error) {
	switch err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE); {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.EEXIST), errors.Is(err, unix.ENOTEMPTY):
		return false, nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS): // the file system, or the kernel, does not know this
		if _, err := os.Lstat(to); err == nil {
			return false, nil
		}
		if err := os.Rename(from, to); err != nil {
			return false, err
		}
		return true, nil
	default:
		return false, &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
}

// known is the checksum of a zip that a cache below has, which is not written again.
func (m *moduleMover) known(name string) (sum string, ok bool) {
	for _, dir := range m.below {
		if sum, ok := knownAt(dir, name); ok {
			return sum, true
		}
	}
	return "", false
}

func knownAt(dir, name string) (sum string, ok bool) {
	data, err := readRegular(filepath.Join(dir, name+".ziphash"), 1<<10)
	if err == nil {
		_, err = os.Lstat(filepath.Join(dir, name+".zip"))
	}
	return strings.TrimSpace(string(data)), err == nil
}

// zipped is what a module's zip was found to be.
type zipped struct {
	sum    string // the checksum of its files, which is the one in the file beside it; "": it is not, or there is none
	folder bool   // the folder that it was unpacked to holds the same files, and no others
}

// checkZip reads a zip once, and beside it what was unpacked from it.
func (m *moduleMover) checkZip(v module.Version, name, folder string) (zipped, error) {
	want, err := readRegular(filepath.Join(m.from, name+".ziphash"), 1<<10)
	if err != nil {
		return zipped{}, nil
	}
	f, err := openRegular(filepath.Join(m.from, name+".zip"))
	if err != nil {
		return zipped{}, nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() > maxModule {
		return zipped{}, err
	}
	z, err := zip.NewReader(f, info.Size())
	if err != nil {
		return zipped{}, nil
	}
	z.RegisterDecompressor(zip.Deflate, inflate)
	dir := filepath.Join(m.from, folder)
	unpacked := regularFiles(dir)
	same := unpacked != nil
	h := newTreeHash(maxModule)
	for _, e := range z.File {
		rel, ok := strings.CutPrefix(e.Name, v.Path+"@"+v.Version+"/")
		if !ok || strings.HasSuffix(e.Name, "/") {
			return zipped{}, nil
		}
		r, err := e.Open()
		if err != nil {
			return zipped{}, nil
		}
		var twin *plainFile
		if same = same && unpacked[rel]; same { // else nothing is left to find out
			delete(unpacked, rel)
			if twin, err = openPlain(filepath.Join(dir, filepath.FromSlash(rel))); err != nil {
				same = false
			}
		}
		equal, err := h.addEqual(e.Name, r, twin)
		same = same && equal
		r.Close()
		if twin != nil {
			twin.Close()
		}
		if err != nil {
			return zipped{}, nil
		}
	}
	if sum := h.sum(); sum == strings.TrimSpace(string(want)) {
		return zipped{sum, same && len(unpacked) == 0}, nil
	}
	return zipped{}, nil
}

// regularFiles are the files below a folder, by names with slashes; nil: there is no such folder, or something else in it.
func regularFiles(dir string) map[string]bool {
	files := map[string]bool{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if !d.Type().IsRegular() {
			return fs.ErrInvalid
		}
		files[filepath.ToSlash(p[len(dir)+1:])] = true
		return nil
	})
	if err != nil {
		return nil
	}
	return files
}

// inflate is a decompressor for package zip, twice as fast as that of the standard library.
func inflate(r io.Reader) io.ReadCloser {
	p := inflaters.Get().(*inflater)
	p.in.Reset(r)
	_ = p.out.(flate.Resetter).Reset(p.in, nil) // without a dictionary it cannot fail
	return p
}

type inflater struct {
	in  *bufio.Reader
	out io.ReadCloser
}

func (p *inflater) Read(b []byte) (int, error) { return p.out.Read(b) }

func (p *inflater) Close() error {
	p.in.Reset(nil)
	inflaters.Put(p)
	return nil
}

var inflaters = sync.Pool{New: func() any {
	in := bufio.NewReaderSize(nil, 64<<10)
	return &inflater{in, flate.NewReader(in)}
}}

// moveFolder moves what was unpacked to where there is nothing.
func (m *moduleMover) moveFolder(name string) (moved bool, err error) {
	dir, to := filepath.Join(m.from, name), filepath.Join(m.to, name)
	if _, err := os.Lstat(to); err == nil {
		return false, nil
	}
	moved, err = placeFolder(dir, to)
	if errors.Is(err, syscall.EXDEV) {
		moved, err = m.copyFolder(dir, to)
	}
	return moved, err
}

// isModule says whether a folder holds the files of a module that have the checksum, and nothing else.
func (m *moduleMover) isModule(v module.Version, dir, sum string) bool {
	h := newTreeHash(maxModule)
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := openPlain(p)
		if err != nil {
			return err
		}
		defer f.Close()
		return h.add(v.Path+"@"+v.Version+"/"+filepath.ToSlash(p[len(dir)+1:]), f)
	})
	return err == nil && h.sum() == sum
}

// copyFolder makes the folder appear whole.
func (m *moduleMover) copyFolder(dir, to string) (moved bool, err error) {
	tmp, err := os.MkdirTemp(m.to, ".skiff-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(tmp)
	part := filepath.Join(tmp, "m")
	if err := os.CopyFS(part, os.DirFS(dir)); err != nil {
		return false, err
	}
	return placeFolder(part, to)
}

// moveFile moves a regular file that no cache below has.
func (m *moduleMover) moveFile(name string) (moved bool, err error) {
	for _, dir := range m.below {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return false, nil
		}
	}
	return m.placeFile(name)
}

// placeFile moves a regular file to where there is none.
func (m *moduleMover) placeFile(name string) (moved bool, err error) {
	to := filepath.Join(m.to, name)
	if _, err := os.Lstat(to); err == nil {
		return false, nil
	}
	from := filepath.Join(m.from, name)
	f, err := openRegular(from)
	if err != nil {
		return false, nil // none, or no file
	}
	defer f.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return false, err
	}
	if err := f.Chmod(0o644); err != nil {
		return false, err
	}
	moved, err = renameNew(from, to)
	if errors.Is(err, syscall.EXDEV) {
		moved, err = m.copyFile(f, to)
	}
	return moved, err
}

func (m *moduleMover) copyFile(f *os.File, to string) (moved bool, err error) {
	tmp, err := os.MkdirTemp(m.to, ".skiff-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(tmp)
	part := filepath.Join(tmp, "f")
	if err := Dir(tmp).place(part, func(w io.Writer) error {
		_, err := io.Copy(w, f)
		return err
	}); err != nil {
		return false, err
	}
	return renameNew(part, to)
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

// stampOf tells a file or folder that nobody writes in place from another at the same name; "" where it cannot be told.
func stampOf(name string) Stamp {
	var st unix.Stat_t
	if unix.Lstat(name, &st) != nil {
		return ""
	}
	return Stamp(fmt.Sprint(st.Dev, st.Ino, st.Size, st.Mtim.Nano()))
}

func (s Stamp) stands(name string) bool { return s != "" && s == stampOf(name) }

// plainFile is a regular file that is read from its begin to its end. Package os has the kernel asked for more, which counts
// where there are many files.
type plainFile struct{ fd int }

// openPlain opens a regular file, following no link and waiting for no other end of a pipe.
func openPlain(name string) (*plainFile, error) {
	fd, err := ignoringEINTR(func() (int, error) {
		return unix.Open(name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.Join(err, errors.New("not a regular file"))}
	}
	return &plainFile{fd}, nil
}

func (f *plainFile) Read(b []byte) (int, error) {
	n, err := ignoringEINTR(func() (int, error) { return unix.Read(f.fd, b) })
	switch {
	case err != nil:
		return 0, err
	case n == 0 && len(b) > 0:
		return 0, io.EOF
	}
	return n, nil
}

func (f *plainFile) Close() { unix.Close(f.fd) }

func ignoringEINTR(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// treeHash computes the h1 checksum of a module's files (golang.org/x/mod/sumdb/dirhash, Hash1).
type treeHash struct {
	lines     []string
	file      hash.Hash
	left      int64 // of what all files together may have
	buf, twin []byte
}

// newTreeHash is for files that have no more than max bytes together.
func newTreeHash(max int64) *treeHash {
	return &treeHash{file: sha256.New(), left: max, buf: make([]byte, 64<<10), twin: make([]byte, 64<<10)}
}

var errTooLarge = errors.New("larger than a module may be")

// add reads a file.
func (h *treeHash) add(name string, r io.Reader) error {
	_, err := h.addEqual(name, r, nil)
	return err
}

// addEqual reads a file, and says whether twin has the same content; nil has not.
func (h *treeHash) addEqual(name string, r io.Reader, twin *plainFile) (equal bool, err error) {
	if strings.Contains(name, "\n") {
		return false, errors.New("a file name with a newline")
	}
	h.file.Reset()
	equal = twin != nil
	for {
		n, err := r.Read(h.buf)
		if h.left -= int64(n); h.left < 0 {
			return false, errTooLarge
		}
		h.file.Write(h.buf[:n])
		if equal && n > 0 {
			if _, err := io.ReadFull(twin, h.twin[:n]); err != nil || !bytes.Equal(h.buf[:n], h.twin[:n]) {
				equal = false
			}
		}
		if err == io.EOF {
			break
		} else if err != nil {
			return false, err
		}
	}
	if equal {
		n, err := twin.Read(h.twin[:1])
		equal = n == 0 && err == io.EOF
	}
	h.lines = append(h.lines, name+"\x00"+hex.EncodeToString(h.file.Sum(nil)))
	return equal, nil
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
