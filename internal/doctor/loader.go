package doctor

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// MissingLibraryError says that the loader or a library that a program needs is not where it was looked for.
type MissingLibraryError struct {
	Name string   // "libsqlite3.so.0", "/lib64/ld-linux-x86-64.so.2"
	By   string   // what names it: a library, or "" for the program itself
	Dirs []string // where it was looked for
}

func (e *MissingLibraryError) Error() string {
	by := "the program"
	if e.By != "" {
		by = e.By
	}
	if len(e.Dirs) == 0 {
		return fmt.Sprintf("%s needs %s, which is not there", by, e.Name)
	}
	return fmt.Sprintf("%s needs %s, which is in none of %s", by, e.Name, strings.Join(e.Dirs, ", "))
}

// loader supplies the dynamic loader and all libraries.
func (c *completion) loader(b *Binary) error {
	if len(c.missingLibraries(b)) == 0 {
		return nil
	}
	if c.o.Loaders == nil {
		return fmt.Errorf("the program is linked dynamically and needs %s: build it with CGO_ENABLED=0, or link it statically "+
			"(-ldflags '-linkmode external -extldflags -static')", strings.Join(append([]string{b.Interp}, b.Libraries...), ", "))
	}
	files, err := Closure(b, c.o.Loaders)
	if err != nil {
		return err
	}
	for _, f := range files {
		if _, err := c.Stat(f.Path, nil); err != nil {
			c.add(f)
		}
	}
	return nil
}

// missingLibraries are the loader and the libraries named by the program itself that are not there for its user.
func (v view) missingLibraries(b *Binary) []string {
	var missing []string
	if b.Interp != "" && !v.filled(b.Interp) {
		missing = append(missing, b.Interp)
	}
	for _, name := range b.Libraries {
		if !slices.ContainsFunc(libraryDirs(b), func(dir string) bool { return v.filled(path.Join(dir, name)) }) {
			missing = append(missing, name)
		}
	}
	return missing
}

// multiarch are Debian's names of machines in folders.
var multiarch = map[string]string{
	"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu", "386": "i386-linux-gnu", "arm": "arm-linux-gnueabihf",
	"riscv64": "riscv64-linux-gnu", "ppc64le": "powerpc64le-linux-gnu", "s390x": "s390x-linux-gnu",
}

// libraryDirs are the folders in which loaders look without being told. Which of them glibc's does is decided when it is built
// (SLIBDIR and LIBDIR), musl's has /lib, /usr/local/lib and /usr/lib; a library that is found in a folder which the loader at hand
// does not look into cannot come from that loader's system.
func libraryDirs(b *Binary) []string {
	var dirs []string
	if triple := multiarch[b.Arch]; triple != "" {
		dirs = append(dirs, "/lib/"+triple, "/usr/lib/"+triple)
	}
	return append(dirs, "/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib")
}

// maxLibrary bounds one library in bytes; the largest in use have some 200 MB.
const maxLibrary = 1 << 30

// Closure finds the loader of b, its libraries and theirs in a root filesystem, and returns them as files for another one, in
// which the loader finds them at the same paths. Links are followed within the root only if it keeps to that ([os.Root]).
// [MissingLibraryError] names the first that is not there.
func Closure(b *Binary, from fs.FS) ([]File, error) {
	c := closure{b: b, from: from, found: map[string]bool{}}
	if b.Interp != "" {
		f, err := c.file(b.Interp)
		if err != nil {
			return nil, errors.Join(&MissingLibraryError{Name: b.Interp}, err)
		}
		c.files = append(c.files, f)
		c.found[path.Base(b.Interp)] = true // musl's loader is its libc, too
	}
	for _, name := range b.Libraries {
		if err := c.library(name, "", nil); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(c.files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return c.files, nil
}

type closure struct {
	b     *Binary
	from  fs.FS
	found map[string]bool
	files []File
}

// file describes a file of the root, a link as what it leads to: the content lies at the path that the loader opens.
func (c *closure) file(name string) (File, error) {
	rel := strings.TrimPrefix(path.Clean("/"+name), "/")
	st, err := fs.Stat(c.from, rel)
	if err != nil {
		return File{}, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxLibrary {
		return File{}, fmt.Errorf("%s is no library", name)
	}
	open := func() (io.ReadCloser, error) { return c.from.Open(rel) }
	return File{Path: "/" + rel, Mode: int64(st.Mode().Perm() | 0o555), Size: st.Size(), Open: open}, nil
}

// library adds one library, looked for in dirs first, and those that it names itself.
func (c *closure) library(name, by string, dirs []string) error {
	if c.found[name] {
		return nil
	}
	c.found[name] = true
	dirs = append(slices.Clone(dirs), libraryDirs(c.b)...)
	if strings.Contains(name, "/") { // a path
		dirs = []string{"/"}
	}
	for _, dir := range dirs {
		f, err := c.file(path.Join(dir, name))
		if err != nil {
			continue
		}
		needed, more, err := c.dynamic(f)
		if err != nil {
			continue // of another machine, as the loader goes on, too
		}
		c.files = append(c.files, f)
		for _, n := range needed {
			if err := c.library(n, name, more); err != nil {
				return err
			}
		}
		return nil
	}
	return &MissingLibraryError{Name: name, By: by, Dirs: dirs}
}

// dynamic reads which libraries a library names, and where it wants them looked for.
func (c *closure) dynamic(f File) (needed, dirs []string, err error) {
	r, err := c.from.Open(strings.TrimPrefix(f.Path, "/"))
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	at, ok := r.(io.ReaderAt)
	if !ok {
		return nil, nil, fmt.Errorf("%s cannot be read at an offset", f.Path)
	}
	e, err := elf.NewFile(at)
	if err != nil {
		return nil, nil, err
	}
	if machineName(e.Machine) != c.b.Arch {
		return nil, nil, fmt.Errorf("%s is for another machine", f.Path)
	}
	if needed, err = e.ImportedLibraries(); err != nil {
		return nil, nil, err
	}
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		values, _ := e.DynString(tag) // none is no error
		for _, v := range values {
			for _, dir := range strings.Split(v, ":") {
				dir = strings.NewReplacer("$ORIGIN", path.Dir(f.Path), "${ORIGIN}", path.Dir(f.Path)).Replace(dir)
				if path.IsAbs(dir) {
					dirs = append(dirs, path.Clean(dir))
				}
			}
		}
	}
	return needed, dirs, nil
}

// machineName is Go's name of an ELF machine, "" for one that Go has none for.
func machineName(m elf.Machine) string {
	return map[elf.Machine]string{
		elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64", elf.EM_386: "386", elf.EM_ARM: "arm", elf.EM_RISCV: "riscv64",
		elf.EM_S390: "s390x", elf.EM_PPC64: "ppc64le", elf.EM_LOONGARCH: "loong64", elf.EM_MIPS: "mips",
	}[m]
}
