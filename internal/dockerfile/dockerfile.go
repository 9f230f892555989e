// Package dockerfile runs BuildKit's own Dockerfile frontend, linked as a library, and is its only importer. What a user
// asked for goes in as [Options]; it becomes the frontend's attributes and local directories as docker buildx sets them
// (buildx build/opt.go), so every instruction, .dockerignore, heredoc and lint rule means what it means there. Out comes the
// frontend's result: a reference for each platform and the image configs in its metadata, and what it warned of.
package dockerfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/frontend/dockerfile/builder"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
)

// Options says what to build. Only Context is required.
type Options struct {
	Context string // directory
	File    string // path of the Dockerfile; "" is Dockerfile in Context, "-" is Stdin
	Stdin   io.Reader
	TempDir string // where a Dockerfile from Stdin is kept until Close; "" is the system's

	Target        string
	BuildArgs     map[string]string
	Labels        map[string]string
	Platforms     []string          // several give an index; none is the machine's own
	Contexts      map[string]string // --build-context: name to directory, docker-image://, oci-layout:// or URL
	NoCache       bool              // no stage takes results of earlier builds
	NoCacheFilter []string          // these stages do not
	Pull          bool              // ask the registry for each tag again

	Network  string   // of each RUN: "" and "default", "none", "host"
	AddHosts []string // "host:ip" or "host=ip", ip in brackets or not, or host-gateway
	Ulimits  []string // "name=soft[:hard]"
	ShmSize  int64    // bytes; 0 is the default of 64 MiB
	Check    string   // BUILDKIT_DOCKERFILE_CHECK: "skip=...;error=true"; "" is what the Dockerfile says
}

// NotDirectoryError says that the build context is a file.
type NotDirectoryError struct{ Path string }

func (e *NotDirectoryError) Error() string {
	return fmt.Sprintf("build context: %s: not a directory", e.Path)
}

// NoDockerfileError says that there is no file where the Dockerfile should be.
type NoDockerfileError struct {
	Path  string // as it was looked for
	Given bool   // the user named it
}

func (e *NoDockerfileError) Error() string {
	return fmt.Sprintf("read Dockerfile: %s: no such file", e.Path)
}

// OptionError says that the value of an option is none that there can be.
type OptionError struct{ Err error }

func (e *OptionError) Error() string { return e.Err.Error() }
func (e *OptionError) Unwrap() error { return e.Err }

// Dockerfile is one Dockerfile with its context, ready to be built. It is safe for concurrent use.
type Dockerfile struct {
	attrs   map[string]string // of the frontend; never changed after Open
	locals  map[string]string
	layouts map[string]string
	temp    string
	remote  bool // the context is at a URL, and so is the Dockerfile, but one from standard input

	mu       sync.Mutex
	warnings []client.VertexWarning
}

// Open checks that what o names exists and prepares it for the frontend. The caller closes it.
func Open(o Options) (*Dockerfile, error) {
	d := &Dockerfile{locals: map[string]string{}, layouts: map[string]string{}}
	if d.remote = isURL(o.Context); !d.remote && o.Context != "-" {
		if err := checkContext(o.Context); err != nil {
			return nil, err
		}
		d.locals["context"] = o.Context
	}
	attrs, err := attributes(o)
	if err != nil {
		return nil, &OptionError{err}
	}
	d.attrs = attrs
	if err := d.addContexts(o.Contexts); err != nil {
		return nil, err
	}
	find := d.locate
	switch {
	case d.remote:
		find = d.locateRemote
	case o.Context == "-":
		find = func(o Options) error { return d.contextFromStdin(&o) }
	}
	if err := find(o); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Locals are the directories that the frontend's local sources name.
func (d *Dockerfile) Locals() map[string]string { return d.locals }

// Layouts are the OCI layouts on disk that oci-layout sources name by their store id ("oci.store").
func (d *Dockerfile) Layouts() map[string]string { return d.layouts }

// Close removes what Open made.
func (d *Dockerfile) Close() error {
	if d.temp == "" {
		return nil
	}
	err := os.RemoveAll(d.temp)
	if errors.Is(err, fs.ErrPermission) { // a context that was unpacked has folders that cannot be written to
		_ = filepath.WalkDir(d.temp, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				err = os.Chmod(path, 0o700)
			}
			return err
		})
		err = os.RemoveAll(d.temp)
	}
	return err
}

// Build is a [gwclient.BuildFunc]: it runs the frontend on c. It may run more than once.
func (d *Dockerfile) Build(ctx context.Context, c gwclient.Client) (*gwclient.Result, error) {
	res, err := builder.Build(ctx, d.client(c, d.attrs))
	if errors.Is(err, filepath.ErrBadPattern) && Source(err) == "" { // the frontend does not say where it read it
		err = fmt.Errorf("read .dockerignore: %w: a [ has no ], or a \\ stands last", err)
	}
	return res, err
}

// Warnings are what the frontend warned of, each once however often it ran.
func (d *Dockerfile) Warnings() []client.VertexWarning {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.warnings
}

func checkContext(dir string) error {
	switch {
	case dir == "":
		return errors.New("build context: the path is empty")
	}
	st, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("build context: %s: no such directory", dir)
	case err != nil:
		return fmt.Errorf("build context: %w", err)
	case !st.IsDir():
		return &NotDirectoryError{dir}
	}
	return nil
}

// IsRemote tells whether a context is fetched: from a git repository, or by http.
func IsRemote(context string) bool { return isURL(context) }

func isURL(s string) bool {
	for _, prefix := range []string{"http://", "https://", "git://", "ssh://", "git@", "github.com/"} {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}

// locateRemote leaves it to the frontend to find the Dockerfile in a context at a URL: a git repository with #REF:FOLDER, a tar, or
// the Dockerfile alone.
func (d *Dockerfile) locateRemote(o Options) error {
	d.attrs["context"] = o.Context
	switch {
	case o.File == "-":
		if err := d.fromStdin(o); err != nil {
			return err
		}
		d.attrs["dockerfilekey"] = "dockerfile" // else the one in the context counts
	case o.File != "":
		d.attrs["filename"] = filepath.ToSlash(o.File)
	}
	return nil
}

// locate finds the Dockerfile and names it to the frontend as a file of the local directory "dockerfile".
func (d *Dockerfile) locate(o Options) error {
	switch {
	case o.File == "-":
		return d.fromStdin(o)
	case isURL(o.File):
		return fmt.Errorf("read Dockerfile: %s: a Dockerfile by URL is not fetched; download it and name the file", o.File)
	}
	path := o.File
	if path == "" {
		path = filepath.Join(o.Context, "Dockerfile")
	}
	dir, name := filepath.Dir(path), filepath.Base(path)
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) && name == "Dockerfile" { // moby/moby#10858
		st, err = os.Stat(filepath.Join(dir, "dockerfile"))
	}
	if errors.Is(err, fs.ErrNotExist) && o.File == "" {
		name = "Containerfile"
		if st, err = os.Stat(filepath.Join(dir, name)); err == nil {
			path = filepath.Join(dir, name)
			err = checkContainerignore(dir)
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &NoDockerfileError{Path: path, Given: o.File != ""}
	case err != nil:
		return fmt.Errorf("read Dockerfile: %w", err)
	case st.IsDir():
		return fmt.Errorf("read Dockerfile: %s: is a directory", path)
	case st.Size() == 0:
		return fmt.Errorf("read Dockerfile: %s: the file is empty", path)
	}
	d.locals["dockerfile"], d.attrs["filename"] = dir, name
	return nil
}

// Names are those of a Dockerfile that nobody named, in the order in which they are looked for: docker's, and podman's.
var Names = []string{"Dockerfile", "dockerfile", "Containerfile"}

// checkContainerignore refuses podman's file of patterns where docker's is not beside it: the frontend would read neither, and
// files would ship that were to stay out.
func checkContainerignore(dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, ".dockerignore")); err == nil {
		return nil
	}
	if _, err := os.Lstat(filepath.Join(dir, ".containerignore")); err == nil {
		return fmt.Errorf("%s is not read: name it .dockerignore", filepath.Join(dir, ".containerignore"))
	}
	return nil
}

// fromStdin keeps the Dockerfile in a directory of its own, as buildx does: a .dockerignore beside it has no say.
func (d *Dockerfile) fromStdin(o Options) error {
	if o.Stdin == nil {
		return errors.New("read Dockerfile: standard input: there is none")
	}
	text, err := io.ReadAll(o.Stdin)
	if err != nil {
		return fmt.Errorf("read Dockerfile: standard input: %w", err)
	}
	if len(text) == 0 {
		return errors.New("read Dockerfile: standard input: it is empty")
	}
	if d.temp == "" {
		if d.temp, err = os.MkdirTemp(o.TempDir, "dockerfile-"); err != nil {
			return fmt.Errorf("read Dockerfile: standard input: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(d.temp, "Dockerfile"), text, 0o644); err != nil {
		return fmt.Errorf("read Dockerfile: standard input: %w", err)
	}
	d.locals["dockerfile"], d.attrs["filename"] = d.temp, "Dockerfile"
	return nil
}
