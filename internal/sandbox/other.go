//go:build !linux

package sandbox

import (
	"context"
	"encoding/json"
	"os"
	"runtime"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// SelfPath is where [Self] puts this program inside a step's root.
const SelfPath = "/usr/libexec/skiff"

func unavailable() error {
	name := map[string]string{"darwin": "macOS", "windows": "Windows"}[runtime.GOOS]
	if name == "" {
		name = runtime.GOOS
	}
	return &Unavailable{
		Cause: "the steps of a Dockerfile need Linux namespaces, and this is " + name,
		Mend: "build on a Linux machine or in a Linux VM (WSL 2, Lima, a CI runner); " +
			"pulling, pushing, saving, loading and inspecting images work here",
	}
}

// Init returns at once: there are no children here.
func Init(map[string]Handler) {}

// Probe says that there are no namespaces here.
func Probe() (Mode, error) { return "", unavailable() }

// ProbeNote has nothing to add.
func ProbeNote() string { return "" }

// Enter says that there are no namespaces here.
func Enter(context.Context, Options) (*Child, error) { return nil, unavailable() }

// FilesOnly is false: there are no children here.
func FilesOnly() bool { return false }

// Child cannot be had here.
type Child struct{}

func (c *Child) Mode() Mode   { return "" }
func (c *Child) Note() string { return "" }
func (c *Child) Close() error { return nil }

func (c *Child) Call(context.Context, string, any, any, func(json.RawMessage)) error {
	return unavailable()
}

func (c *Child) CallFiles(context.Context, string, any, []*os.File, any, func(json.RawMessage)) error {
	return unavailable()
}

// Process is a running step; there is none here.
type Process struct{}

func (p *Process) Signal(os.Signal) error         { return unavailable() }
func (p *Process) Resize(rows, cols uint16) error { return unavailable() }

// Run says that there are no namespaces here.
func Run(context.Context, *specs.Spec, RunOptions) error { return unavailable() }

// DefaultSpec is empty here, since nothing can run it.
func DefaultSpec() *specs.Spec {
	return &specs.Spec{Version: specs.Version, Root: &specs.Root{}, Process: &specs.Process{Cwd: "/"}, Linux: &specs.Linux{}}
}

// AllCaps is empty here.
func AllCaps() []string { return nil }

// EnsureTargets says that there are no namespaces here.
func EnsureTargets(string, []specs.Mount) (func() error, error) { return nil, unavailable() }

// Self says that there are no namespaces here.
func Self() ([]specs.Mount, error) { return nil, unavailable() }
