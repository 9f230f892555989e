package fileop

import (
	"context"
	"errors"
	"path"

	"github.com/moby/buildkit/solver/pb"
	"github.com/skiff-build/skiff/internal/inode"
)

// rm removes files and directories. A link is removed itself; those on the way to it are followed.
func rm(ctx context.Context, dst *rootDir, a *pb.FileActionRm) error {
	names := []string{a.Path}
	if a.AllowWildcard {
		var err error
		if names, err = expand(ctx, dst.tree, cleanPath(a.Path), false); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := rmOne(dst, name, a.AllowNotFound); err != nil {
			return err
		}
	}
	return nil
}

func rmOne(dst *rootDir, name string, allowNotFound bool) error {
	dir, base := path.Split(path.Join("/", name))
	if base == "" {
		return errors.New("the root cannot be removed")
	}
	dir, err := dst.resolve(dir)
	if err != nil {
		return err
	}
	target := path.Join(dir, base)
	// A dangling link counts as missing.
	if _, err := inode.Resolve(dst.tree, target, true); err != nil && !allowNotFound {
		return &notFoundError{path.Join("/", name)}
	}
	return dst.removeAll(target)
}
