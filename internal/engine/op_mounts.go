package engine

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/moby/buildkit/solver/pb"
	"github.com/skiff-build/skiff/internal/fileop"
	"github.com/skiff-build/skiff/internal/graph"
)

// mountRequests lists the mounts, sorted so that parents come first.
func (n *node) mountRequests(ctx context.Context, o *pb.ExecOp, inputs []result, locks *cacheLocks) ([]mountReq, error) {
	var list []mountReq
	for _, m := range o.Mounts {
		r := mountReq{Dest: absolute(o.Meta.Cwd, m.Dest), Type: m.MountType, Readonly: m.Readonly, Selector: path.Join("/", m.Selector)}
		if m.Input >= 0 {
			r.Chain = realLayers(inputs[m.Input].Layers)
		}
		if m.MountType == pb.MountType_CACHE && strings.HasPrefix(m.CacheOpt.GetID(), goCachePrefix) {
			around, err := n.cFiles(ctx, o, inputs)
			if err != nil {
				return nil, fmt.Errorf("mount %s: %w", m.Dest, err)
			}
			m = m.CloneVT()
			m.CacheOpt.ID += around
		}
		use, err := n.mountRequest(ctx, m, &r, locks)
		if err != nil {
			return nil, fmt.Errorf("mount %s: %w", m.Dest, err)
		}
		if use {
			list = append(list, r)
		}
	}
	slices.SortStableFunc(list, func(a, b mountReq) int { return strings.Compare(a.Dest, b.Dest) })
	return list, nil
}

// mountRequest fills in r. It returns false for a mount that is optional and has nothing to show.
func (n *node) mountRequest(ctx context.Context, m *pb.Mount, r *mountReq, locks *cacheLocks) (use bool, err error) {
	switch m.MountType {
	case pb.MountType_BIND:
		r.Output = graph.Output(m) >= 0 && (!m.Readonly || m.Input < 0 || m.Dest == pb.RootMount)
		return true, nil
	case pb.MountType_TMPFS:
		r.Size = m.TmpfsOpt.GetSize()
		return true, nil
	case pb.MountType_CACHE:
		if m.CacheOpt == nil {
			return false, errors.New("a cache without options")
		}
		r.Cache, err = n.cacheRequest(ctx, m, r.Chain)
		locks.add(m.CacheOpt.Sharing, r.Cache)
		return true, err
	case pb.MountType_SECRET:
		return n.secretRequest(ctx, m.SecretOpt, r)
	case pb.MountType_SSH:
		return n.sshRequest(m.SSHOpt, r)
	}
	return false, fmt.Errorf("type %s is not served", m.MountType)
}

func (n *node) secretRequest(ctx context.Context, s *pb.SecretOpt, r *mountReq) (use bool, err error) {
	if s == nil || s.ID == "" {
		return false, errors.New("a secret without an id")
	}
	r.Data, err = n.e.secret(ctx, s.ID)
	r.Mode, r.UID, r.GID = s.Mode&0o777, s.Uid, s.Gid
	if errors.Is(err, ErrNoSecret) && s.Optional {
		return false, nil
	}
	return true, err
}

func (n *node) sshRequest(s *pb.SSHOpt, r *mountReq) (use bool, err error) {
	if s == nil {
		return false, errors.New("ssh without options")
	}
	id := s.ID
	if id == "" {
		id = "default"
	}
	if n.e.o.SSH == nil {
		err = ErrNoSecret
	} else {
		r.Socket, err = n.e.o.SSH(id)
	}
	if errors.Is(err, ErrNoSecret) && s.Optional {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ssh %s: %w", id, err)
	}
	r.Mode, r.UID, r.GID = s.Mode&0o777, s.Uid, s.Gid
	return true, nil
}

// cacheReq is a directory below ROOT/cache.
type cacheReq struct {
	Name  string
	Chain []string    // what the cache starts with, at the mount's selector
	Go    *goCacheReq // in the place of Name: Go's
}

// cacheRequest names the directory. A cache that starts with something else is another cache under the same id: so one
// with another owner or mode is, too, since the frontend makes those by a directory to start with.
func (n *node) cacheRequest(ctx context.Context, m *pb.Mount, chain []string) (*cacheReq, error) {
	salt, err := n.e.salt(ctx)
	if err != nil {
		return nil, err
	}
	name := func(id, start string) string {
		k := newKey("cache", salt)
		k.line("id", id)
		k.line("start", start)
		return k.sum().String()[:layerIDLength]
	}
	id := m.CacheOpt.ID
	if g := goCacheNames(id, func(id string) string { return name(id, "") }); g != nil {
		return &cacheReq{Go: g}, nil
	}
	if m.Input < 0 {
		return &cacheReq{Name: name(id, "")}, nil
	}
	start, err := n.e.layerDigests(ctx, chain, []fileop.Selector{mountSelector(m)})
	if err != nil {
		return nil, err
	}
	return &cacheReq{Name: name(id, start), Chain: chain}, nil
}

// cacheLocks are the locks that the caches of a step need while it runs.
type cacheLocks struct {
	exclusive []*cacheReq // one step at a time
	private   []*cacheReq // a directory that nobody else has
	held      []func()
}

func (l *cacheLocks) add(sharing pb.CacheSharingOpt, c *cacheReq) {
	switch {
	case c == nil, c.Go != nil: // each step has a directory of its own
	case sharing == pb.CacheSharingOpt_LOCKED:
		l.exclusive = append(l.exclusive, c)
	case sharing == pb.CacheSharingOpt_PRIVATE:
		l.private = append(l.private, c)
	}
}

// privateWait is how long a step waits for a private cache before it takes the next one.
const privateWait = 5 * time.Millisecond

// take locks what has to be locked, in an order that is the same for all steps, and has the directories made.
func (l *cacheLocks) take(ctx context.Context, e *Engine, mounts []mountReq) error {
	slices.SortFunc(l.exclusive, func(a, b *cacheReq) int { return strings.Compare(a.Name, b.Name) })
	names := map[string]bool{}
	for _, c := range l.exclusive {
		if names[c.Name] {
			continue // one step mounts it twice
		}
		names[c.Name] = true
		unlock, err := e.o.Store.Lock(ctx, "cache "+c.Name)
		if err != nil {
			return err
		}
		l.held = append(l.held, unlock)
	}
	for _, c := range l.private {
		if err := l.takePrivate(ctx, e, c); err != nil {
			return err
		}
	}
	for _, m := range mounts {
		if m.Cache != nil {
			if err := e.makeCache(ctx, m); err != nil {
				return fmt.Errorf("cache for %s: %w", m.Dest, err)
			}
		}
	}
	return nil
}

func (l *cacheLocks) takePrivate(ctx context.Context, e *Engine, c *cacheReq) error {
	first := c.Name
	for i := 2; ; i++ {
		short, cancel := context.WithTimeout(ctx, privateWait)
		unlock, err := e.o.Store.Lock(short, "cache "+c.Name)
		cancel()
		if err == nil {
			l.held = append(l.held, unlock)
			return nil
		}
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		c.Name = fmt.Sprintf("%s-%d", first, i)
	}
}

func (l *cacheLocks) unlock() {
	for _, unlock := range slices.Backward(l.held) {
		unlock()
	}
}

// makeCache has the child make the directories that are not there yet.
func (e *Engine) makeCache(ctx context.Context, m mountReq) error {
	list := []cacheReq{*m.Cache}
	if m.Cache.Go != nil {
		list = nil
		for _, name := range m.Cache.Go.names() {
			list = append(list, cacheReq{Name: name})
		}
	}
	for _, c := range list {
		unlock, err := e.o.Store.Lock(ctx, "make cache "+c.Name)
		if err != nil {
			return err
		}
		err = e.call(ctx, methodCache, makeCacheReq{Cache: c, Selector: m.Selector}, nil, nil)
		unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

type makeCacheReq struct {
	Cache    cacheReq
	Selector string
}
