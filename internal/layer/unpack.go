package layer

import (
	"archive/tar"
	"bufio"
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
	"strings"
	"time"

	"github.com/skiff-build/skiff/internal/bounds"
	"github.com/skiff-build/skiff/internal/inode"
	"github.com/skiff-build/skiff/internal/whiteout"
)

// UnpackOptions are the options of [Unpack].
type UnpackOptions struct {
	// Lower is what the layer will lie on. Paths of the layer lead through its symlinks as through the
	// layer's own, directories that have no entry get their attributes from it, and hard links may lead to
	// its files. Nil: not known; then every whiteout is kept.
	Lower inode.Tree

	MaxBytes   int64 // of regular files, and of what follows the end of the archive; 0: no limit
	MaxEntries int64 // entries, and directories that have no entry; 0: no limit
}

// Unpack writes the layer read from r, an uncompressed tar stream, below dir, which must exist and be empty.
// It reads r to its end. Of several entries of one path the last counts. Names are relative to dir, also absolute ones; a symlink on the way, of the layer or of
// Lower, is followed as if dir were the root directory. A name with ".." that would leave dir is
// [ErrEscape], as is such a hard link; too much is [ErrLimit]. After any error the content of dir is
// undefined.
func Unpack(ctx context.Context, r io.Reader, dir string, o UnpackOptions) (Packed, error) {
	return unpack(ctx, r, dir, o, smallFile)
}

// unpack is Unpack; files of up to small bytes are made beside the reading, -1: none.
func unpack(ctx context.Context, r io.Reader, dir string, o UnpackOptions, small int64) (Packed, error) {
	digest := newDigester()
	buffered := bufio.NewReaderSize(io.TeeReader(ctxReader{ctx, r}, digest), 256<<10)
	u := unpacker{
		ctx:   ctx,
		o:     o,
		view:  view{dir: dir, lower: o.Lower},
		tar:   tar.NewReader(buffered),
		known: map[string]bool{".": true}, resolved: map[string]string{},
		times: map[string]int64{},
		copy:  make([]byte, 128<<10),
	}
	u.files.small = small
	u.files.made.SetLimit(runtime.GOMAXPROCS(0))
	err := u.all()
	err = cmp.Or(err, u.wait())
	if err == nil {
		err = u.rest(buffered)
	}
	if err != nil {
		return Packed{}, fmt.Errorf("unpack layer: %w", err)
	}
	return digest.packed(u.bytes), nil
}

// unpacker is an Unpack under way. Names are clean and relative to dir, and no parent in them is a symlink
// once [unpacker.place] returned them.
type unpacker struct {
	ctx  context.Context
	o    UnpackOptions
	view view
	tar  *tar.Reader

	// known holds directories of dir that exist, as their parents do. It is emptied when one is replaced.
	known map[string]bool
	// resolved are directories that exist, by names that may lead to them through symlinks. It is emptied when anything is replaced.
	resolved map[string]string
	// times are the modification times of directories, set when nothing more is written to them. Where
	// replaced is set some may be gone or be something else.
	times          map[string]int64
	replaced       bool
	entries, bytes int64
	copy           []byte
	files          smallFiles
}

func (u *unpacker) all() error {
	if err := u.start(); err != nil {
		return err
	}
	for {
		h, err := u.tar.Next()
		if err == io.EOF {
			if err := u.wait(); err != nil {
				return err
			}
			return u.setTimes()
		}
		if err != nil {
			return fmt.Errorf("read tar: %w", err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := u.count(1, 0); err != nil {
			return err
		}
		if err := u.entry(h); errors.As(err, new(smallError)) {
			return err // it is of another entry
		} else if err != nil {
			return fmt.Errorf("%.100q: %w", h.Name, err)
		}
	}
}

// start gives dir the attributes of the root below: the view takes them from the topmost layer.
func (u *unpacker) start() error {
	info := inode.Info{Mode: inode.TypeDir | 0o755}
	if u.o.Lower != nil {
		var err error
		if info, err = u.o.Lower.Lstat("."); err != nil {
			return err
		}
	}
	return inode.Set(u.path("."), info)
}

func (u *unpacker) setTimes() error {
	for name, t := range u.times {
		if u.replaced && !u.isDirectory(name) {
			continue
		}
		if err := inode.SetTimes(u.path(name), t); err != nil {
			return err
		}
	}
	return nil
}

// isDirectory makes sure that no component of a name became a symlink.
func (u *unpacker) isDirectory(name string) bool {
	if u.known[name] {
		return true
	}
	fi, err := os.Lstat(u.path(name))
	u.known[name] = err == nil && fi.IsDir() && u.isDirectory(path.Dir(name))
	return u.known[name]
}

// rest reads what follows the end of the archive, which the digest covers too.
func (u *unpacker) rest(r io.Reader) error {
	limit := int64(1<<63 - 1)
	if u.o.MaxBytes > 0 {
		limit = u.o.MaxBytes
	}
	n, err := io.Copy(io.Discard, io.LimitReader(r, limit))
	if err == nil && n == limit {
		err = fmt.Errorf("%w: %d bytes after the end of the archive", ErrLimit, n)
	}
	return err
}

func (u *unpacker) path(name string) string { return filepath.Join(u.view.dir, name) }

// count adds to what the limits are about, before it is made.
func (u *unpacker) count(entries, bytes int64) error {
	u.entries += entries
	u.bytes += bytes
	if u.o.MaxEntries > 0 && u.entries > u.o.MaxEntries {
		return fmt.Errorf("%w: more than %d entries", ErrLimit, u.o.MaxEntries)
	}
	if u.o.MaxBytes > 0 && u.bytes > u.o.MaxBytes {
		return fmt.Errorf("%w: more than %d bytes", ErrLimit, u.o.MaxBytes)
	}
	return nil
}

func (u *unpacker) entry(h *tar.Header) error {
	name, err := bounds.Name(h.Name)
	if err != nil {
		return err
	}
	base := path.Base(name)
	if isMeta(name) {
		return nil
	}
	if name == "." {
		return u.root(h)
	}
	if name, err = u.place(name); err != nil {
		return err
	}
	if u.files.pending[name] {
		if err := u.wait(); err != nil {
			return err
		}
	}
	switch {
	case base == opaqueName:
		return u.opaque(path.Dir(name))
	case strings.HasPrefix(base, whiteoutPrefix):
		return u.whiteout(path.Dir(name), strings.TrimPrefix(base, whiteoutPrefix))
	}
	info, err := headerInfo(h)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.directory(name, info)
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return u.file(name, info)
	case tar.TypeLink:
		return u.hardLink(name, h.Linkname)
	}
	if err := u.clear(name); err != nil {
		return err
	}
	return u.node(name, info)
}

// isMeta tells the files and directories by which aufs keeps house, but for the opaque mark.
func isMeta(name string) bool {
	dir, base := path.Split(name)
	return strings.HasPrefix(base, metaPrefix) && base != opaqueName || strings.Contains("/"+dir, "/"+metaPrefix)
}

// headerInfo returns the attributes in a header.
func headerInfo(h *tar.Header) (inode.Info, error) {
	i := inode.Info{
		Mode: uint32(h.Mode) & inode.PermMask, UID: h.Uid, GID: h.Gid, Size: h.Size,
		Mtime: nanoseconds(h.ModTime), Link: h.Linkname,
	}
	switch h.Typeflag {
	case tar.TypeDir:
		i.Mode |= inode.TypeDir
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse, tar.TypeLink:
		i.Mode |= inode.TypeFile
	case tar.TypeSymlink:
		i.Mode |= inode.TypeLink
	case tar.TypeFifo:
		i.Mode |= inode.TypeFIFO
	case tar.TypeChar:
		i.Mode |= inode.TypeChar
	case tar.TypeBlock:
		i.Mode |= inode.TypeBlock
	default:
		return inode.Info{}, fmt.Errorf("tar entry of unknown type %q", h.Typeflag)
	}
	if i.IsDevice() {
		if h.Devmajor < 0 || h.Devminor < 0 || h.Devmajor > 1<<32-1 || h.Devminor > 1<<32-1 {
			return inode.Info{}, fmt.Errorf("device number %d:%d out of range", h.Devmajor, h.Devminor)
		}
		i.Major, i.Minor = uint32(h.Devmajor), uint32(h.Devminor)
	}
	if caps := h.PAXRecords[capsRecord]; caps != "" {
		i.Xattrs = map[string]string{inode.CapabilityXattr: caps}
	}
	return i, nil
}

// nanoseconds bounds a time to what 64 bits of nanoseconds hold, the years 1678 to 2262.
func nanoseconds(t time.Time) int64 {
	const most = (1<<63 - 1) / 1_000_000_000
	if s := t.Unix(); s >= most || s <= -most {
		return max(-most, min(most, s)) * 1_000_000_000
	}
	return t.UnixNano()
}

// root sets the attributes of the layer's root from an entry named "." or "/".
func (u *unpacker) root(h *tar.Header) error {
	info, err := headerInfo(h)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return errors.New("the root of a layer must be a directory")
	}
	u.times["."] = info.Mtime
	return inode.Set(u.path("."), info)
}

func (u *unpacker) directory(name string, info inode.Info) error {
	if err := u.makeDirectory(name); err != nil {
		return err
	}
	u.known[name] = true
	u.times[name] = info.Mtime
	return inode.Set(u.path(name), info)
}

// makeDirectory makes the directory unless the layer has it already.
func (u *unpacker) makeDirectory(name string) error {
	err := os.Mkdir(u.path(name), 0o700)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	fi, err := os.Lstat(u.path(name))
	if err != nil || fi.IsDir() {
		return err
	}
	// Whatever it is, whiteout or file of this layer, it hid a directory below.
	clear(u.resolved)
	if err := os.Remove(u.path(name)); err != nil {
		return err
	}
	if err := os.Mkdir(u.path(name), 0o700); err != nil {
		return err
	}
	if u.hidesDirectory(name) {
		return whiteout.SetOpaque(u.path(name), true)
	}
	return nil
}

// hidesDirectory tells whether a directory of that name below the layer would show through.
func (u *unpacker) hidesDirectory(name string) bool {
	if u.o.Lower == nil {
		return true
	}
	i, err := u.view.below(name)
	return err == nil && i.IsDir()
}

func (u *unpacker) file(name string, info inode.Info) error {
	// The size in the header bounds what the reader gives, also of a sparse file.
	if err := u.count(0, info.Size); err != nil {
		return err
	}
	if info.Size > u.files.small || u.replaced || u.known[name] || u.files.leading[name] {
		return u.write(name, info, u.tar)
	}
	return u.queue(name, info)
}

// write makes a regular file with that content, of info.Size bytes, in the place of whatever the layer had there.
func (u *unpacker) write(name string, info inode.Info, content io.Reader) error {
	write := func(f *os.File) error {
		_, err := io.CopyBuffer(writerOnly{f}, content, u.copy)
		return err
	}
	if info.Size == 0 {
		write = nil
	}
	err := inode.MakeFile(u.path(name), info, info.Mtime, write)
	if errors.Is(err, fs.ErrExist) {
		if err = u.clear(name); err == nil {
			err = inode.MakeFile(u.path(name), info, info.Mtime, write)
		}
	}
	return err
}

// hardLink makes name a further name of the file target. A target that only lies below is copied into the
// layer first, as overlayfs does.
func (u *unpacker) hardLink(name, linkname string) error {
	target, err := bounds.Name(linkname)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", linkname, err)
	}
	if target, err = u.place(target); err != nil {
		return fmt.Errorf("hard link: %w", err)
	}
	if err := u.wait(); err != nil {
		return err
	}
	i, err := u.view.Lstat(target)
	if err == nil && i.IsDir() {
		err = errors.New("is a directory")
	}
	if err == nil {
		err = u.copyUp(target, i)
	}
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", target, err)
	}
	if name == target {
		return nil
	}
	if err := u.clear(name); err != nil {
		return err
	}
	return os.Link(u.path(target), u.path(name))
}

// copyUp copies a file of Lower into the layer unless the layer has it.
func (u *unpacker) copyUp(name string, i inode.Info) error {
	if _, err := os.Lstat(u.path(name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := u.count(1, i.Size); err != nil {
		return err
	}
	if !i.IsRegular() {
		return u.node(name, i)
	}
	r, err := u.o.Lower.Open(name)
	if err != nil {
		return err
	}
	defer r.Close()
	return u.write(name, i, ctxReader{u.ctx, r})
}

// node makes a symlink, device node or fifo.
func (u *unpacker) node(name string, info inode.Info) error {
	if info.IsLink() {
		u.files.leads(name)
	}
	if err := inode.Create(u.path(name), info); err != nil {
		return err
	}
	return inode.SetTimes(u.path(name), info.Mtime)
}
