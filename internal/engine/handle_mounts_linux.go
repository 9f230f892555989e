package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/moby/buildkit/solver/pb"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/skiff-build/skiff/internal/fileop"
	"github.com/skiff-build/skiff/internal/inode"
	"golang.org/x/sys/unix"
)

// mount prepares one mount of the step; name is free in the step's directory.
func (s *step) mount(ctx context.Context, name string, m mountReq) (specs.Mount, error) {
	switch m.Type {
	case pb.MountType_BIND:
		return s.bindMount(ctx, name, m)
	case pb.MountType_TMPFS:
		return tmpfsMount(m), nil
	case pb.MountType_CACHE:
		return s.cacheMount(name, m)
	case pb.MountType_SECRET:
		return s.secretMount(name, m)
	case pb.MountType_SSH:
		return s.sshMount(name, m)
	}
	return specs.Mount{}, fmt.Errorf("type %s is not served", m.Type)
}

// bindMount shows a chain. Where the step may write, it writes to a layer: its own output, or one that is dropped.
func (s *step) bindMount(ctx context.Context, name string, m mountReq) (specs.Mount, error) {
	out := specs.Mount{Type: "bind", Destination: m.Dest, Options: []string{"rbind", "symfollow"}}
	dir := filepath.Join(s.dir, name)
	if m.Output || !m.Readonly {
		a, err := s.prepare(ctx, m.Chain)
		if err != nil {
			return out, err
		}
		if m.Output {
			s.outputs = append(s.outputs, a)
		}
		dir = a.Root()
	} else {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return out, err
		}
		unmount, err := s.snaps.Mount(ctx, m.Chain, dir)
		if err != nil {
			return out, err
		}
		s.later(unmount)
	}
	if m.Readonly {
		out.Options = append(out.Options, "ro")
	}
	var err error
	out.Source, err = within(dir, m.Selector)
	return out, err
}

// within resolves a path inside dir, links and all.
func within(dir, selector string) (string, error) {
	tree, done, err := inode.Dir(dir)
	if err != nil {
		return "", err
	}
	name, err := inode.Resolve(tree, selector, true)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%q: not found: %w", selector, fs.ErrNotExist)
		}
		return "", errors.Join(err, done())
	}
	return filepath.Join(dir, name), done()
}

func tmpfsMount(m mountReq) specs.Mount {
	opts := []string{"nosuid", "nodev"}
	if m.Readonly {
		opts = append(opts, "ro")
	}
	if m.Size > 0 {
		opts = append(opts, fmt.Sprintf("size=%d", m.Size))
	}
	return specs.Mount{Type: "tmpfs", Source: "tmpfs", Destination: m.Dest, Options: opts}
}

// secretMount puts the secret into memory, for this step alone.
func (s *step) secretMount(name string, m mountReq) (specs.Mount, error) {
	dir, err := s.memory(name)
	if err != nil {
		return specs.Mount{}, err
	}
	file := filepath.Join(dir, "secret")
	if err := os.WriteFile(file, m.Data, 0o600); err != nil {
		return specs.Mount{}, err
	}
	if err := own(file, m); err != nil {
		return specs.Mount{}, err
	}
	return specs.Mount{Type: "bind", Source: file, Destination: m.Dest, Options: []string{"rbind", "ro", "nosuid", "nodev", "noexec"}}, nil
}

// memory mounts a small tmpfs in the step's directory.
func (s *step) memory(name string) (string, error) {
	dir := filepath.Join(s.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0755"); err != nil {
		return "", &os.PathError{Op: "mount", Path: dir, Err: err}
	}
	s.later(func() error { return unix.Unmount(dir, unix.MNT_DETACH) })
	return dir, nil
}

// own sets owner and mode. With one id the owner is the step's only user anyway.
func own(file string, m mountReq) error {
	if err := os.Chown(file, int(m.UID), int(m.GID)); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return os.Chmod(file, fs.FileMode(m.Mode))
}

// sshMount makes a socket with the owner and mode asked for, and joins each connection to it with the agent's: agents
// refuse users other than their own.
func (s *step) sshMount(name string, m mountReq) (specs.Mount, error) {
	dir, err := s.memory(name)
	if err != nil {
		return specs.Mount{}, err
	}
	file := filepath.Join(dir, "agent")
	l, err := listenShort(file)
	if err != nil {
		return specs.Mount{}, err
	}
	s.later(l.Close)
	if err := own(file, m); err != nil {
		return specs.Mount{}, err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed with the step
			}
			go join(conn, m.Socket)
		}
	}()
	return specs.Mount{Type: "bind", Source: file, Destination: m.Dest, Options: []string{"rbind", "nosuid", "nodev", "noexec"}}, nil
}

// listenShort listens on a path of any length: the name of a socket takes 108 bytes at most (unix(7)).
func listenShort(file string) (net.Listener, error) {
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return net.Listen("unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(file)))
}

func join(conn net.Conn, socket string) {
	defer conn.Close()
	agent, err := net.Dial("unix", socket)
	if err != nil {
		return // the step sees the end of its connection, as when the agent had refused
	}
	defer agent.Close()
	go func() {
		io.Copy(agent, conn)
		agent.(*net.UnixConn).CloseWrite()
	}()
	io.Copy(conn, agent)
}

// cacheMount shows a directory that outlives the step.
func (s *step) cacheMount(name string, m mountReq) (specs.Mount, error) {
	if m.Cache.Go != nil {
		return s.goCacheMount(name, m)
	}
	out := specs.Mount{Type: "bind", Destination: m.Dest, Source: cacheDir(s.root, m.Cache.Name, "data"), Options: []string{"rbind"}}
	if m.Readonly {
		out.Options = append(out.Options, "ro")
	}
	return out, nil
}

func cacheDir(root, name, sub string) string { return filepath.Join(root, "cache", name, sub) }

// escapeOverlay quotes what separates options and directories there (overlayfs.rst).
func escapeOverlay(p string) string {
	return strings.NewReplacer(`\`, `\\`, ",", `\,`, ":", `\:`).Replace(p)
}

// makeCacheDir makes a cache with what it starts with, unless it is there. The parent holds its lock.
func makeCacheDir(ctx context.Context, j *job, req makeCacheReq) (any, error) {
	to := filepath.Join(j.root, "cache", req.Cache.Name)
	if _, err := os.Lstat(filepath.Join(to, "data")); err == nil {
		now := time.Now()
		return nil, os.Chtimes(to, now, now) // its last use, for trims
	}
	if err := j.snaps.Remove([]string{to}); err != nil { // half of one
		return nil, err
	}
	dir, err := j.tempFor("cache")
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		return nil, err
	}
	if err := os.Chmod(data, 0o755); err != nil { // whatever the umask
		return nil, err
	}
	if len(req.Cache.Chain) > 0 {
		if err := fillCache(ctx, j, req, data); err != nil {
			return nil, err
		}
	}
	return nil, os.Rename(dir, to)
}

func fillCache(ctx context.Context, j *job, req makeCacheReq, data string) error {
	tree, err := j.tree(ctx, treeReq{Chain: req.Cache.Chain})
	if err != nil {
		return err
	}
	name, err := inode.Resolve(tree, req.Selector, true)
	if err != nil {
		return err
	}
	info, err := tree.Lstat(name)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s: not a directory", req.Selector)
	}
	all := &pb.FileAction{Action: &pb.FileAction_Copy{Copy: &pb.FileActionCopy{
		Src: "/" + name, Dest: "/", DirCopyContents: true, CreateDestPath: true, Mode: -1, Timestamp: -1}}}
	if err := fileop.Apply(ctx, data, all, tree, nil); err != nil {
		return err
	}
	return inode.Set(data, info)
}
