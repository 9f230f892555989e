package gobase

import (
	"archive/tar"
	"fmt"
	"io"
	"path"
	"time"
)

// layerWriter writes the entries of a layer: no names of users, all times zero, all owned by root.
type layerWriter struct {
	tar  *tar.Writer
	dirs map[string]bool
	err  error
}

func newLayerWriter(w io.Writer) *layerWriter {
	return &layerWriter{tar: tar.NewWriter(w), dirs: map[string]bool{}}
}

func (l *layerWriter) header(h *tar.Header) {
	h.ModTime = time.Unix(0, 0)
	if l.err == nil {
		l.err = l.tar.WriteHeader(h)
	}
}

func (l *layerWriter) dir(name string, mode int64) {
	if !l.dirs[name] {
		l.dirs[name] = true
		l.header(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode})
	}
}

// parents writes the folders between above and name that are not yet there.
func (l *layerWriter) parents(name, above string) {
	if dir := path.Dir(name); dir != above && dir != "." && !l.dirs[dir] {
		l.parents(dir, above)
		l.dir(dir, 0o755)
	}
}

func (l *layerWriter) link(name, target string) {
	l.header(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777})
}

func (l *layerWriter) file(name string, mode, size int64, r io.Reader) error {
	l.header(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: size})
	if l.err == nil {
		_, l.err = io.Copy(l.tar, io.LimitReader(r, size+1))
	}
	if l.err != nil {
		return fmt.Errorf("layer: %s: %w", name, l.err)
	}
	return nil
}

// owned is dir with a group.
func (l *layerWriter) owned(name string, mode int64, gid int) {
	if !l.dirs[name] {
		l.dirs[name] = true
		l.header(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode, Gid: gid})
	}
}

func (l *layerWriter) ownedFile(name string, mode int64, gid int, data []byte) error {
	l.header(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Gid: gid, Size: int64(len(data))})
	if l.err == nil {
		_, l.err = l.tar.Write(data)
	}
	if l.err != nil {
		return fmt.Errorf("layer: %s: %w", name, l.err)
	}
	return nil
}

func (l *layerWriter) Close() error {
	if l.err != nil {
		return fmt.Errorf("layer: %w", l.err)
	}
	return l.tar.Close()
}
