package sandbox

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"unsafe"

	"github.com/elastic/go-seccomp-bpf/arch"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// archABI is a calling convention as a filter sees it: the audit number and the names of its calls.
type archABI struct {
	audit uint32
	calls map[string]int
}

// abis of the architectures that a spec may name. Those without a table of calls are left out.
//
// x32 shares its audit number with x86-64 and has bit 30 of the number set. No image uses it and few kernels have it,
// so it is never allowed, whatever the profile says: its calls end with ENOSYS, as on a kernel without it.
var abis = map[specs.Arch]archABI{
	specs.ArchX86_64:  {uint32(arch.X86_64.ID), arch.X86_64.SyscallNames},
	specs.ArchX86:     {uint32(arch.I386.ID), arch.I386.SyscallNames},
	specs.ArchAARCH64: {uint32(arch.AARCH64.ID), arch.AARCH64.SyscallNames},
	specs.ArchARM:     {uint32(arch.ARM.ID), arch.ARM.SyscallNames},
}

const x32Bit = 0x40000000

// Offsets in struct seccomp_data (linux/seccomp.h): int nr, u32 arch, u64 ip, u64 args[6].
const (
	offNr   = 0
	offArch = 4
	offArgs = 16
)

// segment is a run of call numbers, from first to the next segment's first, with the same outcome: the rules in
// order, and otherwise the action.
type segment struct {
	first  uint32
	rules  []condRule
	action uint32
}

// condRule gives its action when all conditions hold.
type condRule struct {
	args   []specs.LinuxSeccompArg
	action uint32
}

// compileSeccomp makes the BPF program of a profile (seccomp(2), OCI runtime spec config-linux.md, "Seccomp").
//
// Calls unknown to an architecture's table are left out, as libseccomp does. Calls of other architectures than those
// named kill the process. Calls that are newer than the table get ENOSYS where the default would be another error,
// so that programs fall back to what they used before (runc does the same).
func compileSeccomp(sc *specs.LinuxSeccomp) ([]unix.SockFilter, error) {
	def, err := action(sc.DefaultAction, sc.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	archs := sc.Architectures
	if len(archs) == 0 {
		archs = nativeArchs
	}
	var b program
	b.load(offArch)
	known := 0
	for _, a := range archs {
		abi, ok := abis[a]
		if !ok {
			continue
		}
		known++
		segs, err := segments(abi, sc.Syscalls, def)
		if err != nil {
			return nil, err
		}
		next := b.jumpUnlessEqual(abi.audit)
		b.load(offNr)
		if a == specs.ArchX86_64 {
			b.returnIfAtLeast(x32Bit, errnoAction(unix.ENOSYS))
		}
		b.search(segs)
		b.land(next)
	}
	if known == 0 {
		return nil, fmt.Errorf("seccomp profile names no architecture that is known here (%v)", sc.Architectures)
	}
	b.ret(unix.SECCOMP_RET_KILL_PROCESS)
	if len(b.prog) > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("seccomp profile needs %d instructions, and the kernel takes %d", len(b.prog), unix.BPF_MAXINSNS)
	}
	return b.prog, nil
}

func errnoAction(e unix.Errno) uint32 {
	return unix.SECCOMP_RET_ERRNO | uint32(e)&unix.SECCOMP_RET_DATA
}

func action(a specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	e := uint(unix.EPERM)
	if errno != nil {
		e = *errno
	}
	switch a {
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActErrno:
		return errnoAction(unix.Errno(e)), nil
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP, nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	}
	return 0, fmt.Errorf("seccomp action %q is not supported", a)
}

// segments sorts the rules by call number. Per call, a rule without conditions decides alone; otherwise the first
// whose conditions all hold does.
func segments(abi archABI, rules []specs.LinuxSyscall, def uint32) ([]segment, error) {
	calls := map[int]*segment{}
	for _, r := range rules {
		act, err := action(r.Action, r.ErrnoRet)
		if err != nil {
			return nil, err
		}
		for _, a := range r.Args {
			if a.Index > 5 {
				return nil, fmt.Errorf("seccomp rule for %v: no argument %d", r.Names, a.Index)
			}
		}
		for _, name := range r.Names {
			nr, ok := abi.calls[name]
			if !ok {
				continue
			}
			s := calls[nr]
			if s == nil {
				s = &segment{first: uint32(nr), action: def}
				calls[nr] = s
			}
			s.rules = append(s.rules, condRule{r.Args, act})
		}
	}
	return join(calls, abi, def), nil
}

// join lays the calls side by side, fills the gaps, and makes one segment of neighbours with the same outcome.
func join(calls map[int]*segment, abi archABI, def uint32) []segment {
	numbers := make([]int, 0, len(calls))
	for nr, s := range calls {
		numbers = append(numbers, nr)
		if i := slices.IndexFunc(s.rules, func(r condRule) bool { return len(r.args) == 0 }); i >= 0 {
			s.action, s.rules = s.rules[i].action, nil
		}
	}
	sort.Ints(numbers)
	segs := []segment{{action: def}}
	add := func(s segment) {
		last := &segs[len(segs)-1]
		switch {
		case last.first == s.first:
			*last = s
		case len(last.rules) == 0 && len(s.rules) == 0 && last.action == s.action:
		default:
			segs = append(segs, s)
		}
	}
	for _, nr := range numbers {
		add(*calls[nr])
		add(segment{first: uint32(nr) + 1, action: def})
	}
	if def&unix.SECCOMP_RET_ACTION_FULL == unix.SECCOMP_RET_ERRNO {
		add(segment{first: lastCall(abi) + 1, action: errnoAction(unix.ENOSYS)})
	}
	return segs
}

// lastCall is the highest number of the table, without the private ones of ARM far above.
func lastCall(abi archABI) uint32 {
	last := 0
	for _, nr := range abi.calls {
		if nr < 0xf0000 {
			last = max(last, nr)
		}
	}
	return uint32(last)
}

// program assembles classic BPF (linux/filter.h). A conditional jump reaches 255 instructions, so far ones go by a
// second, unconditional instruction, which reaches everything; distances are filled in when the target is there.
type program struct{ prog []unix.SockFilter }

func (b *program) emit(code uint16, jt, jf uint8, k uint32) {
	b.prog = append(b.prog, unix.SockFilter{Code: code, Jt: jt, Jf: jf, K: k})
}

func (b *program) load(off uint32) { b.emit(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, 0, 0, off) }
func (b *program) ret(act uint32)  { b.emit(unix.BPF_RET|unix.BPF_K, 0, 0, act) }

// jump emits an unconditional jump to a place that land tells later.
func (b *program) jump() int {
	b.emit(unix.BPF_JMP|unix.BPF_JA, 0, 0, 0)
	return len(b.prog) - 1
}

func (b *program) land(jumps ...int) {
	for _, j := range jumps {
		b.prog[j].K = uint32(len(b.prog) - j - 1)
	}
}

// jumpIf continues when "A op k" is want, and jumps otherwise.
func (b *program) jumpUnless(op uint16, k uint32, want bool) int {
	jt, jf := uint8(1), uint8(0)
	if !want {
		jt, jf = 0, 1
	}
	b.emit(unix.BPF_JMP|unix.BPF_K|op, jt, jf, k)
	return b.jump()
}

func (b *program) jumpUnlessEqual(k uint32) int { return b.jumpUnless(unix.BPF_JEQ, k, true) }

func (b *program) returnIfAtLeast(k, act uint32) {
	b.emit(unix.BPF_JMP|unix.BPF_K|unix.BPF_JGE, 0, 1, k)
	b.ret(act)
}

// search finds the segment of the number in A by halves.
func (b *program) search(segs []segment) {
	if len(segs) == 1 {
		b.decide(segs[0])
		return
	}
	mid := len(segs) / 2
	below := b.jumpUnless(unix.BPF_JGE, segs[mid].first, true)
	b.search(segs[mid:])
	b.land(below)
	b.search(segs[:mid])
}

func (b *program) decide(s segment) {
	for _, r := range s.rules {
		var miss []int
		for _, a := range r.args {
			miss = append(miss, b.condition(a)...)
		}
		b.ret(r.action)
		b.land(miss...)
	}
	b.ret(s.action)
}

// condition continues when the 64-bit argument meets the condition, and returns the jumps taken when it does not.
// BPF has 32-bit words: the upper one decides, and the lower one where the upper ones are equal.
func (b *program) condition(a specs.LinuxSeccompArg) []int {
	low, high := argWords(a.Index)
	vLow, vHigh := uint32(a.Value), uint32(a.Value>>32)
	switch a.Op {
	case specs.OpMaskedEqual:
		return append(b.masked(high, vHigh, uint32(a.ValueTwo>>32)), b.masked(low, vLow, uint32(a.ValueTwo))...)
	case specs.OpEqualTo:
		return append(b.masked(high, math.MaxUint32, vHigh), b.masked(low, math.MaxUint32, vLow)...)
	case specs.OpNotEqual:
		b.load(high)
		differs := b.jumpUnless(unix.BPF_JEQ, vHigh, true)
		b.load(low)
		miss := b.jumpUnless(unix.BPF_JEQ, vLow, false)
		b.land(differs)
		return []int{miss}
	case specs.OpGreaterThan:
		return b.ordered(low, high, vLow, vHigh, unix.BPF_JGT, true)
	case specs.OpGreaterEqual:
		return b.ordered(low, high, vLow, vHigh, unix.BPF_JGE, true)
	case specs.OpLessEqual:
		return b.ordered(low, high, vLow, vHigh, unix.BPF_JGT, false)
	case specs.OpLessThan:
		return b.ordered(low, high, vLow, vHigh, unix.BPF_JGE, false)
	}
	// An operator that is not known can never be met: the rule gives nothing away.
	return []int{b.jump()}
}

// masked continues when word&mask == want.
func (b *program) masked(word, mask, want uint32) []int {
	b.load(word)
	if mask != math.MaxUint32 {
		b.emit(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, 0, 0, mask)
	}
	return []int{b.jumpUnless(unix.BPF_JEQ, want, true)}
}

// ordered continues when "value op v" is want, for op > or >=.
func (b *program) ordered(low, high, vLow, vHigh uint32, op uint16, want bool) []int {
	b.load(high)
	notAbove := b.jumpUnless(unix.BPF_JGT, vHigh, true)
	above := b.jump() // the upper word is greater: "value op v" is true
	b.land(notAbove)
	below := b.jumpUnless(unix.BPF_JEQ, vHigh, true) // less: it is false
	b.load(low)
	lowMiss := b.jumpUnless(op, vLow, want)
	if want {
		b.land(above)
		return []int{below, lowMiss}
	}
	b.land(below)
	return []int{above, lowMiss}
}

// argWords are the offsets of the lower and upper half of an argument.
func argWords(index uint) (low, high uint32) {
	off := uint32(offArgs + 8*index)
	if bigEndian {
		return off + 4, off
	}
	return off, off + 4
}

var bigEndian = func() bool {
	one := uint16(1)
	return *(*byte)(unsafe.Pointer(&one)) == 0
}()

// installFilter puts a program on the calling thread. It needs no_new_privs or CAP_SYS_ADMIN.
func installFilter(prog []unix.SockFilter) error {
	p := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&p))); errno != 0 {
		return fmt.Errorf("install seccomp filter: %w", errno)
	}
	return nil
}
