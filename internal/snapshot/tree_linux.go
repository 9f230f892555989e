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
	root := make([]layerFolder, 0, len(dirs))
	for _, dir := range dirs {
		root = append(root, layerFolder{dir, whiteout.Marked(dir)})
		if whiteout.IsOpaque(dir) { // as the very root of a layer may be
			break
		}
	}
	t := &mergedTree{merged: map[string][]layerFolder{".": root}}
	return t, func() error { return nil }, nil
}

// layerFolder is the real directory of a folder in one layer.
type layerFolder struct {
	path   string
	marked bool // whether the layer has markers: only there may an empty file stand for a whiteout
}

// mergedTree merges layers as overlayfs does (overlayfs.rst, "Directories" and "whiteouts and opaque
// directories"). Every path that it opens was found component by component to be no symlink, and layers
// do not change.
type mergedTree struct {
	mu sync.Mutex
	// merged maps the name of a directory to the real directories that make it up, topmost first. Nil means
	// that there is no directory of that name. It grows with the directories of the tree that are asked for.
	merged map[string][]layerFolder
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
	if f, err := t.openPlain(name); f != nil || err != nil {
		return f, err
	}
	file, info, err := t.find("open", name)
	if err != nil {
		return nil, err
	}
	if !info.IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	return os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW, 0)
}

// openPlain opens what is a file with content in the topmost folder of its parent: neither a whiteout nor a placeholder has any, so that
// no more than its size has to be asked for. Nil: it is something else, or lies further down.
func (t *mergedTree) openPlain(name string) (io.ReadCloser, error) {
	if err := checkName("open", name); err != nil {
		return nil, err
	}
	stack, err := t.stack(path.Dir(name))
	if err != nil || len(stack) == 0 {
		return nil, err
	}
	file := filepath.Join(stack[0].path, path.Base(name))
	var st unix.Stat_t
	if unix.Lstat(file, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size == 0 {
		return nil, nil
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
		entries, err := os.ReadDir(dir.path)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if _, known := visible[e.Name()]; known {
				continue
			}
			hides, err := dir.hides(e)
			if err != nil {
				return nil, err
			}
			visible[e.Name()] = !hides
		}
	}
	maps.DeleteFunc(visible, func(_ string, v bool) bool { return !v })
	return slices.Sorted(maps.Keys(visible)), nil
}

// hides asks for attributes only where an entry of the folder may be a whiteout.
func (d layerFolder) hides(e fs.DirEntry) (bool, error) {
	if e.Type()&fs.ModeCharDevice == 0 && !(d.marked && e.Type().IsRegular()) {
		return false, nil
	}
	file := filepath.Join(d.path, e.Name())
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
		i, err := inode.Lstat(stack[0].path)
		return stack[0].path, i, err
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
// the stack from its folder on.
func lookup(stack []layerFolder, base string) (string, inode.Info, []layerFolder, error) {
	for i, dir := range stack {
		file := filepath.Join(dir.path, base)
		info, err := inode.Lstat(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || info.IsRegular() && !dir.marked || !whiteout.Is(file, info) {
			return file, info, stack[i:], err
		}
		break
	}
	return "", inode.Info{}, nil, nil
}

// stack returns the real directories that make up the directory of that name, nil where there is none.
func (t *mergedTree) stack(name string) ([]layerFolder, error) {
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
	var stack []layerFolder
	for len(parent) > 0 {
		dir, info, rest, err := lookup(parent, path.Base(name))
		if err != nil {
			return nil, err
		}
		if dir == "" || !info.IsDir() {
			break
		}
		stack = append(stack, layerFolder{dir, rest[0].marked})
		if whiteout.IsOpaque(dir) {
			break
		}
		parent = rest[1:]
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
