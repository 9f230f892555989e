package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/skiff-build/skiff/internal/inode"
)

// Active is a chain mounted for writing. It is for one goroutine at a time.
type Active struct {
	s       *Snapshots
	chain   []string
	temp    *tempDir
	upper   string
	ram     string // directory in the tmpfs that holds upper, or ""
	mounted bool
	over    string           // see CommitOver
	stamps  map[string]stamp // of what was copied to Root, where nothing is mounted
}

// Prepare mounts the chain for writing. What is written lies in a directory of its own until [Active.Commit].
// The caller ends it with Commit or [Active.Discard].
func (s *Snapshots) Prepare(ctx context.Context, chain []string) (*Active, error) {
	a, err := s.prepare(ctx, chain)
	if err != nil {
		return nil, fmt.Errorf("prepare snapshot: %w", err)
	}
	return a, nil
}

func (s *Snapshots) prepare(ctx context.Context, chain []string) (*Active, error) {
	var lowers []string
	if !s.bare {
		var err error
		if lowers, err = s.lowers(ctx, chain); err != nil {
			return nil, err
		}
	}
	temp, err := newTempDir(s.root, "active")
	if err != nil {
		return nil, err
	}
	a := &Active{s: s, chain: chain, temp: temp}
	if err = os.Mkdir(a.Root(), 0o755); err == nil && s.bare {
		err = a.fill(ctx)
	} else if err == nil {
		err = a.mount(lowers)
	}
	if err != nil {
		return nil, errors.Join(err, a.Discard())
	}
	return a, nil
}

// Root is the directory where the chain is mounted.
func (a *Active) Root() string { return filepath.Join(a.temp.path, "merged") }

// Upper is the directory that takes what is written, in the form of a layer. It is to be read only after
// everybody who writes to Root has ended.
func (a *Active) Upper() string { return a.upper }

// mount mounts with upper and work in the store, or in memory where the store's file system cannot have
// them, as with an overlayfs (a container's own root).
func (a *Active) mount(lowers []string) error {
	a.s.mu.Lock()
	inRAM := a.s.inRAM
	a.s.mu.Unlock()
	if !inRAM {
		err := a.mountWith(lowers, filepath.Join(a.temp.path, "layer"))
		if !errors.Is(err, errUpper) {
			return err
		}
	}
	if err := a.useRAM(); err != nil {
		return err
	}
	err := a.mountWith(lowers, a.ram)
	if err == nil {
		a.s.mu.Lock()
		a.s.inRAM = true
		a.s.mu.Unlock()
		return nil
	}
	if errors.Is(err, errUpper) {
		return a.s.unstackable(err)
	}
	return err
}

// errUpper: the file system that holds the upper directory is not fit for that.
var errUpper = errors.New("not fit for an upper directory")

// mountWith makes the upper directory in dir/fs, and the work directory beside dir/.
func (a *Active) mountWith(lowers []string, dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "fs"), 0o700); err != nil {
		return err
	}
	a.upper = filepath.Join(dir, "fs")
	work := dir + "-work"
	if err := os.MkdirAll(work, 0o700); err != nil {
		return err
	}
	// The view takes the attributes of the root from the topmost layer, which is the new one.
	below, done, err := a.s.Tree(a.chain)
	if err != nil {
		return err
	}
	defer done()
	root, err := below.Lstat(".")
	if err != nil {
		return err
	}
	if err := inode.Set(a.upper, root); err != nil {
		return err
	}
	if err := checkXattrs(work); err != nil {
		return err
	}
	err = mountOverlay(a.Root(), overlay{lowers: lowers, upper: a.upper, work: work})
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%w: %w", errUpper, err)
	}
	a.mounted = err == nil
	return err
}

// checkXattrs asks for what layers cannot do without. Overlayfs would mount all the same, and steps would then
// fail in odd ways.
func checkXattrs(dir string) error {
	const probe = "user.skiff.probe"
	if err := unix.Setxattr(dir, probe, nil, 0); err != nil {
		return &Unavailable{
			Cause: "the file system of " + dir + " has no user extended attributes",
			Mend:  "choose a place on ext4, xfs or btrfs with --root (a tmpfs has them since Linux 6.6)",
			Err:   err,
		}
	}
	return unix.Removexattr(dir, probe)
}

func (a *Active) useRAM() error {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	if err := a.s.mountRAM(); err != nil {
		return err
	}
	a.ram = filepath.Join(a.s.ram, filepath.Base(a.temp.path))
	return os.Mkdir(a.ram, 0o700)
}

// Commit unmounts and makes what was written the layer id. Directories that are as below and hold nothing
// new are left out; where nothing is left there is no layer and empty is true. When the layer exists
// already, somebody made it meanwhile and it stays. After an error the caller calls Discard. What the mount needed may be removed
// after Commit has returned; [Snapshots.Close] waits for it.
func (a *Active) Commit(id string) (empty bool, err error) {
	if empty, err = a.commit(id); err != nil {
		return false, fmt.Errorf("commit snapshot: %w", err)
	}
	if a.ram != "" {
		return empty, a.Discard()
	}
	// Some ten directories, for each of which ext4 may take a millisecond, go beside what follows; what is left of them is swept by
	// the store.
	temp := a.temp
	a.temp = &tempDir{}
	a.s.tidying.Go(func() { _ = temp.remove() })
	return empty, nil
}

// CommitOver is Commit for a layer that completes the topmost one of the chain: the two together are what a single layer with
// all of it would be, and nobody who names the new one sees that there are two. Directories that differ in their times alone stay.
// The layer below must stand for itself.
func (a *Active) CommitOver(id string) (empty bool, err error) {
	if len(a.chain) == 0 {
		return false, errors.New("commit snapshot: there is no layer to complete")
	}
	a.over = a.chain[len(a.chain)-1]
	if _, err := os.Lstat(a.s.overFile(a.over)); err == nil {
		return false, fmt.Errorf("commit snapshot: layer %s completes another one itself", a.over)
	}
	return a.Commit(id)
}

func (a *Active) commit(id string) (empty bool, err error) {
	if err := checkID(id); err != nil {
		return false, err
	}
	if a.s.bare {
		return a.commitBare(id)
	}
	view, err := a.hold()
	if err != nil {
		return false, err
	}
	settle := func() { unix.Close(view) }
	defer func() { settle() }()
	if err := a.unmount(); err != nil {
		return false, err
	}
	below, done, err := a.s.Tree(a.chain)
	if err != nil {
		return false, err
	}
	defer done()
	if empty, err := prune(a.upper, below, a.over != ""); empty || err != nil {
		return empty, err
	}
	layer := filepath.Join(a.temp.path, "layer")
	if a.ram != "" {
		if err := a.copyFromRAM(layer); err != nil {
			return false, err
		}
	}
	placed, err := a.s.place(layer, id, a.over)
	if placed && a.ram == "" {
		settle = func() { a.s.settle(id, view) }
	}
	return false, err
}

// hold keeps the view from being taken apart by its unmount: that takes the kernel 10 ms where a step looked at the few
// thousand files of a Go toolchain.
func (a *Active) hold() (fd int, err error) {
	fd, err = unix.Open(a.Root(), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: a.Root(), Err: err}
	}
	return fd, nil
}

// settle lets go of the view that the layer id was written through, beside what follows. Until then the layer is not mounted
// again: to overlayfs it is in use.
func (s *Snapshots) settle(id string, view int) {
	done := make(chan struct{})
	s.mu.Lock()
	s.settling[id] = done
	s.mu.Unlock()
	go func() {
		unix.Close(view)
		s.mu.Lock()
		delete(s.settling, id)
		s.mu.Unlock()
		close(done)
	}()
}

// settled waits for views of the layers in chain to be let go of.
func (s *Snapshots) settled(ctx context.Context, chain []string) error {
	for _, id := range chain {
		s.mu.Lock()
		done := s.settling[id]
		s.mu.Unlock()
		if done == nil {
			continue
		}
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (a *Active) copyFromRAM(layer string) error {
	fs := filepath.Join(layer, "fs")
	if err := removeAll(layer); err != nil { // from the attempt to mount there
		return err
	}
	if err := os.MkdirAll(fs, 0o700); err != nil {
		return err
	}
	return copyTree(a.upper, fs, everything)
}

func (a *Active) unmount() error {
	if !a.mounted {
		return nil
	}
	err := unmount(a.Root())
	a.mounted = err != nil
	return err
}

// Discard unmounts and removes what was written. It does nothing after Commit.
func (a *Active) Discard() error {
	err := a.unmount()
	if err == nil { // else removing would go through what is mounted there
		if a.ram != "" {
			err = errors.Join(removeAll(a.ram), removeAll(a.ram+"-work"))
		}
		err = errors.Join(err, a.temp.remove())
	}
	if err != nil {
		return fmt.Errorf("discard snapshot: %w", err)
	}
	return nil
}
