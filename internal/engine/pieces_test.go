package engine

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// told is a layer.Pieces that tells what came.
type told struct{ strings.Builder }

func (t *told) Keep(from, to int64) error {
	_, err := fmt.Fprintf(t, "[%d-%d]", from, to)
	return err
}

func TestPieces(t *testing.T) {
	var sent bytes.Buffer
	w := bufio.NewWriter(&sent)
	p := pieceWriter{w}
	large := strings.Repeat("x", 1<<20)
	for _, err := range []error{p.Keep(0, 10), p.Keep(12, 12), p.end(), w.Flush()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	good := sent.String()
	for text, want := range map[string]string{
		good:                                 "[0-10][12-12]",
		good[:len(good)-1]:                   "error",
		good[:pieceHead]:                     "error",
		"":                                   "error",
		"z" + strings.Repeat("\x00", 16):     "error",
		"b" + strings.Repeat("\xff", 16):     "error",
		"k" + strings.Repeat("\xff", 16):     "error",
		"k\x02" + strings.Repeat("\x00", 15): "error", // it ends before it begins
	} {
		var got told
		if err := readPieces(strings.NewReader(text), &got, 12); err != nil {
			got.Reset()
			got.WriteString("error")
		}
		if got.String() != want {
			t.Errorf("%q: %s, want %s", text, got.String(), want)
		}
	}
	sent.Reset()
	for range 3 {
		if n, err := p.Write([]byte(large)); n != len(large) || err != nil {
			t.Fatal(n, err)
		}
	}
	if p.end() != nil || w.Flush() != nil {
		t.Fatal("it could not be sent")
	}
	var got told
	if err := readPieces(&sent, &got, 0); err != nil || got.String() != large+large+large {
		t.Errorf("%d bytes came, %v", got.Len(), err)
	}
	if readPieces(strings.NewReader(good), &told{}, 11) == nil {
		t.Error("a piece beyond the end: no error")
	}
}
