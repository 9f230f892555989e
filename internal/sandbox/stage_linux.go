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

// stage is a step's init between the machine and the step's root:
//
//	machine ──pivot──► stage ──pivot──► the step's root
//
// The stage is a small file system in memory with the root at /root, what is to be bound into it at /0, /1, …, and a /proc
// and a /sys of the step's own, masked. All of that is put there by names that skiff has chosen. Then the init leaves the
// machine, with all of its threads, and looks at the names of an image or a Dockerfile from the stage: whatever they lead
// to, the machine is not there any more. [confined] holds that.
type stage struct {
	spec   *specs.Spec
	root   *os.File // the step's root
	proc   *os.File // the stage's own /proc, which outlives it
	mounts []mountOptions
	placed []string // mount points in the root, resolved
}

// Names in the stage. Masks are bound over what they hide.
const (
	stageRoot  = "/root"
	stageEmpty = "/empty" // a directory that is empty and read-only
	stageNull  = "/null"  // the null device
)

func stageName(i int) string  { return fmt.Sprintf("/%d", i) }
func deviceName(i int) string { return fmt.Sprintf("/dev%d", i) }

// enterStage builds the stage, and makes it the root of this process and all of its threads.
func enterStage(s *specs.Spec) (*stage, error) {
	st := &stage{spec: s}
	// What the child mounts or unmounts from now on is not this process's, nor the other way round.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	dir := s.Root.Path // covered, in this namespace alone
	root, err := openDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open root: %w", err)
	}
	defer root.Close()
	if err := unix.Mount("stage", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return nil, fmt.Errorf("mount stage: %w", err)
	}
	// A volume that holds the state, such as the whole machine, is bound without it.
	if err := unix.Mount("", dir, "", unix.MS_UNBINDABLE, ""); err != nil {
		return nil, fmt.Errorf("mount stage: %w", err)
	}
	if err := st.collect(dir, root); err != nil {
		return nil, err
	}
	top, err := openDir(dir)
	if err != nil {
		return nil, err
	}
	defer top.Close()
	if err := exchangeRoot(top); err != nil {
		return nil, err
	}
	if st.root, err = openDir(stageRoot); err != nil {
		return nil, err
	}
	if st.proc, err = openDir("/proc"); err != nil {
		return nil, err
	}
	return st, nil
}

func openDir(name string) (*os.File, error) {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// collect fills the stage, which is mounted at dir.
func (st *stage) collect(dir string, root *os.File) error {
	// Without MS_REC only the root itself would be bound, and what the caller mounted below it would be missing.
	err := st.bind(dir+stageRoot, procPath(root), mountOptions{rec: true, links: true, flags: unix.MS_NODEV})
	if err != nil {
		return fmt.Errorf("bind root %s: %w", st.spec.Root.Path, err)
	}
	proc := mountOptions{flags: unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC}
	for i, m := range st.spec.Mounts {
		o, err := parseMountOptions(m)
		switch {
		case err != nil:
		case o.bind:
			err = st.bind(dir+stageName(i), m.Source, o)
		case m.Type == "proc":
			proc.flags |= o.flags
		case m.Type == "sysfs":
			err = st.kernelFS(dir+"/sys", m.Type, o)
		}
		if err != nil {
			return fmt.Errorf("mount %s on %s: %w", cmpOr(m.Type, m.Source), m.Destination, err)
		}
		st.mounts = append(st.mounts, o)
	}
	if err := st.kernelFS(dir+"/proc", "proc", proc); err != nil {
		return fmt.Errorf("mount proc: %w", err)
	}
	if err := st.devices(dir); err != nil {
		return err
	}
	return st.hide(dir)
}

// bind binds source, a path of the machine, at a name of the stage.
func (st *stage) bind(name, source string, o mountOptions) error {
	fi, err := os.Stat(source)
	if err != nil {
		return err
	}
	if err := makeOne(name, fi.IsDir()); err != nil {
		return err
	}
	flags := uintptr(unix.MS_BIND)
	if o.rec {
		flags |= unix.MS_REC
	}
	if err := unix.Mount(source, name, "", flags, ""); err != nil {
		return err
	}
	return restrict(name, o)
}

func makeOne(name string, dir bool) error {
	if dir {
		return unix.Mkdir(name, 0o755)
	}
	fd, err := unix.Open(name, unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC|unix.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// restrict adds the flags of o to the mount at name and those below it.
func restrict(name string, o mountOptions) error {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if o.links {
		if err := followLinks(f); err != nil {
			return fmt.Errorf("let links be followed: %w", err)
		}
	}
	return addFlags(f, o.flags, true)
}

// kernelFS mounts /proc or /sys. In nested containers the kernel refuses a fresh one, because it would show what the outer
// container has masked, and a sysfs also where the network namespace is not ours: then the one that is there is bound, with
// everything on it.
func (st *stage) kernelFS(name, kind string, o mountOptions) error {
	if err := makeOne(name, true); err != nil {
		return err
	}
	err := unix.Mount(kind, name, kind, o.flags, strings.Join(o.data, ","))
	if err != unix.EPERM && err != unix.EACCES && err != unix.EBUSY {
		return err
	}
	machine := map[string]string{"proc": "/proc", "sysfs": "/sys"}[kind]
	if err := unix.Mount(machine, name, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	return restrict(name, o)
}

// devices puts the machine's device nodes on the stage; one that the machine does not have is left out.
func (st *stage) devices(dir string) error {
	if err := st.device(dir+stageNull, os.DevNull); err != nil {
		return err
	}
	if !st.ownDev() {
		return nil
	}
	for i, p := range st.devicePaths() {
		if err := st.device(dir+deviceName(i), p); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (st *stage) device(name, p string) error {
	fi, err := os.Stat(p)
	if err == nil && fi.Mode()&os.ModeDevice == 0 {
		err = errors.New("is no device on this machine")
	}
	if err == nil {
		err = st.bind(name, p, mountOptions{flags: unix.MS_NOSUID | unix.MS_NOEXEC})
	}
	if err != nil {
		return fmt.Errorf("bind device %s: %w", p, err)
	}
	return nil
}

// ownDev reports whether the step has a /dev of its own to be furnished.
func (st *stage) ownDev() bool {
	for _, m := range st.spec.Mounts {
		if path.Clean(m.Destination) == "/dev" && m.Type == "tmpfs" {
			return true
		}
	}
	return false
}

func (st *stage) devicePaths() []string {
	paths := devices
	for _, d := range st.spec.Linux.Devices {
		paths = append(paths[:len(paths):len(paths)], d.Path)
	}
	return paths
}

// hide makes paths of /proc and /sys read-only, and masks others, while both lie where no image has a say. Each is looked at
// afterwards.
func (st *stage) hide(dir string) error {
	top, err := openDir(dir)
	if err != nil {
		return err
	}
	defer top.Close()
	for _, p := range st.spec.Linux.ReadonlyPaths {
		if err := readonly(top, p); err != nil {
			return fmt.Errorf("make %s read-only: %w", p, err)
		}
	}
	if err := makeOne(dir+stageEmpty, true); err != nil {
		return err
	}
	const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("tmpfs", dir+stageEmpty, "tmpfs", flags, "nr_blocks=1,nr_inodes=1"); err != nil {
		return fmt.Errorf("mount an empty directory: %w", err)
	}
	for _, p := range st.spec.Linux.MaskedPaths {
		if err := mask(top, p); err != nil {
			return fmt.Errorf("mask %s: %w", p, err)
		}
	}
	return nil
}

func readonly(top *os.File, p string) error {
	f, err := openPlain(top, p)
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
	now, err := openPlain(top, p) // f is of what lies under the mount
	if err != nil {
		return err
	}
	defer now.Close()
	if err := addFlags(now, unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, true); err != nil {
		return err
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(now.Fd()), &fs); err != nil {
		return err
	}
	if fs.Flags&unix.ST_RDONLY == 0 {
		return errors.New("it can be written to after all")
	}
	return nil
}

// mask hides p: a file under the null device, a directory under an empty one.
func mask(top *os.File, p string) error {
	f, err := openPlain(top, p)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	source := stageNull
	if fi.IsDir() {
		source = stageEmpty
	}
	if err := unix.Mount(procPath(top)+source, procPath(f), "", unix.MS_BIND, ""); err != nil {
		return err
	}
	now, err := openPlain(top, p)
	if err != nil {
		return err
	}
	defer now.Close()
	return isMask(now, fi.IsDir())
}

// isMask refuses what is no mask after all (CVE-2025-31133: what was bound was not the null device).
func isMask(f *os.File, dir bool) error {
	var st unix.Stat_t
	var fs unix.Statfs_t
	if err := errors.Join(unix.Fstat(int(f.Fd()), &st), unix.Fstatfs(int(f.Fd()), &fs)); err != nil {
		return err
	}
	null := st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3)
	empty := st.Mode&unix.S_IFMT == unix.S_IFDIR && fs.Type == unix.TMPFS_MAGIC && fs.Flags&unix.ST_RDONLY != 0 && st.Nlink == 2
	if dir && !empty || !dir && !null {
		return errors.New("it can be seen after all")
	}
	return nil
}

// absent reports whether there is nothing to be hidden. That it may not be looked at is another matter.
func absent(err error) bool { return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) }

// exchangeRoot makes the mount at dir the root of the namespace, and of every thread, and lets go of the old one: with "."
// for both, the old root comes to lie over the new one and is unmounted from there (pivot_root(2), NOTES).
//
// The root of a machine that runs from its initial ramdisk cannot be exchanged, and filters may forbid the call. Then the
// mount is moved over the old root, as switch_root(8) does. Since it covers the root of the namespace, nothing leads below
// it: ".." of its root is itself, for a process that made a chroot in it, too.
func exchangeRoot(dir *os.File) error {
	if err := unix.Fchdir(int(dir.Fd())); err != nil {
		return fmt.Errorf("enter root: %w", err)
	}
	pivot := unix.PivotRoot(".", ".")
	if pivot == nil {
		if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
			return fmt.Errorf("let go of the old root: %w", err)
		}
	} else if err := errors.Join(unix.Mount(".", "/", "", unix.MS_MOVE, ""), unix.Chroot(".")); err != nil {
		return &Unavailable{
			fmt.Sprintf("the root of this mount namespace cannot be exchanged (pivot_root: %v; mount --move: %v)", pivot, err),
			"if this is a container, start it with a seccomp profile that allows pivot_root, such as --security-opt seccomp=unconfined",
		}
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("enter root: %w", err)
	}
	return nil
}
