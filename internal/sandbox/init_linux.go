package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path"
	"runtime"
	"strconv"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// stepConfig is what a step's init gets from the child.
type stepConfig struct {
	Spec    *specs.Spec
	Filters [][]byte // BPF programs in the machine's own byte order, in the order of installing
	FakeIDs bool
	Limits  initLimits
	Trace   bool

	Direct, DirectEnv []string // see [Prepared.Direct]
}

// Messages of a step's init to the child: the terminal's master comes with methodTTY, the step's /proc with methodExec. That is the
// last one before execve, and the end of the link after it says that execve worked.
const (
	methodTTY  = "tty"
	methodExec = "exec"
)

// stepStage is the whole life of a step's init. All of it is on one thread, because capabilities, no_new_privs and
// seccomp are the thread's own, and execve takes those of the thread that calls it.
func stepStage() {
	runtime.LockOSThread()
	unix.CloseOnExec(initFD)
	closeInherited()
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

// closeInherited closes what the child had open and did not mean to hand on. All that this process opens itself has the mark.
func closeInherited() {
	names, _ := list(unix.AT_FDCWD, "/proc/self/fd")
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil || fd <= initFD {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	}
}

// become sets everything up and turns this process into the program. It returns only with an error.
func (cfg *stepConfig) become(link link) error {
	s, p := cfg.Spec, cfg.Spec.Process
	if p.OOMScoreAdj != nil {
		// Lowering needs a privilege that a user namespace does not give; a score is a wish.
		os.WriteFile("/proc/self/oom_score_adj", fmt.Appendf(nil, "%d", *p.OOMScoreAdj), 0)
	}
	if err := cfg.Limits.apply(); err != nil {
		return err
	}
	if err := joinKeyring(); err != nil {
		return err
	}
	if hasNamespace(s, specs.NetworkNamespace) {
		if err := loopbackUp(); err != nil {
			return err
		}
	}
	if err := setNames(s); err != nil {
		return err
	}
	st, err := enterRoot(s)
	if err != nil {
		return err
	}
	root := st.root
	if err := enterCwd(root, p.Cwd, p.User, cfg.FakeIDs); err != nil {
		return fmt.Errorf("enter working directory %s: %w", p.Cwd, ledAway(err))
	}
	if p.Terminal {
		if err := cfg.openTerminal(root, link); err != nil {
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
	return cfg.execProgram(st, link)
}

// setNames sets the names of the machine as the step sees it. Podman's default profile forbids it, and lets everything else
// pass that a step needs: the container's own names are no reason not to build.
func setNames(s *specs.Spec) error {
	for _, n := range []struct {
		what, name string
		set        func([]byte) error
	}{{"hostname", s.Hostname, unix.Sethostname}, {"domain name", s.Domainname, unix.Setdomainname}} {
		if n.name == "" {
			continue
		}
		if err := n.set([]byte(n.name)); err != nil && err != unix.EPERM && err != unix.ENOSYS {
			return fmt.Errorf("set %s %s: %w", n.what, n.name, err)
		}
	}
	return nil
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
	// Root of a container has CAP_SYS_ADMIN and yet may lack CAP_NET_ADMIN. Most steps need no network.
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil && err != unix.EPERM {
		return fmt.Errorf("bring up loopback: %w", err)
	}
	return nil
}

// enterCwd goes to the working directory and makes a missing one for the user, as runc and BuildKit do. No link of /proc
// leads there, and none would lead outside (CVE-2024-21626).
func enterCwd(root *os.File, cwd string, u specs.User, fakeIDs bool) error {
	dir, err := OpenIn(root, path.Join("/", cwd))
	if errors.Is(err, os.ErrNotExist) {
		dir, err = makeCwd(root, cwd, u, fakeIDs)
	}
	var at *os.PathError
	if errors.As(err, &at) && at.Path == path.Join("/", cwd) {
		err = at.Err // the caller names it
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	return unix.Fchdir(int(dir.Fd()))
}

// makeCwd makes cwd and its missing parents for the user.
func makeCwd(root *os.File, cwd string, u specs.User, fakeIDs bool) (*os.File, error) {
	name, err := resolveIn(root, cwd)
	if err != nil {
		return nil, err
	}
	err = makeIn(root, name, true, func(dir *os.File) error {
		if fakeIDs {
			return nil
		}
		return unix.Fchownat(int(dir.Fd()), "", int(u.UID), int(u.GID), unix.AT_EMPTY_PATH)
	})
	if err != nil {
		return nil, err
	}
	return OpenIn(root, name)
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
