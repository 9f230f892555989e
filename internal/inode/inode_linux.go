package inode

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Lstat returns the attributes of the file at path, with its record applied. A symlink is not followed.
// A record that this process may not read counts as none.
func Lstat(path string) (Info, error) {
	var st unix.Stat_t
	if err := ignoringEINTR(func() error { return unix.Lstat(path, &st) }); err != nil {
		return Info{}, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	return fromStat(path, &st)
}

// fromStat turns what lstat said of path into an Info.
func fromStat(path string, st *unix.Stat_t) (Info, error) {
	own := owner(st)
	i := Info{
		Mode: st.Mode, UID: own[0], GID: own[1],
		Mtime: st.Mtim.Nano(),
		Dev:   uint64(st.Dev), Ino: st.Ino, Nlink: uint64(st.Nlink),
	}
	switch i.Type() {
	case TypeLink:
		target, err := os.Readlink(path)
		if err != nil {
			return Info{}, err
		}
		i.Link = target
		if uid, gid, ok := linkOwner(st.Mtim.Unix()); ok {
			i.UID, i.GID, i.Mtime = uid, gid, 0
		}
	case TypeFile:
		i.Size = st.Size
		mayHave := listXattrs(path)
		if mayHave(CapabilityXattr) {
			if caps, ok := getXattr(path, CapabilityXattr); ok {
				i.Xattrs = map[string]string{CapabilityXattr: caps}
			}
		}
		if mayHave(RecordXattr) {
			applyRecord(path, &i)
		}
	case TypeDir:
		applyRecord(path, &i)
	case TypeChar, TypeBlock:
		i.Major, i.Minor = unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))
	}
	return i, nil
}

func applyRecord(path string, i *Info) {
	text, ok := getXattr(path, RecordXattr)
	if !ok {
		return
	}
	// A step of the build can write anything here: what does not parse is not ours.
	if r, err := parseRecord(text); err == nil {
		r.apply(i)
	}
}

// Set gives the existing file at path the mode, owner and xattrs of want, and removes what an earlier
// Set recorded. What the file system or the user namespace refuses goes into the record. The file must
// have the type of want, but a device, fifo or socket may be (or become) a placeholder; no type bits in
// want.Mode mean any type. Times are not set, and a symlink's permissions do not exist.
func Set(path string, want Info) error {
	if err := set(path, want); err != nil {
		return fmt.Errorf("set attributes: %w", err)
	}
	return nil
}

func set(path string, want Info) error {
	if want.UID < 0 || want.GID < 0 || int64(want.UID) > maxID || int64(want.GID) > maxID {
		return fmt.Errorf("%s: owner %d:%d out of range", path, want.UID, want.GID)
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	typ := st.Mode & TypeMask
	if want.Type() == 0 {
		want.Mode |= typ
	}
	switch {
	case typ == TypeLink && want.IsLink():
		return setLink(path, &st, want)
	case typ == TypeFile && isSpecial(want.Type()):
		return setNode(path, &st, want, &node{want.Type(), want.Major, want.Minor})
	case typ == want.Type() && isSpecial(typ):
		return setSpecial(path, &st, want)
	case typ == want.Type():
		return setNode(path, &st, want, nil)
	}
	return fmt.Errorf("%s: has type %o, want %o", path, typ, want.Type())
}

// maxID is the largest id: 2^32-1 means "unchanged" in chown(2).
const maxID = 1<<32 - 2

// setNode sets the attributes of a regular file or directory. The order matters: chown clears setuid,
// setgid and the capability, and so comes first.
func setNode(path string, st *unix.Stat_t, want Info, placeholder *node) error {
	rec := record{node: placeholder}
	owned, real, err := chown(path, st, want)
	if err != nil {
		return err
	}
	if !owned {
		rec.owner = &change[[2]int]{want: [2]int{want.UID, want.GID}, real: real}
	}
	realMode, err := chmod(path, want.Perm())
	if err != nil {
		return err
	}
	if realMode != want.Perm() {
		rec.mode = &change[uint32]{want: want.Perm(), real: realMode}
	}
	if st.Mode&TypeMask == TypeFile {
		if rec.caps, err = setCapability(path, want.Xattrs[CapabilityXattr]); err != nil {
			return err
		}
	}
	return writeRecord(path, rec, realMode)
}

// setSpecial sets the attributes of a real device node, fifo or socket. Those cannot have a record;
// where one is needed a placeholder takes its place.
func setSpecial(path string, st *unix.Stat_t, want Info) error {
	if want.IsDevice() && uint64(st.Rdev) != unix.Mkdev(want.Major, want.Minor) {
		return fmt.Errorf("%s: is another device than %d:%d", path, want.Major, want.Minor)
	}
	owned, _, err := chown(path, st, want)
	if err != nil {
		return err
	}
	if owned {
		if mode, err := chmod(path, want.Perm()); err != nil || mode == want.Perm() {
			return err
		}
	}
	if err := unix.Unlink(path); err != nil {
		return &os.PathError{Op: "unlink", Path: path, Err: err}
	}
	return createPlaceholder(path, want)
}

// setLink sets the owner of a symlink, in its modification time where chown refuses.
func setLink(path string, st *unix.Stat_t, want Info) error {
	owned, _, err := chown(path, st, want)
	if err != nil {
		return err
	}
	_, _, recorded := linkOwner(st.Mtim.Unix())
	switch {
	case owned && recorded:
		return setTimes(path, unix.Timespec{})
	case owned:
		return nil
	case want.UID >= linkUIDEnd:
		return fmt.Errorf("%s: keep owner of symlink: uid %d is not below %d", path, want.UID, int64(linkUIDEnd))
	}
	ts := unix.Timespec{Sec: linkRecord + int64(want.GID), Nsec: int64(want.UID)}
	if err := setTimes(path, ts); err != nil {
		return err
	}
	// A file system whose times end in 2038 (XFS without bigtime, ext3) cuts them silently.
	var now unix.Stat_t
	if err := unix.Lstat(path, &now); err != nil {
		return &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	if now.Mtim != ts {
		return fmt.Errorf("%s: keep owner of symlink: the file system cannot hold times after 2106", path)
	}
	return nil
}

// chown changes the owner unless it is right already. Where that is refused the file is left with this
// process's own ids as far as possible, which are returned.
func chown(path string, st *unix.Stat_t, want Info) (owned bool, real [2]int, err error) {
	real = owner(st)
	wanted := [2]int{want.UID, want.GID}
	if real == wanted {
		return true, real, nil
	}
	err = ignoringEINTR(func() error { return unix.Lchown(path, want.UID, want.GID) })
	if err == nil {
		return true, wanted, nil
	}
	if !refused(err) {
		return false, real, &os.PathError{Op: "chown", Path: path, Err: err}
	}
	own := [2]int{os.Geteuid(), os.Getegid()}
	if ids := asRoot(own); real != ids && unix.Lchown(path, own[0], own[1]) == nil {
		real = ids
	}
	return false, real, nil
}

// ownIsRoot is set by [OwnIsRoot].
var ownIsRoot bool

// OwnIsRoot has this process's own ids stand for 0, as they do in a user namespace with one id. A process that works on layers without
// such a namespace calls it before anything else.
func OwnIsRoot() { ownIsRoot = true }

// asRoot is what ids of the file system stand for.
func asRoot(ids [2]int) [2]int {
	if ownIsRoot && ids[0] == os.Geteuid() {
		ids[0] = 0
	}
	if ownIsRoot && ids[1] == os.Getegid() {
		ids[1] = 0
	}
	return ids
}

func owner(st *unix.Stat_t) [2]int { return asRoot([2]int{int(st.Uid), int(st.Gid)}) }

// chmod returns the permissions that the file has afterwards: without a right to do so setgid is
// dropped in silence, and the whole call can be refused.
func chmod(path string, perm uint32) (uint32, error) {
	err := ignoringEINTR(func() error { return unix.Chmod(path, perm) })
	if err == nil && perm&0o7000 == 0 {
		return perm, nil
	}
	if err != nil && !refused(err) {
		return 0, &os.PathError{Op: "chmod", Path: path, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return 0, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	return st.Mode & PermMask, nil
}

// setCapability sets or removes the file capability; it returns it when it has to go to the record.
func setCapability(path, caps string) (recorded string, err error) {
	have, ok := getXattr(path, CapabilityXattr)
	switch {
	case caps == "" && !ok, ok && have == caps:
		return "", nil
	case caps == "":
		if err := unix.Lremovexattr(path, CapabilityXattr); err != nil && !errors.Is(err, unix.ENODATA) {
			return "", &os.PathError{Op: "remove " + CapabilityXattr, Path: path, Err: err}
		}
		return "", nil
	}
	err = unix.Lsetxattr(path, CapabilityXattr, []byte(caps), 0)
	if err == nil {
		return "", nil
	}
	if !refused(err) {
		return "", &os.PathError{Op: "set " + CapabilityXattr, Path: path, Err: err}
	}
	if 2*len(caps) > recordLimit/2 {
		return "", fmt.Errorf("%s: %s of %d bytes: %w", path, CapabilityXattr, len(caps), err)
	}
	return caps, nil
}

// writeRecord replaces the record of a file whose permissions are perm.
func writeRecord(path string, rec record, perm uint32) error {
	have, ok := getXattr(path, RecordXattr)
	var change func() error
	switch {
	case rec.empty() && !ok, ok && have == rec.String():
		return nil
	case rec.empty():
		change = func() error { return unix.Lremovexattr(path, RecordXattr) }
	default:
		change = func() error { return unix.Lsetxattr(path, RecordXattr, []byte(rec.String()), 0) }
	}
	err := change()
	if errors.Is(err, unix.EACCES) {
		// An owner without CAP_DAC_OVERRIDE needs the write permission.
		if err = unix.Chmod(path, perm|0o600); err == nil {
			err = errors.Join(change(), unix.Chmod(path, perm))
		}
	}
	if err != nil {
		return fmt.Errorf("keep attributes beside the file in %s: %w", RecordXattr, &os.PathError{Op: "setxattr", Path: path, Err: err})
	}
	return nil
}

// SetTimes sets the access and modification time, in nanoseconds since 1970. A symlink is not followed;
// one whose time holds its owner keeps that, and others are bounded to 2106.
func SetTimes(path string, mtime int64) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	ts := unix.NsecToTimespec(mtime)
	if st.Mode&TypeMask == TypeLink {
		if _, _, ok := linkOwner(st.Mtim.Unix()); ok {
			return nil
		}
		ts.Sec = min(ts.Sec, linkTimeMax)
	}
	return setTimes(path, ts)
}

func setTimes(path string, ts unix.Timespec) error {
	err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return &os.PathError{Op: "utimensat", Path: path, Err: err}
	}
	return nil
}

// Create makes a directory, symlink, fifo, socket or device node at path, where nothing may be yet, with
// the attributes of want; see [Set]. What cannot be made gets a placeholder. Nothing is left on an error.
func Create(path string, want Info) error {
	err := create(path, want)
	if err == nil {
		err = set(path, want)
		if err != nil {
			os.Remove(path)
		}
	}
	if err != nil {
		return fmt.Errorf("create file: %w", err)
	}
	return nil
}

func create(path string, want Info) error {
	switch want.Type() {
	case TypeDir:
		return os.Mkdir(path, 0o700)
	case TypeLink:
		return os.Symlink(want.Link, path)
	case TypeFIFO, TypeSocket, TypeChar, TypeBlock:
	default:
		return fmt.Errorf("%s: cannot make a file of type %o", path, want.Type())
	}
	if !hasNode(want) {
		return createPlaceholder(path, want)
	}
	err := unix.Mknod(path, want.Type()|0o600, int(unix.Mkdev(want.Major, want.Minor)))
	if refused(err) {
		return createPlaceholder(path, want)
	}
	if err != nil {
		return &os.PathError{Op: "mknod", Path: path, Err: err}
	}
	return nil
}

// hasNode tells whether the kernel can make such a node. The character device 0:0 is a whiteout for
// overlayfs, and numbers end at 12 and 20 bits (new_encode_dev in linux/kdev_t.h), silently.
func hasNode(want Info) bool {
	if want.Type() == TypeChar && want.Major == 0 && want.Minor == 0 {
		return false
	}
	return want.Major < 1<<12 && want.Minor < 1<<20
}

func createPlaceholder(path string, want Info) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return set(path, want)
}

// refused tells the errors by which a kernel says that this file system or namespace cannot hold it.
func refused(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP)
}

// listXattrs returns what tells whether the file itself may have an extended attribute of that name. Most files have none at all, and
// one list of nothing takes half as long as to ask for two. Where the list cannot be had any name is possible.
func listXattrs(path string) (mayHave func(name string) bool) {
	var buf [recordLimit]byte
	n, err := unix.Llistxattr(path, buf[:])
	switch {
	case err != nil:
		return func(string) bool { return true }
	case n == 0:
		return func(string) bool { return false }
	}
	list := "\x00" + string(buf[:n])
	return func(name string) bool { return strings.Contains(list, "\x00"+name+"\x00") }
}

// MakeFile makes a regular file at path, where nothing may be yet, which is the error fs.ErrExist. It has what write writes (nil:
// nothing), the attributes of want and the times mtime: it is [Set] and [SetTimes] in fewer system calls, which is most of
// what a small file costs. After another error there may be half a file.
func MakeFile(path string, want Info, mtime int64, write func(*os.File) error) error {
	var fd int
	err := ignoringEINTR(func() (err error) {
		fd, err = unix.Open(path, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, want.Perm()&0o777)
		return err
	})
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	done := func() error { return unix.Close(fd) }
	if write != nil {
		f := os.NewFile(uintptr(fd), path)
		done = f.Close
		if err := write(f); err != nil {
			return errors.Join(err, done())
		}
	}
	ok, err := settle(fd, want, mtime)
	if err != nil {
		err = &os.PathError{Op: "set times", Path: path, Err: err}
	}
	if err := errors.Join(err, done()); err != nil || ok {
		return err
	}
	if err := Set(path, want); err != nil {
		return err
	}
	return SetTimes(path, mtime)
}

// settle gives a file that was just made its times, if it has the attributes of want already. A new file has no record.
func settle(fd int, want Info, mtime int64) (ok bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, err
	}
	if st.Mode != TypeFile|want.Perm() || int(st.Uid) != want.UID || int(st.Gid) != want.GID || want.Xattrs[CapabilityXattr] != "" {
		return false, nil
	}
	ts := unix.NsecToTimespec(mtime)
	return true, unix.UtimesNanoAt(fd, "", []unix.Timespec{ts, ts}, unix.AT_EMPTY_PATH)
}

// getXattr returns an extended attribute of the file itself, or false when there is none, or none that
// this process may read, or one that is longer than anything skiff writes.
func getXattr(path, name string) (string, bool) {
	var buf [recordLimit]byte
	n, err := unix.Lgetxattr(path, name, buf[:])
	if err != nil {
		return "", false
	}
	return string(buf[:n]), true
}

func ignoringEINTR(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
