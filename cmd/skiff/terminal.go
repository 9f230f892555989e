package main

import (
	"io"
	"os"

	"golang.org/x/term"
)

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// raw returns the writer below one of a command, for what is not text to be made printable: an archive, or a display, which takes the
// control characters out itself.
func raw(w io.Writer) io.Writer {
	if p, ok := w.(interface{ Unwrap() io.Writer }); ok {
		return p.Unwrap()
	}
	return w
}
