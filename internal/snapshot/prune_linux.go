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
// not on its way there.
func prune(upper string, below inode.Tree) (empty bool, err error) {
	empty, err = pruneDir(upper, ".", below)
	if err != nil {
		return false, fmt.Errorf("prune layer: %w", err)
	}
	return empty, nil
}

// pruneDir prunes the directory of that name; below is nil where an opaque directory hides everything.
func pruneDir(upper, name string, below inode.Tree) (redundant bool, err error) {
	dir := filepath.Join(upper, name)
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
	left, err := pruneEntries(upper, name, inner)
	if err != nil {
		return false, err
	}
	return left == 0 && !opaque && exists && now.SameAttributes(was), nil
}

// pruneEntries returns how many entries of the directory stay.
func pruneEntries(upper, name string, below inode.Tree) (left int, err error) {
	entries, err := os.ReadDir(filepath.Join(upper, name))
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		child := path.Join(name, e.Name())
		redundant := false
		switch {
		case e.IsDir():
			redundant, err = pruneDir(upper, child, below)
		case e.Type()&fs.ModeCharDevice != 0:
			redundant, err = hidesNothing(upper, child, below)
		}
		if err == nil && redundant {
			err = os.Remove(filepath.Join(upper, child))
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
