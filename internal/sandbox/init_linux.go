package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// stepConfig is what a step's init gets from the child.
type stepConfig struct {
	Spec    *specs.Spec
	Filters [][]byte // BPF programs in the machine's own byte order, in the order of installing
	FakeIDs bool
}

// Messages of a step's init to the child: the terminal's master comes with methodTTY; methodExec is the last one
// before execve, and the end of the link after it says that execve worked.
const (
	methodTTY  = "tty"
	methodExec = "exec"
)

// stepStage is the whole life of a step's init. All of it is on one thread, because capabilities, no_new_privs and
// seccomp are the thread's own, and execve takes those of the thread that calls it.
func stepStage() {
	runtime.LockOSThread()
	unix.CloseOnExec(initFD)
	link, err := newSocketLink(os.NewFile(initFD, "child"))
	if err != nil {
		fatal(err)
	}
	f, _, err := link.recv()
	if err != nil {
		fatal(fmt.Errorf("start step: %w", err))
	}
	var cfg stepConfig
	if err = json.Unmarshal(f.Body, &cfg); err == nil {
		err = cfg.become(link)
	}
	link.send(frame{Kind: kindResult, Err: toWire(err)}, nil)
	os.Exit(1)
}

// become sets everything up and turns this process into the program. It returns only with an error.
func (cfg *stepConfig) become(link link) error {
	s, p := cfg.Spec, cfg.Spec.Process
	if p.OOMScoreAdj != nil {
		// Lowering needs a privilege that a user namespace does not give; a score is a wish.
		os.WriteFile("/proc/self/oom_score_adj", fmt.Appendf(nil, "%d", *p.OOMScoreAdj), 0)
	}
	if err := joinKeyring(); err != nil {
		return err
	}
	if hasNamespace(s, specs.NetworkNamespace) {
		if err := loopbackUp(); err != nil {
			return err
		}
	}
	if s.Hostname != "" {
		if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
			return fmt.Errorf("set hostname %s: %w", s.Hostname, err)
		}
	}
	if s.Domainname != "" {
		if err := unix.Setdomainname([]byte(s.Domainname)); err != nil {
			return fmt.Errorf("set domain name %s: %w", s.Domainname, err)
		}
	}
	if err := enterRoot(s); err != nil {
		return err
	}
	if err := enterCwd(p.Cwd, p.User, cfg.FakeIDs); err != nil {
		return err
	}
	if p.Terminal {
		if err := cfg.openTerminal(link); err != nil {
			return fmt.Errorf("open terminal: %w", err)
		}
	}
	umask := uint32(0o022)
	if p.User.Umask != nil {
		umask = *p.User.Umask
	}
	unix.Umask(int(umask))
	if err := setRlimits(p.Rlimits); err != nil {
		return err
	}
	if err := cfg.dropPrivilege(); err != nil {
		return err
	}
	return execProgram(link, p)
}

// joinKeyring leaves the session keyring of the user who builds. Kernels without keyrings, and filters of an outer
// container that forbid them, leave nothing to leave.
func joinKeyring() error {
	// The raw call: with no name (NULL) the keyring is anonymous, and x/sys/unix can only give an empty one.
	_, _, errno := unix.Syscall(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0)
	switch errno {
	case 0, unix.ENOSYS, unix.EPERM, unix.EDQUOT:
		return nil
	}
	return fmt.Errorf("join session keyring: %w", errno)
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring up loopback: %w", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("bring up loopback: %w", err)
	}
	return nil
}

// enterCwd goes to the working directory and makes a missing one for the user, as runc and BuildKit do. It is after
// pivot_root, so that a path by way of an open descriptor is the only one that could lead outside; that it did not
// is checked (CVE-2024-21626).
func enterCwd(cwd string, u specs.User, fakeIDs bool) error {
	if cwd == "" {
		cwd = "/"
	}
	err := unix.Chdir(cwd)
	if err == unix.ENOENT {
		if err = os.MkdirAll(cwd, 0o755); err == nil {
			if !fakeIDs {
				err = os.Chown(cwd, int(u.UID), int(u.GID))
			}
			if err == nil {
				err = unix.Chdir(cwd)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("enter working directory %s: %w", cwd, err)
	}
	// The call itself, since os.Getwd believes $PWD. The kernel says "(unreachable)" for what is outside.
	var buf [unix.PathMax]byte
	n, err := unix.Getcwd(buf[:])
	if err != nil || n < 1 || buf[0] != '/' {
		return fmt.Errorf("working directory %s lies outside of the root", cwd)
	}
	return nil
}

var rlimits = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU,
	"RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS,
	"RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE,
	"RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS,
	"RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
	"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
}

func setRlimits(limits []specs.POSIXRlimit) error {
	for _, l := range limits {
		res, ok := rlimits[l.Type]
		if !ok {
			return fmt.Errorf("unknown resource limit %s", l.Type)
		}
		// By package syscall: it makes Go forget the soft limit on files that it would restore before execve.
		err := syscall.Setrlimit(res, &syscall.Rlimit{Cur: l.Soft, Max: l.Hard})
		if err == syscall.EPERM {
			var now syscall.Rlimit
			syscall.Getrlimit(res, &now)
			return fmt.Errorf("set %s to %s: the hard limit here is %s, and only real root may raise it",
				l.Type, limitText(l.Hard), limitText(now.Max))
		}
		if err != nil {
			return fmt.Errorf("set %s to %s:%s: %w", l.Type, limitText(l.Soft), limitText(l.Hard), err)
		}
	}
	return nil
}

func limitText(n uint64) string {
	if n == math.MaxUint64 {
		return "unlimited"
	}
	return fmt.Sprint(n)
}

// dropPrivilege changes to the user, the capabilities and the filters of the step, in the order that each needs.
func (cfg *stepConfig) dropPrivilege() error {
	p := cfg.Spec.Process
	if !p.NoNewPrivileges && !cfg.FakeIDs {
		// Without no_new_privs a filter needs CAP_SYS_ADMIN, which is about to go.
		if err := cfg.installFilters(); err != nil {
			return err
		}
	}
	caps := p.Capabilities
	if caps == nil {
		caps = &specs.LinuxCapabilities{}
	}
	if err := boundCaps(caps.Bounding); err != nil {
		return err
	}
	switch root := p.User.UID == 0; {
	case cfg.FakeIDs && !root:
		// The one id is uid 0, which execve would give all capabilities again (capabilities(7)).
		const noRoot = 1<<0 | 1<<1 // SECBIT_NOROOT and its lock
		if err := unix.Prctl(unix.PR_SET_SECUREBITS, noRoot, 0, 0, 0); err != nil {
			return fmt.Errorf("lock capabilities: %w", err)
		}
		caps = &specs.LinuxCapabilities{Bounding: caps.Bounding}
	case !cfg.FakeIDs:
		if err := setUser(p.User); err != nil {
			return err
		}
	}
	if err := setCaps(caps); err != nil {
		return err
	}
	if p.NoNewPrivileges || cfg.FakeIDs {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("set no_new_privs: %w", err)
		}
		return cfg.installFilters()
	}
	return nil
}

func (cfg *stepConfig) installFilters() error {
	for _, raw := range cfg.Filters {
		const size = int(unsafe.Sizeof(unix.SockFilter{}))
		prog := make([]unix.SockFilter, len(raw)/size)
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&prog[0])), len(raw)), raw)
		if err := installFilter(prog); err != nil {
			return err
		}
	}
	return nil
}

// setUser changes to the ids of u and keeps the permitted capabilities for setCaps to choose from.
func setUser(u specs.User) error {
	chownStdio(u)
	groups := []int{int(u.GID)}
	for _, g := range u.AdditionalGids {
		if g != u.GID {
			groups = append(groups, int(g))
		}
	}
	// Where setgroups is denied (a namespace with one id), the caller's groups cannot be got rid of.
	if err := syscall.Setgroups(groups); err != nil && (err != syscall.EPERM || len(groups) > 1) {
		return fmt.Errorf("set groups %v: %w", groups, idError(err))
	}
	if err := syscall.Setresgid(int(u.GID), int(u.GID), int(u.GID)); err != nil {
		return fmt.Errorf("set group %d: %w", u.GID, idError(err))
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	if err := syscall.Setresuid(int(u.UID), int(u.UID), int(u.UID)); err != nil {
		return fmt.Errorf("set user %d: %w", u.UID, idError(err))
	}
	return nil
}

func idError(err error) error {
	if errors.Is(err, syscall.EINVAL) {
		return errors.New("not among the ids of this user namespace (/etc/subuid and /etc/subgid give more)")
	}
	return err
}

// chownStdio gives pipes and terminals to the user: /dev/stdout opens them anew, which only their owner may.
func chownStdio(u specs.User) {
	for fd := range 3 {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) != nil {
			continue
		}
		kind := st.Mode & unix.S_IFMT
		tty := kind == unix.S_IFCHR && unix.Major(uint64(st.Rdev)) >= 136 && unix.Major(uint64(st.Rdev)) <= 143
		if kind == unix.S_IFIFO || kind == unix.S_IFSOCK || tty {
			unix.Fchown(fd, int(u.UID), -1) // a pipe of another owner stays as it is
		}
	}
}

func execProgram(link link, p *specs.Process) error {
	os.Setenv("PATH", envValue(p.Env, "PATH"))
	name, err := exec.LookPath(p.Args[0])
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return notFound(err)
	}
	env := p.Env
	if envValue(env, "HOME") == "" {
		env = append(env[:len(env):len(env)], "HOME="+homeOf(p.User.UID))
	}
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil && err != unix.ENOSYS && err != unix.EPERM {
		return fmt.Errorf("close descriptors: %w", err)
	}
	if err := link.send(frame{Kind: methodExec}, nil); err != nil {
		return err
	}
	err = syscall.Exec(name, p.Args, env)
	return notExecuted(name, err)
}

func notFound(err error) error {
	code := 127
	if errors.Is(err, os.ErrPermission) {
		code = 126
	}
	return &ExitError{Code: code, Message: err.Error()}
}

func notExecuted(name string, err error) error {
	e := &ExitError{Code: 126, Message: fmt.Sprintf("exec %s: %v", name, err)}
	switch {
	case errors.Is(err, unix.ENOENT):
		e.Code = 127
		e.Message += " (the file is there: its interpreter, or dynamic loader, is missing)"
	case errors.Is(err, unix.ENOEXEC):
		e.Message += " (neither a program for this platform nor a script that begins with #!)"
	}
	return e
}

// envValue is the last value of name, as most programs take it.
func envValue(env []string, name string) string {
	v := ""
	for _, e := range env {
		if k, val, ok := strings.Cut(e, "="); ok && k == name {
			v = val
		}
	}
	return v
}
