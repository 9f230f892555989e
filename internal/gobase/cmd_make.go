package gobase

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

// withMake in [Identity].With, with a version behind it, puts make into a base whose image has it at a step that calls it.
const withMake = "make-"

// makeVersionPath holds the version of the image's make.
const makeVersionPath = LibexecPath + "-make"

// makeVersion is the version of make in an image; empty where it is none that gnumake has. Debian: tracker.debian.org/pkg/make-dfsg
// (bullseye and bookworm 4.3, trixie 4.4.1), and golang's tags without a distribution's name are on trixie from Go 1.25 on, on bookworm
// from 1.21 and on bullseye from 1.18 (github.com/docker-library/golang). Alpine: pkgs.alpinelinux.org, main/make (4.4.1 from 3.18
// on, which golang's Alpine tags are on from 1.21).
func makeVersion(tag Tag, release string) string {
	if tag.Variant == Alpine {
		if atLeast(release, "1.21") {
			return "4.4.1"
		}
		return ""
	}
	switch tag.Distro {
	case "bullseye", "bookworm":
		return "4.3"
	case "trixie":
		return "4.4.1"
	case "":
		switch {
		case atLeast(release, "1.25"):
			return "4.4.1"
		case atLeast(release, "1.18"):
			return "4.3"
		}
	}
	return ""
}

// makeIn is the version of make in a base with the given commands on request; empty: it has none.
func makeIn(with []string) string {
	for _, w := range with {
		if version, ok := strings.CutPrefix(w, withMake); ok {
			return version
		}
	}
	return ""
}

func makeCommands() map[string]command {
	return map[string]command{"make": {run: runMake, raw: true}}
}

// runMake is GNU make. Its recipes run in this base's shell.
func runMake(c *call) int {
	version, err := os.ReadFile(c.system(makeVersionPath))
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
