//go:build linux

package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal says what it knows of its terminal, then the next line typed, then its new size when that changes.
var _ = helper("terminal", func([]string) error {
	name, err := os.Readlink("/proc/self/fd/0")
	if err != nil {
		return err
	}
	size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
	if err != nil {
		return err
	}
	// Opening /dev/tty works for a controlling terminal alone.
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, unix.SIGWINCH)
	fmt.Fprintln(tty, "terminal", name, size.Row, size.Col)
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		return err
	}
	fmt.Printf("typed %q\n", line)
	<-changed
	if size, err = unix.IoctlGetWinsize(0, unix.TIOCGWINSZ); err != nil {
		return err
	}
	fmt.Println("now", size.Row, size.Col)
	os.Exit(7)
	return nil
})

// pty is a terminal of the host, as the user of skiff has one: what is written to the one end is typed at the other.
func pty(t *testing.T) (keyboard, tty *os.File) {
	t.Helper()
	// Non-blocking, so that Go polls it and a deadline ends a read.
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	keyboard = os.NewFile(uintptr(fd), "keyboard")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	// Raw, as the caller of Run has to make it.
	attr, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	attr.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG
	attr.Oflag &^= unix.OPOST
	attr.Iflag &^= unix.ICRNL
	if err := unix.IoctlSetTermios(int(tty.Fd()), unix.TCSETS, attr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keyboard.Close(); tty.Close() })
	return keyboard, tty
}

func TestTerminal(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) {
		keyboard, tty := pty(t)
		resize := func(rows, cols uint16) {
			if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols}); err != nil {
				t.Error(err)
			}
		}
		resize(40, 100)
		s := step(t, "terminal")
		s.Process.Terminal = true
		done := make(chan error, 1)
		go func() {
			done <- c.CallFiles(t.Context(), "run", runRequest{Spec: s, FakeIDs: c.Mode() == ModeOneID}, []*os.File{tty}, nil, nil)
		}()
		if err := keyboard.SetReadDeadline(time.Now().Add(5 * time.Minute)); err != nil {
			t.Fatal(err)
		}
		screen := bufio.NewReader(keyboard)
		expect := func(want string) {
			t.Helper()
			for {
				line, err := screen.ReadString('\n')
				if err != nil {
					t.Fatalf("%v while waiting for %q (%q)", err, want, line)
				}
				if strings.TrimSpace(line) == want {
					return
				}
			}
		}
		expect("terminal /dev/pts/0 40 100")
		fmt.Fprint(keyboard, "ls -l\r")
		expect(`typed "ls -l\n"`)
		resize(50, 132)
		expect("now 50 132")
		var exit *ExitError
		if err := <-done; !errors.As(err, &exit) || exit.Code != 7 {
			t.Fatal(err)
		}
	})
}
