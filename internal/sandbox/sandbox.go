// Package sandbox runs programs in namespaces: it enters a user namespace (or none, as real root) once a build, in a
// child process of this very binary, and runs OCI runtime specs in there, each in a pid, mount, ipc and uts namespace
// of its own, with Docker's capabilities and seccomp profile.
//
// Three kinds of process take part, all the same executable (see [Init]):
//
//	parent     portable; [Enter] starts the child, [Child.Call] asks it to do something
//	child      pid 1 of a pid namespace; answers calls with the handlers given to Init; [Run] starts a step
//	step init  pid 1 of the step's pid namespace; sets everything up and becomes the program by execve
//
// Parent and child speak over a socketpair. The child ends when its end of it closes, and the kernel takes every
// process and mount below it along, whatever killed the parent. A step's init runs from the executable by way
// of a read-only mount, or from a sealed copy in memory, so that a step cannot write to the file of the host (CVE-2019-5736).
//
// Three modes tell which ids exist in there, see [Mode]. Everything that needs namespaces returns [*Unavailable]
// where the machine, or the operating system, has none.
package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/skiff-build/skiff/internal/usernet"
)

// Mode says which user and group ids a [Child] has. Empty, in [Options], means the best that the machine allows.
type Mode string

const (
	// ModeRoot has the ids of the caller's own user namespace; no user namespace is made.
	ModeRoot Mode = "root"
	// ModeSubIDs has uid 0, the calling user, and the subordinate ids of /etc/subuid and /etc/subgid from 1 on.
	ModeSubIDs Mode = "subids"
	// ModeOneID has uid 0, the calling user, alone: chown to any other id is refused by the kernel.
	ModeOneID Mode = "oneid"
	// ModeFiles has no namespaces at all, where the machine has none: the child works on files and runs no steps. It is taken only
	// when it is asked for.
	ModeFiles Mode = "files"
)

// Options of [Enter].
type Options struct {
	// Mode: empty takes the best that works. Any other is tried alone.
	Mode Mode
	// Root is the state directory, below whose bin directory [Self] keeps a copy of the executable. Empty: Self fails.
	Root string
	// Step says that a step is to be expected: the child starts an init for the first one while it does other things.
	Step bool
}

// Handler answers one method in the child. What it returns is sent as JSON. ctx ends when the caller's ctx does, or
// when the parent is gone. Handlers run concurrently.
type Handler func(ctx context.Context, c *Call) (any, error)

// Call is one request as a [Handler] sees it. Its methods are safe for concurrent use until the handler returns.
type Call struct {
	body  json.RawMessage
	files []*os.File
	event func(any) error
}

// Decode reads the request into v, as [json.Unmarshal].
func (c *Call) Decode(v any) error {
	if err := json.Unmarshal(c.body, v); err != nil {
		return fmt.Errorf("decode request: %w", err)
	}
	return nil
}

// Event sends v to the caller ahead of the result. Events arrive in the order sent, all before the call returns.
// It blocks while the caller is far behind. An error means that the parent is gone.
func (c *Call) Event(v any) error { return c.event(v) }

// Files are the descriptors that came with [Child.CallFiles], in that order. They are closed when the handler returns.
func (c *Call) Files() []*os.File { return c.files }

// RunOptions of [Run].
type RunOptions struct {
	// Stdin is what the program reads; nil is /dev/null. A pipe or a socket is handed over as it is; any other file or
	// reader is copied beside the program, which is not waited for.
	Stdin io.Reader
	// Stdout and Stderr; nil is /dev/null. A pipe or a socket is handed over as it is; what goes elsewhere is copied.
	Stdout, Stderr io.Writer
	// TTY is the caller's terminal, which the caller has put into raw mode. With a spec whose Process.Terminal is
	// set, the program gets a terminal of the container's own devpts, joined with this one; its size follows.
	// Stdin, Stdout and Stderr are not used then.
	TTY *os.File
	// FakeIDs makes the calls that change owners and ids (chown, mknod of devices, setuid, setgroups, capset, …)
	// report success without doing anything, as [ModeOneID] needs. The spec's user is not switched to; where it is
	// not root the program runs without capabilities.
	FakeIDs bool
	// Network is the private network of a step whose spec lists a network namespace; nil: that has the loopback alone.
	Network *usernet.Options
	// Limits of all processes of the step together.
	Limits Limits
	// Tell gets lines for whoever reads the step's output: that it has no network, and of one that failed what it did not reach.
	// nil: nobody is told.
	Tell func(line string)
	// Started, when set, is called once the program runs.
	Started func(*Process)
	// Trace takes down what the step's processes name to the kernel; nil: nobody wants to know. Where the kernel has no such thing it
	// stays without an entry, which [Trace.Paths] says.
	Trace *Trace
}

// ExitError is the end of a program that was not exit code 0. It survives [Child.Call].
type ExitError struct {
	// Code is the exit code; 128 + the signal's number where a signal ended it. As in a shell 127 means that the
	// program was not found and 126 that it cannot be executed; Message then says why.
	Code int
	// Signal that ended the program, 0 for none.
	Signal syscall.Signal
	// Message is empty for a program that ran and chose its exit code.
	Message string
}

func (e *ExitError) Error() string {
	if e.Message != "" {
		return e.Message
	}
	return fmt.Sprintf("exit code: %d", e.Code)
}

// Unavailable says that namespaces cannot be had here, why, and what can be done. It survives [Child.Call].
type Unavailable struct {
	// Cause is a clause without a final stop.
	Cause string
	// Mend is what to do about it, a command where there is one. It may be empty.
	Mend string
}

func (e *Unavailable) Error() string {
	if e.Mend == "" {
		return "build steps cannot run here: " + e.Cause
	}
	return "build steps cannot run here: " + e.Cause + "; " + e.Mend
}

// ErrClosed is the error of calls to a [Child] that has ended.
var ErrClosed = errors.New("sandbox is closed")
