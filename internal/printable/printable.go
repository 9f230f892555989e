// Package printable makes text of others fit to be shown: what stands in image configs and layers, in build information, in
// Dockerfiles, in file names, and what registries and steps say. A terminal obeys control characters: they can move the cursor over
// what skiff said, hide text, set the title or answer as if somebody had typed, and a newline in a name can forge a line of a log. None
// of them leaves this package but the newlines and tabs of skiff's own layout.
//
// What is not shown as it is becomes the escape that JSON has for it, \u001b, so that JSON stays the same value and text stays legible.
// Bytes that are no UTF-8 become U+FFFD.
package printable

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// hidden reports whether a rune does something to the text around it, or to the terminal, instead of being seen: the controls of
// Unicode (C0, DEL and C1), those that reverse the direction of text, separators of lines, and tags, which nobody sees. Joiners and
// variants of emoji are not among them.
func hidden(r rune) bool {
	switch {
	case r < 0x20, r >= 0x7f && r <= 0x9f:
		return true
	case r < 0x600:
		return false
	case r == 0x061c, r == 0x200e, r == 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
		return true
	case r == 0xfeff, r >= 0xfff9 && r <= 0xfffb, r >= 0xe0000 && r <= 0xe007f:
		return true
	}
	return false
}

// plain reports whether text is shown as it is: most of it is ASCII.
func plain(text string, layout string) bool {
	for i := 0; i < len(text); i++ {
		if c := text[i]; c >= 0x7f || c < 0x20 && strings.IndexByte(layout, c) < 0 {
			return false
		}
	}
	return true
}

// Line returns what stands within a line: not even a newline or a tab is left in it.
func Line(text string) string { return escaped(text, "") }

// Text returns text of several lines.
func Text(text string) string { return escaped(text, "\n\t") }

func escaped(text, layout string) string {
	if plain(text, layout) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		put(&b, r, layout)
	}
	return b.String()
}

func put(b *strings.Builder, r rune, layout string) {
	switch {
	case !hidden(r) || r < utf8.RuneSelf && strings.ContainsRune(layout, r):
		b.WriteRune(r)
	case layout == "" && r == '\n':
		b.WriteString(`\n`)
	case layout == "" && r == '\t':
		b.WriteString(`\t`)
	case r > 0xffff:
		high, low := utf16.EncodeRune(r)
		fmt.Fprintf(b, `\u%04x\u%04x`, high, low)
	default:
		fmt.Fprintf(b, `\u%04x`, r)
	}
}

// Writer writes text of several lines to another writer. It is not safe for concurrent use.
type Writer struct {
	w    io.Writer
	part []byte // the beginning of a character whose other bytes are still to come
}

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Unwrap returns the writer below, for what is no text: an archive, or a display that makes its own controls.
func (w *Writer) Unwrap() io.Writer { return w.w }

func (w *Writer) Write(p []byte) (int, error) {
	text := p
	if len(w.part) > 0 {
		text = append(w.part, p...)
	}
	whole := wholeRunes(text)
	if _, err := io.WriteString(w.w, Text(string(text[:whole]))); err != nil {
		return 0, err
	}
	w.part = append([]byte(nil), text[whole:]...)
	return len(p), nil
}

// wholeRunes returns how many bytes of text are there before a character that is cut off by its end.
func wholeRunes(text []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(text); n++ {
		if c := text[len(text)-n]; utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(text[len(text)-n:]) {
				return len(text) - n
			}
			break
		}
	}
	return len(text)
}
