package fileop

import (
	"errors"
	"io/fs"
	"path"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"github.com/skiff-build/skiff/internal/inode"
)

// Uncopy removes files that the copy a of a directory's contents made in root, the path of a mounted directory, earlier. The names
// are relative to that directory. It is false, and nothing is removed, if below, which lies under what the copy made, has one of
// the files itself: it would come to light where the copy had not been made.
func Uncopy(root string, a *pb.FileActionCopy, names []string, below inode.Tree) (ok bool, err error) {
	dst, err := openRoot(root)
	if err != nil {
		return false, err
	}
	defer dst.close()
	target, err := dst.resolve(cleanPath(a.Dest))
	if err != nil {
		return false, step("remove", a.Dest, err)
	}
	for _, name := range names {
		at := path.Join(target, name)
		if _, err := below.Lstat(at); !errors.Is(err, fs.ErrNotExist) {
			return false, step("remove", name, err)
		}
		// Nobody but the copy made what is between the target and the file; a link there is not its.
		for dir := path.Dir(at); strings.HasPrefix(dir, target+"/"); dir = path.Dir(dir) {
			if i, err := dst.lstat(dir); err != nil || i == nil || !i.IsDir() {
				return false, step("remove", name, err)
			}
		}
	}
	for _, name := range names {
		if err := dst.removeAll(path.Join(target, name)); err != nil {
			return false, step("remove", name, err)
		}
	}
	return true, nil
}
