package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

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

// enterRoot furnishes the root of s and makes it the root of this process. Every name of an image is resolved on the stage,
// where nothing of the machine is left. Of the stage it returns, the root and the /proc are still open.
func enterRoot(s *specs.Spec) (*stage, error) {
	st, err := enterStage(s)
	if err != nil {
		return nil, err
	}
	if err := st.confined(st.ownNames); err != nil {
		return nil, err
	}
	for i, m := range s.Mounts {
		if err := st.mount(i, m); err != nil {
			return nil, fmt.Errorf("mount %s on %s: %w", cmpOr(m.Type, m.Source), m.Destination, ledAway(err))
		}
	}
	if st.ownDev() {
		if err := st.furnishDev(); err != nil {
			return nil, err
		}
	}
	if s.Root.Readonly {
		if err := addFlags(st.root, unix.MS_RDONLY, false); err != nil {
			return nil, fmt.Errorf("make root read-only: %w", err)
		}
	}
	if err := exchangeRoot(st.root); err != nil {
		return nil, err
	}
	return st, st.confined(st.stepNames)
}

// mount puts mount i of the spec into the root.
func (st *stage) mount(i int, m specs.Mount) error {
	o := st.mounts[i]
	switch {
	case o.bind:
		return st.place(m.Destination, stageName(i))
	case m.Type == "proc" || m.Type == "sysfs":
		return st.placeKernelFS(m)
	}
	target, err := st.target(m.Destination, true)
	if err != nil {
		return err
	}
	defer target.Close()
	return mountFS(target, m, o)
}

// place binds what the stage has at a name, with everything on it and the flags that it has.
func (st *stage) place(dest, name string) error {
	fi, err := os.Lstat(name)
	if err != nil {
		return err
	}
	target, err := st.target(dest, fi.IsDir())
	if err != nil {
		return err
	}
	defer target.Close()
	return unix.Mount(name, procPath(target), "", unix.MS_BIND|unix.MS_REC, "")
}

// placeKernelFS puts /proc or /sys into its very place. A link in the image could lead to another: harmless for a file system
// of the image's own, but other programs rely on this one (CVE-2019-16884).
func (st *stage) placeKernelFS(m specs.Mount) error {
	if f, err := openPlain(st.root, m.Destination); err == nil {
		f.Close()
	} else if !absent(err) {
		return fmt.Errorf("the image has a symbolic link on the way there: %w", err)
	}
	return st.place(m.Destination, map[string]string{"proc": "/proc", "sysfs": "/sys"}[m.Type])
}

func mountFS(target *os.File, m specs.Mount, o mountOptions) error {
	err := unix.Mount(cmpOr(m.Source, m.Type), procPath(target), m.Type, o.flags, strings.Join(o.data, ","))
	switch {
	case err == unix.EINVAL && m.Type == "devpts":
		// With one id there is no group 5 (tty).
		data := slices.DeleteFunc(slices.Clone(o.data), func(d string) bool { return strings.HasPrefix(d, "gid=") })
		return unix.Mount("devpts", procPath(target), "devpts", o.flags, strings.Join(data, ","))
	case err == unix.ENODEV && m.Type == "mqueue":
		return nil // a kernel without POSIX message queues
	}
	return err
}

// target opens the place to mount on, and makes it where it is missing: a directory of mode 0755, or an empty file.
func (st *stage) target(dest string, dir bool) (*os.File, error) {
	f, err := OpenIn(st.root, dest)
	if errors.Is(err, os.ErrNotExist) {
		// A dangling link on the way: what it points to is made, as runc does (/etc/resolv.conf is often one).
		var rel string
		if rel, err = resolveIn(st.root, dest); err != nil {
			return nil, err
		}
		if err := makeIn(st.root, rel, dir, nil); err != nil {
			return nil, err
		}
		f, err = OpenIn(st.root, rel)
	}
	if err != nil {
		return nil, err
	}
	at, err := os.Readlink(procPath(f))
	if err == nil && (at == stageRoot || !strings.HasPrefix(at, stageRoot+"/")) {
		err = errors.New("nothing can be mounted over the root")
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	st.placed = append(st.placed, strings.TrimPrefix(at, stageRoot))
	return f, nil
}

func (st *stage) furnishDev() error {
	for i, p := range st.devicePaths() {
		err := st.place(p, deviceName(i))
		if err != nil && !(errors.Is(err, os.ErrNotExist) && !exists(deviceName(i))) {
			return fmt.Errorf("bind device %s: %w", p, err)
		}
	}
	dev, err := OpenIn(st.root, "/dev")
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

// ownNames reports whether a mount point is one of the stage's own.
func (st *stage) ownNames(at string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(at, "/"), "/")
	switch "/" + first {
	case "/", "/proc", "/sys", stageRoot, stageEmpty, stageNull:
		return true
	}
	for i := range max(len(st.spec.Mounts), len(st.devicePaths())) {
		if "/"+first == stageName(i) || "/"+first == deviceName(i) {
			return true
		}
	}
	return false
}

// stepNames reports whether a mount point is one that the spec asks for, or below one.
func (st *stage) stepNames(at string) bool {
	return at == "/" || slices.ContainsFunc(st.placed, func(p string) bool { return at == p || strings.HasPrefix(at, path.Join(p, "/")+"/") })
}
