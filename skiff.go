// Package skiff builds container images from ordinary multi-stage Dockerfiles, keeps them, runs them, and moves them to and
// from registries and archives, with no daemon and no root.
//
// What it knows lives in one folder, the [State]: any number of processes may have it open. [State.Build] runs BuildKit's own
// Dockerfile frontend in this process over skiff's engine. On Linux the steps of a build run in namespaces, which are entered
// in child processes of the same program: a program that uses this package calls [Init] first of all.
//
//	func main() {
//		skiff.Init()
//		state, err := skiff.Open(skiff.Config{})
//		…
//		defer state.Close()
//		result, err := state.Build(ctx, skiff.BuildOptions{Context: ".", Tags: []string{"app:1"}})
//	}
package skiff

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/skiff-build/skiff/internal/dockerfile"
	"github.com/skiff-build/skiff/internal/engine"
	"github.com/skiff-build/skiff/internal/gobase"
	"github.com/skiff-build/skiff/internal/image"
	"github.com/skiff-build/skiff/internal/printable"
	"github.com/skiff-build/skiff/internal/runimage"
	"github.com/skiff-build/skiff/internal/sandbox"
	"github.com/skiff-build/skiff/internal/store"
)

// Init makes this program fit to run build steps; it comes first in main. Where the process was started as a helper of skiff
// (the child that enters namespaces, a step's init, a command of the built-in Go base) it does that work and never returns.
func Init() {
	if run, ok := gobase.Applet(os.Args); ok {
		os.Exit(run())
	}
	if code, ok := runimage.Init(os.Args); ok {
		os.Exit(code)
	}
	handlers := engine.Handlers()
	maps.Copy(handlers, runimage.Handlers())
	sandbox.Init(handlers)
}

// NoDockerfileError says that there is no Dockerfile where one was looked for.
type NoDockerfileError = dockerfile.NoDockerfileError

// NotDirectoryError says that the build context is a file.
type NotDirectoryError = dockerfile.NotDirectoryError

// IsRemote tells whether a build context is fetched: from a git repository, or by http.
func IsRemote(context string) bool { return dockerfile.IsRemote(context) }

// DockerfileNames are those of a Dockerfile that nobody named, in the order in which they are looked for.
var DockerfileNames = dockerfile.Names

// UnavailableError says that this machine, or its system, cannot run build steps: the cause, and what mends it.
type UnavailableError = sandbox.Unavailable

// DockerfileSource is the part of a Dockerfile that an error of [State.Build] is about, with the lines around it, ready to be
// printed; "" where it is about none.
func DockerfileSource(err error) string { return dockerfile.Source(err) }

// Printable returns a writer of text to w in which control characters and the like are visible escapes, as package printable of this
// module has it: what was read of images, registries and files may hold anything. Its Unwrap method returns w.
func Printable(w io.Writer) io.Writer { return printable.NewWriter(w) }

// PrintableLine returns text without control characters, newlines among them.
func PrintableLine(text string) string { return printable.Line(text) }

// Config says where the state is and how registries are reached. The zero value is the user's own.
type Config struct {
	Root string       // folder of the state; "" is SKIFF_ROOT, $XDG_DATA_HOME/skiff or ~/.local/share/skiff
	Warn func(string) // is told what was damaged in it and is mended; nil: nobody is
}

// State is an open folder of results and images. It is safe for concurrent use.
type State struct {
	store    *store.Store
	library  *image.Library
	registry image.RegistryOptions

	mu     sync.Mutex
	dirty  bool       // a build has added to the store since it was last brought to the disk
	synced chan error // what came of bringing it there, which was begun; nil where it was not
	keep   int64      // bytes, as the last build's user wants
}

// Open opens the state and makes it where there is none. The caller closes it.
func Open(c Config) (*State, error) {
	root := c.Root
	if root == "" {
		var err error
		if root, err = store.DefaultRoot(); err != nil {
			return nil, err
		}
	}
	st, err := store.OpenWith(root, c.Warn)
	if err != nil {
		return nil, err
	}
	registries, err := image.LoadRegistryConfig()
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	st.Remake(func(h v1.Hash) error { return remake(st, h) })
	return &State{
		store: st, library: image.NewLibrary(st),
		registry: image.RegistryOptions{Store: st, Mirrors: registries.Mirrors, Insecure: registries.Insecure},
	}, nil
}

// remake makes a layer's tar again that the store has lost.
func remake(st *store.Store, h v1.Hash) error {
	e, err := engine.New(engine.Options{Store: st})
	if err != nil {
		return err
	}
	return errors.Join(e.Remake(context.Background(), h), e.Close())
}

// Close cleans up after builds, where that is due, and lets go of the folder.
func (s *State) Close() error { return errors.Join(s.finish(), s.store.Close()) }
