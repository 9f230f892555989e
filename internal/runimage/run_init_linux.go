package runimage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"slices"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/skiff-build/skiff/internal/sandbox"
)

// initPath is where docker has its init in a container; initLibs is a folder for what it is linked with.
const (
	initPath = "/sbin/docker-init"
	initLibs = "/sbin/docker-init.lib"
)

// addInit makes this program the first process of s, which starts the other one. One that is linked dynamically (by `go run`)
// brings its loader and libraries, in a folder of its own: the image has others in their places.
func addInit(s *specs.Spec) error {
	mounts, err := sandbox.Self()
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	mounts = slices.Clone(mounts) // they are the process's
	args := []string{initPath, "--"}
	for i := range mounts {
		m := &mounts[i]
		switch i {
		case 0: // the program
			m.Destination = initPath
			continue
		case 1: // the loader
			args = []string{path.Join(initLibs, path.Base(m.Destination)), "--library-path", initLibs, initPath, "--"}
		}
		m.Destination = path.Join(initLibs, path.Base(m.Destination))
	}
	s.Mounts, s.Process.Args = append(s.Mounts, mounts...), append(args, s.Process.Args...)
	return nil
}

// Init is the process of an image's init, as args says; not ok: this process is another.
func Init(args []string) (code int, ok bool) {
	if len(args) < 3 || args[0] != initPath || args[1] != "--" || os.Getpid() != 1 {
		return 0, false
	}
	return superviseProgram(args[2:]), true
}

// superviseProgram runs the program of a container, gives it all signals, and takes care of processes whose parents are gone. It
// returns the program's exit code.
func superviseProgram(args []string) int {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	signal.Ignore(syscall.SIGTTIN, syscall.SIGTTOU) // it is the program that stands in the foreground
	file, err := exec.LookPath(args[0])
	if err == nil && filepath.Base(file) == file { // in the working directory by way of a PATH that says so
		file = "./" + file
	}
	var p *os.Process
	if err == nil {
		isTerminal := term.IsTerminal(0)
		p, err = os.StartProcess(file, args, &os.ProcAttr{
			Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
			Sys:   &syscall.SysProcAttr{Setpgid: true, Foreground: isTerminal, Ctty: 0},
		})
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "skiff: init: %v\n", err)
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			return 127
		}
		return 126
	}
	for sig := range signals {
		switch sig {
		case syscall.SIGCHLD:
			if code, ended := reap(p.Pid); ended {
				return code
			}
		case syscall.SIGURG: // Go's own
		default:
			_ = p.Signal(sig)
		}
	}
	return 0
}

// reap waits for every process that has ended, and tells whether the program of this pid is one of them.
func reap(pid int) (code int, ended bool) {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil || got <= 0:
			return code, ended
		case got == pid && status.Exited():
			code, ended = status.ExitStatus(), true
		case got == pid && status.Signaled():
			code, ended = 128+int(status.Signal()), true
		}
	}
}
