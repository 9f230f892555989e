package fileop

import (
	"fmt"

	"github.com/moby/buildkit/solver/pb"
	"github.com/skiff-build/skiff/internal/inode"
	mode "github.com/tonistiigi/dchapes-mode"
)

// chmod is the permissions that a copy asks for. The zero value keeps those of the source.
type chmod struct {
	set      bool
	perm     uint32    // with setuid, setgid, sticky
	symbolic *mode.Set // wins over perm
}

func readMode(a *pb.FileActionCopy) (chmod, error) {
	if a.ModeStr != "" {
		s, err := mode.ParseWithUmask(a.ModeStr, 0)
		if err != nil {
			return chmod{}, fmt.Errorf("mode %q: %w", a.ModeStr, err)
		}
		return chmod{set: true, symbolic: &s}, nil
	}
	if a.Mode == -1 {
		return chmod{}, nil
	}
	return chmod{set: true, perm: uint32(a.Mode) & inode.PermMask}, nil
}

// apply returns the mode of a copy of i. Links have no permissions.
func (c chmod) apply(i inode.Info) uint32 {
	switch {
	case !c.set || i.IsLink():
		return i.Mode
	case c.symbolic != nil:
		return i.Type() | inode.FromFileMode(c.symbolic.Apply(i.FileMode()))&inode.PermMask
	}
	return i.Type() | c.perm
}

// parents returns the permissions of directories that have to be made on the way to the destination. A
// symbolic mode does not count for them.
func (c chmod) parents() uint32 {
	if c.set && c.symbolic == nil {
		return c.perm & 0o777
	}
	return 0o755
}
