package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/apicaps"
	"github.com/moby/buildkit/util/entitlements"
	utilsystem "github.com/moby/buildkit/util/system"
	"github.com/skiff-build/skiff/internal/graph"
	"github.com/skiff-build/skiff/internal/sandbox"
	"github.com/skiff-build/skiff/internal/usernet"
)

// execReq is a step for the child. Mounts come parents first; the first is the root.
type execReq struct {
	Args, Env []string
	Cwd, User string
	Hostname  string
	Hosts     []*pb.HostIP
	Ulimits   []*pb.Ulimit
	ShmSize   int64
	Network   pb.NetMode // unset: a private one
	Doors     []usernet.Door
	Host      bool // the gateway leads to this machine
	Limits    sandbox.Limits
	Insecure  bool
	Mode      sandbox.Mode
	Mounts    []mountReq
	GoBase    bool              // sandbox.Self is mounted
	Files     map[string]string // path in the step → file of this machine, read only
	Confined  bool              // runs the toolchain of its base and nothing else
	Direct    []string          // see [StepExtras]
	DirectEnv []string
	Inputs    *readInputs // what is to be found out of what it reads; nil: nothing

	done func() // from [StepExtras]; nil: nothing
}

type mountReq struct {
	Dest     string
	Type     pb.MountType
	Readonly bool
	Selector string
	Chain    []string // of a bind mount
	Output   bool     // what is written becomes a layer
	Size     int64    // of a tmpfs, bytes; 0: the kernel's default

	Cache *cacheReq // of a cache mount

	Data     []byte // of a secret
	Mode     uint32
	UID, GID uint32

	Socket string // of ssh: path on this machine
}

// execResp: for each mount with Output, in order, the layer that was made; "" when nothing was written. Unserved is why a step in a
// built-in base cannot be run there; then no layer was made.
type execResp struct {
	Layers   []string
	Fetched  []fetchedModules
	Unserved string
	Inputs   *foundInputs
}

// execEvent is what a step prints.
type execEvent struct {
	Stream int
	Data   []byte
}

// runExec runs a step and returns its outputs.
func (n *node) runExec(ctx context.Context, o *pb.ExecOp, inputs []result, by *byInputs) ([]result, error) {
	if err := n.e.canRun(n.e.platformOf(n.v.Op.Platform)); err != nil {
		return nil, err
	}
	if n.e.o.Mode == sandbox.ModeFiles {
		if n.e.noSteps == nil {
			return nil, &sandbox.Unavailable{Cause: "files alone are worked on"}
		}
		return nil, n.e.noSteps
	}
	req, unlock, err := n.execRequest(ctx, o, inputs)
	defer unlock()
	if err != nil {
		return nil, err
	}
	if by != nil && req.Confined {
		req.Inputs = &by.req
	}
	log := &stepLog{n: n}
	var resp execResp
	run := func() error {
		return n.e.call(ctx, methodExec, req, &resp, func(raw []byte) {
			var ev execEvent
			if unmarshal(raw, &ev) == nil {
				log.write(ev.Stream, ev.Data)
			}
		})
	}
	err = run()
	var exit *sandbox.ExitError
	if errors.As(err, &exit) && wantsRealCaches(log.lines(maxErrorLines)) && req.dropGoCaches() {
		// The mounts are skiff's own idea: a step fails for what it does itself, or not at all.
		if n.e.o.Note != nil {
			n.e.o.Note("gocache: " + n.v.Name() + ": it removes Go's caches, so it runs again, without any mounted")
		}
		err = run()
	}
	if errors.As(err, &exit) {
		return nil, &StepError{Args: o.Meta.Args, Log: log.lines(maxErrorLines), Err: exit, Hints: n.v.Meta.GetDescription()}
	}
	if err != nil {
		return nil, err // it did not come to run
	}
	if resp.Unserved != "" {
		return nil, &UnservedError{Why: resp.Unserved, Hints: n.v.Meta.GetDescription()}
	}
	if req.done != nil {
		req.done()
	}
	if err := n.keepInputs(by, req.Mounts[0].Chain, resp.Inputs, resp.Layers); err != nil {
		return nil, err
	}
	n.e.share(resp.Fetched)
	n.e.writeBack()
	return execOutputs(o, req, resp, inputs)
}

// maxErrorLines is how much of a step's output its error carries; BuildKit's client shows 10.
const maxErrorLines = 20

// execOutputs pairs the layers that the child made with the outputs that the operation numbers.
func execOutputs(o *pb.ExecOp, req execReq, resp execResp, inputs []result) ([]result, error) {
	outs := map[int64]result{}
	made := resp.Layers
	for _, m := range req.Mounts {
		mount := mountAt(o, m.Dest)
		var base result
		if mount != nil && mount.Input >= 0 {
			base = inputs[mount.Input]
		}
		if m.Output {
			if len(made) == 0 {
				return nil, errors.New("the sandbox gave back too few layers")
			}
			base, made = base.with(made[0]), made[1:]
		}
		if mount != nil && graph.Output(mount) >= 0 {
			outs[graph.Output(mount)] = base // of a mount that is read only: its input
		}
	}
	list := make([]result, len(outs))
	for i, out := range outs {
		list[i] = out
	}
	return list, nil
}

func mountAt(o *pb.ExecOp, dest string) *pb.Mount {
	for _, m := range o.Mounts {
		if absolute(o.Meta.Cwd, m.Dest) == dest {
			return m
		}
	}
	return nil
}

func absolute(cwd, dest string) string {
	if path.IsAbs(dest) {
		return path.Clean(dest)
	}
	return path.Join("/", cwd, dest)
}

// execRequest turns the operation into what the child needs. unlock, never nil, lets go of the cache mounts.
func (n *node) execRequest(ctx context.Context, o *pb.ExecOp, inputs []result) (req execReq, unlock func(), err error) {
	c, err := n.e.worker(ctx)
	if err != nil {
		return req, func() {}, err
	}
	req = execReq{
		Args: o.Meta.Args, Cwd: o.Meta.Cwd, User: o.Meta.User, Hostname: o.Meta.Hostname, Mode: c.Mode(),
		Hosts: slices.Concat(n.e.o.AddHosts, o.Meta.ExtraHosts), Ulimits: n.e.ulimits(o), ShmSize: n.e.o.ShmSize,
		Network: n.e.network(o.Network), Host: n.e.o.Allow[entitlements.EntitlementNetworkHost],
		Limits: n.e.limits(n.v), Insecure: o.Security == pb.SecurityMode_INSECURE,
	}
	if req.Env, err = n.stepEnv(ctx, o); err != nil {
		return req, func() {}, err
	}
	root := mountAt(o, pb.RootMount)
	goBase := root.Input >= 0 && inputs[root.Input].GoBase
	if goBase {
		if req.Confined, err = n.confine(ctx, o, req.Env, inputs[root.Input]); err != nil {
			return req, func() {}, err
		}
	}
	var locks cacheLocks
	if req.Mounts, err = n.mountRequests(ctx, o, inputs, &locks); err != nil {
		return req, locks.unlock, err
	}
	var doors usernet.Doors
	for _, kv := range n.e.o.Doors {
		name, value, _ := strings.Cut(kv, "=")
		doors.Given(name, value)
	}
	if goBase {
		if err := n.addGoBase(ctx, &req, &doors); err != nil {
			return req, locks.unlock, err
		}
	}
	req.Doors = doors.List()
	return req, locks.unlock, locks.take(ctx, n.e, req.Mounts)
}

func (n *node) addGoBase(ctx context.Context, req *execReq, doors *usernet.Doors) error {
	req.GoBase = true
	if n.e.o.StepEnv == nil {
		return nil
	}
	extra, err := n.e.o.StepEnv(ctx, StepInfo{
		Name: n.v.Name(), Args: req.Args, Env: req.Env, NoNetwork: req.Network == pb.NetMode_NONE, Confined: req.Confined, Hints: n.v.Meta.GetDescription(),
	})
	if err != nil {
		return fmt.Errorf("built-in base: %w", err)
	}
	for _, kv := range extra.Env {
		if name, value, _ := strings.Cut(kv, "="); !hasEnv(req.Env, name) {
			req.Env = append(req.Env, name+"="+machineSetting(name, value, req.Network, doors))
		}
	}
	req.Files, req.done, req.Direct, req.DirectEnv = extra.Files, extra.Done, extra.Direct, extra.DirectEnv
	return nil
}

// machineSetting is what a step sees of a variable of this machine: of a proxy's password nothing, which its door adds outside.
func machineSetting(name, value string, network pb.NetMode, doors *usernet.Doors) string {
	isProxy := strings.HasSuffix(strings.ToLower(name), "_proxy") && !strings.EqualFold(name, "NO_PROXY")
	switch {
	case name != "GOPROXY" && !isProxy:
		return value
	case network != pb.NetMode_UNSET:
		return usernet.WithoutPasswords(value)
	case isProxy:
		return doors.Proxy(value)
	}
	return doors.GoProxy(value)
}

func hasEnv(env []string, name string) bool {
	return slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
}

// stepEnv is the environment: the operation's, proxies in both cases, a PATH, secrets.
func (n *node) stepEnv(ctx context.Context, o *pb.ExecOp) ([]string, error) {
	env := slices.Clone(o.Meta.Env)
	if p := o.Meta.ProxyEnv; p != nil {
		for _, kv := range [][2]string{{"HTTP_PROXY", p.HttpProxy}, {"HTTPS_PROXY", p.HttpsProxy}, {"FTP_PROXY", p.FtpProxy},
			{"NO_PROXY", p.NoProxy}, {"ALL_PROXY", p.AllProxy}} {
			if kv[1] != "" {
				env = append(env, kv[0]+"="+kv[1], strings.ToLower(kv[0])+"="+kv[1])
			}
		}
	}
	if !hasEnv(env, "PATH") {
		env = append(env, "PATH="+utilsystem.DefaultPathEnv("linux"))
	}
	for _, s := range o.Secretenv {
		if s.ID == "" {
			return nil, fmt.Errorf("secret for variable %q has no id", s.Name)
		}
		data, err := n.e.secret(ctx, s.ID)
		if errors.Is(err, ErrNoSecret) && s.Optional {
			data, err = nil, nil // as BuildKit: the variable is there, and empty
		}
		if err != nil {
			return nil, err
		}
		env = append(env, s.Name+"="+string(data))
	}
	return env, nil
}

func (e *Engine) secret(ctx context.Context, id string) ([]byte, error) {
	if e.o.Secrets == nil {
		return nil, fmt.Errorf("secret %s: %w", id, ErrNoSecret)
	}
	data, err := e.o.Secrets(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", id, err)
	}
	return data, nil
}

// network is what a step gets: what it asks for, else what the build says, else (unset) a private one.
func (e *Engine) network(mode pb.NetMode) pb.NetMode {
	if mode == pb.NetMode_UNSET {
		mode = e.o.Network
	}
	return mode
}

// limits are the build's with the operation's own over them.
func (e *Engine) limits(v *graph.Vertex) sandbox.Limits {
	l, r := e.o.Limits, v.Meta.GetLinuxResources()
	if r == nil {
		return l
	}
	l.Memory, l.MemorySwap = cmp.Or(r.Memory, l.Memory), cmp.Or(r.MemorySwap, l.MemorySwap)
	l.CPUShares, l.CPUPeriod, l.CPUQuota = cmp.Or(r.CpuShares, l.CPUShares), cmp.Or(r.CpuPeriod, l.CPUPeriod), cmp.Or(r.CpuQuota, l.CPUQuota)
	l.CPUs, l.Mems = cmp.Or(r.CpusetCpus, l.CPUs), cmp.Or(r.CpusetMems, l.Mems)
	return l
}

// ulimits are the build's with the step's own over them.
func (e *Engine) ulimits(o *pb.ExecOp) []*pb.Ulimit {
	list := slices.Clone(o.Meta.Ulimit)
	for _, u := range e.o.Ulimits {
		if !slices.ContainsFunc(list, func(own *pb.Ulimit) bool { return own.Name == u.Name }) {
			list = append(list, u)
		}
	}
	return list
}

// allowed refuses, before anything runs, an operation that needs what the engine does not have (a definition says what
// it needs; one made for [Engine.BuildOpts] asks for no such thing), or what the build was not given leave for.
func (n *node) allowed() error {
	for id := range n.v.Meta.GetCaps() {
		if refused[apicaps.CapID(id)] {
			return fmt.Errorf("%s is not served by this engine", id)
		}
	}
	if o := n.v.Op.GetExec(); o != nil {
		return n.e.allowedExec(o)
	}
	return nil
}

// allowedExec refuses what the build was not given leave for, and what is not built, before anything runs.
func (e *Engine) allowedExec(o *pb.ExecOp) error {
	if o.Security == pb.SecurityMode_INSECURE && !e.o.Allow[entitlements.EntitlementSecurityInsecure] {
		return fmt.Errorf("%s is not allowed: give the build --allow=%[1]s", entitlements.EntitlementSecurityInsecure)
	}
	if e.network(o.Network) == pb.NetMode_HOST && !e.o.Allow[entitlements.EntitlementNetworkHost] {
		return fmt.Errorf("%s is not allowed: give the build --allow=%[1]s", entitlements.EntitlementNetworkHost)
	}
	if o.Meta.CgroupParent != "" {
		return errors.New("a cgroup parent is not supported: there is no cgroup that a build could hand on")
	}
	for _, d := range o.CdiDevices { // one that may be missing, too: what a step is to have is not left out in silence
		return fmt.Errorf("device %s: devices of the machine are not lent to steps (RUN --device)", d.Name)
	}
	return nil
}
