package engine

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/skiff-build/skiff/internal/layer"
)

// The child sends the tar of a layer that completes another one in pieces: a byte that says what follows, a byte that is 1 for all
// and else zero, and a number of 8 bytes, little endian. pieceBefore: how many bytes of a name follow. pieceBytes: how many bytes
// follow. pieceRest and pieceEnd: zero.
const (
	pieceBefore = 'k'
	pieceRest   = 'r'
	pieceBytes  = 'b'
	pieceEnd    = 'e'
	pieceHead   = 10
	maxName     = 64 << 10 // bytes
)

// pieceWriter sends pieces.
type pieceWriter struct{ w *bufio.Writer }

func (p pieceWriter) head(kind, flag byte, n int) error {
	_, err := p.w.Write(binary.LittleEndian.AppendUint64([]byte{kind, flag}, uint64(n)))
	return err
}

func (p pieceWriter) Write(b []byte) (int, error) {
	if err := p.head(pieceBytes, 0, len(b)); err != nil {
		return 0, err
	}
	return p.w.Write(b)
}

func (p pieceWriter) Before(name string, all bool) error {
	flag := byte(0)
	if all {
		flag = 1
	}
	if err := p.head(pieceBefore, flag, len(name)); err != nil {
		return err
	}
	_, err := p.w.WriteString(name)
	return err
}

func (p pieceWriter) Rest() error { return p.head(pieceRest, 0, 0) }

func (p pieceWriter) end() error { return p.head(pieceEnd, 0, 0) }

var errPieces = errors.New("the tar came over broken")

// readPieces hands on what a pieceWriter sent.
func readPieces(r io.Reader, to layer.Pieces) error {
	in := bufio.NewReaderSize(r, 256<<10)
	for {
		var h [pieceHead]byte
		if _, err := io.ReadFull(in, h[:]); err != nil {
			return fmt.Errorf("%w: %w", errPieces, err)
		}
		n := int64(binary.LittleEndian.Uint64(h[2:]))
		switch h[0] {
		case pieceEnd:
			return nil
		case pieceRest:
			if err := to.Rest(); err != nil {
				return err
			}
		case pieceBefore:
			if n <= 0 || n > maxName {
				return errPieces
			}
			name := make([]byte, n)
			if _, err := io.ReadFull(in, name); err != nil {
				return fmt.Errorf("%w: %w", errPieces, err)
			}
			if err := to.Before(string(name), h[1] == 1); err != nil {
				return err
			}
		case pieceBytes:
			if m, err := io.CopyN(to, in, n); err != nil || n < 0 || m != n {
				return errors.Join(errPieces, err)
			}
		default:
			return errPieces
		}
	}
}
