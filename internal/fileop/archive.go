package fileop

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"time"

	"github.com/skiff-build/skiff/internal/bounds"
	"github.com/skiff-build/skiff/internal/inode"
	"github.com/skiff-build/skiff/internal/layer"
)

// unpack unpacks the source into the destination, which becomes a directory, if it is a tar archive by
// its content, and tells whether it was. Modes asked for do not count for what is in an archive.
func (c *copier) unpack(ctx context.Context, source string) (bool, error) {
	at, err := inode.Resolve(c.src, source, true)
	if err != nil || !isArchive(c.src, at) {
		return false, nil // the copy reports what is wrong with it
	}
	dest, err := c.dst.resolve(c.action.Dest)
	if err != nil {
		return false, err
	}
	if _, err := c.dst.mkdirAll(dest, 0o755, c.owner, c.time); err != nil {
		return false, err
	}
	// Links in the archive and in the destination lead no further than the destination.
	sub, err := openRoot(c.dst.path(dest))
	if err != nil {
		return false, c.dst.bare(err)
	}
	defer sub.close()
	r, err := openArchive(c.src, at)
	if err != nil {
		return false, err
	}
	defer r.Close()
	i, err := c.src.Lstat(at)
	if err != nil {
		return false, err
	}
	u := unpacker{dst: sub, owner: c.owner, stored: i.Size}
	if err := u.unpack(ctx, tar.NewReader(r)); err != nil {
		return false, fmt.Errorf("unpack %s: %w", source, err)
	}
	return true, nil
}

// isArchive tells whether the file begins with a tar header, when decompressed. What cannot be read is none.
func isArchive(t inode.Tree, name string) bool {
	if i, err := t.Lstat(name); err != nil || !i.IsRegular() {
		return false
	}
	r, err := openArchive(t, name)
	if err != nil {
		return false
	}
	defer r.Close()
	_, err = tar.NewReader(r).Next()
	return err == nil
}

// archiveFile is a decompressed file. Closing it closes both.
type archiveFile struct {
	io.ReadCloser
	file io.Closer
}

func (a archiveFile) Close() error { return errors.Join(a.ReadCloser.Close(), a.file.Close()) }

func openArchive(t inode.Tree, name string) (io.ReadCloser, error) {
	f, err := t.Open(name)
	if err != nil {
		return nil, err
	}
	r, err := layer.Decompress(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return archiveFile{r, f}, nil
}

// unpacker writes the entries of an archive below dst, as moby/go-archive does.
type unpacker struct {
	dst   *rootDir
	owner *owner // of all entries; nil: as the archive says
	dirs  []dirTime

	// What the archive is, in bytes, and what it became: see package bounds.
	stored, bytes int64
	entries       int
}

// dirTime is the time of a directory, to be set when nothing changes it any more.
type dirTime struct {
	name  string
	mtime int64
}

func (u *unpacker) unpack(ctx context.Context, tr *tar.Reader) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if hdr.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := u.count(hdr); err != nil {
			return err
		}
		if err := u.entry(hdr, tr); err != nil {
			return fmt.Errorf("entry %.100q: %w", hdr.Name, err)
		}
	}
	for _, d := range u.dirs {
		// A later entry may have put a file in the place of the directory.
		if i, err := u.dst.lstat(d.name); err != nil || i == nil || !i.IsDir() {
			continue
		}
		if err := u.dst.setTime(d.name, &d.mtime); err != nil {
			return err
		}
	}
	return nil
}

// count holds an entry against what an archive may ask for. The size in its header bounds what the reader gives, also of a sparse file.
func (u *unpacker) count(hdr *tar.Header) error {
	if u.entries++; u.entries > bounds.MaxEntries {
		return fmt.Errorf("%w: it has more than %d entries", bounds.ErrLimit, bounds.MaxEntries)
	}
	if u.bytes += hdr.Size; u.bytes < 0 {
		u.bytes = math.MaxInt64
	}
	return bounds.Grown(u.stored, u.bytes)
}

func (u *unpacker) entry(hdr *tar.Header, r io.Reader) error {
	name, err := bounds.Name(hdr.Name)
	if err != nil || name == "." {
		return err // the destination keeps its attributes
	}
	parent, err := u.dst.resolve(path.Dir(name))
	if err != nil {
		return err
	}
	if _, err := u.dst.mkdirAll(parent, 0o755, &owner{}, nil); err != nil {
		return err
	}
	target := path.Join(parent, path.Base(name))
	if err := bounds.Path(target); err != nil {
		return err
	}
	have, err := u.dst.lstat(target)
	if err != nil {
		return err
	}
	merge := have != nil && have.IsDir() && hdr.Typeflag == tar.TypeDir
	if have != nil && !merge {
		if err := u.dst.removeAll(target); err != nil {
			return err
		}
	}
	return u.create(target, hdr, r, merge)
}

// create makes the file of an entry, where there is none but the directory to merge with.
func (u *unpacker) create(target string, hdr *tar.Header, r io.Reader, merge bool) error {
	want := u.attributes(hdr)
	mtime := timeOfHeader(hdr)
	switch hdr.Typeflag {
	case tar.TypeReg:
		return u.dst.writeFile(target, want, mtime, r)
	case tar.TypeDir:
		u.dirs = append(u.dirs, dirTime{target, mtime})
		if merge {
			return u.dst.set(target, want, nil)
		}
	case tar.TypeLink:
		return u.hardLink(target, hdr, want, mtime)
	case tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
	default:
		return fmt.Errorf("unknown type %q", hdr.Typeflag)
	}
	if err := inode.Create(u.dst.path(target), want); err != nil {
		return u.dst.bare(err)
	}
	return u.dst.setTime(target, &mtime)
}

// hardLink links target to another entry, which it gives its attributes.
func (u *unpacker) hardLink(target string, hdr *tar.Header, want inode.Info, mtime int64) error {
	name, err := bounds.Name(hdr.Linkname)
	if err != nil {
		return fmt.Errorf("hard link to %.100q: %w", hdr.Linkname, err)
	}
	dir, base := path.Split(name)
	if dir, err = u.dst.resolve(dir); err != nil {
		return err
	}
	first := path.Join(dir, base)
	have, err := u.dst.lstat(first)
	if err != nil {
		return err
	}
	if have == nil || have.IsDir() {
		return fmt.Errorf("hard link to %q, which is no file of the destination", hdr.Linkname)
	}
	if err := os.Link(u.dst.path(first), u.dst.path(target)); err != nil {
		return u.dst.bare(err)
	}
	have.UID, have.GID = want.UID, want.GID
	if have.IsLink() {
		return u.dst.set(target, *have, nil)
	}
	have.Mode = have.Type() | want.Perm()
	return u.dst.set(target, *have, &mtime)
}

func (u *unpacker) attributes(hdr *tar.Header) inode.Info {
	i := inode.Info{Mode: uint32(hdr.Mode) & inode.PermMask, UID: hdr.Uid, GID: hdr.Gid, Link: hdr.Linkname}
	if u.owner != nil {
		i.UID, i.GID = u.owner.uid, u.owner.gid
	}
	switch hdr.Typeflag {
	case tar.TypeReg:
		i.Mode |= inode.TypeFile
		if caps := hdr.PAXRecords["SCHILY.xattr."+inode.CapabilityXattr]; caps != "" {
			i.Xattrs = map[string]string{inode.CapabilityXattr: caps}
		}
	case tar.TypeDir:
		i.Mode |= inode.TypeDir
	case tar.TypeSymlink:
		i.Mode |= inode.TypeLink
	case tar.TypeFifo:
		i.Mode |= inode.TypeFIFO
	case tar.TypeChar:
		i.Mode |= inode.TypeChar
		i.Major, i.Minor = uint32(hdr.Devmajor), uint32(hdr.Devminor)
	case tar.TypeBlock:
		i.Mode |= inode.TypeBlock
		i.Major, i.Minor = uint32(hdr.Devmajor), uint32(hdr.Devminor)
	}
	return i
}

// timeOfHeader returns the modification time of an entry, 0 where nanoseconds since 1970 cannot tell it.
func timeOfHeader(hdr *tar.Header) int64 {
	last := time.Unix(0, 1<<63-1)
	if hdr.ModTime.Before(time.Unix(0, 0)) || hdr.ModTime.After(last) {
		return 0
	}
	return hdr.ModTime.UnixNano()
}
