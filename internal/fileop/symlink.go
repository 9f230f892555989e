package fileop

import (
	"path"

	"github.com/moby/buildkit/solver/pb"
	"github.com/skiff-build/skiff/internal/inode"
)

// symlink makes a symbolic link where nothing may be yet. A dangling link in that place is followed.
func symlink(dst *rootDir, a *pb.FileActionSymlink, users inode.Tree) error {
	o, err := readOwner(a.Owner, users)
	if err != nil {
		return err
	}
	name, err := dst.resolve(path.Join("/", a.Newpath))
	if err != nil {
		return err
	}
	uid, gid, err := dst.newOwner(o, name)
	if err != nil {
		return err
	}
	want := inode.Info{Mode: inode.TypeLink | 0o777, UID: uid, GID: gid, Link: a.Oldpath}
	if err := inode.Create(dst.path(name), want); err != nil {
		return dst.bare(err)
	}
	return dst.setTime(name, timeOf(a.Timestamp))
}
