package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/skiff-build/skiff/internal/fileop"
	"github.com/skiff-build/skiff/internal/inode"
	"github.com/skiff-build/skiff/internal/sandbox"
	"github.com/skiff-build/skiff/internal/snapshot"
	"github.com/skiff-build/skiff/internal/usernet"
)

// step is a RUN under way in the child.
type step struct {
	*job
	req      execReq
	dir      string // for mounts and small files
	spec     *specs.Spec
	outputs  []*snapshot.Active
	made     []specs.Mount // for req.Mounts[1:]; caches come last
	goCaches []*goCacheMount
	init     *sandbox.Prepared
	trace    *sandbox.Trace // nil: none is made
}

// runStep mounts what the step asks for, runs it, and makes layers of what it wrote. After an error nothing is left.
func runStep(ctx context.Context, j *job, req execReq) (resp execResp, err error) {
	if len(req.Mounts) == 0 || req.Mounts[0].Dest != pb.RootMount {
		return resp, errors.New("step without a root")
	}
	s := &step{job: j, req: req, spec: sandbox.DefaultSpec()}
	if req.Inputs != nil && req.Inputs.Carry == nil {
		s.trace = &sandbox.Trace{}
	}
	if s.dir, err = j.temp(); err != nil {
		return resp, err
	}
	// It comes up while its mounts are made.
	s.init, err = sandbox.Prepare(ctx, sandbox.PrepareOptions{
		Network: req.Network != pb.NetMode_HOST, SysAdmin: req.Insecure && slices.Contains(sandbox.AllCaps(), "CAP_SYS_ADMIN"),
	}, s.runOptions())
	if err != nil {
		return resp, err
	}
	defer s.init.Cancel()
	if err := s.mountAll(ctx); err != nil {
		return resp, err
	}
	if err := s.fillSpec(ctx); err != nil {
		return resp, err
	}
	err = s.run()
	if resp.Unserved = s.unserved(); resp.Unserved != "" {
		return resp, nil // whatever its exit code is
	}
	var lost error
	if resp.Fetched, lost = s.promote(); lost != nil {
		// The caches are skiff's own idea: a step does not fail for them, it is slower next time.
		fmt.Fprintf(s.stream(2), "skiff: what the step wrote to Go's caches is not kept: %v\n", lost)
	}
	if err != nil {
		return resp, err
	}
	for _, a := range s.outputs {
		id, err := commit(a)
		if err != nil {
			return resp, err
		}
		resp.Layers = append(resp.Layers, id)
	}
	if req.Inputs != nil && len(resp.Layers) == 1 {
		resp.Inputs = s.inputs(ctx, resp.Layers[0])
	}
	return resp, nil
}

// run runs the program with the mount points that it needs, and takes those away again: they are no part of a layer.
func (s *step) run() error {
	remove, err := sandbox.EnsureTargets(s.spec.Root.Path, s.spec.Mounts)
	if err != nil {
		return err
	}
	return errors.Join(s.init.Run(s.spec), remove())
}

// unservedName is the file, beside the mounts of a step in a built-in base, that the base's commands write to when they are asked for
// what they do not have. In the step it lies at [sandbox.SelfPath] + "-unserved".
const unservedName = "unserved"

// maxUnserved bounds what is read of it, in bytes.
const maxUnserved = 4096

// unserved is why the step cannot be run in its base; empty for the usual end.
func (s *step) unserved() string {
	if !s.req.GoBase {
		return ""
	}
	f, err := os.Open(filepath.Join(s.dir, unservedName))
	if err != nil {
		return "" // it was not mounted: the step ended before
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxUnserved))
	if err != nil {
		return err.Error()
	}
	first, _, _ := strings.Cut(string(data), "\n")
	return strings.ToValidUTF8(first, "?")
}

func (s *step) runOptions() sandbox.RunOptions {
	o := sandbox.RunOptions{Stdout: s.stream(1), Stderr: s.stream(2), FakeIDs: s.req.Mode == sandbox.ModeOneID, Limits: s.req.Limits, Trace: s.trace}
	o.Tell = func(line string) { _, _ = o.Stderr.Write([]byte("skiff: " + line + "\n")) } // a parent that is gone needs no note
	if s.req.Network == pb.NetMode_UNSET {
		o.Network = &usernet.Options{Doors: s.req.Doors, Host: s.req.Host}
	}
	return o
}

// stream sends what is written to the parent.
func (s *step) stream(number int) writerFunc {
	return func(p []byte) (int, error) {
		if err := s.Event(execEvent{Stream: number, Data: p}); err != nil {
			return 0, err
		}
		return len(p), nil
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// mountAll mounts the root, and adds the rest to the spec in order.
func (s *step) mountAll(ctx context.Context) error {
	root, err := s.prepare(ctx, s.req.Mounts[0].Chain)
	if err != nil {
		return err
	}
	if s.req.Mounts[0].Output {
		s.outputs = append(s.outputs, root)
	}
	s.spec.Root = &specs.Root{Path: root.Root(), Readonly: s.req.Mounts[0].Readonly}
	if err := s.addFiles(); err != nil {
		return err
	}
	if s.req.GoBase {
		self, err := sandbox.Self()
		if err != nil {
			return err
		}
		s.spec.Mounts = append(s.spec.Mounts, self...)
		file := filepath.Join(s.dir, unservedName)
		if err := os.WriteFile(file, nil, 0o666); err != nil {
			return err
		}
		if err := os.Chmod(file, 0o666); err != nil { // whoever the step runs as
			return err
		}
		s.bind(file, sandbox.SelfPath+"-unserved", "rw", "nosuid", "nodev", "noexec")
	}
	s.made = make([]specs.Mount, len(s.req.Mounts)-1)
	for _, caches := range []bool{false, true} {
		for i, m := range s.req.Mounts[1:] {
			if (m.Cache != nil) != caches {
				continue
			}
			if s.made[i], err = s.mount(ctx, fmt.Sprintf("m%d", i), m); err != nil {
				return fmt.Errorf("mount %s: %w", m.Dest, err)
			}
		}
	}
	for _, m := range s.made {
		s.add(m)
	}
	if s.req.Confined {
		return s.confine()
	}
	return nil
}

// add appends a mount; one of the usual at the same place makes way.
func (s *step) add(m specs.Mount) {
	s.spec.Mounts = append(slices.DeleteFunc(s.spec.Mounts, func(o specs.Mount) bool { return o.Destination == m.Destination }), m)
}

func (s *step) bind(source, dest string, options ...string) {
	s.add(specs.Mount{Type: "bind", Source: source, Destination: dest, Options: append([]string{"rbind"}, options...)})
}

// addFiles adds /etc/resolv.conf and /etc/hosts, and the machine's files for a step in a built-in base.
func (s *step) addFiles() error {
	resolv, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	switch s.req.Network {
	case pb.NetMode_NONE:
		resolv = nil
	case pb.NetMode_UNSET:
		resolv = usernet.ResolvConf(resolv)
	}
	for name, data := range map[string][]byte{"resolv.conf": resolv, "hosts": s.hosts()} {
		file := filepath.Join(s.dir, name)
		if err := os.WriteFile(file, data, 0o644); err != nil {
			return err
		}
		s.bind(file, "/etc/"+name, "ro", "nosuid", "nodev", "noexec")
	}
	for dest, source := range s.req.Files {
		s.bind(source, dest, "ro", "nosuid", "nodev")
	}
	return nil
}

// defaultHostname is BuildKit's, which Dockerfiles may have come to expect.
const defaultHostname = "buildkitsandbox"

// hosts is what BuildKit writes there (executor/oci/hosts.go).
func (s *step) hosts() []byte {
	host := s.req.Hostname
	if host == "" {
		host = defaultHostname
	}
	text := "127.0.0.1\tlocalhost " + host + "\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	for _, h := range s.req.Hosts {
		text += h.IP + "\t" + h.Host + "\n"
	}
	return []byte(text)
}

// fillSpec sets what is not a mount.
func (s *step) fillSpec(ctx context.Context) error {
	tree, done, err := inode.Dir(s.spec.Root.Path)
	if err != nil {
		return err
	}
	defer done() // open any longer it would keep the mount
	user, err := findUser(tree, s.req.User)
	if err != nil {
		return err
	}
	p := s.spec.Process
	p.Args, p.Env, p.User = s.req.Args, s.req.Env, user
	if s.req.Confined {
		p.Env = s.confinedEnv()
	}
	if p.Cwd = s.req.Cwd; p.Cwd == "" {
		p.Cwd = "/"
	}
	if err := s.makeCwd(ctx, tree); err != nil {
		return err
	}
	if s.spec.Hostname = s.req.Hostname; s.spec.Hostname == "" {
		s.spec.Hostname = defaultHostname
	}
	for _, u := range s.req.Ulimits {
		p.Rlimits = append(p.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: uint64(u.Soft), Hard: uint64(u.Hard)})
	}
	if s.req.Network == pb.NetMode_HOST {
		sandbox.HostNetwork(s.spec)
	}
	if s.req.Insecure {
		s.insecure()
	}
	if len(s.req.Direct) > 0 && s.ownShell(tree) {
		s.init.Direct(s.req.Direct, s.req.DirectEnv)
	}
	for i := range s.spec.Mounts {
		if m := &s.spec.Mounts[i]; s.req.ShmSize > 0 && m.Destination == "/dev/shm" && m.Source == "shm" {
			m.Options = append(slices.DeleteFunc(m.Options, func(o string) bool { return strings.HasPrefix(o, "size=") }),
				fmt.Sprintf("size=%d", s.req.ShmSize))
		}
	}
	return nil
}

// ownShell says whether /bin/sh will be this program, as in the built-in base: a step may have put another one there.
func (s *step) ownShell(root inode.Tree) bool {
	const shell = "/bin/sh"
	name, err := inode.Resolve(root, shell, false)
	if err != nil || "/"+name != shell {
		return false
	}
	info, err := root.Lstat(name)
	if err != nil || !info.IsLink() || info.Link != sandbox.SelfPath {
		return false
	}
	return !slices.ContainsFunc(s.made, func(m specs.Mount) bool {
		return covers(m.Destination, shell) || covers(m.Destination, sandbox.SelfPath)
	})
}

// covers says whether a mount at dest is on the way to a path.
func covers(dest, path string) bool {
	dest = strings.TrimSuffix(dest, "/")
	return path == dest || strings.HasPrefix(path, dest+"/")
}

// makeCwd makes a working directory that is missing, for the user of the step, as BuildKit does
// (executor/runcexecutor). It stays in the layer. One that lies in a mount is left to the sandbox.
func (s *step) makeCwd(ctx context.Context, root inode.Tree) error {
	p := s.spec.Process
	for _, m := range s.spec.Mounts {
		if p.Cwd == m.Destination || strings.HasPrefix(p.Cwd, m.Destination+"/") {
			return nil
		}
	}
	if _, err := inode.Resolve(root, p.Cwd, true); !errors.Is(err, os.ErrNotExist) {
		return nil // there, or no directory: entering it tells
	}
	byID := func(id uint32) *pb.UserOpt { return &pb.UserOpt{User: &pb.UserOpt_ByID{ByID: id}} }
	return fileop.Apply(ctx, s.spec.Root.Path, &pb.FileAction{Action: &pb.FileAction_Mkdir{Mkdir: &pb.FileActionMkDir{
		Path: p.Cwd, Mode: 0o755, MakeParents: true, Timestamp: -1,
		Owner: &pb.ChownOpt{User: byID(p.User.UID), Group: byID(p.User.GID)}}}}, nil, nil)
}

// insecure gives the step all that this process has (util/entitlements/security in BuildKit).
func (s *step) insecure() {
	all := sandbox.AllCaps()
	s.spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Permitted: all, Effective: all}
	s.spec.Process.NoNewPrivileges = false
	s.spec.Linux.Seccomp, s.spec.Linux.MaskedPaths, s.spec.Linux.ReadonlyPaths = nil, nil, nil
	for i := range s.spec.Mounts {
		if m := &s.spec.Mounts[i]; m.Type == "sysfs" {
			m.Options = slices.DeleteFunc(m.Options, func(o string) bool { return o == "ro" })
		}
	}
}
