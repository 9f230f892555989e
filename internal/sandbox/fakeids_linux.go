package sandbox

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// fakeIDs is the profile for [ModeOneID], where the kernel refuses every id but one: package managers and archivers
// check that these calls succeed, and hardly ever what came of them. Charliecloud showed that this is enough
// (https://hpc.github.io/charliecloud/ch-image.html, "--force=seccomp").
//
// It is stacked on the step's own profile. Of two filters the stricter answer counts, and ERRNO, with number 0 too,
// is stricter than ALLOW; of two ERRNO that of the filter installed last, so this one goes last (seccomp(2)).
func fakeIDs() *specs.LinuxSeccomp {
	success := uint(0)
	device := func(name string, modeArg uint) []specs.LinuxSyscall {
		var rules []specs.LinuxSyscall
		for _, kind := range []uint64{unix.S_IFCHR, unix.S_IFBLK} {
			rules = append(rules, specs.LinuxSyscall{
				Names: []string{name}, Action: specs.ActErrno, ErrnoRet: &success,
				Args: []specs.LinuxSeccompArg{{Index: modeArg, Op: specs.OpMaskedEqual, Value: unix.S_IFMT, ValueTwo: kind}},
			})
		}
		return rules
	}
	rules := []specs.LinuxSyscall{{
		Names: []string{
			"chown", "chown32", "lchown", "lchown32", "fchown", "fchown32", "fchownat",
			"setgroups", "setgroups32", "setuid", "setuid32", "setgid", "setgid32", "setreuid", "setreuid32",
			"setregid", "setregid32", "setresuid", "setresuid32", "setresgid", "setresgid32",
			"setfsuid", "setfsuid32", "setfsgid", "setfsgid32", "capset",
		},
		Action: specs.ActErrno, ErrnoRet: &success,
	}}
	// A fifo or a regular file can be made without privilege; the mode argument tells.
	rules = append(rules, device("mknod", 1)...)
	rules = append(rules, device("mknodat", 2)...)
	return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: nativeArchs, Syscalls: rules}
}
