package snapshot

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
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// paxXattr begins the PAX records of extended attributes, as GNU tar and Go's archive/tar have them.
const paxXattr = "SCHILY.xattr."

// Save writes everything below the root of the store to w as a tar that [Snapshots.Load] gives back to the last attribute: owners as
// they are in this namespace, times to the nanosecond, extended attributes, whiteouts, hard links. Names in skip are left out, with
// what is below them. No build may be under way.
func (s *Snapshots) Save(ctx context.Context, w io.Writer, skip []string) error {
	a := &saver{ctx: ctx, root: s.root, tar: tar.NewWriter(w), skip: map[string]bool{}, links: map[[2]uint64]string{}}
	for _, name := range skip {
		a.skip[name] = true
	}
	err := filepath.WalkDir(s.root, a.entry)
	if err == nil {
		err = a.tar.Close()
	}
	if err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	return nil
}

type saver struct {
	ctx   context.Context
	root  string
	tar   *tar.Writer
	skip  map[string]bool
	links map[[2]uint64]string // device and inode of a file with several names -> first name
}

func (a *saver) entry(file string, e fs.DirEntry, err error) error {
	if err == nil {
		err = a.ctx.Err()
	}
	name := strings.TrimPrefix(file[len(a.root):], "/")
	if err != nil || name == "" {
		return err
	}
	if a.skip[name] {
		if e.IsDir() {
			return fs.SkipDir
		}
		return nil
	}
	var st unix.Stat_t
	if err := unix.Lstat(file, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: file, Err: err}
	}
	h := &tar.Header{Name: name, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid), ModTime: time.Unix(st.Mtim.Unix()),
		Format: tar.FormatPAX, PAXRecords: map[string]string{}}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = os.Readlink(file); err != nil {
			return err
		}
	case unix.S_IFCHR:
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, int64(unix.Major(uint64(st.Rdev))), int64(unix.Minor(uint64(st.Rdev)))
	case unix.S_IFBLK:
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeBlock, int64(unix.Major(uint64(st.Rdev))), int64(unix.Minor(uint64(st.Rdev)))
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		return nil // a socket that somebody left
	}
	if st.Nlink > 1 && h.Typeflag != tar.TypeDir {
		key := [2]uint64{uint64(st.Dev), st.Ino}
		if first, ok := a.links[key]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			return a.tar.WriteHeader(h)
		}
		a.links[key] = name
	}
	if err := readXattrs(file, h.PAXRecords); err != nil {
		return err
	}
	if err := a.tar.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg {
		return err
	}
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyN(a.tar, f, h.Size)
	return err
}

// readXattrs adds the extended attributes of a file that belong to layers to the records of its header.
func readXattrs(file string, records map[string]string) error {
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(file, list)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "list attributes", Path: file, Err: err}
	}
	for _, name := range strings.Split(strings.Trim(string(list[:n]), "\x00"), "\x00") {
		if !strings.HasPrefix(name, "user.") && name != "security.capability" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(file, name, value)
		if err != nil {
			return &fs.PathError{Op: "read " + name, Path: file, Err: err}
		}
		records[paxXattr+name] = string(value[:n])
	}
	return nil
}

// Load gives back what [Snapshots.Save] wrote, below the root of the store. Files that are there already are replaced; folders of the
// store may be there. Nothing outside of the root is touched, whatever the archive says: each entry lies in a folder that was made, or
// found to be one, before it.
func (s *Snapshots) Load(ctx context.Context, r io.Reader) error {
	l := &loader{root: s.root, dirs: map[string]bool{".": true}}
	err := l.all(ctx, tar.NewReader(r))
	for _, h := range slices.Backward(l.late) { // inner folders first: one that forbids writing comes after what is in it
		err = errors.Join(err, l.attributes(h))
	}
	if err != nil {
		return fmt.Errorf("load state: %w", err)
	}
	return nil
}

type loader struct {
	root string
	dirs map[string]bool // folders by name, known to be folders
	late []*tar.Header   // of folders
}

func (l *loader) all(ctx context.Context, t *tar.Reader) error {
	for {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if err := l.entry(h, t); err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
	}
}

func (l *loader) entry(h *tar.Header, content io.Reader) error {
	name := path.Clean(h.Name)
	if !filepath.IsLocal(name) || name == "." || !l.dirs[path.Dir(name)] {
		return errors.New("it is no name for a file of a state")
	}
	h.Name = name
	file := filepath.Join(l.root, name)
	if h.Typeflag == tar.TypeDir {
		return l.folder(h, file)
	}
	if l.dirs[name] {
		return errors.New("it was a folder before")
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var err error
	switch h.Typeflag {
	case tar.TypeReg:
		err = writeContent(file, content)
	case tar.TypeSymlink:
		err = os.Symlink(h.Linkname, file)
	case tar.TypeLink:
		to := path.Clean(h.Linkname)
		if !filepath.IsLocal(to) || !l.dirs[path.Dir(to)] {
			return errors.New("it is linked to something else than a file of the state")
		}
		return os.Link(filepath.Join(l.root, to), file)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		kind := map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}[h.Typeflag]
		err = unix.Mknod(file, kind|0o600, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
	default:
		return fmt.Errorf("its type is %q", h.Typeflag)
	}
	if err != nil {
		return err
	}
	return l.attributes(h)
}

func (l *loader) folder(h *tar.Header, file string) error {
	err := os.Mkdir(file, 0o700)
	if errors.Is(err, fs.ErrExist) {
		i, lerr := os.Lstat(file)
		if lerr != nil || !i.IsDir() {
			return errors.New("something else is there")
		}
		err = os.Chmod(file, 0o700)
	}
	l.dirs[h.Name] = true
	l.late = append(l.late, h)
	return err
}

func writeContent(file string, content io.Reader) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}

// attributes sets what a header says. The order matters: chown clears set bits and capabilities.
func (l *loader) attributes(h *tar.Header) error {
	file := filepath.Join(l.root, h.Name)
	var st unix.Stat_t
	if err := unix.Lstat(file, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: file, Err: err}
	}
	if int(st.Uid) != h.Uid || int(st.Gid) != h.Gid {
		if err := os.Lchown(file, h.Uid, h.Gid); err != nil {
			return err
		}
	}
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, paxXattr); ok {
			if err := unix.Lsetxattr(file, name, []byte(value), 0); err != nil {
				return &fs.PathError{Op: "set " + name, Path: file, Err: err}
			}
		}
	}
	if h.Typeflag != tar.TypeSymlink {
		if err := unix.Chmod(file, uint32(h.Mode)&0o7777); err != nil {
			return &fs.PathError{Op: "chmod", Path: file, Err: err}
		}
	}
	t, err := unix.TimeToTimespec(h.ModTime)
	if err == nil {
		err = unix.UtimesNanoAt(unix.AT_FDCWD, file, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return &fs.PathError{Op: "set times", Path: file, Err: err}
	}
	return nil
}
