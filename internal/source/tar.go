package source

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"
)

// tarStream runs write in the background and gives what it writes. Closing ends it, and calls release after.
func tarStream(write func(w *tar.Writer) error, release func() error) io.ReadCloser {
	r, w := io.Pipe()
	s := &stream{PipeReader: r, done: make(chan struct{}), release: release}
	go func() {
		defer close(s.done)
		tw := tar.NewWriter(w)
		err := write(tw)
		if err == nil {
			err = tw.Close()
		}
		w.CloseWithError(err)
	}()
	return s
}

type stream struct {
	*io.PipeReader
	done    chan struct{}
	release func() error
}

func (s *stream) Close() error {
	s.PipeReader.Close()
	<-s.done
	return s.release()
}

// writeTree writes what is below dir: sorted, owned by 0:0, with one time, and permissions that depend on the
// owner's alone, whatever the umask was.
func writeTree(w *tar.Writer, dir string, mtime time.Time) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return writeDir(w, root, ".", mtime)
}

func writeDir(w *tar.Writer, root *os.Root, dir string, mtime time.Time) error {
	d, err := root.Open(filepath.FromSlash(dir))
	if err != nil {
		return err
	}
	names, err := d.Readdirnames(-1)
	if err := errors.Join(err, d.Close()); err != nil {
		return err
	}
	slices.Sort(names)
	for _, base := range names {
		if err := writeEntry(w, root, path.Join(dir, base), mtime); err != nil {
			return err
		}
	}
	return nil
}

func writeEntry(w *tar.Writer, root *os.Root, name string, mtime time.Time) error {
	fi, err := root.Lstat(filepath.FromSlash(name))
	if err != nil {
		return err
	}
	hdr := &tar.Header{Name: name, Mode: permissions(fi.Mode()), ModTime: mtime, Format: tar.FormatPAX}
	switch fi.Mode().Type() {
	case 0:
		hdr.Typeflag, hdr.Size = tar.TypeReg, fi.Size()
	case fs.ModeDir:
		hdr.Typeflag, hdr.Name, hdr.Mode = tar.TypeDir, name+"/", 0o755
	case fs.ModeSymlink:
		hdr.Typeflag, hdr.Mode = tar.TypeSymlink, 0o777
		if hdr.Linkname, err = root.Readlink(filepath.FromSlash(name)); err != nil {
			return err
		}
	default:
		return nil
	}
	if err := w.WriteHeader(hdr); err != nil {
		return err
	}
	switch hdr.Typeflag {
	case tar.TypeDir:
		return writeDir(w, root, name, mtime)
	case tar.TypeReg:
		return writeContent(w, root, name)
	}
	return nil
}

func writeContent(w *tar.Writer, root *os.Root, name string) error {
	f, err := root.Open(filepath.FromSlash(name))
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// permissions gives everybody what the owner may, but to write.
func permissions(m fs.FileMode) int64 {
	owner := int64(m.Perm() >> 6)
	return owner<<6 | owner&5<<3 | owner&5
}
