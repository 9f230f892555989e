package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/skiff-build/skiff/internal/rootfs"
)

// WriteLocal writes the root filesystem of an image into the folder dir, which is made. As with BuildKit, files
// belong to the user, whoever owns them in the image, and what is in dir already stays unless the image has
// a file of that name. Nothing outside dir is touched, whatever symbolic links the image or dir hold. Device
// nodes, pipes, and what the file system cannot hold are left out, and log is told.
func WriteLocal(ctx context.Context, dir string, c Content, log func(string)) error {
	if log == nil {
		log = func(string) {}
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("write files: %w", err)
	}
	err := eachRoot(c, func(prefix string, img v1.Image) error {
		into := filepath.Join(dir, prefix)
		if err := os.MkdirAll(into, 0o777); err != nil {
			return err
		}
		root, err := os.OpenRoot(into)
		if err != nil {
			return err
		}
		defer root.Close()
		l := &localWriter{root: root, log: log}
		if err := rootfs.Flatten(ctx, img, l.write); err != nil {
			return err
		}
		return l.finish()
	})
	if err != nil {
		return fmt.Errorf("write files: %s: %w", dir, err)
	}
	return nil
}

type localWriter struct {
	root *os.Root
	log  func(string)
	dirs []*tar.Header // their modes and times are set last, when nothing is written into them any more
}

func (l *localWriter) write(h *tar.Header, content io.Reader) error {
	name := filepath.FromSlash(h.Name)
	if !filepath.IsLocal(name) {
		l.log(fmt.Sprintf("%s is left out: it is no name for a file on this system", h.Name))
		return nil
	}
	if h.Typeflag == tar.TypeDir {
		return l.mkdir(name, h)
	}
	if err := l.clear(name); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return l.file(name, h, content)
	case tar.TypeLink:
		return l.link(name, h)
	case tar.TypeSymlink:
		if err := l.root.Symlink(h.Linkname, name); err != nil {
			l.log(fmt.Sprintf("%s is left out: %v", h.Name, err)) // Windows asks for a privilege
		}
		return nil
	}
	l.log(h.Name + " is left out: it is a device node or a pipe")
	return nil
}

// clear makes room for a file: what has its name goes.
func (l *localWriter) clear(name string) error {
	_, err := l.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return l.root.RemoveAll(name)
}

func (l *localWriter) mkdir(name string, h *tar.Header) error {
	if i, err := l.root.Lstat(name); err == nil && !i.IsDir() {
		if err := l.root.Remove(name); err != nil {
			return err
		}
	}
	// Writable while it is filled.
	if err := l.root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	l.dirs = append(l.dirs, h)
	return l.root.Chmod(name, 0o700|fs.FileMode(h.Mode)&fs.ModePerm)
}

func (l *localWriter) file(name string, h *tar.Header, content io.Reader) (err error) {
	f, err := l.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		l.root.Remove(name)
		return err
	}
	if err := l.root.Chmod(name, permissions(h)); err != nil {
		return err
	}
	return l.times(name, h)
}

// link makes a hard link, or a copy where the file system has no links.
func (l *localWriter) link(name string, h *tar.Header) error {
	target := filepath.FromSlash(h.Linkname)
	if l.root.Link(target, name) == nil {
		return nil
	}
	f, err := l.root.Open(target)
	if err != nil {
		return err
	}
	defer f.Close()
	return l.file(name, h, f)
}

// permissions of a file, set bits included, as BuildKit's local exporter keeps them.
func permissions(h *tar.Header) fs.FileMode {
	m := fs.FileMode(h.Mode) & fs.ModePerm
	if h.Mode&0o4000 != 0 {
		m |= fs.ModeSetuid
	}
	if h.Mode&0o2000 != 0 {
		m |= fs.ModeSetgid
	}
	if h.Mode&0o1000 != 0 {
		m |= fs.ModeSticky
	}
	return m
}

func (l *localWriter) times(name string, h *tar.Header) error {
	return l.root.Chtimes(name, time.Now(), h.ModTime)
}

// finish sets the attributes of folders, the deepest first: a folder may forbid its owner to look into it.
func (l *localWriter) finish() error {
	for i := len(l.dirs) - 1; i >= 0; i-- {
		h := l.dirs[i]
		name := filepath.FromSlash(path.Clean(h.Name))
		if err := l.times(name, h); err != nil {
			return err
		}
		if err := l.root.Chmod(name, permissions(h)); err != nil {
			return err
		}
	}
	return nil
}
