package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/skiff-build/skiff/internal/whiteout"
)

// Snapshots is the layers of one store.
type Snapshots struct {
	root    string
	outside bool // see Outside
	bare    bool // see WithoutMounts

	mu     sync.Mutex
	own    *tempDir          // for empty and ram
	ram    string            // a tmpfs, "" before it is needed
	inRAM  bool              // uppers cannot lie in the store and go to a tmpfs
	hidden map[string]string // layer id with markers -> directory of real whiteouts in ram

	tidying sync.WaitGroup // what commits left, and seals that are made complete

	vouched map[string]*vouched // by layer id

	settling map[string]chan struct{} // layer id -> closed when the view that it was written through is gone
}

// New returns the snapshots of the store at root.
func New(root string) *Snapshots {
	return &Snapshots{root: root, hidden: map[string]string{}, vouched: map[string]*vouched{}, settling: map[string]chan struct{}{}}
}

// Outside returns the snapshots of the store at root for a process that reads layers from outside of the namespace in which they
// were made: [Snapshots.Tree] alone is of use there. Layers that are not vouched for at a glance are an error, but never a *[Damaged].
func Outside(root string) *Snapshots {
	s := New(root)
	s.outside = true
	return s
}

// Close removes what the Snapshots kept for its mounts, none of which may be left, and waits for what commits remove. It is not
// needed where the mount namespace ends.
func (s *Snapshots) Close() error {
	s.tidying.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.own == nil {
		return nil
	}
	if s.ram != "" {
		if err := unmount(s.ram); err != nil {
			return err
		}
	}
	err := s.own.remove()
	s.own, s.ram = nil, ""
	clear(s.hidden)
	return err
}

// Mount mounts a read-only view of the chain at target, a directory. It is nodev. The caller unmounts.
func (s *Snapshots) Mount(ctx context.Context, chain []string, target string) (func() error, error) {
	if s.bare {
		return nil, errors.New("mount snapshot: this process may not mount")
	}
	lowers, err := s.lowers(ctx, chain)
	if err == nil {
		err = mountOverlay(target, overlay{lowers: lowers, readonly: true})
		if errors.Is(err, unix.EINVAL) {
			err = s.unstackable(err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("mount snapshot: %w", err)
	}
	return sync.OnceValue(func() error { return unmount(target) }), nil
}

// unstackable explains the EINVAL by which overlayfs refuses its directories or the option userxattr.
func (s *Snapshots) unstackable(err error) error {
	return &Unavailable{
		Cause: "it cannot lie on the file system of " + s.root + ", or this is a Linux before 5.11",
		Mend:  "choose a place on ext4, xfs or btrfs with --root",
		Err:   err,
	}
}

func (s *Snapshots) layerDir(id string) string { return filepath.Join(s.root, "layers", id, "fs") }

func (s *Snapshots) overFile(id string) string { return filepath.Join(s.root, "layers", id, "over") }

// layerDirs returns the directories of an expanded chain, topmost first as overlayfs wants them.
func (s *Snapshots) layerDirs(chain []string) ([]string, error) {
	dirs := make([]string, 0, len(chain))
	for _, id := range slices.Backward(chain) {
		dir := s.layerDir(id)
		if fi, err := os.Lstat(dir); err != nil {
			return nil, fmt.Errorf("layer %s: %w", id, err)
		} else if !fi.IsDir() {
			return nil, fmt.Errorf("layer %s: %w", id, &fs.PathError{Op: "open", Path: dir, Err: unix.ENOTDIR})
		}
		dirs = append(dirs, dir)
	}
	return dirs, nil
}

// lowers returns the directories that show the chain, topmost first. There are always two or more, since
// overlayfs takes no single one; a plain bind mount of a single layer would show its whiteouts.
func (s *Snapshots) lowers(ctx context.Context, chain []string) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	chain, err := s.vouchAll(chain)
	if err != nil {
		return nil, err
	}
	dirs, err := s.layerDirs(chain)
	if err != nil {
		return nil, err
	}
	if err := s.settled(ctx, chain); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.prepareOwn(); err != nil {
		return nil, err
	}
	var lowers []string
	for i, dir := range dirs {
		if whiteout.Marked(dir) {
			real, err := s.realWhiteouts(chain[len(chain)-1-i], dir)
			if err != nil {
				return nil, err
			}
			lowers = append(lowers, real)
		}
		lowers = append(lowers, dir)
	}
	for len(lowers) < 2 {
		lowers = append(lowers, filepath.Join(s.own.path, fmt.Sprintf("empty%d", len(lowers))))
	}
	if len(lowers) > MaxLayers {
		return nil, fmt.Errorf("chain of %d layers: overlayfs stacks at most %d, and layers in which files are "+
			"removed take two on this file system", len(chain), MaxLayers)
	}
	return lowers, nil
}

// prepareOwn makes the directories that stand where a chain is too short. The caller holds the mutex.
func (s *Snapshots) prepareOwn() error {
	if s.own != nil {
		return nil
	}
	own, err := newTempDir(s.root, "mounts")
	if err != nil {
		return err
	}
	for _, name := range []string{"empty0", "empty1", "ram"} {
		if err := mkdirMode(filepath.Join(own.path, name), 0o755); err != nil {
			return errors.Join(err, own.remove())
		}
	}
	s.own = own
	return nil
}

// mountRAM mounts the tmpfs. The caller holds the mutex, after prepareOwn.
func (s *Snapshots) mountRAM() error {
	if s.ram != "" {
		return nil
	}
	dir := filepath.Join(s.own.path, "ram")
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NODEV, "mode=700"); err != nil {
		return unavailable("mount tmpfs", err)
	}
	s.ram = dir
	return nil
}

// realWhiteouts returns a directory with a real whiteout for each marker of the layer in dir: put above
// the layer it hides the markers, and what they stand for below. The caller holds the mutex.
func (s *Snapshots) realWhiteouts(id, dir string) (string, error) {
	if real, ok := s.hidden[id]; ok {
		return real, nil
	}
	if err := s.mountRAM(); err != nil {
		return "", err
	}
	real := filepath.Join(s.ram, "whiteouts-"+id)
	if err := mkdirMode(real, 0o755); err != nil {
		return "", err
	}
	if err := copyTree(dir, real, onlyWhiteouts); err != nil {
		return "", errors.Join(fmt.Errorf("layer %s: %w", id, err), removeAll(real))
	}
	s.hidden[id] = real
	return real, nil
}

func mkdirMode(path string, mode os.FileMode) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}
