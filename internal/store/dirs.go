package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// LayerDir returns ROOT/layers/ID. Its folder fs holds the files of the layer; see [Store.LayerBelow].
func (s *Store) LayerDir(id string) string { return s.path("layers", id) }

// HasLayer tells whether the layer is there.
func (s *Store) HasLayer(id string) bool {
	if !validName(id) {
		return false
	}
	below := s.LayerBelow(id)
	return s.hasFiles(id) && (below == "" || validName(below) && s.hasFiles(below))
}

func (s *Store) hasFiles(id string) bool {
	i, err := os.Lstat(filepath.Join(s.LayerDir(id), "fs"))
	return err == nil && i.IsDir()
}

// LayerBelow returns the layer that another one completes: what is not in its folder fs is in that layer's. "": it stands for
// itself.
func (s *Store) LayerBelow(id string) string {
	b, err := os.ReadFile(filepath.Join(s.LayerDir(id), "over"))
	if err != nil {
		return ""
	}
	return string(b)
}

// CommitLayer makes the folder tmp, complete with its fs below, the layer id by one rename. Where somebody
// else committed an equal id first, theirs stays and tmp is left to its owner.
func (s *Store) CommitLayer(tmp, id string) error {
	if !validName(id) {
		return fmt.Errorf("commit layer: %q is no name for a layer", id)
	}
	err := s.place(tmp, s.LayerDir(id))
	if err != nil && s.HasLayer(id) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("commit layer %s: %w", id, err)
	}
	return nil
}

// TempDir makes a folder below ROOT/tmp, for the caller alone: while it is in use it is flocked (beside it,
// in a file of the same name and ".lock"), and what a crashed process left is swept by Trim. release removes
// it if it is still there; what this user may not remove waits for the Remover of Trim.
func (s *Store) TempDir(name string) (dir string, release func(), err error) {
	if !validName(name) {
		return "", nil, fmt.Errorf("make temporary folder: %q is no name", name)
	}
	dir = s.path("tmp", s.mark+name+"-"+NewID())
	lock, err := tryLock(dir+".lock", true, false)
	if err != nil {
		return "", nil, fmt.Errorf("make temporary folder: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		os.Remove(lock.Name())
		lock.Close()
		return "", nil, fmt.Errorf("make temporary folder: %w", err)
	}
	return dir, func() {
		if os.RemoveAll(dir) == nil {
			removeLock(lock)
		}
		lock.Close()
	}, nil
}

// removeLock removes a lock file that is held. Windows refuses while it is open: then Trim does it.
func removeLock(f *os.File) { os.Remove(f.Name()) }

// sweepable lists what nobody uses in tmp, lock files apart, and with drafts also those of blobs that may still be
// continued. The caller holds ROOT/lock exclusively, so that only this very Store can be using anything.
func (s *Store) sweepable(drafts bool) ([]string, error) {
	entries, err := os.ReadDir(s.path("tmp"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("sweep tmp: %w", err)
	}
	var old []string
	for _, e := range entries {
		name := e.Name()
		path := s.path("tmp", name)
		if strings.HasPrefix(name, s.mark) || !drafts && continues(name, path) {
			continue
		}
		lock := path
		if !strings.HasSuffix(name, ".lock") {
			lock = path + ".lock"
		}
		if f, err := os.OpenFile(lock, os.O_RDWR, 0); err == nil {
			err = flock(f, true, false)
			f.Close()
			if err != nil {
				continue // in use
			}
		}
		old = append(old, path)
	}
	return old, nil
}

// Leftovers lists what dead processes left in tmp: what has no lock, or one that nobody holds, and files of a Store that nobody has open.
// The names are never used again, so that the caller may remove them beside whatever runs. All else is left to [Store.Trim], which is
// alone.
func (s *Store) Leftovers() []string {
	var old []string
	dead := map[string]bool{} // by lock file
	// What cannot be listed is for others to say.
	_ = eachEntry(s.path("tmp"), func(e fs.DirEntry) {
		name := e.Name()
		if strings.HasPrefix(name, s.mark) {
			return
		}
		lock := s.path("tmp", strings.TrimSuffix(name, ".lock")+".lock")
		if _, err := os.Lstat(lock); err != nil {
			first, _, _ := strings.Cut(name, "-")
			switch {
			case len(first) == len(NewID()):
				lock = s.alivePath(first + "-")
			case !unlockedNames[first]:
				old = append(old, s.path("tmp", name)) // every process takes a lock first
				return
			}
		}
		gone, known := dead[lock]
		if !known {
			gone = s.unlocked(lock)
			dead[lock] = gone
		}
		if gone {
			old = append(old, s.path("tmp", name))
		}
	})
	return old
}

// lockGrace is how old a lock file has to be before it tells of a dead process: a living one makes it, and then takes the lock.
const lockGrace = 5 * time.Second

func (s *Store) unlocked(lock string) bool {
	i, err := os.Lstat(lock)
	if err != nil || younger(i.ModTime(), lockGrace) {
		return false
	}
	f, err := os.OpenFile(lock, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return flock(f, true, false) == nil
}

// unlockedNames begin the names in tmp, up to a hyphen, of what has no lock: drafts, which are continued, damaged layers, which a mount
// may still show, and what an older skiff makes there.
var unlockedNames = map[string]bool{"draft": true, "damaged": true, "job": true, "layer": true, "cache": true}

// alivePath names the file that a Store holds locked while it is open, by its mark.
func (s *Store) alivePath(mark string) string { return s.path("locks", mark+"open") }

func mkdirParent(path string) error { return os.MkdirAll(filepath.Dir(path), 0o700) }

// validName tells whether s can be one path component of the store.
func validName(s string) bool {
	return s != "" && s != "." && s != ".." && !strings.ContainsAny(s, "/\\\x00:")
}
