package sandbox

import (
	"fmt"
	"slices"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// capNames in the order of their numbers (linux/capability.h).
var capNames = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
	"CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
	"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
	"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// AllCaps are the names of the capabilities that this process could give to a step: its bounding set.
func AllCaps() []string {
	var names []string
	for i, name := range capNames {
		if v, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(i), 0, 0, 0); err == nil && v == 1 {
			names = append(names, name)
		}
	}
	return names
}

type capSet uint64

func capsOf(names []string) (capSet, error) {
	var s capSet
	for _, name := range names {
		i := slices.Index(capNames, name)
		if i < 0 {
			return 0, fmt.Errorf("unknown capability %q", name)
		}
		s |= 1 << i
	}
	return s, nil
}

// hasCaps tells whether the calling thread has all of them in its effective set.
func hasCaps(caps ...int) bool {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	if unix.Capget(&h, &d[0]) != nil {
		return false
	}
	eff := uint64(d[0].Effective) | uint64(d[1].Effective)<<32
	for _, c := range caps {
		if eff&(1<<c) == 0 {
			return false
		}
	}
	return true
}

// boundCaps takes everything but names from the bounding set of the calling thread.
func boundCaps(names []string) error {
	keep, err := capsOf(names)
	if err != nil {
		return err
	}
	for i := 0; i < 64; i++ {
		if keep&(1<<i) != 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(i), 0, 0, 0); err != nil {
			if err == unix.EINVAL {
				return nil // past the last one that this kernel has
			}
			return fmt.Errorf("drop capability %d: %w", i, err)
		}
	}
	return nil
}

// setCaps gives the calling thread the effective, permitted, inheritable and ambient sets of c. Those that the
// thread does not have itself are left out: a nested container has fewer than the specs of images ask for.
func setCaps(c *specs.LinuxCapabilities) error {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	if err := unix.Capget(&h, &have[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	permitted := capSet(have[0].Permitted) | capSet(have[1].Permitted)<<32
	var sets [4]capSet
	for i, names := range [][]string{c.Effective, c.Permitted, c.Inheritable, c.Ambient} {
		s, err := capsOf(names)
		if err != nil {
			return err
		}
		sets[i] = s & permitted
	}
	var d [2]unix.CapUserData
	for i := range d {
		d[i].Effective = uint32(sets[0] >> (32 * i))
		d[i].Permitted = uint32(sets[1] >> (32 * i))
		d[i].Inheritable = uint32(sets[2] >> (32 * i))
	}
	// The raw call: it is for this thread alone.
	if _, _, errno := unix.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&h)), uintptr(unsafe.Pointer(&d[0])), 0); errno != 0 {
		return fmt.Errorf("set capabilities: %w", errno)
	}
	for i := range capNames {
		if sets[3]&sets[1]&sets[2]&(1<<i) == 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(i), 0, 0); err != nil {
			return fmt.Errorf("raise ambient capability %s: %w", capNames[i], err)
		}
	}
	return nil
}
