package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// devices are bound from the host one by one, since every file system of a step is nodev: a node that the step makes
// itself opens nothing.
var devices = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}

var devLinks = [][2]string{
	{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"},
	{"pts/ptmx", "ptmx"},
}

// enterRoot furnishes the root of s and makes it the root of this mount namespace.
func enterRoot(s *specs.Spec) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	r, err := openRootfs(s.Root.Path)
	if err != nil {
		return err
	}
	defer r.dir.Close()
	ownDev := false
	for _, m := range s.Mounts {
		if err := r.mount(m); err != nil {
			return err
		}
		ownDev = ownDev || path.Clean(m.Destination) == "/dev" && m.Type == "tmpfs"
	}
	if ownDev {
		if err := r.furnishDev(s.Linux.Devices); err != nil {
			return err
		}
	}
	for _, p := range s.Linux.ReadonlyPaths {
		if err := r.readonly(p); err != nil {
			return fmt.Errorf("make %s read-only: %w", p, err)
		}
	}
	for _, p := range s.Linux.MaskedPaths {
		if err := r.mask(p); err != nil {
			return fmt.Errorf("mask %s: %w", p, err)
		}
	}
	if s.Root.Readonly {
		if err := addFlags(r.dir, unix.MS_RDONLY, false); err != nil {
			return fmt.Errorf("make root read-only: %w", err)
		}
	}
	return r.pivot()
}

func (r *rootfs) furnishDev(more []specs.LinuxDevice) error {
	paths := devices
	for _, d := range more {
		paths = append(paths[:len(paths):len(paths)], d.Path)
	}
	for _, p := range paths {
		if err := r.bindDevice(p); err != nil {
			return fmt.Errorf("bind device %s: %w", p, err)
		}
	}
	dev, err := r.open("/dev")
	if err != nil {
		return fmt.Errorf("open /dev: %w", err)
	}
	defer dev.Close()
	for _, l := range devLinks {
		if err := unix.Symlinkat(l[0], int(dev.Fd()), l[1]); err != nil && err != unix.EEXIST {
			return fmt.Errorf("link /dev/%s: %w", l[1], err)
		}
	}
	return nil
}

// bindDevice puts the host's device node in place; one that the host does not have is left out.
func (r *rootfs) bindDevice(p string) error {
	st, err := os.Stat(p)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode()&os.ModeDevice == 0 {
		return fmt.Errorf("is no device on this machine")
	}
	target, err := r.target(p, false)
	if err != nil {
		return err
	}
	defer target.Close()
	if err := unix.Mount(p, procPath(target), "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return r.restrict(p, unix.MS_NOSUID|unix.MS_NOEXEC)
}

func (r *rootfs) readonly(p string) error {
	f, err := r.open(p)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Mount(procPath(f), procPath(f), "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	return r.restrict(p, unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC)
}

// mask hides p: a file under /dev/null, a directory under an empty file system.
func (r *rootfs) mask(p string) error {
	f, err := r.open(p)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.IsDir() {
		return unix.Mount("tmpfs", procPath(f), "tmpfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "nr_blocks=1,nr_inodes=1")
	}
	return unix.Mount("/dev/null", procPath(f), "", unix.MS_BIND, "")
}

func absent(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, os.ErrPermission)
}

// pivot makes the directory the root and lets go of the old one: with "." for both, the old root comes to lie over
// the new one and is unmounted from there (pivot_root(2), NOTES), so the image needs no directory for it.
func (r *rootfs) pivot() error {
	if err := unix.Fchdir(int(r.dir.Fd())); err != nil {
		// Fchdir takes no O_PATH descriptor of a directory without search permission.
		return fmt.Errorf("enter root: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		if err == unix.EINVAL {
			return &Unavailable{"the root of this mount namespace cannot be exchanged (pivot_root: it is an initial ramdisk, or no mount point)",
				"switch to a real root file system, or run in a container whose root is mounted"}
		}
		return fmt.Errorf("pivot root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of the old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("enter root: %w", err)
	}
	return nil
}
