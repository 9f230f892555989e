//go:build !linux

package whiteout

import (
	"errors"
	"fmt"

	"github.com/skiff-build/skiff/internal/inode"
)

// Make needs Linux.
func Make(root, name string) error {
	return fmt.Errorf("make whiteout: %s: only on linux: %w", name, errors.ErrUnsupported)
}

// Is is false: other systems have no layers.
func Is(path string, i inode.Info) bool { return false }

// IsOpaque is false: other systems have no layers.
func IsOpaque(dir string) bool { return false }

// SetOpaque needs Linux.
func SetOpaque(dir string, opaque bool) error {
	return fmt.Errorf("mark opaque directory: %s: only on linux: %w", dir, errors.ErrUnsupported)
}

// Marked is false: other systems have no layers.
func Marked(root string) bool { return false }
