package dockerfile

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/skiff-build/skiff/internal/layer"
)

// A context that comes as a tar is foreign: these bound what it may unpack to, in bytes and in files.
const (
	maxContextBytes = 16 << 30
	maxContextFiles = 2 << 20
)

// contextFromStdin reads a build context from standard input, as docker build - does: a tar, compressed or not, or else the text of
// a Dockerfile, whose context is empty.
func (d *Dockerfile) contextFromStdin(o *Options) error {
	if o.Stdin == nil {
		return errors.New("read build context: standard input: there is none")
	}
	if o.File == "-" {
		return &OptionError{errors.New("standard input is either the Dockerfile (-f -) or the context (-)")}
	}
	stream, err := layer.Decompress(o.Stdin)
	if err != nil {
		return fmt.Errorf("read build context: standard input: %w", err)
	}
	defer stream.Close()
	b := bufio.NewReader(stream)
	head, err := b.Peek(512)
	if err != nil && err != io.EOF {
		return fmt.Errorf("read build context: standard input: %w", err)
	}
	if d.temp, err = os.MkdirTemp(o.TempDir, "context-"); err != nil {
		return fmt.Errorf("read build context: %w", err)
	}
	o.Context = filepath.Join(d.temp, "context")
	if err := os.Mkdir(o.Context, 0o755); err != nil {
		return fmt.Errorf("read build context: %w", err)
	}
	d.locals["context"] = o.Context
	if _, err := tar.NewReader(bytes.NewReader(head)).Next(); err == nil {
		if err := unpackContext(o.Context, b); err != nil {
			return fmt.Errorf("read build context: standard input: %w", err)
		}
		return d.locateIn(o)
	}
	if stream.Kind != layer.None {
		return errors.New("read build context: standard input: it is compressed, and holds no tar")
	}
	if o.File != "" {
		return &OptionError{fmt.Errorf("-f %s names a file of the context, and standard input is no tar but a Dockerfile", o.File)}
	}
	o.Stdin = b
	return d.fromStdin(*o)
}

// locateIn finds the Dockerfile in a context that was unpacked: a relative name is one in there.
func (d *Dockerfile) locateIn(o *Options) error {
	in := *o
	if in.File != "" {
		in.File = filepath.Join(in.Context, in.File)
	}
	err := d.locate(in)
	var missing *NoDockerfileError
	if errors.As(err, &missing) {
		if rel, rerr := filepath.Rel(in.Context, missing.Path); rerr == nil {
			return fmt.Errorf("read Dockerfile: the context of standard input has no %s", rel)
		}
	}
	return err
}

// unpackContext unpacks a tar below dir. No entry leaves it, by whatever links; owners do not count in a context.
func unpackContext(dir string, r io.Reader) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	u := unpacker{root: root, bytes: maxContextBytes, dirs: map[string]*tar.Header{}}
	tr := tar.NewReader(r)
	for range maxContextFiles {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return u.finish()
		}
		if err != nil {
			return err
		}
		if err := u.entry(h, tr); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
	return fmt.Errorf("more than %d files", maxContextFiles)
}

type unpacker struct {
	root  *os.Root
	bytes int64                  // that may still come
	dirs  map[string]*tar.Header // get their modes and times at the end
}

func (u *unpacker) entry(h *tar.Header, r io.Reader) error {
	name := filepath.Clean(filepath.FromSlash("./" + h.Name))
	if !filepath.IsLocal(name) {
		return errors.New("it leads out of the context")
	}
	if dir := filepath.Dir(name); dir != "." {
		if err := u.root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if h.Typeflag == tar.TypeDir {
		u.dirs[name] = h
		if st, err := u.root.Lstat(name); err == nil && st.IsDir() {
			return nil
		}
		return u.root.Mkdir(name, 0o755)
	}
	if err := u.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) { // the last of a name counts
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return u.file(name, h, r)
	case tar.TypeSymlink:
		return u.root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		return u.root.Link(filepath.Clean(filepath.FromSlash("./"+h.Linkname)), name)
	}
	return errors.New("only files, folders and links can be in a context")
}

func (u *unpacker) file(name string, h *tar.Header, r io.Reader) error {
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	n, err := io.CopyN(f, r, u.bytes+1)
	if u.bytes -= n; u.bytes < 0 {
		err = fmt.Errorf("the context has more than %d bytes", int64(maxContextBytes))
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, f.Close(), u.settle(name, h))
}

// settle gives a file its mode and times.
func (u *unpacker) settle(name string, h *tar.Header) error {
	return errors.Join(u.root.Chmod(name, h.FileInfo().Mode().Perm()), u.root.Chtimes(name, h.ModTime, h.ModTime))
}

func (u *unpacker) finish() error {
	var errs []error
	for name, h := range u.dirs {
		if name != "." {
			// The user may read and enter each: it is what docker's daemon may.
			h.Mode |= 0o700
			errs = append(errs, u.settle(name, h))
		}
	}
	return errors.Join(errs...)
}
