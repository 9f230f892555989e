package sandbox

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const prefixSize = 12

// maxFiles is the most descriptors that one frame carries; stdin, stdout, stderr and a terminal are four.
const maxFiles = 16

// socketLink is a link over a unix stream socket. A frame is the number of its descriptors, the length in bytes of
// its head and that of its body, 32 bits each, big endian; then head and body. The descriptors ride on the first
// byte (unix(7), SCM_RIGHTS).
type socketLink struct {
	conn *net.UnixConn

	wmu sync.Mutex // one frame at a time

	files []*os.File // received and not yet claimed by a frame
}

// newSocketLink takes over f, a connected unix stream socket.
func newSocketLink(f *os.File) (*socketLink, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("open socket: %s is no unix socket", c.LocalAddr().Network())
	}
	return &socketLink{conn: u}, nil
}

// socketPair returns two connected sockets, close-on-exec both.
func socketPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "parent"), os.NewFile(uintptr(fds[1]), "child"), nil
}

func (l *socketLink) Close() error { return l.conn.Close() }

func (l *socketLink) send(f frame, files []*os.File) error {
	head, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if size := len(head) + len(f.Body); size > maxFrame {
		return fmt.Errorf("message of %d bytes is larger than %d", size, maxFrame)
	}
	if len(files) > maxFiles {
		return fmt.Errorf("%d descriptors are more than %d", len(files), maxFiles)
	}
	buf := make([]byte, 0, prefixSize+len(head)+len(f.Body))
	for _, n := range []int{len(files), len(head), len(f.Body)} {
		buf = binary.BigEndian.AppendUint32(buf, uint32(n))
	}
	buf = append(append(buf, head...), f.Body...)
	l.wmu.Lock()
	defer l.wmu.Unlock()
	return withFDs(files, nil, func(fds []int) error {
		var oob []byte
		if len(fds) > 0 {
			oob = unix.UnixRights(fds...)
		}
		n, _, err := l.conn.WriteMsgUnix(buf, oob, nil)
		if err == nil && n < len(buf) {
			_, err = l.conn.Write(buf[n:])
		}
		return err
	})
}

// withFDs calls fn with the descriptors of files, which stay open and keep their blocking mode ([os.File.Fd] would
// change it, and with it that of everyone who shares the open file).
func withFDs(files []*os.File, fds []int, fn func([]int) error) error {
	if len(files) == 0 {
		return fn(fds)
	}
	raw, err := files[0].SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = withFDs(files[1:], append(fds, int(fd)), fn) })
	if err != nil {
		return err
	}
	return inner
}

func (l *socketLink) recv() (frame, []*os.File, error) {
	var prefix [prefixSize]byte
	if err := l.readFull(prefix[:]); err != nil {
		return frame{}, nil, err
	}
	number := func(i int) int64 { return int64(binary.BigEndian.Uint32(prefix[4*i:])) }
	count, head, size := number(0), number(1), number(1)+number(2)
	if size > maxFrame || count > maxFiles {
		return frame{}, nil, fmt.Errorf("message of %d bytes with %d descriptors is too large", size, count)
	}
	buf := make([]byte, size)
	if err := l.readFull(buf); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return frame{}, nil, err
	}
	if count > int64(len(l.files)) {
		return frame{}, nil, fmt.Errorf("%d of %d descriptors arrived", len(l.files), count)
	}
	files := l.files[:count:count]
	l.files = l.files[count:]
	var f frame
	if err := json.Unmarshal(buf[:head], &f); err != nil {
		closeAll(files)
		return frame{}, nil, fmt.Errorf("decode message: %w", err)
	}
	f.Body = buf[head:]
	return f, files, nil
}

func (l *socketLink) readFull(p []byte) error {
	oob := make([]byte, unix.CmsgSpace(4*maxFiles))
	for got := 0; got < len(p); {
		n, oobn, _, _, err := l.conn.ReadMsgUnix(p[got:], oob)
		if oobn > 0 {
			if err := l.keepFiles(oob[:oobn]); err != nil {
				return err
			}
		}
		if err != nil {
			switch {
			case errors.Is(err, io.EOF) && got > 0:
				return io.ErrUnexpectedEOF
			case errors.Is(err, io.EOF): // package net wraps it
				return io.EOF
			}
			return err
		}
		got += n
	}
	return nil
}

func (l *socketLink) keepFiles(oob []byte) error {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return fmt.Errorf("read descriptors: %w", err)
	}
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			return fmt.Errorf("read descriptors: %w", err)
		}
		for _, fd := range fds {
			l.files = append(l.files, os.NewFile(uintptr(fd), fmt.Sprintf("received-%d", fd)))
		}
	}
	return nil
}
