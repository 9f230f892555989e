package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-build/skiff/internal/inode"
)

// The private name that [Enter] and [Run] start this executable under, and the stages of the dance:
//
//	parent ──clone──► wait ──(ids mapped by the helpers)──exec──► child ──clone──► step ──exec──► the program
//	       ╰─────────────(ids mapped by us, or none)────────────► child
//
// The first exec in a user namespace where the user is not mapped yet drops all capabilities (capabilities(7)); so
// wait is there to be started without, and to exec again once uid 0 is mapped.
const (
	initArg0   = "skiff[sandbox]"
	stageWait  = "wait"
	stageChild = "child"
	stageStep  = "step"
	stageFiles = "files" // a child of [ModeFiles], without any namespace
)

// initFD is the descriptor of the socket to the process above.
const initFD = 3

// stopGrace is how long handlers have to clean up after the parent has gone.
const stopGrace = 800 * time.Millisecond

// startInfo is what the child learns from the parent.
type startInfo struct {
	Root string
	Mode Mode
	Step bool
}

// self is set once, in the child, before the first handler runs.
var self startInfo

// Init must be the first call in main. In the process that the user started it returns at once. In the child and in
// a step's init it never returns: the child answers calls with handlers, a step's init becomes the step's program.
// A process is taken for one of those when it has both the private name and a socket as descriptor 3.
func Init(handlers map[string]Handler) {
	if len(os.Args) != 2 || os.Args[0] != initArg0 || !isSocket(initFD) {
		return
	}
	switch os.Args[1] {
	case stageWait:
		fatal(waitStage())
	case stageChild:
		fatal(childStage(handlers))
	case stageStep:
		stepStage()
	case stageFiles:
		fatal(filesStage(handlers))
	}
}

func isSocket(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK
}

// fatal ends the process; with an error its text goes to stderr, which the parent keeps.
func fatal(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// waitStage waits for the parent's first byte, which comes when the ids are mapped, and starts over with all
// capabilities. It only peeks: the byte belongs to a frame for the next stage.
func waitStage() error {
	var b [1]byte
	for {
		n, _, err := unix.Recvfrom(initFD, b[:], unix.MSG_PEEK)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for ids: %w", err)
		}
		if n == 0 {
			return nil // the parent has given up
		}
		break
	}
	return syscall.Exec("/proc/self/exe", []string{initArg0, stageChild}, os.Environ())
}

func childStage(handlers map[string]Handler) error {
	ignoreTerminal()
	moved, chroot := rootChroot()
	if moved {
		return syscall.Exec("/proc/self/exe", os.Args, os.Environ())
	}
	link, err := started()
	if err != nil {
		return err
	}
	hello := frame{Kind: kindHello}
	if err := prepareChild(chroot); err != nil {
		hello.Err = toWire(err)
	}
	if err := link.send(hello, nil); err != nil || hello.Err != nil {
		return err
	}
	go reap()
	if self.Step {
		go firstInit()
	}
	go defaultFilter() // 5 ms that the first step need not wait for
	serve(link, handlers, stopGrace)
	// Whatever handlers left is unmounted and killed with the namespaces.
	return nil
}

// ignoreTerminal is for a child, whose session has no terminal: a signal for the parent's process group may still come by kill(1).
func ignoreTerminal() { signal.Ignore(unix.SIGINT, unix.SIGQUIT, unix.SIGHUP, unix.SIGTSTP) }

// started waits for the parent's word on what this child is, and returns the way to it.
func started() (*socketLink, error) {
	unix.CloseOnExec(initFD)
	link, err := newSocketLink(os.NewFile(initFD, "parent"))
	if err != nil {
		return nil, err
	}
	f, _, err := link.recv()
	if err != nil || f.Kind != kindStart {
		return nil, fmt.Errorf("start sandbox: no start message: %w", err)
	}
	if err := json.Unmarshal(f.Body, &self); err != nil {
		return nil, fmt.Errorf("start sandbox: %w", err)
	}
	return link, nil
}

// filesStage is the child of [ModeFiles]: it stays where it is.
func filesStage(handlers map[string]Handler) error {
	ignoreTerminal()
	link, err := started()
	if err != nil {
		return err
	}
	unix.Umask(0o022)
	inode.OwnIsRoot()
	if err := link.send(frame{Kind: kindHello}, nil); err != nil {
		return err
	}
	serve(link, handlers, stopGrace)
	return nil
}

// FilesOnly reports whether this process is a child of [ModeFiles].
func FilesOnly() bool { return self.Mode == ModeFiles }

// prepareChild cuts the mounts off from the machine's, and shares them with the inits that it starts, until each takes its
// own (enterStage). It drops the groups of the caller where that is allowed. chroot is what kept the child in one.
func prepareChild(chroot error) error {
	if chroot != nil {
		return chroot
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share mounts with steps: %w", err)
	}
	if self.Mode == ModeSubIDs {
		if err := syscall.Setgroups(nil); err != nil {
			return fmt.Errorf("drop groups: %w", err)
		}
	}
	unix.Umask(0o022)
	return nil
}

// orphanAge is how long a process has to be a zombie to be taken for an orphan.
const orphanAge = 30 * time.Second

// reaper takes the exit status of orphans, which pid 1 inherits. What a handler is going to wait for must be left to
// it, and the kernel does not tell the one from the other; but that is waited for within moments, by Run's own steps
// aside, which may have to wait for a terminal that the user has stopped.
type reaper struct {
	pid   int // the zombie seen last
	since time.Time
}

// steps are the pids of [Run] that are not waited for yet.
var steps sync.Map

func reap() {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, unix.SIGCHLD)
	var r reaper
	for range ch {
		for r.look(time.Now()) {
			time.Sleep(time.Second)
		}
	}
}

// look tells whether there is a zombie, and takes it when it is due.
func (r *reaper) look(now time.Time) bool {
	pid, err := zombie(unix.P_ALL, 0)
	if err != nil || pid == 0 {
		r.pid = 0
		return false
	}
	if pid != r.pid {
		r.pid, r.since = pid, now
		return true
	}
	if _, ours := steps.Load(pid); !ours && now.Sub(r.since) >= orphanAge {
		unix.Wait4(pid, nil, unix.WNOHANG, nil)
		r.pid = 0
	}
	return true
}

// zombie returns a child, of those that waitid(2) is asked about, that has ended and was not waited for, 0 for none, and leaves
// it as it is.
func zombie(idType, id int) (int, error) {
	var info unix.Siginfo
	err := unix.Waitid(idType, id, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	if errors.Is(err, unix.ECHILD) {
		return 0, nil
	}
	if err != nil || info.Signo == 0 {
		return 0, err
	}
	return siginfoPid(&info), nil
}
