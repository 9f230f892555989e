package image

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/skiff-build/skiff/internal/atomicfile"
)

// writeTo calls write with the file dest, which appears when all went well ([atomicfile.Write]). "-" and "" are stdout.
func writeTo(dest string, stdout io.Writer, write func(io.Writer) error) error {
	if dest == "-" || dest == "" {
		if isTerminal(stdout) {
			return errors.New("write archive: standard output is a terminal: name a file with dest=FILE, or redirect")
		}
		return write(stdout)
	}
	if err := atomicfile.Write(dest, write); err != nil {
		return fmt.Errorf("write archive: %s: %w", dest, err)
	}
	return nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	i, err := f.Stat()
	return err == nil && i.Mode()&os.ModeCharDevice != 0 && f.Name() != os.DevNull
}
