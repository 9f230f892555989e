// Package runimage runs the program of an image, as `skiff run` does: in the sandbox that build steps have, over a writable layer that is
// gone afterwards, with docker's options for mounts, ports, users and names of hosts. This process settles what is run ([Run]); the child
// of [sandbox.Enter] mounts it and runs it ([Handlers]); with Options.Init a process of skiff is the first in the program's namespace
// ([Init]).
//
// Which image it is and where its layers come from is the caller's ([Unpack]). Volumes alone outlive the program.
package runimage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/term"

	"github.com/skiff-build/skiff/internal/envlist"
	"github.com/skiff-build/skiff/internal/image"
	"github.com/skiff-build/skiff/internal/sandbox"
	"github.com/skiff-build/skiff/internal/usernet"
)

// Options says what to run and how. Only Image is required.
type Options struct {
	Image    string   // name in the state or in a registry
	Args     []string // in the place of the image's Cmd
	Platform string   // "os/arch[/variant]"; "" is this machine's
	Pull     image.PullPolicy

	Entrypoint *string  // in the place of the image's; its Cmd is dropped then, as docker does
	Env        []string // NAME=VALUE, added to the image's
	Volumes    []string // "HOST:INSIDE[:ro]"
	Mounts     []string // docker's --mount: "type=bind,source=HOST,target=INSIDE[,readonly]", "type=tmpfs,target=INSIDE[,…]"
	Tmpfs      []string // "INSIDE[:OPTIONS]"
	AddHosts   []string // "HOST:IP", for /etc/hosts
	Init       bool     // an init of skiff's is the first process: it passes signals on, and takes care of orphans
	User       string   // "user[:group]", names or numbers
	WorkDir    string
	Hostname   string
	Network    string   // "default" (or "", a private one), "host", "none"
	Publish    []string // "[[ADDRESS:]PORT:]PORT": what listens there in the private network is reached at this machine's
	Limits     sandbox.Limits
	ReadOnly   bool // the image's files cannot be written to
	TTY        bool // Stdin is a terminal; the program gets one of its own joined with it

	Stdin, Stdout, Stderr *os.File // nil is /dev/null
}

// Unpack finds the image of o and makes its layers folders of the state: chain are their ids, lowest first.
type Unpack func(ctx context.Context, o Options) (chain []string, config ocispecs.ImageConfig, err error)

// Methods of the child that run programs of images.
const (
	methodRun    = "skiff.run"
	methodSignal = "skiff.signal"
)

// runReq is one program to the child; the files that come with it are its standard streams, or its terminal.
type runReq struct {
	Root     string   // of the state
	Chain    []string // layers, lowest first
	Args     []string
	Env      []string
	Dir      string
	User     string
	Hostname string
	Mounts   []runMount
	Hosts    string // lines for /etc/hosts
	Init     bool
	Network  string
	Gateway  bool // the way to this machine is open
	Ports    []usernet.Port
	Limits   sandbox.Limits
	ReadOnly bool
	TTY      bool
	Rows     uint
	Cols     uint
	FakeIDs  bool
}

type runMount struct {
	Source, Target string
	ReadOnly       bool
	Tmpfs          string // options of one in memory, with commas; "" for a file or folder of the host
}

type signalReq struct{ Signal int }

// Run runs an image's program in the sandbox that build steps have, waits for it and returns its exit code. Signals that this
// process gets meanwhile go to the program; the third SIGINT or SIGTERM kills it. What it writes outside of volumes is
// gone afterwards. A program that could not be started gives an error and the code 126 or 127.
//
// root is the folder of the state; unpack finds the image and makes its layers folders of that.
func Run(ctx context.Context, root string, unpack Unpack, o Options) (code int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := prepare(ctx, root, unpack, o)
	if err != nil {
		return 0, err
	}
	child, err := sandbox.Enter(ctx, sandbox.Options{Root: root})
	if err != nil {
		return 0, err
	}
	defer child.Close()
	req.FakeIDs = child.Mode() == sandbox.ModeOneID
	files, restore, err := o.streams(req)
	if err != nil {
		return 0, err
	}
	defer restore()
	defer forward(ctx, cancel, child)()
	err = child.CallFiles(ctx, methodRun, req, files, nil, nil)
	var exit *sandbox.ExitError
	switch {
	case errors.As(err, &exit) && exit.Message == "":
		return exit.Code, nil
	case errors.As(err, &exit):
		return exit.Code, fmt.Errorf("run %s: %w", o.Image, err)
	case err != nil && ctx.Err() != nil:
		return 128 + int(syscall.SIGKILL), nil
	case err != nil:
		return 0, fmt.Errorf("run %s: %w", o.Image, err)
	}
	return 0, nil
}

// prepare unpacks the image and settles what is run.
func prepare(ctx context.Context, root string, unpack Unpack, o Options) (*runReq, error) {
	mounts, err := o.userMounts()
	if err != nil {
		return nil, err
	}
	switch o.Network {
	case "bridge", "default":
		o.Network = ""
	case "", "host", "none":
	default:
		return nil, fmt.Errorf("network %q: choose default, host or none", o.Network)
	}
	hosts, err := hostLines(o.AddHosts, o.Network)
	if err != nil {
		return nil, err
	}
	ports, err := o.ports()
	if err != nil {
		return nil, err
	}
	chain, config, err := unpack(ctx, o)
	if err != nil {
		return nil, err
	}
	args := command(config, o)
	if len(args) == 0 {
		return nil, fmt.Errorf("run %s: the image names no program; give one after its name", o.Image)
	}
	req := &runReq{
		Root: root, Chain: chain, Args: args, Env: mergeEnv(config.Env, o), Dir: config.WorkingDir, User: config.User,
		Hostname: o.Hostname, Mounts: mounts, Hosts: hosts, Init: o.Init, Network: o.Network, Gateway: asksForGateway(o.AddHosts), Ports: ports, Limits: o.Limits, ReadOnly: o.ReadOnly, TTY: o.TTY,
	}
	if o.WorkDir != "" {
		req.Dir = o.WorkDir
	}
	if o.User != "" {
		req.User = o.User
	}
	return req, nil
}

// ports reads docker's -p.
func (o Options) ports() (list []usernet.Port, err error) {
	for _, text := range o.Publish {
		p, err := usernet.ParsePort(text)
		if err != nil {
			return nil, fmt.Errorf("publish %q: %w", text, err)
		}
		if o.Network != "" {
			return nil, fmt.Errorf("publish %q: with --network=%s there is nothing to publish; leave one of both out", text, o.Network)
		}
		list = append(list, p)
	}
	return list, nil
}

// command is the image's entrypoint and arguments with those of the user.
func command(c ocispecs.ImageConfig, o Options) []string {
	entry, args := c.Entrypoint, c.Cmd
	if o.Entrypoint != nil {
		entry, args = nil, nil
		if *o.Entrypoint != "" {
			entry = []string{*o.Entrypoint}
		}
	}
	if len(o.Args) > 0 {
		args = o.Args
	}
	return append(append([]string{}, entry...), args...)
}

// DefaultPath is what docker gives an image without a PATH.
const DefaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func mergeEnv(image []string, o Options) []string {
	env := []string{DefaultPath}
	if o.TTY {
		env = append(env, "TERM=xterm")
	}
	for _, add := range [][]string{image, o.Env} {
		env = envlist.With(env, add...)
	}
	return env
}

// parseVolumes reads docker's -v for files and folders of the host.
func parseVolumes(volumes []string) ([]runMount, error) {
	var out []runMount
	for _, v := range volumes {
		parts := strings.Split(v, ":")
		m := runMount{}
		switch {
		case len(parts) < 2 || len(parts) > 3 || parts[0] == "" || !strings.HasPrefix(parts[1], "/"):
			return nil, fmt.Errorf("volume %q: want HOST:INSIDE[:ro], INSIDE absolute", v)
		case !strings.ContainsAny(parts[0], "/."):
			return nil, fmt.Errorf("volume %q: named volumes are not kept; give a folder: -v ./%s:%s", v, parts[0], parts[1])
		}
		for _, opt := range strings.Split(strings.Join(parts[2:], ""), ",") {
			switch opt {
			case "", "rw", "z", "Z": // labels of SELinux are not ours to change
			case "ro":
				m.ReadOnly = true
			default:
				return nil, fmt.Errorf("volume %q: option %q: choose ro or rw", v, opt)
			}
		}
		var err error
		if m.Source, err = sourcePath(parts[0]); err != nil {
			return nil, fmt.Errorf("volume %q: %w", v, err)
		}
		m.Target = parts[1]
		out = append(out, m)
	}
	return out, nil
}

// streams are the files that the child gets, and what puts the terminal back in order.
func (o Options) streams(req *runReq) (files []*os.File, restore func(), err error) {
	if o.TTY {
		if o.Stdin == nil {
			return nil, nil, errors.New("run: a terminal is wanted, and standard input is none")
		}
		fd := int(o.Stdin.Fd())
		if w, h, err := term.GetSize(fd); err == nil {
			req.Cols, req.Rows = uint(w), uint(h)
		}
		old, err := term.MakeRaw(fd)
		if err != nil {
			return nil, nil, fmt.Errorf("run: the terminal: %w", err)
		}
		return []*os.File{o.Stdin}, func() { _ = term.Restore(fd, old) }, nil
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	for _, f := range []*os.File{o.Stdin, o.Stdout, o.Stderr} {
		if f == nil {
			f = null
		}
		files = append(files, f)
	}
	return files, func() { null.Close() }, nil
}

// forward passes signals on until the function that it returns is called.
func forward(ctx context.Context, cancel func(), child *sandbox.Child) func() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, forwarded...)
	done := make(chan struct{})
	go func() {
		stops := 0
		for {
			select {
			case <-done:
				return
			case sig := <-signals:
				if sig == os.Interrupt || sig == syscall.SIGTERM {
					if stops++; stops == 3 {
						cancel()
					}
				}
				n, ok := sig.(syscall.Signal)
				if ok {
					// A program that has just ended gets no signal: nothing to tell.
					_ = child.Call(ctx, methodSignal, signalReq{int(n)}, nil, nil)
				}
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}
