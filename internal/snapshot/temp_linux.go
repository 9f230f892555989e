package snapshot

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// tempDir is a directory ROOT/tmp/NAME beside a locked file NAME.lock: that is how package store knows
// what a living process uses and what a dead one left behind.
type tempDir struct {
	path string
	lock *os.File
}

func newTempDir(root, kind string) (*tempDir, error) {
	parent := filepath.Join(root, "tmp")
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return nil, fmt.Errorf("make temporary directory: %w", err)
	}
	path := filepath.Join(parent, kind+"-"+randomName())
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make temporary directory: %w", err)
	}
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = os.Mkdir(path, 0o700)
	}
	if err != nil {
		os.Remove(lock.Name())
		lock.Close()
		return nil, fmt.Errorf("make temporary directory: %s: %w", path, err)
	}
	return &tempDir{path, lock}, nil
}

// TempDir makes a directory below ROOT/tmp for the caller alone, which others know to be in use until it is removed or the process
// ends. What is in it may be moved elsewhere, itself too.
func (s *Snapshots) TempDir(kind string) (path string, remove func() error, err error) {
	d, err := newTempDir(s.root, kind)
	if err != nil {
		return "", nil, err
	}
	return d.path, d.remove, nil
}

func randomName() string { return strings.ToLower(rand.Text()) }

// remove removes the directory with all that is in it, and then the lock.
func (d *tempDir) remove() error {
	if d.lock == nil {
		return nil
	}
	err := removeAll(d.path)
	if err == nil {
		err = os.Remove(d.lock.Name())
	}
	err = errors.Join(err, d.lock.Close())
	d.lock = nil
	return err
}
