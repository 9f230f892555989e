package sandbox

import (
	"fmt"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// mountOptions are the options of a spec's mount, sorted out.
type mountOptions struct {
	bind, rec bool
	links     bool // links are followed, though the source is mounted without
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
		case opt == "symfollow":
			o.links = true
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
	flags &= unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	return unix.Mount("", procPath(f), "", unix.MS_BIND|unix.MS_REMOUNT|flags|remounted(st), "")
}

// followLinks takes MS_NOSYMFOLLOW from the mount at f.
func followLinks(f *os.File) error {
	err := unix.MountSetattr(int(f.Fd()), "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_NOSYMFOLLOW})
	if err != unix.ENOSYS && err != unix.EPERM && err != unix.EINVAL { // the last is before Linux 5.14
		return err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return err
	}
	return unix.Mount("", procPath(f), "", unix.MS_BIND|unix.MS_REMOUNT|remounted(st), "")
}

// remounted is the flags that a remount has to repeat, to take none of them away.
func remounted(st unix.Statfs_t) uintptr {
	const kept = unix.ST_RDONLY | unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC | unix.ST_NOATIME | unix.ST_NODIRATIME | unix.ST_RELATIME
	now := uintptr(st.Flags) & kept
	if now&unix.ST_RELATIME != 0 { // the one whose number differs from the mount flag's
		now = now&^unix.ST_RELATIME | unix.MS_RELATIME
	}
	return now
}
