// Package fileop does the file operations of a build (LLB's FileOp: copy, mkfile, mkdir, rm, symlink) in
// a mounted, writable root filesystem, and says what a copy would take as a digest.
//
// The rules are BuildKit's, from solver/llbsolver/file/backend.go and the copy package of
// tonistiigi/fsutil, down to what happens to a directory that meets a link; CONFORMANCE.md of the
// project lists those that surprise. What differs is where attributes come from and go to: sources are an
// [inode.Tree], and owners, modes, devices and capabilities are written with [inode.Set] and
// [inode.Create], so that a process which maps one id makes the same image as root.
//
// No path leaves the root: every name is resolved inside of it first. No file that exists is opened for
// writing, it is removed and made anew: it could be a device node, or share its inode with the store.
// Nothing else may change the root meanwhile.
package fileop

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"github.com/skiff-build/skiff/internal/inode"
)

// Apply does one action in root, the path of a mounted directory. Src is what a copy takes from; nil is
// an empty tree. Users is the tree whose etc/passwd and etc/group know the names of owners; nil, for a
// stage that starts from scratch, makes a name an error. After an error the content of root is undefined.
// A source or path that does not exist is fs.ErrNotExist.
func Apply(ctx context.Context, root string, a *pb.FileAction, src, users inode.Tree) error {
	if src == nil {
		src = emptyTree{}
	}
	dst, err := openRoot(root)
	if err != nil {
		return err
	}
	defer dst.close()
	switch act := a.GetAction().(type) {
	case *pb.FileAction_Copy:
		return step("copy", act.Copy.GetSrc(), copyFiles(ctx, dst, act.Copy, src, users))
	case *pb.FileAction_Mkfile:
		return step("make file", act.Mkfile.GetPath(), mkfile(dst, act.Mkfile, users))
	case *pb.FileAction_Mkdir:
		return step("make directory", act.Mkdir.GetPath(), mkdir(dst, act.Mkdir, users))
	case *pb.FileAction_Rm:
		return step("remove", act.Rm.GetPath(), rm(ctx, dst, act.Rm))
	case *pb.FileAction_Symlink:
		return step("make link", act.Symlink.GetNewpath(), symlink(dst, act.Symlink, users))
	}
	return fmt.Errorf("unknown file action %T", a.GetAction())
}

func step(what, object string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", what, object, err)
}

// timeOf returns the time that a timestamp of LLB asks for, nil where it leaves the time alone.
func timeOf(timestamp int64) *int64 {
	if timestamp == -1 {
		return nil
	}
	return &timestamp
}

// cleanPath returns an absolute path without "..", and keeps what a final slash or "/." says.
func cleanPath(p string) string {
	clean := path.Join("/", p)
	switch {
	case clean == "/" && strings.HasSuffix(p, "/."):
		return "/."
	case strings.HasSuffix(p, "/."):
		return clean + "/."
	case strings.HasSuffix(p, "/") && clean != "/":
		return clean + "/"
	}
	return clean
}

// notFoundError is worded as BuildKit words it, which people search their logs for.
type notFoundError struct{ name string }

func (e *notFoundError) Error() string        { return fmt.Sprintf("%q: not found", e.name) }
func (e *notFoundError) Is(target error) bool { return target == fs.ErrNotExist }

// emptyTree is the tree of scratch.
type emptyTree struct{}

func (emptyTree) Lstat(name string) (inode.Info, error) {
	if name == "." {
		return inode.Info{Mode: inode.TypeDir | 0o755}, nil
	}
	return inode.Info{}, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
}

func (emptyTree) ReadDir(name string) ([]string, error) {
	_, err := emptyTree{}.Lstat(name)
	return nil, err
}

func (emptyTree) Open(name string) (io.ReadCloser, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}
