// Package atomicfile writes files that appear whole or not at all: into a new file beside the place, with a name that nobody can
// guess and that must not exist, and from there by a rename. [Write] is for files that a user names, which may also be a pipe, a
// device, a link or this process's standard output; [Place] is for skiff's own.
package atomicfile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Write has fill write what belongs at path, a name that a user gave. A new file has the mode that the umask leaves of 0666; one that is
// replaced keeps its mode; a link stays, and what it leads to is replaced. A pipe or device, and standard output by its name, are
// written to as they are. So is a file that cannot be replaced, such as one that is mounted into a container by itself: that one alone
// can be left half-written.
func Write(path string, fill func(io.Writer) error) error {
	if f, ok := standard(path); ok {
		return fill(f)
	}
	place, err := follow(path)
	if err != nil {
		return err
	}
	st, err := os.Stat(place)
	switch {
	case err == nil && st.IsDir():
		return fmt.Errorf("%s is a folder", path)
	case err == nil && (!st.Mode().IsRegular() || ofProcess(place)):
		return direct(place, 0, fill)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	mode := fs.FileMode(0)
	if st != nil {
		mode = st.Mode().Perm()
	}
	f, err := create(filepath.Dir(place), filepath.Base(place), 0o666)
	if st != nil && err != nil && errors.Is(err, fs.ErrPermission) {
		return direct(place, os.O_TRUNC, fill) // the folder is not for this user, the file is
	}
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // no such file any more, when all went well
	err = fill(f)
	if err == nil && st != nil {
		err = f.Chmod(mode)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	err = os.Rename(f.Name(), place)
	if st != nil && (errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EXDEV) || errors.Is(err, fs.ErrPermission)) {
		return copyOver(f.Name(), place)
	}
	return err
}

// standard returns this process's standard output or error where path names it: opened anew, a file would be written to from its
// beginning, over what the shell or skiff wrote there before.
func standard(path string) (*os.File, bool) {
	switch filepath.Clean(path) {
	case "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1":
		return os.Stdout, true
	case "/dev/stderr", "/dev/fd/2", "/proc/self/fd/2":
		return os.Stderr, true
	}
	return nil, false
}

// maxLinks is how many symbolic links a name may lead through, as in Linux (path_resolution(7)).
const maxLinks = 40

// follow returns where a name leads: what is there may be missing, but is no symbolic link. The links of a process's descriptors in /proc
// are followed by the kernel alone.
func follow(path string) (string, error) {
	for range maxLinks {
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return "", err
		}
		path = filepath.Join(dir, filepath.Base(path))
		if ofProcess(path) {
			return path, nil
		}
		target, err := os.Readlink(path)
		if err != nil {
			return path, nil // no link, or nothing
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(dir, target)
		}
		path = target
	}
	return "", &fs.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
}

// ofProcess reports whether a path lies in /proc, whose files stand for something else.
func ofProcess(path string) bool { return strings.HasPrefix(path, "/proc/") }

// direct writes to what is there.
func direct(path string, flags int, fill func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|flags, 0)
	if err != nil {
		return err
	}
	return errors.Join(fill(f), f.Close())
}

func copyOver(from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	return direct(to, os.O_TRUNC, func(w io.Writer) error {
		_, err := io.Copy(w, f)
		return err
	})
}

// Place has fill write a file of skiff's own, which appears at path with that mode, whatever the umask is. Its folder is there.
func Place(path string, mode fs.FileMode, fill func(io.Writer) error) error {
	f, err := create(filepath.Dir(path), filepath.Base(path), 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err = fill(f); err == nil {
		err = f.Chmod(mode)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// create makes a new file for base in dir.
func create(dir, base string, mode fs.FileMode) (*os.File, error) {
	const tries = 100
	for i := 0; ; i++ {
		name := filepath.Join(dir, "."+base[:min(len(base), 200)]+"."+rand.Text())
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if err == nil || i == tries || !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
}
