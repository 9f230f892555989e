package sandbox

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// dropPrivilege changes to the user, the capabilities and the filters of the step, in the order that each needs.
func (cfg *stepConfig) dropPrivilege() error {
	p := cfg.Spec.Process
	if !p.NoNewPrivileges && !cfg.FakeIDs {
		// Without no_new_privs a filter needs CAP_SYS_ADMIN, which is about to go.
		if err := cfg.installFilters(); err != nil {
			return err
		}
	}
	caps := userCaps(p.Capabilities, p.User)
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
		if err := ownDomain(); err != nil {
			return err
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
	// By package unix, which does it for this thread alone: package syscall stops all others, to have each do it, too.
	// Where setgroups is denied (a namespace with one id), the caller's groups cannot be got rid of.
	if err := unix.Setgroups(groups); err != nil && (err != unix.EPERM || len(groups) > 1) {
		return fmt.Errorf("set groups %v: %w", groups, idError(err))
	}
	if r, e, s := unix.Getresgid(); [3]int{r, e, s} != same(u.GID) {
		if err := syscall.Setresgid(int(u.GID), int(u.GID), int(u.GID)); err != nil {
			return fmt.Errorf("set group %d: %w", u.GID, idError(err))
		}
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	if r, e, s := unix.Getresuid(); [3]int{r, e, s} != same(u.UID) {
		if err := syscall.Setresuid(int(u.UID), int(u.UID), int(u.UID)); err != nil {
			return fmt.Errorf("set user %d: %w", u.UID, idError(err))
		}
	}
	return nil
}

// same is an id three times: the real, the effective and the saved one.
func same(id uint32) [3]int { return [3]int{int(id), int(id), int(id)} }

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
