package printable

import (
	"strings"
	"unicode/utf8"
)

// Output is what a program writes as if to a terminal, in pieces: the output of a step. Sequences that color text or move the cursor
// (ECMA-48) are left out, and a carriage return, by which progress bars are drawn anew, begins a new line. All else is as with [Text].
// The zero value is the beginning. It is not safe for concurrent use.
type Output struct {
	state    outputState
	part     []byte // the beginning of a character whose other bytes are still to come
	length   int    // of the sequence so far
	returned bool   // a carriage return was the last
}

type outputState byte

const (
	inText      outputState = iota
	inEscape                // after ESC: a final byte, or what begins one of the others
	inControl               // after ESC [: parameters, until a final byte
	inString                // after ESC ] and the like: until BEL, ESC \ or the end of the line
	inStringEnd             // after ESC in a string
)

// maxSequence is where what began as a sequence is none: real ones have some ten bytes, titles and links some hundred.
const maxSequence = 4096

// Clean returns the next piece, fit to be shown.
func (o *Output) Clean(piece []byte) []byte {
	if o.state == inText && len(o.part) == 0 && !o.returned && plain(string(piece), "\n\t") {
		return piece
	}
	text := append(o.part, piece...)
	whole := wholeRunes(text)
	o.part = append([]byte(nil), text[whole:]...)
	var b strings.Builder
	for _, r := range string(text[:whole]) {
		o.next(&b, r)
	}
	return []byte(b.String())
}

func (o *Output) next(b *strings.Builder, r rune) {
	after := o.returned
	o.returned = false
	if o.state != inText {
		if o.length++; o.length > maxSequence || r == '\n' || r == '\r' || r >= utf8.RuneSelf && o.state != inString {
			o.state = inText // it was none
		}
	}
	switch o.state {
	case inText:
		switch {
		case r == 0x1b:
			o.state, o.length = inEscape, 0
		case r == '\r':
			o.returned = true
			b.WriteByte('\n')
		case r == '\n' && after:
		default:
			put(b, r, "\n\t")
		}
	case inEscape:
		switch {
		case r == '[':
			o.state = inControl
		case strings.ContainsRune("]P^_X", r):
			o.state = inString
		case r >= 0x20 && r <= 0x2f:
		default:
			o.state = inText
		}
	case inControl:
		if r >= 0x40 && r <= 0x7e {
			o.state = inText
		}
	case inString:
		switch r {
		case 0x07:
			o.state = inText
		case 0x1b:
			o.state = inStringEnd
		}
	case inStringEnd:
		o.state = inString
		if r == '\\' {
			o.state = inText
		}
	}
}
