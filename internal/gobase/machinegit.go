package gobase

import (
	"debug/elf"
	"errors"
	"io"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/skiff-build/skiff/internal/busybox"
)

// What a .git holds is told by git and by nothing else to the same result: the revision that go build stamps, the version
// that git describe makes up. The base has no git; where a step needs one, the machine's is bound for the time of the step,
// its loader and libraries beside it, in a folder of its own so that nothing else in the step finds them. It runs in the
// sandbox, as the image's would: what the configuration of a foreign repository makes it run touches nothing outside.

// machineGit in [Identity].With says that steps in the base get the machine's git.
const machineGit = "machine-git"

// MachineGit maps places in a step to the files of this machine's git; nil where there is none that a step can run.
func MachineGit() map[string]string {
	found, err := exec.LookPath("git")
	if err != nil || runtime.GOOS != "linux" {
		return nil
	}
	program, err := filepath.EvalSymlinks(found)
	if err != nil {
		return nil
	}
	files := map[string]string{}
	if err := addProgram(files, program); err != nil {
		return nil // a script before the real one, or a library where no distribution keeps it
	}
	return files
}

// IsMachineGit says whether a place in a step is one of those that [MachineGit] names.
func IsMachineGit(dest string) bool { return strings.HasPrefix(dest, busybox.GitPath+"/") }

// addProgram adds an ELF file with its loader and all libraries that it names.
func addProgram(files map[string]string, program string) error {
	loader, libraries, err := linked(program)
	if err != nil {
		return err
	}
	files[busybox.GitProgram] = program
	if loader == "" {
		return nil
	}
	if files[busybox.GitLoader], err = filepath.EvalSymlinks(loader); err != nil {
		return err
	}
	for len(libraries) > 0 {
		name := libraries[0]
		libraries = libraries[1:]
		place := path.Join(busybox.GitPath, path.Base(name))
		if files[place] != "" {
			continue
		}
		file := findLibrary(name)
		if file == "" {
			return errors.New("library " + name + ": not found")
		}
		files[place] = file
		_, more, err := linked(file)
		if err != nil {
			return err
		}
		libraries = append(libraries, more...)
	}
	return nil
}

// linked are the loader and the libraries that an ELF file names; of a static program none.
func linked(file string) (loader string, libraries []string, err error) {
	f, err := elf.Open(file)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		name, err := io.ReadAll(io.LimitReader(p.Open(), 4096))
		if err != nil {
			return "", nil, err
		}
		loader = strings.TrimRight(string(name), "\x00")
	}
	libraries, err = f.ImportedLibraries()
	return loader, libraries, err
}

// needGit notes that a command needs a git that works. Where the machine has none to lend, why is the reason to refuse.
func (s *step) needGit(text, why string) {
	b, o := s.t.base, s.j.o
	if (b.arch == runtime.GOARCH || b.cross) && o.Git != nil && o.Git() {
		b.gitLent = true
		return
	}
	s.refuse(text, why)
}
