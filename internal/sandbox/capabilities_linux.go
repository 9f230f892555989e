package sandbox

import (
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// networkCaps are capabilities over a network namespace, and over the machine's audit log, that a step has only where the
// namespace is its own: in the host's they read all of its traffic, take its low ports, and write its log.
var networkCaps = []string{"CAP_NET_RAW", "CAP_NET_BIND_SERVICE", "CAP_AUDIT_WRITE"}

// HostNetwork takes from spec what a step in the host's network namespace must not have.
func HostNetwork(spec *specs.Spec) {
	spec.Linux.Namespaces = slices.DeleteFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace })
	c := spec.Process.Capabilities
	if c == nil {
		return
	}
	for _, set := range []*[]string{&c.Bounding, &c.Permitted, &c.Effective, &c.Inheritable, &c.Ambient} {
		*set = slices.DeleteFunc(*set, func(name string) bool { return slices.Contains(networkCaps, name) })
	}
}

// userCaps is what of the capabilities of a spec a user has. One other than root has none but the bounds, as Docker has it:
// execve would take the others away, but the program is looked for and opened before, and what that user may not run is not
// to be started.
func userCaps(c *specs.LinuxCapabilities, u specs.User) *specs.LinuxCapabilities {
	switch {
	case c == nil:
		return &specs.LinuxCapabilities{}
	case u.UID != 0:
		return &specs.LinuxCapabilities{Bounding: c.Bounding}
	}
	return c
}
