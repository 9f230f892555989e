package snapshot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/skiff-build/skiff/internal/inode"
	"github.com/skiff-build/skiff/internal/whiteout"
)

// Tree returns the view that a mount of the chain would give, without mounting. The caller calls the
// returned function when done. An empty chain is an empty directory, owned by 0:0 with mode 0755.
func (s *Snapshots) Tree(chain []string) (inode.Tree, func() error, error) {
	chain, err := s.vouchAll(chain)
	if err != nil {
		return nil, nil, fmt.Errorf("read snapshot: %w", err)
	}
	dirs, err := s.layerDirs(chain)
	if err != nil {
		return nil, nil, fmt.Errorf("read snapshot: %w", err)
	}
	t := &mergedTree{merged: map[string][]string{".": rootStack(dirs)}}
	return t, func() error { return nil }, nil
}

// rootStack ends at a layer whose very root is opaque.
func rootStack(dirs []string) []string {
	for i, dir := range dirs {
		if whiteout.IsOpaque(dir) {
			return dirs[:i+1]
		}
	}
	return dirs
}

// mergedTree merges layers as overlayfs does (overlayfs.rst, "Directories" and "whiteouts and opaque
// directories"). Every path that it opens was found component by component to be no symlink, and layers
// do not change.
type mergedTree struct {
	mu sync.Mutex
	// merged maps the name of a directory to the real directories that make it up, topmost first. Nil means
	// that there is no directory of that name. It grows with the directories of the tree that are asked for.
	merged map[string][]string
}

func (t *mergedTree) Lstat(name string) (inode.Info, error) {
	file, info, err := t.find("lstat", name)
	if err != nil {
		return inode.Info{}, err
	}
	if file == "" {
		return inode.Info{Mode: inode.TypeDir | 0o755}, nil
	}
	return info, nil
}

func (t *mergedTree) Open(name string) (io.ReadCloser, error) {
	file, info, err := t.find("open", name)
	if err != nil {
		return nil, err
	}
	if !info.IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	return os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW, 0)
}

func (t *mergedTree) ReadDir(name string) ([]string, error) {
	if err := checkName("readdir", name); err != nil {
		return nil, err
	}
	stack, err := t.stack(name)
	if err != nil {
		return nil, err
	}
	if stack == nil && name != "." {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	visible := map[string]bool{} // false: hidden by a whiteout further up
	for _, dir := range stack {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if _, known := visible[e.Name()]; known {
				continue
			}
			hides, err := isWhiteout(filepath.Join(dir, e.Name()), e.Type())
			if err != nil {
				return nil, err
			}
			visible[e.Name()] = !hides
		}
	}
	maps.DeleteFunc(visible, func(_ string, v bool) bool { return !v })
	return slices.Sorted(maps.Keys(visible)), nil
}

// isWhiteout asks for attributes only where the type of the directory entry allows a whiteout.
func isWhiteout(file string, typ fs.FileMode) (bool, error) {
	if !typ.IsRegular() && typ&fs.ModeCharDevice == 0 {
		return false, nil
	}
	i, err := inode.Lstat(file)
	return err == nil && whiteout.Is(file, i), err
}

// find returns the real file of that name in the topmost layer that has it, and what it is. The root of an
// empty chain is "".
func (t *mergedTree) find(op, name string) (string, inode.Info, error) {
	if err := checkName(op, name); err != nil {
		return "", inode.Info{}, err
	}
	if name == "." {
		stack, _ := t.stack(".")
		if len(stack) == 0 {
			return "", inode.Info{}, nil
		}
		i, err := inode.Lstat(stack[0])
		return stack[0], i, err
	}
	stack, err := t.stack(path.Dir(name))
	if err != nil {
		return "", inode.Info{}, err
	}
	file, info, _, err := lookup(stack, path.Base(name))
	if err == nil && file == "" {
		err = &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return file, info, err
}

// lookup finds the topmost file of that base name in a stack of directories, "" where there is none, and
// the rest of the stack that lies below it.
func lookup(stack []string, base string) (string, inode.Info, []string, error) {
	for i, dir := range stack {
		file := filepath.Join(dir, base)
		info, err := inode.Lstat(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || !whiteout.Is(file, info) {
			return file, info, stack[i+1:], err
		}
		break
	}
	return "", inode.Info{}, nil, nil
}

// stack returns the real directories that make up the directory of that name, nil where there is none.
func (t *mergedTree) stack(name string) ([]string, error) {
	t.mu.Lock()
	known, ok := t.merged[name]
	t.mu.Unlock()
	if ok {
		return known, nil
	}
	parent, err := t.stack(path.Dir(name))
	if err != nil {
		return nil, err
	}
	var stack []string
	for len(parent) > 0 {
		dir, info, rest, err := lookup(parent, path.Base(name))
		if err != nil {
			return nil, err
		}
		if dir == "" || !info.IsDir() {
			break
		}
		stack = append(stack, dir)
		if whiteout.IsOpaque(dir) {
			break
		}
		parent = rest
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.merged[name] = stack
	return stack, nil
}

// checkName refuses names that are not clean and relative: ".." would leave the layer.
func checkName(op, name string) error {
	if name == "" || path.IsAbs(name) || path.Clean(name) != name || name == ".." ||
		strings.HasPrefix(name, "../") || strings.ContainsRune(name, 0) {
		return &fs.PathError{Op: op, Path: name, Err: fmt.Errorf("%w: not a clean relative name", fs.ErrInvalid)}
	}
	return nil
}
