package image

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/skiff-build/skiff/internal/store"
)

// writeTo calls write with the file dest: a new one beside it, renamed into its place when all went well, so
// that nobody sees a part of an archive. "-" and "" are stdout; a pipe or device is written to directly.
func writeTo(dest string, stdout io.Writer, write func(io.Writer) error) error {
	if dest == "-" || dest == "" {
		if isTerminal(stdout) {
			return errors.New("write archive: standard output is a terminal: name a file with dest=FILE, or redirect")
		}
		return write(stdout)
	}
	if real, err := filepath.EvalSymlinks(dest); err == nil {
		dest = real
	}
	if i, err := os.Stat(dest); err == nil && i.IsDir() {
		return fmt.Errorf("write archive: %s is a folder", dest)
	} else if err == nil && !i.Mode().IsRegular() {
		f, err := os.OpenFile(dest, os.O_WRONLY, 0)
		if err != nil {
			return fmt.Errorf("write archive: %w", err)
		}
		return errors.Join(write(f), f.Close())
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write archive: %w", err)
	}
	tmp := filepath.Join(filepath.Dir(dest), "."+filepath.Base(dest)+"."+store.NewID())
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	err = write(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, dest)
	}
	if err != nil {
		os.Remove(tmp)
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
