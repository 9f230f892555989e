package inode

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"syscall"
)

// Tree is the files below a root, for reading. Names are relative, clean and separated by slashes;
// "." is the root. No component of a name is followed as a symlink: callers resolve names first, with
// [Resolve]. A missing file, also one below something that is no directory, is fs.ErrNotExist.
// Implementations are safe for concurrent use.
type Tree interface {
	Lstater
	// ReadDir returns the sorted names in a directory.
	ReadDir(name string) ([]string, error)
	// Open opens a regular file. The caller closes it.
	Open(name string) (io.ReadCloser, error)
}

// Lstater is what [Resolve] needs of a [Tree].
type Lstater interface {
	// Lstat returns the attributes of a file.
	Lstat(name string) (Info, error)
}

// maxLinks is the number of symlinks that [Resolve] follows. The kernel allows 40 (path_resolution(7));
// Docker's and BuildKit's resolvers allow 255.
const maxLinks = 255

// Resolve follows the symlinks in name within t, as a process would whose root directory is t: absolute
// targets start at the root, and ".." does not leave it. Name may be absolute or unclean. With
// followLast the last component is followed too, else only those before.
//
// The result is a clean name for the methods of t. When a part of it does not exist the error is
// fs.ErrNotExist and the result is still the place where the file would be: its existing part is
// resolved, and below that nothing is. A component below a file that is no directory is
// syscall.ENOTDIR, too many links syscall.ELOOP.
func Resolve(t Lstater, name string, followLast bool) (string, error) {
	var (
		done    []string // resolved components
		missing = -1     // number of components of done that exist, when not all do
		links   int
		rest    = components(name)
	)
	for len(rest) > 0 {
		next := rest[0]
		rest = rest[1:]
		if next == ".." {
			done = done[:max(0, len(done)-1)]
			if len(done) <= missing {
				missing = -1
			}
			continue
		}
		done = append(done, next)
		if missing >= 0 {
			continue
		}
		at := strings.Join(done, "/")
		i, err := t.Lstat(at)
		switch {
		case isNotExist(err):
			missing = len(done) - 1
		case err != nil:
			return at, err
		case i.IsLink() && (followLast || len(rest) > 0):
			if links++; links > maxLinks {
				return at, &fs.PathError{Op: "resolve", Path: name, Err: syscall.ELOOP}
			}
			done = done[:len(done)-1]
			if path.IsAbs(i.Link) {
				done = done[:0]
			}
			rest = append(components(i.Link), rest...)
		case len(rest) > 0 && !i.IsDir():
			return at, &fs.PathError{Op: "resolve", Path: name, Err: syscall.ENOTDIR}
		}
	}
	resolved := strings.Join(done, "/")
	if resolved == "" {
		resolved = "."
	}
	if missing >= 0 {
		return resolved, &fs.PathError{Op: "resolve", Path: name, Err: fs.ErrNotExist}
	}
	return resolved, nil
}

// components splits a path. A trailing slash or dot means that the last component must be a directory
// that is followed; callers that need it ask for followLast.
func components(name string) []string {
	var parts []string
	for c := range strings.SplitSeq(name, "/") {
		if c != "" && c != "." {
			parts = append(parts, c)
		}
	}
	return parts
}

// checkName returns an error for a name that is not of the form that [Tree] takes. Names need not be
// UTF-8, so fs.ValidPath would refuse too much.
func checkName(op, name string) error {
	if name == "" || path.IsAbs(name) || path.Clean(name) != name || name == ".." ||
		strings.HasPrefix(name, "../") || strings.ContainsRune(name, 0) {
		return &fs.PathError{Op: op, Path: name, Err: fmt.Errorf("%w: not a clean relative name", fs.ErrInvalid)}
	}
	return nil
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// CompareNames compares names of a tree as they follow each other when it is walked, each directory's in order: what a directory
// holds comes before its neighbours.
func CompareNames(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		switch x, y := a[i], b[i]; {
		case x == y:
		case x == '/':
			return -1
		case y == '/':
			return 1
		default:
			return int(x) - int(y)
		}
	}
	return len(a) - len(b)
}
