package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// rootfs is the step's root while it is being furnished, before pivot_root. Every path in it is resolved inside it,
// whatever symbolic links the image has: none leads a mount outside.
type rootfs struct {
	dir *os.File // the root, bound onto itself
}

func openRootfs(path string) (*rootfs, error) {
	// Without MS_REC only the root itself would be bound, and what the caller mounted below it would be missing.
	if err := unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return nil, fmt.Errorf("bind root %s: %w", path, err)
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open root %s: %w", path, err)
	}
	r := &rootfs{os.NewFile(uintptr(fd), path)}
	return r, addFlags(r.dir, unix.MS_NODEV, true)
}

// procPath names what f refers to, for calls that take a path.
func procPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

func (r *rootfs) open(dest string) (*os.File, error) { return openIn(r.dir, dest) }

// openIn opens name as a path (O_PATH) inside root, links and all. The kernel itself holds what is looked up inside
// (RESOLVE_IN_ROOT); package pathrs does the same with ten calls for each, and is for where an outer container's filter
// does not know this one.
func openIn(root *os.File, name string) (*os.File, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for range 128 { // a rename anywhere on the machine may cost a try (EAGAIN)
		fd, err := unix.Openat2(int(root.Fd()), name, &how)
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), name), nil
		case unix.EAGAIN, unix.EINTR:
			continue
		case unix.ENOSYS, unix.EPERM:
			return pathrs.OpenatInRoot(root, name)
		}
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return nil, &os.PathError{Op: "open", Path: name, Err: unix.EAGAIN}
}

// target opens the place to mount on, and makes it where it is missing: a directory of mode 0755, or an empty file.
func (r *rootfs) target(dest string, dir bool) (*os.File, error) {
	f, err := r.open(dest)
	if !errors.Is(err, os.ErrNotExist) {
		return f, err
	}
	// A dangling link on the way: what it points to is made, as runc does (/etc/resolv.conf is often one).
	rel, err := resolveIn(r.dir.Name(), dest)
	if err != nil {
		return nil, err
	}
	if err := makeIn(r.dir, rel, dir); err != nil {
		return nil, err
	}
	return r.open(rel)
}

// resolveIn resolves the links of name inside root and returns an absolute path as seen from there.
func resolveIn(root, name string) (string, error) {
	full, err := securejoin.SecureJoin(root, name)
	if err != nil {
		return "", err
	}
	return path.Join("/", strings.TrimPrefix(full, filepath.Clean(root))), nil
}

func makeIn(root *os.File, name string, dir bool) error {
	if dir {
		h, err := pathrs.MkdirAllHandle(root, name, 0o755)
		if err != nil {
			return err
		}
		return h.Close()
	}
	parent, err := openIn(root, path.Dir(name))
	if errors.Is(err, os.ErrNotExist) {
		parent, err = pathrs.MkdirAllHandle(root, path.Dir(name), 0o755)
	}
	if err != nil {
		return err
	}
	defer parent.Close()
	fd, err := unix.Openat(int(parent.Fd()), path.Base(name), unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// mountOptions are the options of a spec's mount, sorted out.
type mountOptions struct {
	bind, rec bool
	flags     uintptr
	data      []string
}

var mountFlags = map[string]uintptr{
	"ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC,
	"noatime": unix.MS_NOATIME, "nodiratime": unix.MS_NODIRATIME, "relatime": unix.MS_RELATIME,
	"strictatime": unix.MS_STRICTATIME, "sync": unix.MS_SYNCHRONOUS, "nosymfollow": unix.MS_NOSYMFOLLOW,
	// What is so anyway.
	"rw": 0, "suid": 0, "exec": 0, "async": 0, "defaults": 0, "dev": 0,
	"private": 0, "rprivate": 0, "slave": 0, "rslave": 0,
}

func parseMountOptions(m specs.Mount) (mountOptions, error) {
	o := mountOptions{bind: m.Type == "bind"}
	for _, opt := range m.Options {
		flag, known := mountFlags[opt]
		switch {
		case opt == "bind":
			o.bind = true
		case opt == "rbind":
			o.bind, o.rec = true, true
		case known:
			o.flags |= flag
		default:
			o.data = append(o.data, opt)
		}
	}
	if o.bind && len(o.data) > 0 {
		return o, fmt.Errorf("unknown options %q of a bind mount", o.data)
	}
	if m.Type != "devpts" { // its nodes are terminals, and mknod is not possible there
		o.flags |= unix.MS_NODEV
	}
	return o, nil
}

func (r *rootfs) mount(m specs.Mount) error {
	o, err := parseMountOptions(m)
	if err == nil {
		switch {
		case o.bind:
			err = r.bind(m.Source, m.Destination, o)
		case m.Type == "proc" || m.Type == "sysfs":
			err = r.mountKernelFS(m, o)
		default:
			err = r.mountFS(m, o)
		}
	}
	if err != nil {
		return fmt.Errorf("mount %s on %s: %w", cmpOr(m.Type, m.Source), m.Destination, err)
	}
	return nil
}

func (r *rootfs) mountFS(m specs.Mount, o mountOptions) error {
	target, err := r.target(m.Destination, true)
	if err != nil {
		return err
	}
	defer target.Close()
	err = unix.Mount(cmpOr(m.Source, m.Type), procPath(target), m.Type, o.flags, strings.Join(o.data, ","))
	switch {
	case err == unix.EINVAL && m.Type == "devpts":
		// With one id there is no group 5 (tty).
		data := o.data[:0:0]
		for _, d := range o.data {
			if !strings.HasPrefix(d, "gid=") {
				data = append(data, d)
			}
		}
		return unix.Mount("devpts", procPath(target), "devpts", o.flags, strings.Join(data, ","))
	case err == unix.ENODEV && m.Type == "mqueue":
		return nil // a kernel without POSIX message queues
	}
	return err
}

// mountKernelFS mounts /proc and /sys. In nested containers the kernel refuses a fresh one, because it would show
// what the outer container has masked, and a sysfs also where the network namespace is not ours: then the one that
// is there is bound, with everything on it.
func (r *rootfs) mountKernelFS(m specs.Mount, o mountOptions) error {
	target, err := r.target(m.Destination, true)
	if err != nil {
		return err
	}
	defer target.Close()
	// A link in the image could have led to another place: harmless for a file system of the image's own, but
	// masks and the checks of other programs rely on this one (CVE-2019-16884).
	if err := r.unlinked(target, m.Destination); err != nil {
		return err
	}
	err = unix.Mount(m.Type, procPath(target), m.Type, o.flags, strings.Join(o.data, ","))
	if err == unix.EPERM || err == unix.EACCES || err == unix.EBUSY {
		o.rec = true
		host := map[string]string{"proc": "/proc", "sysfs": "/sys"}[m.Type]
		return r.bind(host, m.Destination, o)
	}
	return err
}

// unlinked checks that target, opened as dest, is at that very place.
func (r *rootfs) unlinked(target *os.File, dest string) error {
	root, err := os.Readlink(procPath(r.dir))
	if err != nil {
		return err
	}
	at, err := os.Readlink(procPath(target))
	if err != nil {
		return err
	}
	if at != path.Join(root, dest) {
		return fmt.Errorf("the image has a symbolic link on the way there")
	}
	return nil
}

func (r *rootfs) bind(source, dest string, o mountOptions) error {
	st, err := os.Stat(source)
	if err != nil {
		return err
	}
	target, err := r.target(dest, st.IsDir())
	if err != nil {
		return err
	}
	defer target.Close()
	flags := uintptr(unix.MS_BIND)
	if o.rec {
		flags |= unix.MS_REC
	}
	if err := unix.Mount(source, procPath(target), "", flags, ""); err != nil {
		return err
	}
	return r.restrict(dest, o.flags)
}

// restrict adds flags to what is mounted on dest and below.
func (r *rootfs) restrict(dest string, flags uintptr) error {
	f, err := r.open(dest) // again: the descriptor from before the mount is of what lies under it
	if err != nil {
		return err
	}
	defer f.Close()
	return addFlags(f, flags, true)
}

// addFlags adds mount flags and takes none away, which the kernel would refuse for mounts from a parent namespace.
func addFlags(f *os.File, flags uintptr, rec bool) error {
	var attr uint64
	for _, x := range []struct{ flag, attr uintptr }{
		{unix.MS_RDONLY, unix.MOUNT_ATTR_RDONLY}, {unix.MS_NOSUID, unix.MOUNT_ATTR_NOSUID},
		{unix.MS_NODEV, unix.MOUNT_ATTR_NODEV}, {unix.MS_NOEXEC, unix.MOUNT_ATTR_NOEXEC},
	} {
		if flags&x.flag != 0 {
			attr |= uint64(x.attr)
		}
	}
	if attr == 0 {
		return nil
	}
	how := uint(unix.AT_EMPTY_PATH)
	if rec {
		how |= unix.AT_RECURSIVE
	}
	err := unix.MountSetattr(int(f.Fd()), "", how, &unix.MountAttr{Attr_set: attr})
	if err != unix.ENOSYS && err != unix.EPERM {
		return err
	}
	// Before Linux 5.12, or under a filter that does not know the call: remount, with what is set already.
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return err
	}
	const kept = unix.ST_RDONLY | unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC | unix.ST_NOATIME | unix.ST_NODIRATIME | unix.ST_RELATIME
	now := uintptr(st.Flags) & kept
	if now&unix.ST_RELATIME != 0 { // the one whose number differs from the mount flag's
		now = now&^unix.ST_RELATIME | unix.MS_RELATIME
	}
	flags &= unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	return unix.Mount("", procPath(f), "", unix.MS_BIND|unix.MS_REMOUNT|flags|now, "")
}
