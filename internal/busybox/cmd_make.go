package busybox

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/skiff-build/skiff/internal/gnumake"
	"github.com/skiff-build/skiff/internal/shell"
)

// MakeVersionPath holds the version of the image's make.
const MakeVersionPath = LibexecPath + "-make"

func makeCommands() map[string]command {
	return map[string]command{"make": {run: runMake, raw: true}}
}

// runMake is GNU make. Its recipes run in this base's shell.
func runMake(c *call) int {
	version, err := os.ReadFile(c.system(MakeVersionPath))
	if err != nil {
		return c.unserved("which make the image has is not known")
	}
	m := &gnumake.Make{
		Name: c.calledAs(), Version: strings.TrimSpace(string(version)), Args: c.args[1:], Env: c.env,
		Dir: inRoot(c), Files: gnumake.Root(c.root), Runner: makeRunner{c}, Stdin: c.stdin, Stdout: c.stdout, Stderr: c.stderr,
	}
	code, err := m.Run(c.ctx)
	if err != nil {
		if c.ctx.Err() != nil {
			return 143
		}
		return c.unserved("%v", err)
	}
	return code
}

// inRoot is the working directory as the step names it.
func inRoot(c *call) string {
	dir := strings.TrimPrefix(c.dir, c.root)
	if dir == "" {
		return "/"
	}
	return dir
}

// makeRunner runs what make starts, as the base's shell runs its commands.
type makeRunner struct{ c *call }

// Run looks a program up in the PATH of the recipe.
func (r makeRunner) Run(ctx context.Context, j *gnumake.Job) (gnumake.Exit, error) {
	c := *r.c
	c.ctx, c.env, c.dir = ctx, j.Env, filepath.Join(c.root, j.Dir)
	name := j.Argv[0]
	file, status := shell.LookPath(c.root, j.Dir, c.getenv("PATH"), name)
	switch {
	case status == 0:
	case c.missing(name) != nil:
		return gnumake.Exit{}, c.missing(name)
	case status == 126:
		return gnumake.Exit{}, fs.ErrPermission
	default:
		return gnumake.Exit{}, fs.ErrNotExist
	}
	cmd := &shell.Command{Args: slices.Clone(j.Argv), Path: file, Env: j.Env, Dir: c.dir, Stdin: j.Stdin, Stdout: j.Stdout, Stderr: j.Stderr}
	code, err := c.execute(ctx, cmd)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return gnumake.Exit{}, err
	}
	return gnumake.Exit{Code: code}, err
}
