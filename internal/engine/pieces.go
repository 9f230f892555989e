package engine

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/skiff-build/skiff/internal/layer"
)

// The child sends the tar of a layer that completes another one in pieces: a byte that says what follows, and two numbers of 8
// bytes, little endian. pieceKeep: the first and the end of a range of the tar below. pieceBytes: how many bytes follow, and
// zero. pieceEnd: two zeros.
const (
	pieceKeep  = 'k'
	pieceBytes = 'b'
	pieceEnd   = 'e'
	pieceHead  = 17
)

// pieceWriter sends pieces.
type pieceWriter struct{ w *bufio.Writer }

func (p pieceWriter) head(kind byte, a, b int64) error {
	h := binary.LittleEndian.AppendUint64([]byte{kind}, uint64(a))
	_, err := p.w.Write(binary.LittleEndian.AppendUint64(h, uint64(b)))
	return err
}

func (p pieceWriter) Write(b []byte) (int, error) {
	if err := p.head(pieceBytes, int64(len(b)), 0); err != nil {
		return 0, err
	}
	return p.w.Write(b)
}

func (p pieceWriter) Keep(from, to int64) error { return p.head(pieceKeep, from, to) }

func (p pieceWriter) end() error { return p.head(pieceEnd, 0, 0) }

var errPieces = errors.New("the tar came over broken")

// readPieces hands on what a pieceWriter sent, of a tar below of that size.
func readPieces(r io.Reader, to layer.Pieces, below int64) error {
	in := bufio.NewReaderSize(r, 256<<10)
	for {
		var h [pieceHead]byte
		if _, err := io.ReadFull(in, h[:]); err != nil {
			return fmt.Errorf("%w: %w", errPieces, err)
		}
		a, b := int64(binary.LittleEndian.Uint64(h[1:])), int64(binary.LittleEndian.Uint64(h[9:]))
		switch h[0] {
		case pieceEnd:
			return nil
		case pieceKeep:
			if a < 0 || b < a || b > below {
				return errPieces
			}
			if err := to.Keep(a, b); err != nil {
				return err
			}
		case pieceBytes:
			if n, err := io.CopyN(to, in, a); err != nil || a < 0 || n != a {
				return errors.Join(errPieces, err)
			}
		default:
			return errPieces
		}
	}
}
