package fileop

import (
	"github.com/moby/buildkit/solver/pb"
	"github.com/skiff-build/skiff/internal/inode"
)

// mkdir makes a directory. One that exists keeps its attributes.
func mkdir(dst *rootDir, a *pb.FileActionMkDir, users inode.Tree) error {
	o, err := readOwner(a.Owner, users)
	if err != nil {
		return err
	}
	name, err := dst.resolve(a.Path)
	if err != nil {
		return err
	}
	perm := uint32(a.Mode) & 0o777
	if a.MakeParents {
		_, err := dst.mkdirAll(name, perm, o, timeOf(a.Timestamp))
		return err
	}
	if have, err := dst.lstat(name); err != nil || have != nil {
		return err
	}
	uid, gid, err := dst.newOwner(o, name)
	if err != nil {
		return err
	}
	return dst.mkdir(name, inode.Info{Mode: perm, UID: uid, GID: gid}, timeOf(a.Timestamp))
}
