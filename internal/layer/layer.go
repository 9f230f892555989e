// Package layer turns a layer directory into the tar that images have, and back.
//
// A layer directory has the form of an overlayfs upper directory: files with their attributes as in
// package inode, whiteouts and opaque directories as in package whiteout. In the tar those are empty
// files named .wh.NAME and .wh..wh..opq (image-spec, layer.md, "Whiteouts").
//
// [Pack] gives the same bytes for the same content and attributes, whichever way the machine holds them.
// [Unpack] reads what strangers made: it touches nothing outside of the directory it is given, and no
// more than the limits allow. It relies on nobody else writing there meanwhile.
package layer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"

	"github.com/skiff-build/skiff/internal/bounds"
)

const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq"
	metaPrefix     = ".wh..wh." // other files of aufs: of no concern to anybody else
)

// capsRecord is the PAX record of the one extended attribute that images keep.
const capsRecord = "SCHILY.xattr.security.capability"

// ErrEscape is the error for a path, or the target of a hard link, that would leave the directory.
var ErrEscape = bounds.ErrEscape

// ErrLimit is the error for a layer with more bytes or entries than [UnpackOptions] allow. What no layer may have is [bounds.ErrLimit].
var ErrLimit = errors.New("layer is larger than allowed")

// Packed describes the tar of a layer.
type Packed struct {
	DiffID string // "sha256:" and the digest of the uncompressed tar, in hexadecimal
	Size   int64  // bytes of the uncompressed tar
	Files  int64  // bytes of the regular files in it, without further names of hard links
}

// digester digests and counts the bytes of a tar.
type digester struct {
	sum hash.Hash
	n   int64
}

func newDigester() *digester { return &digester{sum: sha256.New()} }

func (d *digester) Write(b []byte) (int, error) {
	d.n += int64(len(b))
	return d.sum.Write(b)
}

func (d *digester) packed(files int64) Packed {
	return Packed{DiffID: "sha256:" + hex.EncodeToString(d.sum.Sum(nil)), Size: d.n, Files: files}
}

// ctxReader ends with the context's error once that is done: one large file can take minutes.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// writerOnly hides ReadFrom, which would get around the buffer of io.CopyBuffer.
type writerOnly struct{ io.Writer }
