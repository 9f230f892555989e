package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/buildkit/solver/pb"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/skiff-build/skiff/internal/envlist"
	"github.com/skiff-build/skiff/internal/gocache"
	"github.com/skiff-build/skiff/internal/inode"
	"github.com/skiff-build/skiff/internal/sandbox"
)

// goCacheMount is one of Go's caches while a step runs.
type goCacheMount struct {
	req     *goCacheReq
	upper   string
	unmount func() error
	locks   []*os.File // of the caches that the step sees, shared while it runs
	at      string     // in the step
}

// goCacheMount shows the caches of a Dockerfile and of all, below an empty directory that takes what the step writes.
func (s *step) goCacheMount(name string, m mountReq) (specs.Mount, error) {
	g := m.Cache.Go
	out := specs.Mount{Type: "bind", Destination: m.Dest, Options: []string{"rbind"}}
	if s.req.Confined && !g.Modules {
		// No link of a context leads to a name that nobody knows.
		out.Destination = "/dev/skiff-go-" + strings.ToLower(rand.Text())
	}
	var lowers []string
	for _, n := range s.lowers(g) {
		lowers = append(lowers, escapeOverlay(cacheDir(s.root, n, "data")))
	}
	dir := filepath.Join(s.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return out, err
	}
	upper, err := s.mountGoCache(filepath.Join(s.dir, name+"-own"), dir, lowers)
	if errors.Is(err, unix.EINVAL) { // the file system of the state cannot have it
		var ram string
		if ram, err = s.memory(name + "-memory"); err != nil {
			return out, err
		}
		upper, err = s.mountGoCache(filepath.Join(ram, "own"), dir, lowers)
	}
	if err != nil {
		return out, err
	}
	c := &goCacheMount{req: g, upper: upper, at: out.Destination}
	s.later(c.release)
	if err := c.lock(s.root); err != nil {
		return out, err
	}
	mounted := true
	c.unmount = func() error {
		if !mounted {
			return nil
		}
		mounted = false
		return unix.Unmount(dir, unix.MNT_DETACH)
	}
	s.later(c.unmount)
	s.goCaches = append(s.goCaches, c)
	out.Source = dir
	if !g.Modules {
		return out, gocache.Dir(dir).Begin(time.Now())
	}
	return out, nil
}

// lock keeps others from trimming the caches.
func (c *goCacheMount) lock(root string) error {
	for _, name := range c.req.names() {
		f, err := os.Open(filepath.Join(root, "cache", name))
		if err != nil {
			return err
		}
		c.locks = append(c.locks, f)
		if err := unix.Flock(int(f.Fd()), unix.LOCK_SH); err != nil {
			return &os.PathError{Op: "lock", Path: f.Name(), Err: err}
		}
	}
	return nil
}

// release lets go of the locks, and trims the build caches that nobody else uses at this moment. It may be called again.
func (c *goCacheMount) release() error {
	locks := c.locks
	c.locks = nil
	var errs []error
	for _, f := range locks {
		if !c.req.Modules && unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			errs = append(errs, gocache.Dir(filepath.Join(f.Name(), "data")).Trim(time.Now()))
		}
		f.Close()
	}
	return errors.Join(errs...)
}

// lowers are the caches that the step reads, topmost first. What a step wrote that was not confined is right only for those who
// trust it: never for one that writes what all share. The sources of modules may be anyone's: what is made of them is kept
// under their content.
func (s *step) lowers(g *goCacheReq) []string {
	own := g.Own
	if s.req.Confined && !g.Modules {
		own = g.Indexes
	}
	if g.Shared == "" {
		return []string{own}
	}
	return []string{own, g.Shared}
}

// mountGoCache makes the directories below base and mounts. Volatile: nobody needs what a step wrote before a power cut.
func (s *step) mountGoCache(base, dir string, lowers []string) (upper string, err error) {
	upper, work := filepath.Join(base, "data"), filepath.Join(base, "work")
	for _, d := range []string{base, upper, work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return "", err
		}
	}
	opts := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,userxattr,redirect_dir=nofollow,metacopy=off,index=off,volatile",
		strings.Join(lowers, ":"), escapeOverlay(upper), escapeOverlay(work))
	if err := unix.Mount("overlay", dir, "overlay", unix.MS_NODEV|unix.MS_NOSUID, opts); err != nil {
		return "", &os.PathError{Op: "mount overlay", Path: dir, Err: err}
	}
	return upper, nil
}

// promote takes over what the step wrote to Go's caches, whether it ended well or not: what was compiled before an error is
// needed again. The step has ended.
func (s *step) promote() (fetched []fetchedModules, err error) {
	var errs []error
	for _, c := range s.goCaches {
		if err := c.unmount(); err != nil {
			return nil, err
		}
		if !c.req.Modules {
			errs = append(errs, s.promoteBuild(c))
			continue
		}
		mods, err := s.promoteModules(c)
		errs = append(errs, err)
		if len(mods) > 0 && s.req.Confined && c.req.Shared != "" {
			fetched = append(fetched, fetchedModules{c.req.Own, c.req.Shared, mods})
		}
	}
	for _, c := range s.goCaches {
		errs = append(errs, c.release())
	}
	return fetched, errors.Join(errs...)
}

func (s *step) promoteModules(c *goCacheMount) ([]gocache.Module, error) {
	var below []string
	for _, n := range s.lowers(c.req) {
		below = append(below, cacheDir(s.root, n, "data"))
	}
	return gocache.Modules(c.upper, cacheDir(s.root, c.req.Own, "data"), below, s.req.Confined)
}

// shareModules links modules that were proved to where all projects see them.
func shareModules(ctx context.Context, j *job, req fetchedModules) (any, error) {
	return nil, gocache.ShareModules(ctx, cacheDir(j.root, req.Own, "data"), cacheDir(j.root, req.Shared, "data"), req.Modules)
}

func (s *step) promoteBuild(c *goCacheMount) error {
	dir := func(name string) gocache.Dir { return gocache.Dir(cacheDir(s.root, name, "data")) }
	p := gocache.Promotion{To: dir(c.req.Own)}
	if s.req.Confined {
		p.To = dir(c.req.Shared)
	}
	for _, n := range s.lowers(c.req) {
		p.Below = append(p.Below, dir(n))
	}
	p.Elsewhere = func() bool {
		found, err := gocache.IncludesElsewhere(s.sources()...)
		return found || err != nil
	}
	p.Indexes = func() (map[gocache.ActionID]gocache.Dir, error) {
		known := map[gocache.ActionID]gocache.Dir{}
		release := s.env("GOLANG_VERSION")
		if release == "" {
			return known, nil
		}
		own := dir(c.req.Own)
		if s.req.Confined {
			own = dir(c.req.Indexes)
		}
		for _, m := range s.goCaches {
			if !m.req.Modules {
				continue
			}
			var dirs []string
			for _, n := range s.lowers(m.req) {
				dirs = append(dirs, cacheDir(s.root, n, "data"))
			}
			if err := gocache.ModuleIndexes(func(a gocache.ActionID) { known[a] = own }, release, m.at, dirs...); err != nil {
				return nil, err
			}
		}
		if toolchain, err := s.toolchain(); err == nil {
			err := gocache.GorootIndexes(func(a gocache.ActionID) { known[a] = p.To }, release, toolchain, goroot)
			if err != nil {
				return nil, err
			}
		}
		return known, nil
	}
	return p.Build(gocache.Dir(c.upper), time.Now())
}

// sources are the directories in which packages of the step's own lie: not the toolchain, and no modules.
func (s *step) sources() (dirs []string) {
	for i, m := range s.req.Mounts[1:] {
		if m.Type == pb.MountType_BIND {
			dirs = append(dirs, s.made[i].Source)
		}
	}
	top, rest, _ := strings.Cut(strings.TrimPrefix(path.Clean("/"+s.req.Cwd), "/"), "/")
	if next, _, _ := strings.Cut(rest, "/"); top == "go" && next == "src" || top == "usr" && next == "src" {
		top = path.Join(top, next)
	}
	return append(dirs, filepath.Join(s.spec.Root.Path, top))
}

func (s *step) env(name string) string {
	return envlist.Get(s.req.Env, name)
}

// toolchain is the directory of the toolchain as the base has it, whatever later layers did to it.
func (s *step) toolchain() (string, error) {
	if !s.req.GoBase || len(s.req.Mounts[0].Chain) == 0 {
		return "", fs.ErrNotExist
	}
	dir := filepath.Join(s.root, "layers", s.req.Mounts[0].Chain[0], "fs", goroot)
	info, err := os.Lstat(filepath.Join(dir, "bin", "go"))
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	return dir, err
}

// confine leaves the step nothing that it can run but the toolchain as it was released, which it cannot change, and this
// program, which is then the shell that the step begins with and nothing else.
func (s *step) confine() error {
	toolchain, err := s.toolchain()
	if err != nil {
		return err
	}
	runnable := map[string]bool{goroot: true, sandbox.SelfPath: true}
	if self, err := sandbox.Self(); err == nil {
		for _, m := range self {
			runnable[m.Destination] = true
		}
	}
	for dest := range s.req.Files { // libraries of this machine's, for a toolchain that needs them
		runnable[dest] = true
	}
	s.bind(toolchain, goroot, "ro", "nosuid", "nodev")
	marker := filepath.Join(s.dir, "go-only")
	if err := os.WriteFile(marker, nil, 0o444); err != nil {
		return err
	}
	s.bind(marker, goOnlyPath, "ro", "nosuid", "nodev", "noexec")
	for i := range s.spec.Mounts {
		if m := &s.spec.Mounts[i]; !runnable[m.Destination] && !slices.Contains(m.Options, "noexec") {
			m.Options = append(slices.Clone(m.Options), "noexec")
		}
	}
	return mountNoexec(s.spec.Root.Path)
}

// mountNoexec has nothing run out of what is mounted at dir.
func mountNoexec(dir string) error {
	err := unix.MountSetattr(unix.AT_FDCWD, dir, 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOEXEC})
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) { // Linux before 5.12, or a filter
		var st unix.Statfs_t
		if err = unix.Statfs(dir, &st); err == nil {
			flags := uintptr(st.Flags) & (unix.ST_RDONLY | unix.ST_NOSUID | unix.ST_NODEV)
			err = unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_NOEXEC|flags, "")
		}
	}
	if err != nil {
		return &os.PathError{Op: "mount noexec", Path: dir, Err: err}
	}
	return nil
}

// confinedEnv is the environment of a step that is confined: what decides where the go command reads and writes has fixed values.
// PATH stays as it is, since a script may print it: what it leads to was looked at, and nothing else can be run.
func (s *step) confinedEnv() []string {
	fixed := map[string]string{"HOME": "/root", "GOENV": "off", "GOTOOLCHAIN": "local", "TMPDIR": "", "GOTMPDIR": ""}
	for _, c := range s.goCaches {
		if c.req.Modules {
			fixed["GOMODCACHE"] = c.at
		} else {
			fixed["GOCACHE"] = c.at
		}
	}
	env := slices.DeleteFunc(slices.Clone(s.req.Env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		_, is := fixed[name]
		return is
	})
	for name, value := range fixed {
		if value != "" {
			env = append(env, name+"="+value)
		}
	}
	slices.Sort(env)
	return env
}

// canConfine looks for what a step would find, or miss, if it were not confined, and has nothing to do with what it is then.
func canConfine(ctx context.Context, j *job, req confineReq) (resp confineResp, err error) {
	c := confiner{}
	if len(req.Chain) < 2 {
		return confineResp{"its base is not known"}, nil
	}
	for _, t := range []struct {
		to    *inode.Tree
		chain []string
	}{{&c.base, req.Chain[:1]}, {&c.above, req.Chain[1:]}, {&c.all, req.Chain}} {
		if *t.to, err = j.tree(ctx, treeReq{Chain: t.chain}); err != nil {
			return resp, err
		}
	}
	for _, check := range []func(confineReq) (string, error){c.toolchain, c.settings, c.commands, c.targets} {
		if resp.Why, err = check(req); err != nil || resp.Why != "" {
			return resp, err
		}
	}
	return resp, nil
}

// confiner sees the base's first layer, what lies above, and all together.
type confiner struct{ base, above, all inode.Tree }

func has(t inode.Tree, name string) (info inode.Info, ok bool, err error) {
	info, err = t.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return info, false, nil
	}
	return info, err == nil, err
}

// toolchain: that of the base is there, and nothing was put into it, or taken out.
func (c *confiner) toolchain(confineReq) (string, error) {
	dir := strings.TrimPrefix(goroot, "/")
	for _, t := range []inode.Tree{c.base, c.all} {
		if info, ok, err := has(t, dir+"/bin/go"); err != nil || !ok || !info.IsRegular() {
			return "the toolchain is not where the base has it", err
		}
	}
	for p := dir; p != "."; p = path.Dir(p) {
		info, ok, err := has(c.above, p)
		if err != nil {
			return "", err
		}
		if ok && (p == dir || !info.IsDir()) {
			return "something was changed in " + goroot, nil
		}
	}
	return "", nil
}

// settings: go env -w has left none.
func (c *confiner) settings(confineReq) (string, error) {
	_, err := inode.Resolve(c.all, "/root/.config/go/env", true)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return "", nil
	}
	return "go has settings in /root/.config/go/env", nil
}

// lookedFor are the programs that the go command looks for in PATH.
var lookedFor = []string{"git", "hg", "svn", "bzr", "fossil", "gcc", "g++", "clang", "clang++", "gfortran", "pkg-config", "swig"}

// commands: each name is what the base has by it, and none of the programs that go would find is another's.
func (c *confiner) commands(req confineReq) (string, error) {
	search := "" // as the step has it
	for _, kv := range req.Env {
		if value, ok := strings.CutPrefix(kv, "PATH="); ok {
			search = value
		}
	}
	if arg := req.Args[0]; path.IsAbs(arg) {
		if ours, err := c.ours(arg); err != nil || !ours {
			return arg + " is not the base's", err
		}
	}
	for _, name := range slices.Concat(req.Commands, lookedFor) {
		found, err := c.look(name, search)
		if err != nil {
			return "", err
		}
		if found == "" || name == "go" && found == goroot+"/bin/go" {
			continue
		}
		if ours, err := c.ours(found); err != nil || !ours {
			return found + " is not the base's", err
		}
	}
	return "", nil
}

// look finds a name in a search path, as it is written there.
func (c *confiner) look(name, dirs string) (string, error) {
	for _, dir := range strings.Split(dirs, ":") {
		p := path.Join("/", dir, name)
		if _, err := inode.Resolve(c.all, p, false); err == nil {
			return p, nil
		} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			return p, nil // what it is cannot be told
		}
	}
	return "", nil
}

// ours says whether a path is this program.
func (c *confiner) ours(p string) (bool, error) {
	for range 10 {
		name, err := inode.Resolve(c.all, p, false)
		if err != nil {
			return false, nil
		}
		info, err := c.all.Lstat(name)
		if err != nil || !info.IsLink() {
			return false, nil
		}
		if info.Link == sandbox.SelfPath {
			return true, nil
		}
		if p = info.Link; !path.IsAbs(p) {
			p = path.Join("/", path.Dir(name), p)
		}
	}
	return false, nil
}

// targets: what is mounted is mounted where it is said to be, and hides nothing that the step is confined by.
func (c *confiner) targets(req confineReq) (string, error) {
	for _, dest := range req.Targets {
		for p := dest; p != "/"; p = path.Dir(p) {
			info, ok, err := has(c.all, strings.TrimPrefix(p, "/"))
			if err != nil {
				return "", err
			}
			if ok && info.IsLink() {
				return "the place of a mount, " + dest + ", is behind a symbolic link", nil
			}
		}
		for _, p := range []string{goroot, sandbox.SelfPath, goOnlyPath, "/root/.config", "/proc", "/sys", "/dev"} {
			if covers(dest, p) || covers(p, dest) {
				return "something is mounted at " + dest, nil
			}
		}
	}
	return "", nil
}
