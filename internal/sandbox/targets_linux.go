package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// EnsureTargets makes the mount points that mounts lack in root, a merged and writable directory, and returns what
// removes them again after the run, with the parents that were missing too. Only what it made itself is removed, and
// only if it is still an empty directory or an empty file; the times of the directories it was made in are put back.
// Mount points below another mount of the list are left to [Run], since they lie in that mount. A mount at "/" is
// none of its business. No path leaves root, whatever links it has.
func EnsureTargets(root string, mounts []specs.Mount) (cleanup func() error, err error) {
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open root %s: %w", root, err)
	}
	t := &targets{root: os.NewFile(uintptr(fd), root), times: map[string][]unix.Timespec{}}
	for _, m := range mounts {
		if t.covered(m.Destination, mounts) {
			continue
		}
		dir := true
		if o, err := parseMountOptions(m); err == nil && o.bind {
			if st, err := os.Stat(m.Source); err == nil {
				dir = st.IsDir()
			}
		}
		if err := t.make(m.Destination, dir); err != nil {
			return nil, errors.Join(fmt.Errorf("make mount point %s: %w", m.Destination, err), t.remove())
		}
	}
	return t.remove, nil
}

type targets struct {
	root  *os.File
	made  []string                   // as seen from root, parents first
	times map[string][]unix.Timespec // of directories something was made in: access and modification
}

func (t *targets) covered(dest string, mounts []specs.Mount) bool {
	dest = path.Join("/", dest)
	for _, m := range mounts {
		if d := path.Join("/", m.Destination); d != dest && (d == "/" || strings.HasPrefix(dest, d+"/")) {
			return true
		}
	}
	return dest == "/"
}

// make makes dest and its missing parents one by one, and remembers each.
func (t *targets) make(dest string, dir bool) error {
	name, err := resolveIn(t.root, dest)
	if err != nil {
		return err
	}
	var missing []string // deepest first
	for p := name; p != "/"; p = path.Dir(p) {
		f, err := OpenIn(t.root, p)
		if err == nil {
			f.Close()
			break
		}
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		missing = append(missing, p)
	}
	for i := len(missing) - 1; i >= 0; i-- {
		if err := t.makeOne(missing[i], dir || i > 0); err != nil {
			return err
		}
	}
	return nil
}

func (t *targets) makeOne(name string, dir bool) error {
	parent, err := OpenIn(t.root, path.Dir(name))
	if err != nil {
		return err
	}
	defer parent.Close()
	if _, ok := t.times[path.Dir(name)]; !ok {
		if t.times[path.Dir(name)], err = timesOf(parent); err != nil {
			return err
		}
	}
	if err := makeIn(parent, path.Base(name), dir, nil); err != nil {
		return err
	}
	t.made = append(t.made, name)
	return setTimes(parent, t.times[path.Dir(name)])
}

// remove is the cleanup. What cannot be removed because the step put something there is left.
func (t *targets) remove() error {
	var errs []error
	for i := len(t.made) - 1; i >= 0; i-- {
		if err := t.removeOne(t.made[i]); err != nil {
			errs = append(errs, fmt.Errorf("remove mount point %s: %w", t.made[i], err))
		}
	}
	t.made = nil
	t.root.Close()
	return errors.Join(errs...)
}

func (t *targets) removeOne(name string) error {
	parent, err := OpenIn(t.root, path.Dir(name))
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer parent.Close()
	times, err := timesOf(parent) // the step's own changes of this directory stay dated as they are
	if err != nil {
		return err
	}
	var st unix.Stat_t
	err = unix.Fstatat(int(parent.Fd()), path.Base(name), &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		err = unix.Unlinkat(int(parent.Fd()), path.Base(name), unix.AT_REMOVEDIR)
		if err == unix.ENOTEMPTY || err == unix.EEXIST {
			return nil
		}
	case st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == 0:
		err = unix.Unlinkat(int(parent.Fd()), path.Base(name), 0)
	default:
		return nil
	}
	if err != nil {
		return err
	}
	return setTimes(parent, times)
}

func timesOf(dir *os.File) ([]unix.Timespec, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return nil, err
	}
	return []unix.Timespec{st.Atim, st.Mtim}, nil
}

// setTimes goes by /proc, since an O_PATH descriptor does not do for utimensat(2).
func setTimes(dir *os.File, times []unix.Timespec) error {
	return unix.UtimesNanoAt(unix.AT_FDCWD, procPath(dir), times, 0)
}
