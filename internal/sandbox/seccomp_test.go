//go:build linux

package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// try-calls makes system calls that the profile refuses, and ordinary ones that it must not.
var _ = helper("try-calls", func([]string) error {
	call := func(nr uintptr, args ...uintptr) syscall.Errno {
		var a [6]uintptr
		copy(a[:], args)
		_, _, errno := syscall.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
		return errno
	}
	text := func(s string) uintptr { return uintptr(unsafe.Pointer(unsafe.StringData(s + "\x00"))) }
	var bad []error
	for _, tt := range []struct {
		what string
		got  syscall.Errno
		want syscall.Errno
	}{
		{"keyctl", call(unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID), unix.EPERM},
		{"add_key", call(unix.SYS_ADD_KEY, text("user"), text("x"), text("x"), 1), unix.EPERM},
		{"bpf", call(unix.SYS_BPF), unix.EPERM},
		{"unshare", call(unix.SYS_UNSHARE, unix.CLONE_NEWUSER), unix.EPERM},
		{"clone(NEWUSER)", call(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD)), unix.EPERM},
		{"clone3", call(unix.SYS_CLONE3), unix.ENOSYS},
		{"mount", call(unix.SYS_MOUNT, text("tmpfs"), text("/"), text("tmpfs")), unix.EPERM},
		{"pivot_root", call(unix.SYS_PIVOT_ROOT), unix.EPERM},
		{"open_by_handle_at", call(unix.SYS_OPEN_BY_HANDLE_AT), unix.EPERM},
		{"userfaultfd", call(unix.SYS_USERFAULTFD), unix.EPERM},
		{"personality(no randomisation)", call(unix.SYS_PERSONALITY, 0x0040000), unix.EPERM},
		{"personality(query)", call(unix.SYS_PERSONALITY, 0xffffffff), 0},
		{"socket(VSOCK)", call(unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM), unix.EPERM},
		{"a call of the future", call(5000), unix.ENOSYS},
		{"getpid", call(unix.SYS_GETPID), 0},
		{"membarrier(query)", call(unix.SYS_MEMBARRIER), 0},
		{"chroot", call(unix.SYS_CHROOT, text("/")), 0},
	} {
		if tt.got != tt.want {
			bad = append(bad, fmt.Errorf("%s: %v, want %v", tt.what, tt.got, tt.want))
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		l.Close()
	}
	return errors.Join(append(bad, err)...)
})

func TestSeccompInAStep(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) { mustRun(t, c, step(t, "try-calls")) })
}

// The same without no_new_privs, where the filter has to go in before the capabilities are given up.
func TestSeccompWithoutNoNewPrivileges(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) {
		s := step(t, "try-calls")
		s.Process.NoNewPrivileges = false
		mustRun(t, c, s)
	})
}

func TestInsecure(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) {
		s := step(t, "status")
		s.Linux.Seccomp, s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil, nil
		all := AllCaps()
		s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Permitted: all, Effective: all}
		got := statusOf(t, c, s)
		want, err := capsOf(all)
		if err != nil {
			t.Fatal(err)
		}
		if got["CapEff"] != fmt.Sprintf("%016x", uint64(want)) {
			t.Errorf("effective %s, want %016x", got["CapEff"], uint64(want))
		}
		if want := map[bool]string{true: "2", false: "0"}[c.Mode() == ModeOneID]; got["Seccomp"] != want {
			t.Errorf("seccomp mode %s, want %s", got["Seccomp"], want)
		}
	})
}

// machine runs programs as the kernel does. The words of seccomp_data are in the machine's order there, and big
// endian in a network packet, which is what the interpreter of x/net/bpf loads from.
func machine(t *testing.T, prog []unix.SockFilter) func(audit, nr uint32, args ...uint64) uint32 {
	t.Helper()
	raw := make([]bpf.RawInstruction, len(prog))
	for i, p := range prog {
		raw[i] = bpf.RawInstruction{Op: p.Code, Jt: p.Jt, Jf: p.Jf, K: p.K}
	}
	ins, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatalf("not all of %v is an instruction", ins)
	}
	vm, err := bpf.NewVM(ins)
	if err != nil {
		t.Fatal(err)
	}
	return func(audit, nr uint32, args ...uint64) uint32 {
		data := make([]byte, 64)
		put := func(off, v uint32) { binary.BigEndian.PutUint32(data[off:], v) }
		put(offNr, nr)
		put(offArch, audit)
		for i, a := range args {
			low, high := argWords(uint(i))
			put(low, uint32(a))
			put(high, uint32(a>>32))
		}
		act, err := vm.Run(data)
		if err != nil {
			t.Fatal(err)
		}
		return uint32(act)
	}
}

// operators as the OCI runtime spec has them: of an argument, Value and ValueTwo.
var operators = map[specs.LinuxSeccompOperator]func(a, v, v2 uint64) bool{
	specs.OpEqualTo:      func(a, v, _ uint64) bool { return a == v },
	specs.OpNotEqual:     func(a, v, _ uint64) bool { return a != v },
	specs.OpLessThan:     func(a, v, _ uint64) bool { return a < v },
	specs.OpLessEqual:    func(a, v, _ uint64) bool { return a <= v },
	specs.OpGreaterThan:  func(a, v, _ uint64) bool { return a > v },
	specs.OpGreaterEqual: func(a, v, _ uint64) bool { return a >= v },
	specs.OpMaskedEqual:  func(a, v, v2 uint64) bool { return a&v == v2 },
}

// TestConditions compares every operator with what it says, at the edges of both halves of a word.
func TestConditions(t *testing.T) {
	values := []uint64{0, 1, 2, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, 0x100000001, 0x1ffffffff, 0x200000000, 1 << 63, ^uint64(0)}
	abi := abis[specs.ArchX86_64]
	for op, holds := range operators {
		for _, v := range values {
			prog, err := compileSeccomp(&specs.LinuxSeccomp{
				DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86_64},
				Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActKillProcess,
					Args: []specs.LinuxSeccompArg{{Index: 5, Op: op, Value: v, ValueTwo: 0x100000001 & v}}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			run := machine(t, prog)
			for _, a := range values {
				got := run(abi.audit, 0, 0, 0, 0, 0, 0, a) == unix.SECCOMP_RET_KILL_PROCESS
				if got != holds(a, v, 0x100000001&v) {
					t.Errorf("%#x %s %#x is %v", a, op, v, got)
				}
			}
		}
	}
}

// TestDefaultProfile asks the compiled filter of moby's profile about every call of every architecture in it, and
// compares with the rules read naively.
func TestDefaultProfile(t *testing.T) {
	sc := DefaultSpec().Linux.Seccomp
	if sc == nil {
		t.Skipf("no table of system calls for %s", runtime.GOARCH)
	}
	prog, err := compileSeccomp(sc)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d instructions", len(prog))
	run := machine(t, prog)
	for _, a := range sc.Architectures {
		abi, ok := abis[a]
		if !ok {
			continue
		}
		for name, nr := range abi.calls {
			args := []uint64{0, 0, 0, 0, 0, 0}
			if got, want := run(abi.audit, uint32(nr), args...), naive(sc, name, args); got != want {
				t.Errorf("%s %s: %#x, want %#x", a, name, got, want)
			}
		}
	}
	for what, tt := range map[string]struct{ got, want uint32 }{
		"another architecture": {run(0xc00000f3, 0), unix.SECCOMP_RET_KILL_PROCESS},
		"x32 read":             {run(abis[specs.ArchX86_64].audit, x32Bit), errnoAction(unix.ENOSYS)},
		"x32 execve":           {run(abis[specs.ArchX86_64].audit, x32Bit|520), errnoAction(unix.ENOSYS)},
		"number -1":            {run(abis[specs.ArchX86_64].audit, 0xffffffff), errnoAction(unix.ENOSYS)},
		"i386 socketcall":      {run(abis[specs.ArchX86].audit, 102), unix.SECCOMP_RET_ALLOW},
		"i386 mount":           {run(abis[specs.ArchX86].audit, 21), errnoAction(unix.EPERM)},
	} {
		if runtime.GOARCH == "amd64" && tt.got != tt.want {
			t.Errorf("%s: %#x, want %#x", what, tt.got, tt.want)
		}
	}
}

func naive(sc *specs.LinuxSeccomp, name string, args []uint64) uint32 {
	for _, r := range sc.Syscalls {
		if !slices.Contains(r.Names, name) {
			continue
		}
		met := true
		for _, a := range r.Args {
			met = met && operators[a.Op](args[a.Index], a.Value, a.ValueTwo)
		}
		if met {
			act, err := action(r.Action, r.ErrnoRet)
			if err != nil {
				panic(err)
			}
			return act
		}
	}
	return errnoAction(unix.EPERM)
}

func TestFakeIDsProfile(t *testing.T) {
	if len(nativeArchs) == 0 {
		t.Skipf("no table of system calls for %s", runtime.GOARCH)
	}
	prog, err := compileSeccomp(fakeIDs())
	if err != nil {
		t.Fatal(err)
	}
	run := machine(t, prog)
	success := errnoAction(0)
	for _, a := range nativeArchs {
		abi := abis[a]
		for _, tt := range []struct {
			name string
			args []uint64
			want uint32
		}{
			{"fchownat", nil, success}, {"chown", nil, success}, {"setresuid", nil, success}, {"setgroups", nil, success},
			{"setuid32", nil, success}, {"chown32", nil, success}, {"capset", nil, success}, {"setfsgid", nil, success},
			{"mknodat", []uint64{0, 0, unix.S_IFCHR | 0o600}, success},
			{"mknodat", []uint64{0, 0, unix.S_IFBLK | 0o600}, success},
			{"mknodat", []uint64{0, 0, unix.S_IFIFO | 0o600}, unix.SECCOMP_RET_ALLOW},
			{"mknodat", []uint64{0, 0, unix.S_IFSOCK | 0o600}, unix.SECCOMP_RET_ALLOW},
			{"mknodat", []uint64{0, 0, 0o600}, unix.SECCOMP_RET_ALLOW},
			{"mknod", []uint64{0, unix.S_IFCHR}, success},
			{"mknod", []uint64{0, unix.S_IFREG, unix.S_IFCHR}, unix.SECCOMP_RET_ALLOW},
			{"chmod", nil, unix.SECCOMP_RET_ALLOW}, {"read", nil, unix.SECCOMP_RET_ALLOW}, {"setsid", nil, unix.SECCOMP_RET_ALLOW},
		} {
			nr, ok := abi.calls[tt.name]
			if !ok {
				continue
			}
			if got := run(abi.audit, uint32(nr), tt.args...); got != tt.want {
				t.Errorf("%s %s%#x: %#x, want %#x", a, tt.name, tt.args, got, tt.want)
			}
		}
	}
}

func TestProfilesThatAreRefused(t *testing.T) {
	for want, sc := range map[string]*specs.LinuxSeccomp{
		"is not supported":      {DefaultAction: specs.ActNotify},
		"names no architecture": {DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchS390X}},
		"no argument 6": {DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86_64},
			Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: 6}}}}},
	} {
		if _, err := compileSeccomp(sc); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func BenchmarkCompileSeccomp(b *testing.B) {
	sc := DefaultSpec().Linux.Seccomp
	for b.Loop() {
		if _, err := compileSeccomp(sc); err != nil {
			b.Fatal(err)
		}
	}
}
