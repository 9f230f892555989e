package sandbox

import (
	"fmt"
	"os"
	"sync"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// openTerminal makes a terminal in the step's own devpts, so that its name means something in there, makes it the
// controlling one and descriptors 0 to 2, and sends the other end to the child. It runs in the step's root.
func (cfg *stepConfig) openTerminal(root *os.File, link link) error {
	// /dev/pts/ptmx and not /dev/ptmx, which the image could have made a link to elsewhere.
	pts, err := openPlain(root, "/dev/pts")
	if err != nil {
		return err
	}
	defer pts.Close()
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(pts.Fd()), &fs); err != nil || fs.Type != unix.DEVPTS_SUPER_MAGIC {
		return fmt.Errorf("/dev/pts is not the step's own: %v", err)
	}
	fd, err := unix.Openat(int(pts.Fd()), "ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	master := os.NewFile(uintptr(fd), "terminal")
	defer master.Close()
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	if size := cfg.Spec.Process.ConsoleSize; size != nil {
		unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(size.Height), Col: uint16(size.Width)})
	}
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return fmt.Errorf("open other end: %w", errno)
	}
	slave := int(peer)
	defer unix.Close(slave)
	// The session is ours already, from the clone.
	if err := unix.IoctlSetInt(slave, unix.TIOCSCTTY, 0); err != nil {
		return fmt.Errorf("make it the controlling one: %w", err)
	}
	for i := range 3 {
		if err := unix.Dup3(slave, i, 0); err != nil {
			return err
		}
	}
	return link.send(frame{Kind: methodTTY}, []*os.File{master})
}

// sizeInterval is how often the size of the caller's terminal is looked at: SIGWINCH goes to the processes of its
// session, of which the child is none.
const sizeInterval = 200 * time.Millisecond

// joined is the coupling of two terminals.
type joined struct {
	stop *os.File // closing it ends the reading of the caller's terminal
	wg   sync.WaitGroup
}

// joinTerminals copies between the master of the program's terminal and the caller's terminal until the program's
// side is gone. Reads of the caller's are made only when there is something to read, so that none is left over that
// would take away the next line typed at the shell.
func joinTerminals(master, tty *os.File) (*joined, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	j := &joined{stop: w}
	in, out := int(tty.Fd()), int(master.Fd())
	copySize(in, out)
	var input sync.WaitGroup
	input.Go(func() {
		defer r.Close()
		forward(in, out, int(r.Fd()))
	})
	j.wg.Go(func() {
		buf := make([]byte, 32<<10)
		for {
			n, err := master.Read(buf) // EIO when no process has the terminal open any more
			if n > 0 {
				tty.Write(buf[:n])
			}
			if err != nil {
				break
			}
		}
		w.Close()
		input.Wait()
		master.Close()
	})
	return j, nil
}

func (j *joined) wait() { j.wg.Wait() }

// forward copies from in to out until stop is closed at its other end, and keeps the size of out that of in.
func forward(in, out, stop int) {
	buf := make([]byte, 4<<10)
	for {
		fds := []unix.PollFd{{Fd: int32(in), Events: unix.POLLIN}, {Fd: int32(stop), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(sizeInterval/time.Millisecond))
		if err == unix.EINTR {
			continue
		}
		if err != nil || fds[1].Revents != 0 {
			return
		}
		copySize(in, out)
		if n == 0 || fds[0].Revents == 0 {
			continue
		}
		got, err := unix.Read(in, buf)
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err != nil || got == 0 {
			return
		}
		if _, err := unix.Write(out, buf[:got]); err != nil {
			return
		}
	}
}

// sizeOf is nil where tty is no terminal.
func sizeOf(tty *os.File) *specs.Box {
	size, err := unix.IoctlGetWinsize(int(tty.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return nil
	}
	return &specs.Box{Height: uint(size.Row), Width: uint(size.Col)}
}

// copySize sets the size of terminal out to that of in where they differ; setting it sends SIGWINCH.
func copySize(in, out int) {
	want, err := unix.IoctlGetWinsize(in, unix.TIOCGWINSZ)
	if err != nil {
		return
	}
	if now, err := unix.IoctlGetWinsize(out, unix.TIOCGWINSZ); err == nil && *now != *want {
		unix.IoctlSetWinsize(out, unix.TIOCSWINSZ, want)
	}
}
