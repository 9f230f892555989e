//go:build !linux

package snapshot

import (
	"context"
	"errors"

	"github.com/skiff-build/skiff/internal/inode"
)

// Snapshots needs Linux; every method here says so.
type Snapshots struct{}

// Active exists on Linux only.
type Active struct{}

var errLinux = &Unavailable{
	Cause: "this is not linux",
	Mend:  "build Dockerfiles on Linux; images can be pulled, pushed and inspected here",
	Err:   errors.ErrUnsupported,
}

// New returns a Snapshots that can do nothing.
func New(root string) *Snapshots { return &Snapshots{} }

// WithoutMounts returns a Snapshots that can do nothing.
func WithoutMounts(root string) *Snapshots { return New(root) }

// Outside returns a Snapshots that can do nothing.
func Outside(root string) *Snapshots { return New(root) }

// Close does nothing.
func (s *Snapshots) Close() error { return nil }

// Mount needs Linux.
func (s *Snapshots) Mount(ctx context.Context, chain []string, target string) (func() error, error) {
	return nil, errLinux
}

// Prepare needs Linux.
func (s *Snapshots) Prepare(ctx context.Context, chain []string) (*Active, error) {
	return nil, errLinux
}

// Tree needs Linux.
func (s *Snapshots) Tree(chain []string) (inode.Tree, func() error, error) { return nil, nil, errLinux }

// Remove needs Linux.
func (s *Snapshots) Remove(paths []string) error { return errLinux }

// Root is "".
func (a *Active) Root() string { return "" }

// Upper is "".
func (a *Active) Upper() string { return "" }

// Commit needs Linux.
func (a *Active) Commit(id string) (empty bool, err error) { return false, errLinux }

// CommitOver needs Linux.
func (a *Active) CommitOver(id string) (empty bool, err error) { return false, errLinux }

// Discard does nothing.
func (a *Active) Discard() error { return nil }
