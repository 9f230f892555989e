package image

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

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
		defer l.leave()
		err = rootfs.Flatten(ctx, img, l.write)
		if err := cmp.Or(err, l.wait()); err != nil {
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

	at    *os.Root // the folder of the last file, or nil
	where string
	files *errgroup.Group // small files that are being made in at; nil for none
}

// smallFile is how many bytes a file has at most that is made beside the reading of the next one.
const smallFile = 64 << 10

func (l *localWriter) write(h *tar.Header, content io.Reader) error {
	name := filepath.FromSlash(h.Name)
	if !filepath.IsLocal(name) {
		l.log(fmt.Sprintf("%s is left out: it is no name for a file on this system", h.Name))
		return nil
	}
	if h.Typeflag == tar.TypeDir {
		return l.mkdir(name, h)
	}
	if h.Typeflag == tar.TypeReg {
		return l.regular(name, h, content)
	}
	if err := l.wait(); err != nil {
		return err
	}
	if err := clearName(l.root, name); err != nil {
		return err
	}
	switch h.Typeflag {
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

// regular writes a regular file from its folder, which is opened once for all files that follow each other there: each name that os.Root
// takes is walked part by part. It is the kernel that takes the time for a small file, so all processors make them.
func (l *localWriter) regular(name string, h *tar.Header, content io.Reader) error {
	dir, base := filepath.Dir(name), filepath.Base(name)
	if l.at == nil || dir != l.where {
		if err := l.leave(); err != nil {
			return err
		}
		var err error
		if l.at, err = l.root.OpenRoot(dir); err != nil {
			return err
		}
		l.where = dir
	}
	at := l.at
	if h.Size > smallFile {
		return replaceFile(at, base, h, content)
	}
	data, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	if l.files == nil {
		l.files = &errgroup.Group{}
		l.files.SetLimit(makers())
	}
	l.files.Go(func() error { return replaceFile(at, base, h, bytes.NewReader(data)) })
	return nil
}

// makers is how many files are made at a time: one where two names may be the same file, as on other systems than Linux.
func makers() int {
	if runtime.GOOS != "linux" {
		return 1
	}
	return runtime.GOMAXPROCS(0)
}

func replaceFile(at *os.Root, name string, h *tar.Header, content io.Reader) error {
	if err := clearName(at, name); err != nil {
		return err
	}
	return writeFile(at, name, h, content)
}

// wait returns when all files are there.
func (l *localWriter) wait() error {
	if l.files == nil {
		return nil
	}
	err := l.files.Wait()
	l.files = nil
	return err
}

// leave ends with the folder of the last file.
func (l *localWriter) leave() error {
	err := l.wait()
	if l.at != nil {
		err = cmp.Or(err, l.at.Close())
		l.at = nil
	}
	return err
}

// clearName makes room for a file: what has its name goes.
func clearName(at *os.Root, name string) error {
	_, err := at.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return at.RemoveAll(name)
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

func writeFile(at *os.Root, name string, h *tar.Header, content io.Reader) (err error) {
	f, err := at.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		at.Remove(name)
		return err
	}
	if err := at.Chmod(name, permissions(h)); err != nil {
		return err
	}
	return setTimes(at, name, h)
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
	return writeFile(l.root, name, h, f)
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

func setTimes(at *os.Root, name string, h *tar.Header) error {
	return at.Chtimes(name, time.Now(), h.ModTime)
}

// finish sets the attributes of folders, the deepest first: a folder may forbid its owner to look into it.
func (l *localWriter) finish() error {
	for i := len(l.dirs) - 1; i >= 0; i-- {
		h := l.dirs[i]
		name := filepath.FromSlash(path.Clean(h.Name))
		if err := setTimes(l.root, name, h); err != nil {
			return err
		}
		if err := l.root.Chmod(name, permissions(h)); err != nil {
			return err
		}
	}
	return nil
}
