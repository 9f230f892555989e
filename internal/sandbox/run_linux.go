package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// drainTime is how long output is still read after the program and its pid namespace have ended. No process is left
// then that could write; the bound is for a descriptor handed to a process outside over a socket.
const drainTime = 2 * time.Second

// Process is a running step.
type Process struct {
	proc   *os.Process
	master *os.File // of its terminal, nil for none
}

// Signal sends sig to the program, which is pid 1 of its namespace: what it does not handle it ignores, SIGKILL
// and SIGSTOP aside (pid_namespaces(7)).
func (p *Process) Signal(sig os.Signal) error { return p.proc.Signal(sig) }

// Resize sets the size of the program's terminal, which tells it by SIGWINCH.
func (p *Process) Resize(rows, cols uint16) error {
	if p.master == nil {
		return errors.New("resize terminal: the program has none")
	}
	return unix.IoctlSetWinsize(int(p.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
}

// Run executes spec, an OCI runtime spec, in the child, and waits for its end. Root.Path is a directory, or a mount,
// of the child's. Missing mount points are made there, of mode 0755 (see [EnsureTargets] for ones that must not stay),
// and so is a missing working directory. A mount's Source is taken as it is, links followed: the caller resolves it.
//
// Always made are a pid, mount, ipc, uts and cgroup namespace; a network namespace, with the loopback and what
// [RunOptions.Network] says, where the spec lists one. All mounts are nodev. Of Linux the fields Namespaces, Devices (paths of host nodes to bind),
// MaskedPaths, ReadonlyPaths and Seccomp count; others that would change what the step may do are errors.
//
// A program that ends otherwise than with exit code 0, or that cannot be started, gives [*ExitError]. When ctx ends
// every process of the step is killed at once and the error is ctx's. Run is safe for concurrent use.
func Run(ctx context.Context, spec *specs.Spec, o RunOptions) error {
	if err := checkSpec(spec); err != nil {
		return fmt.Errorf("run step: %w", err)
	}
	p, err := Prepare(ctx, PrepareOptions{
		Network: hasNamespace(spec, specs.NetworkNamespace), SysAdmin: hasSysAdmin(spec.Process), Terminal: spec.Process.Terminal,
	}, o)
	if err != nil {
		return err
	}
	defer p.Cancel()
	return p.Run(spec)
}

// PrepareOptions tell what of a spec has to be known when the init of the step is started.
type PrepareOptions struct {
	Network  bool // it lists a network namespace
	SysAdmin bool // its process may get CAP_SYS_ADMIN
	Terminal bool // its process has a terminal
}

// Prepared is the init of a step, started while its caller still mounts what the step will see: it takes some 10 ms to
// come to where it can be told. One goroutine uses it, and ends it by [Prepared.Cancel].
type Prepared struct {
	ctx    context.Context
	po     PrepareOptions
	o      RunOptions
	cmd    *exec.Cmd
	link   link
	ooms   uint64
	stop   func() bool
	waited bool
	net    *network // nil: none was asked for
	limits *limits

	direct, directEnv []string
}

// Prepare starts the init of a step that [Prepared.Run] gives its spec, or takes the one that was started in advance. When ctx
// ends, it is killed.
func Prepare(ctx context.Context, po PrepareOptions, o RunOptions) (*Prepared, error) {
	p := takeFirst(ctx, po, o)
	if p == nil {
		var err error
		if p, err = startInit(ctx, po, o); err != nil {
			return nil, err
		}
	}
	p.attach()
	p.limit()
	return p, nil
}

func startInit(ctx context.Context, po PrepareOptions, o RunOptions) (*Prepared, error) {
	f, err := initImage(po.SysAdmin)
	if err != nil {
		return nil, err
	}
	image, err := imagePath(f)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	p := &Prepared{po: po, o: o}
	if p.link, err = newSocketLink(ours); err != nil {
		return nil, err
	}
	p.cmd = stepCommand(po.Network, image, theirs)
	release, err := connectStdio(p.cmd, po.Terminal, o)
	if err != nil {
		p.link.Close()
		return nil, err
	}
	p.ooms = oomKills()
	err = p.cmd.Start()
	release()
	if err != nil {
		p.link.Close()
		return nil, findCause("clone", err)
	}
	steps.Store(p.cmd.Process.Pid, nil)
	p.follow(ctx)
	return p, nil
}

// follow has the init end with ctx.
func (p *Prepared) follow(ctx context.Context) {
	p.ctx = ctx
	p.stop = context.AfterFunc(ctx, func() { p.cmd.Process.Kill() })
}

// Direct has Run try the program of args first, with what env (NAME=VALUE) sets beyond the spec's environment: where it is not
// found, or cannot be executed, the spec's own arguments are as if there had been no other.
func (p *Prepared) Direct(args, env []string) { p.direct, p.directEnv = args, env }

// Run is the rest of [Run], once.
func (p *Prepared) Run(spec *specs.Spec) error {
	cfg, err := newStepConfig(spec, p.o)
	if err != nil {
		return err
	}
	cfg.Direct, cfg.DirectEnv = p.direct, p.directEnv
	if (PrepareOptions{hasNamespace(spec, specs.NetworkNamespace), hasSysAdmin(spec.Process), spec.Process.Terminal}) != p.po {
		return errors.New("run step: its init was started for another spec")
	}
	if cfg.Limits, err = p.forInit(); err != nil {
		return fmt.Errorf("run step: %w", err)
	}
	body, err := json.Marshal(cfg)
	if err != nil {
		return err
	}
	p.awaitNetwork()
	master, proc, startErr := handshake(p.link, body, p.o.Trace)
	if startErr == nil {
		p.watch(proc)
		startErr = attend(p.cmd, master, p.o)
	}
	if startErr != nil {
		p.cmd.Process.Kill()
	}
	err = outcome(p.ctx, startErr, p.wait(), p.ooms)
	err = p.limits.end(err, p.ooms)
	p.closeNetwork(err != nil)
	return err
}

// Cancel ends what has not run, and does nothing after Run has got to its end.
func (p *Prepared) Cancel() {
	if p.waited {
		return
	}
	p.cmd.Process.Kill()
	p.wait()
	if p.limits != nil { // an init that no step has taken has none
		_ = p.limits.end(nil, 0) // nor is there an error to explain
	}
	p.closeNetwork(false)
}

func (p *Prepared) wait() error {
	err := p.cmd.Wait()
	p.waited = true
	p.stop()
	steps.Delete(p.cmd.Process.Pid)
	p.link.Close()
	return err
}

// newStepConfig checks spec and compiles its filters, so that bad ones are told before anything is started.
func newStepConfig(spec *specs.Spec, o RunOptions) (*stepConfig, error) {
	if err := checkSpec(spec); err != nil {
		return nil, fmt.Errorf("run step: %w", err)
	}
	if spec.Process.Terminal && o.TTY == nil {
		return nil, errors.New("run step: a terminal is asked for and none is given")
	}
	s := *spec
	linux := *spec.Linux
	s.Linux, linux.Seccomp = &linux, nil
	if spec.Process.Terminal && spec.Process.ConsoleSize == nil {
		// Now, and not only when the terminals are joined: the program may ask for it first thing.
		process := *spec.Process
		process.ConsoleSize = sizeOf(o.TTY)
		s.Process = &process
	}
	cfg := &stepConfig{Spec: &s, FakeIDs: o.FakeIDs, Trace: o.Trace != nil && canTrace()}
	profiles := []*specs.LinuxSeccomp{spec.Linux.Seccomp}
	if o.FakeIDs {
		profiles = append(profiles, fakeIDs())
	}
	for _, sc := range profiles {
		if sc == nil {
			continue
		}
		filter, err := filterOf(sc)
		if err != nil {
			return nil, fmt.Errorf("run step: %w", err)
		}
		cfg.Filters = append(cfg.Filters, filter)
	}
	return cfg, nil
}

// filterOf is the program of a profile as bytes. That of the default profile is compiled once.
func filterOf(sc *specs.LinuxSeccomp) ([]byte, error) {
	if sc == defaultProfile() {
		return defaultFilter()
	}
	return compileFilter(sc)
}

var defaultFilter = sync.OnceValues(func() ([]byte, error) {
	if defaultProfile() == nil {
		return nil, nil
	}
	return compileFilter(defaultProfile())
})

func compileFilter(sc *specs.LinuxSeccomp) ([]byte, error) {
	prog, err := compileSeccomp(sc)
	if err != nil {
		return nil, err
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&prog[0])), len(prog)*int(unsafe.Sizeof(prog[0]))), nil
}

// checkSpec refuses what Run would otherwise have to ignore.
func checkSpec(s *specs.Spec) error {
	switch {
	case s.Root == nil || s.Root.Path == "":
		return errors.New("the spec has no root")
	case s.Process == nil || len(s.Process.Args) == 0 || s.Process.Args[0] == "":
		return errors.New("no command to run")
	case s.Linux == nil:
		return errors.New("the spec has no linux section")
	case s.Hooks != nil:
		return errors.New("hooks are not supported")
	case s.Process.ApparmorProfile != "" || s.Process.SelinuxLabel != "":
		return errors.New("AppArmor profiles and SELinux labels are not supported")
	case s.Linux.CgroupsPath != "" || s.Linux.Resources != nil:
		return errors.New("control groups are not supported")
	case len(s.Linux.Sysctl) > 0 || len(s.Linux.UIDMappings) > 0 || len(s.Linux.GIDMappings) > 0:
		return errors.New("sysctl and id mappings are not supported")
	}
	for _, p := range append(s.Linux.MaskedPaths[:len(s.Linux.MaskedPaths):len(s.Linux.MaskedPaths)], s.Linux.ReadonlyPaths...) {
		if p != path.Clean(p) || !strings.HasPrefix(p, "/proc/") && !strings.HasPrefix(p, "/sys/") {
			return fmt.Errorf("cannot mask %s or make it read-only: it lies neither in /proc nor in /sys", p)
		}
	}
	for _, n := range s.Linux.Namespaces {
		if n.Path != "" {
			return fmt.Errorf("joining the %s namespace of %s is not supported", n.Type, n.Path)
		}
		if n.Type == specs.UserNamespace || n.Type == specs.TimeNamespace {
			return fmt.Errorf("a %s namespace is not supported", n.Type)
		}
	}
	return nil
}

func hasNamespace(s *specs.Spec, t specs.LinuxNamespaceType) bool {
	return slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == t })
}

// hasSysAdmin says whether the process can ever have CAP_SYS_ADMIN.
func hasSysAdmin(p *specs.Process) bool {
	return p != nil && p.Capabilities != nil && slices.Contains(p.Capabilities.Bounding, "CAP_SYS_ADMIN")
}

// stepCommand starts a step's init in all of its namespaces. That of mounts is made by the clone, so that it is the one of
// all threads that Go starts there: unshare(2) would move one of them, and /proc/self/task/N/root of the others would lead
// to the machine. What the child mounts until the init is told what to run comes to be in it by propagation ([prepareChild]).
func stepCommand(network bool, image string, sock *os.File) *exec.Cmd {
	flags := uintptr(unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS)
	if network {
		flags |= unix.CLONE_NEWNET
	}
	if exists("/proc/self/ns/cgroup") {
		flags |= unix.CLONE_NEWCGROUP
	}
	return &exec.Cmd{
		Path: image,
		Args: []string{initArg0, stageStep},
		Dir:  "/",
		// For Go's own runtime, which has next to nothing to do in there: fewer threads start faster. And it would keep a file
		// of the machine open, from which it reads the limit of its control group.
		Env:         []string{"GOMAXPROCS=1", "GOGC=off", "GODEBUG=containermaxprocs=0"},
		ExtraFiles:  []*os.File{sock},
		SysProcAttr: &syscall.SysProcAttr{Cloneflags: flags, Setsid: true},
		WaitDelay:   drainTime,
	}
}

// connectStdio sets the program's descriptors 0 to 2. release closes what only the program needs once it is started.
func connectStdio(cmd *exec.Cmd, terminal bool, o RunOptions) (release func(), err error) {
	release = func() {}
	if terminal {
		return release, nil // the step's init puts its terminal there
	}
	cmd.Stdout, cmd.Stderr = outputTo(o.Stdout), outputTo(o.Stderr)
	if sameFile(o.Stdout, o.Stderr) {
		cmd.Stderr = cmd.Stdout // one pipe: the order of what is written stays
	}
	f, isFile := o.Stdin.(*os.File)
	if o.Stdin == nil || isFile && f == nil {
		return release, nil
	}
	if isFile && mayHandOver(f) {
		cmd.Stdin = f
		return release, nil
	}
	// A pipe of our own: with exec's, the end of the program would wait for the reader to end.
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make stdin: %w", err)
	}
	cmd.Stdin = r
	go func() {
		io.Copy(w, o.Stdin) // it ends with EPIPE when the program does not read to the end
		w.Close()
	}()
	return func() { r.Close() }, nil
}

// mayHandOver reports whether a step may have the file itself: a pipe or a socket has nothing but its other end. By a
// directory it would walk out of its root, and a file or a terminal of the machine it could open once more, for writing. The
// null device is what a program without a file has.
func mayHandOver(f *os.File) bool {
	var st unix.Stat_t
	err := withFDs([]*os.File{f}, nil, func(fds []int) error { return unix.Fstat(fds[0], &st) })
	kind := st.Mode & unix.S_IFMT
	return err == nil && (kind == unix.S_IFIFO || kind == unix.S_IFSOCK || kind == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3))
}

// outputTo is w, behind a pipe that this process reads where the step may not have the file itself.
func outputTo(w io.Writer) io.Writer {
	f, ok := w.(*os.File)
	switch {
	case !ok:
		return w
	case f == nil:
		return nil
	case mayHandOver(f):
		return f
	}
	return struct{ io.Writer }{f}
}

func sameFile(a, b io.Writer) bool {
	f, ok1 := a.(*os.File)
	g, ok2 := b.(*os.File)
	if !ok1 || !ok2 || f == nil || g == nil {
		return false
	}
	fi, err1 := f.Stat()
	gi, err2 := g.Stat()
	return err1 == nil && err2 == nil && os.SameFile(fi, gi)
}

// handshake gives the step's init its orders and follows it until the program runs. It returns the master of the step's terminal,
// nil where it has none, and the step's /proc.
func handshake(link link, body json.RawMessage, trace *Trace) (master, proc *os.File, err error) {
	if err := link.send(frame{Kind: kindStart, Body: body}, nil); err != nil {
		return nil, nil, fmt.Errorf("start step: %w", err)
	}
	running := false
	for {
		f, files, err := link.recv()
		if err != nil && running {
			return master, proc, nil // closed by execve
		}
		switch {
		case err != nil:
			err = fmt.Errorf("start step: its init ended early: %w", err)
		case f.Kind == methodTTY && len(files) == 1:
			master = files[0]
		case f.Kind == methodTrace && len(files) == 1 && trace != nil:
			go trace.follow(files[0])
		case f.Kind == methodExec && len(files) == 1:
			running, proc = true, files[0]
		case f.Err != nil:
			err = f.Err.error()
			if f.Err.Exit == nil {
				err = fmt.Errorf("start step: %w", err)
			}
		}
		if err != nil {
			for _, f := range []*os.File{master, proc} {
				if f != nil {
					f.Close()
				}
			}
			return nil, nil, err
		}
	}
}

// attend joins the terminals, where there is one, and tells the caller that the program runs.
func attend(cmd *exec.Cmd, master *os.File, o RunOptions) error {
	p := &Process{proc: cmd.Process, master: master}
	if master != nil {
		joined, err := joinTerminals(master, o.TTY)
		if err != nil {
			master.Close()
			return err
		}
		defer joined.wait()
	}
	if o.Started != nil {
		o.Started(p)
	}
	return nil
}

// outcome makes Run's error. What made the start fail goes before how the process ended, and the caller's own
// cancelling before both.
func outcome(ctx context.Context, startErr, waitErr error, oomsBefore uint64) error {
	if ctx.Err() != nil {
		return fmt.Errorf("run step: %w", ctx.Err())
	}
	if startErr != nil {
		return startErr
	}
	var exit *exec.ExitError
	if !errors.As(waitErr, &exit) {
		if waitErr != nil {
			return fmt.Errorf("run step: %w", waitErr)
		}
		return nil
	}
	status := exit.Sys().(syscall.WaitStatus)
	if !status.Signaled() {
		return &ExitError{Code: status.ExitStatus()}
	}
	sig := status.Signal()
	e := &ExitError{Code: 128 + int(sig), Signal: sig}
	e.Message = fmt.Sprintf("exit code: %d (killed by signal %d, %s)", e.Code, int(sig), unix.SignalName(sig))
	if sig == syscall.SIGKILL && oomKills() > oomsBefore {
		e.Message = fmt.Sprintf("exit code: %d (killed because memory ran out)", e.Code)
	}
	return e
}

// oomKills is how many processes of this machine the kernel has killed for want of memory.
func oomKills() uint64 {
	b, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		return 0
	}
	_, rest, ok := strings.Cut(string(b), "\noom_kill ")
	if !ok {
		return 0
	}
	var n uint64
	fmt.Sscan(rest, &n)
	return n
}
