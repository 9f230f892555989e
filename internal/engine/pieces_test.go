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

func (t *told) Before(name string, all bool) error {
	_, err := fmt.Fprintf(t, "[%s %v]", name, all)
	return err
}

func (t *told) Rest() error {
	t.WriteString("[rest]")
	return nil
}

func TestPieces(t *testing.T) {
	var sent bytes.Buffer
	w := bufio.NewWriter(&sent)
	p := pieceWriter{w}
	large := strings.Repeat("x", 1<<20)
	for _, err := range []error{p.Before("a/b", false), p.Before("c", true), p.Rest(), p.end(), w.Flush()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	good := sent.String()
	for text, want := range map[string]string{
		good:                                  "[a/b false][c true][rest]",
		good[:len(good)-1]:                    "error",
		good[:pieceHead]:                      "error",
		good[:pieceHead+2]:                    "error",
		"":                                    "error",
		"z" + strings.Repeat("\x00", 9):       "error",
		"b" + strings.Repeat("\xff", 9):       "error",
		"k" + strings.Repeat("\xff", 9):       "error",
		"k" + strings.Repeat("\x00", 9):       "error", // no name
		"k\x00\x01\x00\x01" + good[5:] + good: "error", // 64 KB and one
	} {
		var got told
		if err := readPieces(strings.NewReader(text), &got); err != nil {
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
	if err := readPieces(&sent, &got); err != nil || got.String() != large+large+large {
		t.Errorf("%d bytes came, %v", got.Len(), err)
	}
}
