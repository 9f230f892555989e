package gotoolchain

import "context"

// ReleasedGoEnv is for tests.
const ReleasedGoEnv = releasedGoEnv

// TreeToolchain is for tests.
func TreeToolchain(release, arch, root string) (*Toolchain, error) {
	return treeToolchain(release, arch, root)
}

// FromZip is a toolchain in a zip with nothing to compare it with.
func FromZip(release, arch, path string) *Toolchain {
	return &Toolchain{release: release, arch: arch, zip: path}
}

// Sum is the checksum of the machine's tree.
func (tc *Toolchain) Sum() string { return tc.sum }

// MachineToolchain is for tests.
func (t *Toolchains) MachineToolchain(ctx context.Context, release, arch string) (*Toolchain, error) {
	return t.machineToolchain(ctx, release, arch)
}

// ReadFromProxies reads a file by a setting of GOPROXY.
func ReadFromProxies(ctx context.Context, setting, name string) ([]byte, error) {
	p, err := newProxies(setting)
	if err != nil {
		return nil, err
	}
	return p.read(ctx, name, 1<<20)
}
