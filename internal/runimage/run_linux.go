package runimage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"

	"github.com/moby/sys/user"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/skiff-build/skiff/internal/envlist"
	"github.com/skiff-build/skiff/internal/inode"
	"github.com/skiff-build/skiff/internal/sandbox"
	"github.com/skiff-build/skiff/internal/snapshot"
	"github.com/skiff-build/skiff/internal/usernet"
)

var forwarded = []os.Signal{
	syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGCONT,
}

// Handlers run programs of images in the child.
func Handlers() map[string]sandbox.Handler {
	var r runner
	return map[string]sandbox.Handler{methodRun: r.run, methodSignal: r.signal}
}

// runner holds the one program that a child runs.
type runner struct {
	mu      sync.Mutex
	process *sandbox.Process
	early   []syscall.Signal // that came before the program ran
}

func (r *runner) started(p *sandbox.Process) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.process = p
	for _, sig := range r.early {
		_ = p.Signal(sig)
	}
}

func (r *runner) signal(_ context.Context, c *sandbox.Call) (any, error) {
	var req signalReq
	if err := c.Decode(&req); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.process == nil {
		r.early = append(r.early, syscall.Signal(req.Signal))
		return nil, nil
	}
	return nil, r.process.Signal(syscall.Signal(req.Signal))
}

func (r *runner) run(ctx context.Context, c *sandbox.Call) (_ any, err error) {
	var req runReq
	if err := c.Decode(&req); err != nil {
		return nil, err
	}
	snaps := snapshot.New(req.Root)
	defer func() { err = errors.Join(err, snaps.Close()) }()
	active, err := snaps.Prepare(ctx, req.Chain)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, active.Discard()) }()
	dir, remove, err := snaps.TempDir("run") // locked: a build that starts now sweeps what is not
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	files, err := networkFiles(dir, &req)
	if err != nil {
		return nil, err
	}
	req.Mounts = append(files, req.Mounts...)
	spec, err := req.spec(active.Root())
	if err != nil {
		return nil, err
	}
	if req.FakeIDs {
		if err := mayExecute(spec.Process, req.Args, active.Root(), req.Mounts); err != nil {
			return nil, err
		}
	}
	o := sandbox.RunOptions{FakeIDs: req.FakeIDs, Started: r.started, Limits: req.Limits}
	if req.Network == "" {
		o.Network = &usernet.Options{Ports: req.Ports, Host: req.Gateway}
	}
	switch files := c.Files(); {
	case req.TTY && len(files) == 1:
		o.TTY = files[0]
	case !req.TTY && len(files) == 3:
		o.Stdin, o.Stdout, o.Stderr = files[0], files[1], files[2]
		o.Tell = func(line string) { fmt.Fprintln(files[2], "skiff: "+line) }
	default:
		return nil, fmt.Errorf("%d standard streams", len(files))
	}
	return nil, sandbox.Run(ctx, spec, o)
}

// spec is the OCI runtime spec of the program in the root file system at root.
func (req *runReq) spec(root string) (*specs.Spec, error) {
	s := sandbox.DefaultSpec()
	s.Root.Path, s.Root.Readonly = root, req.ReadOnly
	s.Hostname = req.Hostname
	p := s.Process
	p.Args, p.Env, p.Terminal = req.Args, req.Env, req.TTY
	if p.Cwd = path.Clean("/" + req.Dir); req.TTY && req.Rows > 0 {
		p.ConsoleSize = &specs.Box{Height: req.Rows, Width: req.Cols}
	}
	if err := setUser(p, root, req.User); err != nil {
		return nil, err
	}
	if req.Network == "host" {
		sandbox.HostNetwork(s)
	}
	for _, m := range req.Mounts {
		s.Mounts = append(s.Mounts, bind(m))
	}
	if req.Init {
		if err := addInit(s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func bind(m runMount) specs.Mount {
	if m.Tmpfs != "" {
		options := strings.Split(m.Tmpfs, ",")
		if m.ReadOnly {
			options = append(options, "ro")
		}
		return specs.Mount{Type: "tmpfs", Source: "tmpfs", Destination: m.Target, Options: options}
	}
	options := []string{"rbind", "nosuid"}
	if m.ReadOnly {
		options = append(options, "ro")
	}
	return specs.Mount{Type: "bind", Source: m.Source, Destination: m.Target, Options: options}
}

// maxTable bounds an image's passwd and group, in bytes: they are anybody's.
const maxTable = 1 << 20

// setUser looks a name up in the image's own passwd and group, as docker does.
func setUser(p *specs.Process, root, who string) error {
	tree, done, err := inode.Dir(root)
	if err != nil {
		return err
	}
	defer done()
	var tables [2]io.Reader
	for i, name := range []string{"/etc/passwd", "/etc/group"} {
		// What is no regular file of the image, wherever links in it lead, is none.
		at, err := inode.Resolve(tree, name, true)
		if err != nil {
			continue
		}
		f, err := tree.Open(at)
		if err != nil {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(f, maxTable+1))
		f.Close()
		if err == nil && len(text) <= maxTable {
			tables[i] = bytes.NewReader(text)
		}
	}
	u, err := user.GetExecUser(who, &user.ExecUser{Home: "/"}, tables[0], tables[1])
	if err != nil {
		return fmt.Errorf("user %q: %w", who, err)
	}
	p.User.UID, p.User.GID = uint32(u.Uid), uint32(u.Gid)
	for _, g := range u.Sgids {
		p.User.AdditionalGids = append(p.User.AdditionalGids, uint32(g))
	}
	if !envlist.Has(p.Env, "HOME") {
		p.Env = append(p.Env, "HOME="+u.Home)
	}
	return nil
}
