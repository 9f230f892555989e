package skiff

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skiff-build/skiff/internal/engine"
	"github.com/skiff-build/skiff/internal/image"
	"github.com/skiff-build/skiff/internal/runimage"
)

// RunOptions says what to run and how. Only Image is required.
type RunOptions = runimage.Options

// Run runs an image's program in the sandbox that build steps have, waits for it and returns its exit code. Signals that this
// process gets meanwhile go to the program; the third SIGINT or SIGTERM kills it. What it writes outside of volumes is
// gone afterwards. A program that could not be started gives an error and the code 126 or 127.
func (s *State) Run(ctx context.Context, o RunOptions) (code int, err error) {
	return runimage.Run(ctx, s.store.Root(), s.unpack, o)
}

// unpack makes the image's layers directories of the store, through the engine as a build does with its base.
func (s *State) unpack(ctx context.Context, o RunOptions) (chain []string, config ocispecs.ImageConfig, err error) {
	plat, err := parsePlatform(o.Platform)
	if err != nil {
		return nil, config, err
	}
	if plat == nil {
		plat = &ocispecs.Platform{OS: "linux", Architecture: runtime.GOARCH}
	}
	name, err := s.nameOf(ctx, o.Image)
	if err != nil {
		return nil, config, err
	}
	images, err := s.imagesFor(say(o.Stderr), o.Pull)
	if err != nil {
		return nil, config, err
	}
	e, err := engine.New(engine.Options{Store: s.store, Images: images, Pull: o.Pull == PullAlways})
	if err != nil {
		return nil, config, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	mode := pb.AttrImageResolveModePreferLocal
	if o.Pull == PullAlways {
		mode = pb.AttrImageResolveModeForcePull
	}
	name, dgst, text, err := e.ResolveImageConfig(ctx, name, sourceresolver.Opt{
		ImageOpt: &sourceresolver.ResolveImageOpt{Platform: plat, ResolveMode: mode},
	})
	if err != nil {
		return nil, config, err
	}
	var img ocispecs.Image
	if err := json.Unmarshal(text, &img); err != nil {
		return nil, config, fmt.Errorf("run %s: read config: %w", o.Image, err)
	}
	if !strings.Contains(name, "@") {
		name += "@" + dgst.String()
	}
	def, err := llb.Image(name, llb.Platform(*plat)).Marshal(ctx)
	if err != nil {
		return nil, config, err
	}
	res, err := e.Solve(ctx, gwclient.SolveRequest{Definition: def.ToPB()})
	if err != nil {
		return nil, config, err
	}
	layers, err := e.Layers(ctx, res.Ref, engine.LayerOptions{})
	for _, l := range layers {
		if l.ID != "" { // one that holds nothing has no directory
			chain = append(chain, l.ID)
		}
	}
	return chain, img.Config, err
}

// nameOf is the full name to find an image by. One that is given by its ID is named by its digest.
func (s *State) nameOf(ctx context.Context, name string) (string, error) {
	full, err := image.ParseName(name)
	if content, lerr := s.library.Open(ctx, name); lerr == nil {
		h, err := content.Digest()
		if err != nil {
			return "", err
		}
		if _, terr := s.store.Tagged(full); terr != nil {
			return "docker.io/library/image@" + h.String(), nil
		}
	}
	return full, err
}

// say writes lines to a file; nil drops them.
func say(f *os.File) func(string) {
	if f == nil {
		return func(string) {}
	}
	return func(text string) { fmt.Fprintln(f, text) }
}
