package sandbox

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"
)

// limits hold a step within its [Limits]. The number of its processes is held by its pid namespace, which costs nothing, where the
// kernel has a maximum for each (Linux 6.14); everything else by a control group, where one can be had. Where not, memory is held
// for each process by a resource limit, and CPUs by affinity, and that is said; what cannot be held at all is an error.
type limits struct {
	Limits
	made  chan struct{} // closed when group or err is set
	group *controlGroup
	err   error

	stop   chan struct{}
	stands sync.WaitGroup
	peak   int64 // the most processes that were seen
	bomb   bool  // the step was killed for them
}

// initLimits is what a step's init sets for itself.
type initLimits struct {
	PidMax int64  // of its namespace; 0: left
	NProc  int64  // RLIMIT_NPROC; 0: left
	Data   int64  // RLIMIT_DATA, bytes; 0: left
	CPUs   string // its affinity
}

// limit starts to make what holds the step.
func (p *Prepared) limit() {
	l := &limits{Limits: p.o.Limits, made: make(chan struct{}), stop: make(chan struct{})}
	p.limits = l
	controllers := l.controllers()
	if len(controllers) == 0 {
		close(l.made)
		return
	}
	go func() {
		defer close(l.made)
		l.group, l.err = newControlGroup(controllers)
		if l.err != nil {
			return
		}
		if l.err = l.group.set(l.Limits); l.err == nil {
			l.err = l.group.add(p.cmd.Process.Pid)
		}
		if l.err != nil {
			l.group.remove()
			l.group = nil
		}
	}()
}

// controllers are those that only a control group has.
func (l *limits) controllers() (list []string) {
	if l.Memory > 0 {
		list = append(list, "memory")
	}
	if l.CPUShares > 0 || l.CPUQuota > 0 || l.CPUPeriod > 0 {
		list = append(list, "cpu")
	}
	if l.CPUs != "" || l.Mems != "" {
		list = append(list, "cpuset")
	}
	if l.pids() > 0 && (len(list) > 0 || !pidMaxOfNamespace() && self.Mode == ModeRoot) {
		list = append(list, "pids")
	}
	return list
}

// pidMaxOfNamespace reports whether kernel.pid_max is a pid namespace's own, and can be set. Before Linux 6.14 it is the machine's, and
// below another sandbox /proc/sys is read-only.
var pidMaxOfNamespace = sync.OnceValue(func() bool {
	return !older(kernelVersion(), [2]int{6, 14}) && !errors.Is(unix.Access(pidMaxFile, unix.W_OK), unix.EROFS)
})

const pidMaxFile = "/proc/sys/kernel/pid_max"

// forInit waits until the limits are made, and returns what is left to the init.
func (p *Prepared) forInit() (i initLimits, err error) {
	l := p.limits
	<-l.made
	switch n := l.pids(); {
	case n <= 0:
	case pidMaxOfNamespace():
		i.PidMax = max(n, minPidMax)
	case self.Mode != ModeRoot: // of root's processes the kernel counts none
		i.NProc = n
	}
	if l.err == nil {
		return i, nil
	}
	if l.CPUShares > 0 || l.CPUQuota > 0 || l.CPUPeriod > 0 || l.Mems != "" {
		return i, fmt.Errorf("limits on CPU time and memory nodes need a control group, and there is none to be had: %w; %s", l.err, noGroupMend)
	}
	if l.Memory > 0 {
		i.Data = l.Memory
		p.tell(fmt.Sprintf("the limit of %s of memory holds for each process, not for all together: no control group can be had (%v); %s",
			units.BytesSize(float64(l.Memory)), l.err, noGroupMend))
	}
	if i.CPUs = l.CPUs; l.CPUs != "" {
		p.tell(fmt.Sprintf("the step's CPUs are asked of it, not held: no control group can be had (%v); %s", l.err, noGroupMend))
	}
	return i, nil
}

const noGroupMend = "a user gets one by: systemd-run --user --scope -p Delegate=yes skiff …"

// minPidMax is the least that the kernel takes (kernel/pid.c).
const minPidMax = 301

// A step is looked at every watchTime. One that had all of its processes at bombLooks looks in a row, and for bombTime, is taken for
// one that will never do anything else: looks, so that a machine which stood still meanwhile tells nothing, and time, so that a
// build which came to its limit may still go below it.
const (
	watchTime = 100 * time.Millisecond
	bombTime  = 2 * time.Second
	bombLooks = 5
)

// watch kills a step that does nothing but start processes. proc is the step's own /proc.
//
// The bomb's processes want the same processors as this thread, hundreds or thousands of them, so that each look comes late and each
// millisecond of it lasts seconds. Hence a look is a few calls, and a few looks are enough however late they come. To make the
// processes stand back by setpriority(2) was tried: then they take minutes to die beside a busy machine, and no user can raise them again.
func (p *Prepared) watch(proc *os.File) {
	l := p.limits
	limit := l.pids()
	v := procView{proc}
	if limit <= 0 || !v.ofStep() {
		proc.Close()
		return
	}
	l.stands.Go(func() {
		defer proc.Close()
		tick := time.NewTicker(watchTime)
		defer tick.Stop()
		var since time.Time
		for looks := 0; ; {
			select {
			case <-l.stop:
				return
			case <-tick.C:
			}
			n := v.tasks(limit)
			l.peak = max(l.peak, n)
			if !full(n, limit) {
				looks = 0
				continue
			}
			if looks++; looks == 1 {
				since = time.Now()
			}
			if looks >= bombLooks && time.Since(since) >= bombTime {
				l.bomb = true
				p.cmd.Process.Kill()
				return
			}
		}
	})
}

// full says whether n is as good as all: some come and go while they are counted.
func full(n, limit int64) bool { return n >= limit*9/10-16 }

// end lets go of what held the step, whose processes are gone, and names the limit in its error, if that was why.
func (l *limits) end(err error, oomsBefore uint64) error {
	close(l.stop)
	l.stands.Wait()
	<-l.made
	oom := false
	if l.group != nil {
		oom = l.group.oomKilled()
		l.group.remove()
	}
	var exit *ExitError
	if !errors.As(err, &exit) {
		return err
	}
	why := ""
	switch limit := l.pids(); {
	case l.bomb:
		why = fmt.Sprintf("killed: it had all of the %d processes that a step may have for %v, as a fork bomb has", limit, bombTime)
	case oom:
		why = "memory ran out: the step may use " + units.BytesSize(float64(l.Memory))
	case limit > 0 && full(l.peak, limit):
		why = fmt.Sprintf("it came to the %d processes that a step may have", limit)
	case exit.Code == 128+int(syscall.SIGKILL) && exit.Signal == 0 && oomKills() > oomsBefore:
		why = "memory ran out: the kernel killed a process"
	case l.err != nil && l.Memory > 0: // of which the kernel keeps no count
		why = "each of its processes may use " + units.BytesSize(float64(l.Memory))
	default:
		return err
	}
	return &ExitError{Code: exit.Code, Signal: exit.Signal, Message: fmt.Sprintf("exit code: %d (%s)", exit.Code, why)}
}

// procView is a procfs.
type procView struct{ dir *os.File }

// ofStep reports whether it is that of a step's pid namespace, in which this process is not. In nested containers there may be
// none, and the step has the outer container's.
func (v procView) ofStep() bool {
	var b [16]byte
	_, err := unix.Readlinkat(int(v.dir.Fd()), "self", b[:])
	return err == unix.ENOENT
}

// tasks is how many processes and threads are in the namespace, or 0 where the whole machine has not enough to fill a limit. The
// former takes a call for some hundred processes where they are many, and the latter is one read.
func (v procView) tasks(limit int64) (n int64) {
	if all := v.tasksOfMachine(); all > 0 && !full(all, limit) {
		return 0
	}
	names, err := list(int(v.dir.Fd()), ".")
	if err != nil {
		return 0
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name[0] < '0' || name[0] > '9' })
	if n = int64(len(names)); full(n, limit) {
		return n
	}
	for _, name := range names {
		// A thread is a folder in there.
		var st unix.Stat_t
		if err := unix.Fstatat(int(v.dir.Fd()), name+"/task", &st, 0); err == nil && st.Nlink > 3 {
			n += int64(st.Nlink) - 3
		}
	}
	return n
}

// tasksOfMachine is the number behind the slash of /proc/loadavg (proc_loadavg(5)), of all namespaces; 0: not known.
func (v procView) tasksOfMachine() int64 {
	f, err := openAt(int(v.dir.Fd()), "loadavg")
	if err != nil {
		return 0
	}
	defer f.Close()
	var b [128]byte
	n, _ := f.Read(b[:])
	if f := strings.Fields(string(b[:max(n, 0)])); len(f) > 3 {
		_, total, _ := strings.Cut(f[3], "/")
		all, _ := strconv.ParseInt(total, 10, 64)
		return all
	}
	return 0
}

// applyData is called where nothing is left to do but to become the program: this process would have to live within the limit, too.
func (i initLimits) applyData() error {
	if err := limitTo(unix.RLIMIT_DATA, i.Data); err != nil {
		return fmt.Errorf("limit memory: %w", err)
	}
	return nil
}

// limitTo sets both values of a limit; 0: it stays.
func limitTo(resource int, n int64) error {
	if n <= 0 {
		return nil
	}
	return syscall.Setrlimit(resource, &syscall.Rlimit{Cur: uint64(n), Max: uint64(n)})
}

// apply is called in the step's init, before it gives up anything.
func (i initLimits) apply() error {
	if i.PidMax > 0 {
		if err := os.WriteFile(pidMaxFile, strconv.AppendInt(nil, i.PidMax, 10), 0); err != nil {
			return fmt.Errorf("limit the number of processes: %w", err)
		}
	}
	if err := limitTo(unix.RLIMIT_NPROC, i.NProc); err != nil {
		return fmt.Errorf("limit the number of processes: %w", err)
	}
	if i.CPUs != "" {
		var set unix.CPUSet
		for _, part := range strings.Split(i.CPUs, ",") {
			from, to, isRange := strings.Cut(strings.TrimSpace(part), "-")
			a, err1 := strconv.Atoi(from)
			b, err2 := a, error(nil)
			if isRange {
				b, err2 = strconv.Atoi(to)
			}
			if err1 != nil || err2 != nil || a < 0 || b < a || b >= 1024 {
				return fmt.Errorf("CPUs %q: want a list such as 0-2,7", i.CPUs)
			}
			for c := a; c <= b; c++ {
				set.Set(c)
			}
		}
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return fmt.Errorf("keep to the CPUs %s: %w", i.CPUs, err)
		}
	}
	return nil
}
