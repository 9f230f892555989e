package sandbox

import (
	"fmt"
	"path/filepath"
	"slices"
	"sync"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// defaultCaps are Docker's 14, mask a80425fb.
var defaultCaps = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// maskedPaths are Docker's (moby, daemon/pkg/oci/defaults.go), less those of [throttlePaths].
var maskedPaths = []string{
	"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
	"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
	"/sys/devices/virtual/powercap",
}

// throttlePaths tell how hot each processor of the machine has been: by them its neighbours could be watched.
var throttlePaths = sync.OnceValue(func() []string {
	names, _ := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle") // the pattern is right
	return names
})

// stepOOMScore has the kernel take a step's processes before the user's own, and skiff's, where the machine's memory runs out.
var stepOOMScore = 500

// DefaultSpec is what a step runs with unless something else is asked for: Docker's capabilities, moby's seccomp
// profile for them, no_new_privs, Docker's masked and read-only paths, the usual file systems below /proc, /dev and
// /sys, and a network namespace of its own. Root.Path, Process.Args, Env and User are the caller's to set. On architectures for
// which no table of system calls is at hand (other than amd64, 386, arm64, arm) there is no seccomp profile.
// The caller owns all of it but the seccomp profile, which is every caller's: it may be left out, not changed.
func DefaultSpec() *specs.Spec {
	caps := func() []string { return append([]string(nil), defaultCaps...) }
	s := &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{},
		Process: &specs.Process{
			Cwd:             "/",
			NoNewPrivileges: true,
			OOMScoreAdj:     &stepOOMScore,
			Capabilities:    &specs.LinuxCapabilities{Bounding: caps(), Permitted: caps(), Effective: caps()},
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.MountNamespace},
				{Type: specs.NetworkNamespace},
			},
			MaskedPaths:   slices.Concat(maskedPaths, throttlePaths()),
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
	s.Linux.Seccomp = defaultProfile()
	return s
}

// defaultProfile is moby's seccomp profile for the default capabilities; nil where there is no table of calls.
var defaultProfile = sync.OnceValue(func() *specs.LinuxSeccomp {
	if len(nativeArchs) == 0 {
		return nil
	}
	sc, err := seccomp.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: defaultCaps}}})
	if err != nil {
		// The profile is moby's own, so an error would be a bug of it; without it no filter must be the answer.
		panic(fmt.Sprintf("sandbox: moby's seccomp profile: %v", err))
	}
	return sc
})
