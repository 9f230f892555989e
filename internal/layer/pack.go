package layer

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/skiff-build/skiff/internal/inode"
	"github.com/skiff-build/skiff/internal/whiteout"
)

// PackOptions are the options of [Pack].
type PackOptions struct {
	Epoch     int64 // modification time of all entries, in seconds since 1970
	KeepTimes bool  // entries have the files' own times instead, in whole seconds, but for symlinks not of 0:0
}

// Pack writes the layer directory dir to w as an uncompressed tar: entries sorted within each directory,
// owners by number alone, PAX records only where a plain header does not do. The directory itself has no
// entry. Two paths are hard links of each other when they are in dir, which is for package snapshot to
// see to. Sockets are left out, as a tar cannot hold them. A file whose own name begins with .wh. is an
// error, as an image would take it for a whiteout.
func Pack(ctx context.Context, w io.Writer, dir string, o PackOptions) (Packed, error) {
	digest := newDigester()
	files, err := packDir(ctx, io.MultiWriter(w, digest), dir, nil, o)
	if err != nil {
		return Packed{}, err
	}
	return digest.packed(files), nil
}

func packDir(ctx context.Context, w io.Writer, dir string, below Pieces, o PackOptions) (files int64, err error) {
	buffered := bufio.NewWriterSize(w, 256<<10)
	p := packer{
		ctx: ctx, dir: dir, o: o,
		tar:   tar.NewWriter(buffered),
		raw:   buffered,
		below: below,
		links: map[[2]uint64]string{},
		copy:  make([]byte, 128<<10),
	}
	err = p.entries(".")
	if err == nil {
		err = p.keepRest()
	}
	if err == nil {
		err = p.tar.Close()
	}
	if err == nil {
		err = buffered.Flush()
	}
	if err != nil {
		return 0, fmt.Errorf("pack layer: %w", err)
	}
	return p.files, nil
}

type packer struct {
	ctx   context.Context
	dir   string
	o     PackOptions
	tar   *tar.Writer
	raw   *bufio.Writer        // what tar writes to
	below Pieces               // of the layer that this one completes, or nil
	links map[[2]uint64]string // device and inode of a file with several names -> its first name
	files int64
	copy  []byte
}

// entries packs what is in the directory of that name.
func (p *packer) entries(name string) error {
	list, err := os.ReadDir(filepath.Join(p.dir, name)) // sorted
	if err != nil {
		return err
	}
	for _, e := range list {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		if err := p.entry(path.Join(name, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (p *packer) entry(name string) error {
	file := filepath.Join(p.dir, name)
	info, err := inode.Lstat(file)
	if err != nil {
		return err
	}
	dir, base := path.Split(name)
	if strings.HasPrefix(base, whiteoutPrefix) {
		return fmt.Errorf("%s: an image cannot hold a file of this name", name)
	}
	hides := whiteout.Is(file, info)
	if p.below != nil {
		if err := p.keepBefore(name, hides || !info.IsDir()); err != nil || hides {
			return err
		}
	}
	if hides {
		return p.mark(dir+whiteoutPrefix+base, info)
	}
	switch info.Type() {
	case inode.TypeDir:
		return p.directory(name, info)
	case inode.TypeFile:
		return p.file(name, info)
	case inode.TypeSocket:
		return nil
	}
	return p.tar.WriteHeader(p.header(name, info))
}

func (p *packer) directory(name string, info inode.Info) error {
	if err := p.tar.WriteHeader(p.header(name+"/", info)); err != nil {
		return err
	}
	if whiteout.IsOpaque(filepath.Join(p.dir, name)) {
		if p.below != nil {
			return fmt.Errorf("%s: %w", name, errNotOver)
		}
		if err := p.mark(name+"/"+opaqueName, info); err != nil {
			return err
		}
	}
	return p.entries(name)
}

func (p *packer) file(name string, info inode.Info) (err error) {
	header := p.header(name, info)
	if info.Nlink > 1 {
		key := [2]uint64{info.Dev, info.Ino}
		if first, ok := p.links[key]; ok {
			header.Typeflag, header.Linkname, header.Size = tar.TypeLink, first, 0
			return p.tar.WriteHeader(header)
		}
		p.links[key] = name
	}
	if err := p.tar.WriteHeader(header); err != nil {
		return err
	}
	p.files += info.Size
	if info.Size == 0 {
		return nil
	}
	f, err := os.Open(filepath.Join(p.dir, name))
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.CopyBuffer(writerOnly{p.tar}, ctxReader{p.ctx, f}, p.copy)
	if errors.Is(err, tar.ErrWriteTooLong) || err == nil && n != info.Size {
		err = errors.New("size changed while it was read")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// mark writes the entry of a whiteout or opaque directory.
func (p *packer) mark(name string, info inode.Info) error {
	return p.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, ModTime: p.time(info)})
}

func (p *packer) header(name string, info inode.Info) *tar.Header {
	h := &tar.Header{
		Name: name, Mode: int64(info.Perm()), Uid: info.UID, Gid: info.GID,
		Size: info.Size, Linkname: info.Link, ModTime: p.time(info),
	}
	switch info.Type() {
	case inode.TypeFile:
		h.Typeflag = tar.TypeReg
	case inode.TypeDir:
		h.Typeflag = tar.TypeDir
	case inode.TypeLink:
		h.Typeflag = tar.TypeSymlink
	case inode.TypeFIFO:
		h.Typeflag = tar.TypeFifo
	case inode.TypeChar:
		h.Typeflag = tar.TypeChar
	case inode.TypeBlock:
		h.Typeflag = tar.TypeBlock
	}
	if info.IsDevice() {
		h.Devmajor, h.Devminor = int64(info.Major), int64(info.Minor)
	}
	if caps := info.Xattrs[inode.CapabilityXattr]; caps != "" {
		h.PAXRecords = map[string]string{capsRecord: caps}
	}
	return h
}

// time returns the time of an entry. A symlink that is not owned by 0:0 may have no time of its own (see
// package inode), and then has none on any machine.
func (p *packer) time(info inode.Info) time.Time {
	if p.o.KeepTimes && !(info.IsLink() && (info.UID != 0 || info.GID != 0)) {
		return time.Unix(0, info.Mtime).Truncate(time.Second)
	}
	return time.Unix(p.o.Epoch, 0)
}
