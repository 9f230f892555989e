// Package inode knows the attributes of files as an image has them: what lstat says, corrected by a
// record kept beside the file for what the file system or the user namespace could not hold.
//
// A process that maps a single id cannot chown (EINVAL), and one without real root cannot make device
// nodes (EPERM). [Set] and [Create] try the real thing first and put what was refused into the record;
// [Lstat] gives both back as one [Info]. So the same tree has the same attributes, and so the same
// digest, whichever way skiff runs. The record is
//
//   - on regular files and directories the extended attribute [RecordXattr], which overlayfs carries
//     along when it copies a file up;
//   - for a device node, fifo or socket that could not be made or owned: an empty regular file with
//     such a record, the placeholder;
//   - on symlinks, which cannot have user attributes, their modification time: 2^32 + gid seconds
//     and uid nanoseconds. The image then sees the time zero.
//
// A step of a build may write any of these. A record that does not parse, or that no longer fits the
// file (chowned or written since), is ignored.
//
// Xattrs outside of the image's concern, above all those of overlayfs (user.overlay.*), never appear
// in an Info. All functions may be called from several goroutines, on different files.
package inode

import (
	"io/fs"
)

// The bits of [Info.Mode], as in Linux's stat(2), on every platform.
const (
	TypeMask   = 0o170000
	TypeSocket = 0o140000
	TypeLink   = 0o120000
	TypeFile   = 0o100000
	TypeBlock  = 0o060000
	TypeDir    = 0o040000
	TypeChar   = 0o020000
	TypeFIFO   = 0o010000
	PermMask   = 0o007777 // permissions with setuid, setgid and sticky
)

// CapabilityXattr is the only extended attribute that images keep, as with BuildKit.
const CapabilityXattr = "security.capability"

// Info is the attributes of a file as the image has them.
type Info struct {
	Mode         uint32            // type and permission bits, see [TypeMask] and [PermMask]
	UID, GID     int               // as in the image
	Size         int64             // bytes, of a regular file; else 0
	Mtime        int64             // nanoseconds since 1970; 0 for a symlink whose time holds a record
	Major, Minor uint32            // of a device node
	Link         string            // target of a symlink
	Xattrs       map[string]string // [CapabilityXattr] only; nil when there is none

	// The file on the host, to find hard links. Zero where unknown.
	Dev, Ino, Nlink uint64
}

// Type returns the type bits of the mode, one of the Type constants.
func (i Info) Type() uint32 { return i.Mode & TypeMask }

// Perm returns the permission bits of the mode with setuid, setgid and sticky.
func (i Info) Perm() uint32 { return i.Mode & PermMask }

// IsDir reports whether the file is a directory.
func (i Info) IsDir() bool { return i.Type() == TypeDir }

// IsRegular reports whether the file is a regular file.
func (i Info) IsRegular() bool { return i.Type() == TypeFile }

// IsLink reports whether the file is a symbolic link.
func (i Info) IsLink() bool { return i.Type() == TypeLink }

// IsDevice reports whether the file is a character or block device.
func (i Info) IsDevice() bool { return isDevice(i.Type()) }

// SameAttributes reports whether two files have equal type, permissions, owner, device number, link
// target and xattrs. Size, content, times and identity on the host do not count.
func (i Info) SameAttributes(o Info) bool {
	return i.Mode == o.Mode && i.UID == o.UID && i.GID == o.GID && i.Major == o.Major && i.Minor == o.Minor &&
		i.Link == o.Link && i.Xattrs[CapabilityXattr] == o.Xattrs[CapabilityXattr]
}

// FileMode returns the mode in Go's form.
func (i Info) FileMode() fs.FileMode {
	m := fs.FileMode(i.Mode & 0o777)
	for _, b := range modeBits {
		if i.Mode&b.mask == b.unix {
			m |= b.mode
		}
	}
	return m
}

// FromFileMode is the inverse of [Info.FileMode].
func FromFileMode(m fs.FileMode) uint32 {
	u := uint32(m.Perm())
	if m.IsRegular() {
		u |= TypeFile
	}
	for _, b := range modeBits {
		if m&(fs.ModeType|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)&b.goMask == b.mode {
			u |= b.unix
		}
	}
	return u
}

// modeBits pairs unix mode bits below mask with Go's below goMask.
var modeBits = []struct {
	mask, unix   uint32
	goMask, mode fs.FileMode
}{
	{TypeMask, TypeSocket, fs.ModeType, fs.ModeSocket},
	{TypeMask, TypeLink, fs.ModeType, fs.ModeSymlink},
	{TypeMask, TypeBlock, fs.ModeType, fs.ModeDevice},
	{TypeMask, TypeDir, fs.ModeType, fs.ModeDir},
	{TypeMask, TypeChar, fs.ModeType, fs.ModeDevice | fs.ModeCharDevice},
	{TypeMask, TypeFIFO, fs.ModeType, fs.ModeNamedPipe},
	{0o4000, 0o4000, fs.ModeSetuid, fs.ModeSetuid},
	{0o2000, 0o2000, fs.ModeSetgid, fs.ModeSetgid},
	{0o1000, 0o1000, fs.ModeSticky, fs.ModeSticky},
}

func isDevice(typ uint32) bool { return typ == TypeChar || typ == TypeBlock }

// isSpecial tells the types that a placeholder can stand for.
func isSpecial(typ uint32) bool { return isDevice(typ) || typ == TypeFIFO || typ == TypeSocket }
