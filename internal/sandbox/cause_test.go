package sandbox

import (
	"strings"
	"syscall"
	"testing"
)

func TestCause(t *testing.T) {
	usual := facts{Step: "clone", Errno: syscall.EPERM, MaxUserNS: 28633, UnprivClone: -1, AppArmorRestrict: -1, Kernel: [2]int{6, 8}}
	with := func(change func(*facts)) facts {
		f := usual
		change(&f)
		return f
	}
	for _, tt := range []struct {
		what        string
		facts       facts
		cause, mend string
	}{
		{"user namespaces off", with(func(f *facts) { f.MaxUserNS, f.Errno = 0, syscall.ENOSPC }),
			"user.max_user_namespaces = 0", "sysctl -w user.max_user_namespaces=28633"},
		{"Debian's switch", with(func(f *facts) { f.UnprivClone = 0 }),
			"kernel.unprivileged_userns_clone = 0", "sysctl -w kernel.unprivileged_userns_clone=1"},
		{"Ubuntu 24.04", with(func(f *facts) {
			f.AppArmorRestrict, f.Step, f.Errno, f.Exe = 1, "mount", syscall.EACCES, "/home/u/bin/skiff"
		}),
			"kernel.apparmor_restrict_unprivileged_userns = 1", "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"},
		{"Ubuntu 24.04, by profile", with(func(f *facts) { f.AppArmorRestrict, f.Exe = 1, "/home/u/bin/skiff" }),
			"AppArmor", "profile skiff /home/u/bin/skiff flags=(unconfined)"},
		{"AppArmor's switch is off", with(func(f *facts) { f.AppArmorRestrict = 0 }),
			"refused a user namespace", "run as root"},
		{"a docker container", with(func(f *facts) { f.UnshareDenied, f.Container = true, "docker" }),
			"seccomp profile of this container (docker)", "--security-opt seccomp=unconfined"},
		{"a container on Ubuntu 24.04", with(func(f *facts) { f.UnshareDenied, f.Container, f.AppArmorRestrict = true, "podman", 1 }),
			"seccomp profile of this container (podman)", "--security-opt seccomp=unconfined"},
		{"a container whose AppArmor forbids it", with(func(f *facts) { f.Container, f.Step, f.Errno = "docker", "mount", syscall.EACCES }),
			"this container (docker) may not use user namespaces (mount: permission denied)", "--security-opt apparmor=unconfined"},
		{"a pod", with(func(f *facts) { f.UnshareDenied, f.Container = true, "kubernetes" }),
			"profile of this pod", "seccompProfile.type: Unconfined"},
		{"a systemd unit", with(func(f *facts) { f.UnshareDenied = true }),
			"seccomp filter of this process", "RestrictNamespaces=no"},
		{"a privileged container with AppArmor", with(func(f *facts) { f.SysAdmin, f.Container, f.Step, f.Errno = true, "docker", "mount", syscall.EACCES }),
			"may not mount", "--security-opt apparmor=unconfined"},
		{"root refused", with(func(f *facts) { f.SysAdmin = true }), "to root", "security module"},
		{"root at a limit", with(func(f *facts) { f.SysAdmin, f.Errno = true, syscall.ENOSPC }), "limit", "user.max_mnt_namespaces"},
		{"root without CAP_SETFCAP", with(func(f *facts) { f.NoRootMap = true }), "lacks CAP_SETFCAP", "setpriv --reuid=1000"},
		{"root of a container without CAP_SETFCAP", with(func(f *facts) { f.NoRootMap, f.Container = true, "podman" }),
			"lacks CAP_SETFCAP", "--cap-add=SETFCAP"},
		{"bwrap --disable-userns", with(func(f *facts) { f.Nested, f.Errno = true, syscall.ENOSPC }),
			"the sandbox around this process", "without --disable-userns"},
		{"a chroot", with(func(f *facts) { f.Chroot = true }), "chroot", "pivot_root"},
		{"no /proc", with(func(f *facts) { f.NoProc, f.MaxUserNS, f.Kernel = true, -1, [2]int{} }), "/proc is not mounted", "mount -t proc proc /proc"},
		{"a limit", with(func(f *facts) { f.Errno = syscall.ENOSPC }), "limit", "sysctl -w user.max_user_namespaces"},
		{"an old kernel", with(func(f *facts) { f.Kernel = [2]int{5, 10} }), "kernel is 5.10", "newer kernel"},
		{"a very old kernel", with(func(f *facts) { f.Kernel = [2]int{4, 19} }), "kernel is 4.19", "newer kernel"},
		{"a kernel without", with(func(f *facts) { f.MaxUserNS, f.Errno = -1, syscall.EINVAL }), "CONFIG_USER_NS", "run as root"},
		{"SELinux, or what else", usual, "refused a user namespace (clone: operation not permitted)", "SELinux"},
	} {
		got := cause(tt.facts)
		if !strings.Contains(got.Cause, tt.cause) || !strings.Contains(got.Mend, tt.mend) {
			t.Errorf("%s: got %v", tt.what, got)
		}
		if strings.HasSuffix(got.Error(), ".") || got.Mend == "" {
			t.Errorf("%s: %q", tt.what, got.Error())
		}
	}
}

func TestForbidden(t *testing.T) {
	for what, tt := range map[string]struct {
		facts facts
		want  bool
	}{
		"a usual machine":             {facts{MaxUserNS: 100, UnprivClone: -1, AppArmorRestrict: -1, Kernel: [2]int{6, 1}}, false},
		"Debian, switched off":        {facts{MaxUserNS: 100, UnprivClone: 0, Kernel: [2]int{6, 1}}, true},
		"Debian, switched off, root":  {facts{MaxUserNS: 100, UnprivClone: 0, Kernel: [2]int{6, 1}, SysAdmin: true}, false},
		"Ubuntu 24.04":                {facts{MaxUserNS: 100, UnprivClone: 1, AppArmorRestrict: 1, Profile: "unconfined", Kernel: [2]int{6, 8}}, true},
		"Ubuntu 24.04 with a profile": {facts{MaxUserNS: 100, UnprivClone: 1, AppArmorRestrict: 1, Profile: "skiff (unconfined)", Kernel: [2]int{6, 8}}, false},
		"none allowed":                {facts{MaxUserNS: 0, UnprivClone: -1, Kernel: [2]int{6, 1}}, true},
		"a chroot":                    {facts{MaxUserNS: 100, UnprivClone: -1, Chroot: true, Kernel: [2]int{6, 1}}, true},
		"an old kernel":               {facts{MaxUserNS: 100, UnprivClone: -1, Kernel: [2]int{5, 4}}, true},
	} {
		if got := tt.facts.forbidden(); got != tt.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}
