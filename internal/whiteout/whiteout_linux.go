package whiteout

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/skiff-build/skiff/internal/inode"
)

// Make makes a whiteout for name, a slash-separated path below the layer's root whose parent exists and
// which itself does not.
func Make(root, name string) error {
	path := filepath.Join(root, name)
	err := unix.Mknod(path, unix.S_IFCHR, 0)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		err = makeMarker(root, path)
	}
	if err != nil {
		return fmt.Errorf("make whiteout: %s: %w", path, err)
	}
	return nil
}

func makeMarker(root, path string) error {
	// The root comes first: a layer with markers and without this would show them as files.
	if err := unix.Lsetxattr(root, MarkedXattr, []byte("y"), 0); err != nil {
		return fmt.Errorf("set %s: %w", MarkedXattr, err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Fsetxattr(int(f.Fd()), MarkerXattr, []byte("y"), 0); err != nil {
		os.Remove(path)
		return fmt.Errorf("set %s: %w", MarkerXattr, err)
	}
	return nil
}

// Is reports whether the file at path, of which [inode.Lstat] said i, is a whiteout of either form.
func Is(path string, i inode.Info) bool {
	switch {
	case i.Type() == inode.TypeChar && i.Major == 0 && i.Minor == 0:
		// An image can have such a device; it is kept as a placeholder, which is a regular file.
		var st unix.Stat_t
		return unix.Lstat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR
	case i.IsRegular() && i.Size == 0:
		return has(path, MarkerXattr)
	}
	return false
}

// IsOpaque reports whether the directory is opaque.
func IsOpaque(dir string) bool {
	var b [2]byte
	n, err := unix.Lgetxattr(dir, OpaqueXattr, b[:])
	return err == nil && string(b[:n]) == "y"
}

// SetOpaque makes the directory opaque, or not.
func SetOpaque(dir string, opaque bool) error {
	err := error(nil)
	if opaque {
		err = unix.Lsetxattr(dir, OpaqueXattr, []byte("y"), 0)
	} else if err = unix.Lremovexattr(dir, OpaqueXattr); errors.Is(err, unix.ENODATA) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("mark opaque directory: %s: %w", dir, err)
	}
	return nil
}

// Marked reports whether the layer below root has markers.
func Marked(root string) bool { return has(root, MarkedXattr) }

func has(path, name string) bool {
	_, err := unix.Lgetxattr(path, name, nil)
	return err == nil
}
