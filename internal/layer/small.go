package layer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/skiff-build/skiff/internal/inode"
)

// The kernel takes most of the time for a small file: to find an inode, and to enter it into a directory. So small files are made beside
// the reading of the tar, on all processors. The result is that of one after the other: whoever looks at what may not be there
// yet waits for all of them first, and what lies in the way of one is dealt with after the wait.

const (
	smallFile = 64 << 10 // bytes
	// mostPending is how many files are under way or done before all are waited for: some MB.
	mostPending = 4096
	// mostBytes of their contents are in memory, but for one file.
	mostBytes = 16 << 20
)

// smallFiles are the files that are being made.
type smallFiles struct {
	made    errgroup.Group
	pending map[string]bool // by name in the layer
	bytes   int64
	leading map[string]bool // symlinks and whiteouts of the layer: what takes the place of one may change where other names lead
	small   int64           // bytes of the largest file that is made here

	mu    sync.Mutex
	again []smallOne // where something was in the way
}

type smallOne struct {
	name    string
	info    inode.Info
	content []byte
}

func (s *smallFiles) leads(name string) {
	if s.leading == nil {
		s.leading = map[string]bool{}
	}
	s.leading[name] = true
}

// smallError is what went wrong with a file, found while another entry is dealt with.
type smallError struct {
	name string
	err  error
}

func (e smallError) Error() string { return fmt.Sprintf("%.100q: %v", e.name, e.err) }
func (e smallError) Unwrap() error { return e.err }

// queue reads a file from the tar and has it made. Its directory is known, and no directory has its name.
func (u *unpacker) queue(name string, info inode.Info) error {
	one := smallOne{name: name, info: info}
	if info.Size > 0 {
		one.content = make([]byte, info.Size)
		if _, err := io.ReadFull(u.tar, one.content); err != nil {
			return err
		}
	}
	if u.files.pending == nil {
		u.files.pending = map[string]bool{}
	}
	u.files.pending[name] = true
	u.files.bytes += info.Size
	path := u.path(name)
	u.files.made.Go(func() error {
		err := inode.MakeFile(path, info, info.Mtime, one.write())
		if errors.Is(err, fs.ErrExist) {
			u.files.mu.Lock()
			defer u.files.mu.Unlock()
			u.files.again = append(u.files.again, one)
			return nil
		}
		if err != nil {
			return smallError{name, err}
		}
		return nil
	})
	if len(u.files.pending) >= mostPending || u.files.bytes >= mostBytes {
		return u.wait()
	}
	return nil
}

func (o smallOne) write() func(*os.File) error {
	if len(o.content) == 0 {
		return nil
	}
	return func(f *os.File) error { _, err := f.Write(o.content); return err }
}

// wait returns when all files are there that were queued.
func (u *unpacker) wait() error {
	s := &u.files
	if len(s.pending) == 0 {
		return nil
	}
	err := s.made.Wait()
	s.made = errgroup.Group{}
	s.made.SetLimit(runtime.GOMAXPROCS(0))
	clear(s.pending)
	again := s.again
	s.again, s.bytes = nil, 0
	for _, one := range again { // names differ, and so the order is of no account
		if err == nil {
			if err = u.write(one.name, one.info, bytes.NewReader(one.content)); err != nil {
				err = smallError{one.name, err}
			}
		}
	}
	return err
}
