package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Remove removes the paths, which must lie below the root of the store, with all that is in them. Missing
// ones are no error. It removes as much as it can.
func (s *Snapshots) Remove(paths []string) error {
	var errs []error
	for _, p := range paths {
		rel, err := filepath.Rel(s.root, p)
		if err != nil || rel == "." || !filepath.IsLocal(rel) {
			errs = append(errs, fmt.Errorf("remove %s: not below %s", p, s.root))
			continue
		}
		if err := removeAll(p); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// removeAll is os.RemoveAll for trees with directories that their owner may not read or write.
func removeAll(path string) error {
	err := os.RemoveAll(path)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	openDirs(path)
	return os.RemoveAll(path)
}

// openDirs gives the owner all permissions on the directories of a tree. What fails will fail again, and be
// reported, when it is removed.
func openDirs(path string) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	unix.Close(fd)
	os.Chmod(path, 0o700)
	entries, _ := os.ReadDir(path)
	for _, e := range entries {
		if e.IsDir() {
			openDirs(filepath.Join(path, e.Name()))
		}
	}
}
