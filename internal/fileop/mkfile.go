package fileop

import (
	"bytes"
	"fmt"
	"path"
	"time"

	"github.com/moby/buildkit/solver/pb"
	"github.com/skiff-build/skiff/internal/inode"
)

// mkfile makes a regular file, in the place of any other file. A link in that place is followed.
func mkfile(dst *rootDir, a *pb.FileActionMkFile, users inode.Tree) error {
	o, err := readOwner(a.Owner, users)
	if err != nil {
		return err
	}
	name, err := dst.resolve(path.Join("/", a.Path))
	if err != nil {
		return err
	}
	if name == "." {
		return fmt.Errorf("the root is a directory")
	}
	if err := dst.clear(name); err != nil {
		return err
	}
	uid, gid, err := dst.newOwner(o, name)
	if err != nil {
		return err
	}
	want := inode.Info{Mode: uint32(a.Mode) & 0o777, UID: uid, GID: gid}
	mtime := time.Now().UnixNano()
	if t := timeOf(a.Timestamp); t != nil {
		mtime = *t
	}
	return dst.writeFile(name, want, mtime, bytes.NewReader(a.Data))
}
