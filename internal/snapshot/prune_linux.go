package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/skiff-build/skiff/internal/inode"
	"github.com/skiff-build/skiff/internal/whiteout"
)

// prune removes from an upper directory what says nothing over the tree below: directories copied up for
// the sake of a file that is gone again, whiteouts of nothing, and the opaque mark that overlayfs puts on
// new directories. It reports whether nothing is left. So the layer depends on the outcome of a step and
// not on its way there. With times, a directory that differs in its time alone stays.
func prune(upper string, below inode.Tree, times bool) (empty bool, err error) {
	empty, err = pruner{upper, times}.dir(".", below)
	if err != nil {
		return false, fmt.Errorf("prune layer: %w", err)
	}
	return empty, nil
}

type pruner struct {
	upper string
	times bool
}

// dir prunes the directory of that name; below is nil where an opaque directory hides everything.
func (p pruner) dir(name string, below inode.Tree) (redundant bool, err error) {
	dir := filepath.Join(p.upper, name)
	now, err := inode.Lstat(dir)
	if err != nil {
		return false, err
	}
	var was inode.Info
	exists := false
	if below != nil {
		was, err = below.Lstat(name)
		exists = err == nil
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	opaque := whiteout.IsOpaque(dir)
	if opaque && !(exists && was.IsDir()) {
		if err := whiteout.SetOpaque(dir, false); err != nil {
			return false, err
		}
		opaque = false
	}
	inner := below
	if opaque || !exists || !was.IsDir() {
		inner = nil
	}
	left, err := p.entries(name, inner)
	if err != nil {
		return false, err
	}
	same := now.SameAttributes(was) && (!p.times || now.Mtime == was.Mtime)
	return left == 0 && !opaque && exists && same, nil
}

// entries returns how many entries of the directory stay.
func (p pruner) entries(name string, below inode.Tree) (left int, err error) {
	entries, err := os.ReadDir(filepath.Join(p.upper, name))
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		child := path.Join(name, e.Name())
		redundant := false
		switch {
		case e.IsDir():
			redundant, err = p.dir(child, below)
		case e.Type()&fs.ModeCharDevice != 0:
			redundant, err = hidesNothing(p.upper, child, below)
		}
		if err == nil && redundant {
			err = os.Remove(filepath.Join(p.upper, child))
		}
		if err != nil {
			return 0, err
		}
		if !redundant {
			left++
		}
	}
	return left, nil
}

func hidesNothing(upper, name string, below inode.Tree) (bool, error) {
	file := filepath.Join(upper, name)
	i, err := inode.Lstat(file)
	if err != nil || !whiteout.Is(file, i) {
		return false, err
	}
	if below == nil {
		return true, nil
	}
	_, err = below.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}
