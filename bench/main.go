// Command bench times skiff beside other builders and plain `go build`, and writes what it saw as Markdown tables.
//
//	bench/run.sh                          the whole table, with whatever of the other tools is installed
//	bench/run.sh -list                    the names of the rows
//	bench/run.sh -row 'context-.*' -runs 9 -tools skiff,buildkit
//	bench/run.sh -growth                  time and memory against size, with the exponent
//
// A row is one piece of work on one project. Each tool has a copy of the project and a state of its own. It builds once,
// which does not count; then the tools take turns, so that what else the machine does meets all of them, and the median
// counts. Ratios are made of medians of the same run. Memory is the high-water mark of the largest process that is skiff
// itself (not of the compiler that a step starts), in a run of its own that is not timed.
//
// Plain go is found in PATH; so are buildctl (with buildkitd, which is started with a state of its own, unless
// BUILDKIT_HOST names one that runs), buildah and ko. Base images of the others are named by -golang and -static: a
// registry on this machine keeps the network out of the figures.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

type bench struct {
	ctx            context.Context
	work           string // folder of everything
	skiff          string // the program
	golang, static string // base images of the others
	buildkitHost   string
	tools          []string
	runs           int
	log            io.Writer
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	b := &bench{log: os.Stderr}
	pattern := flag.String("row", ".", "`REGEXP` of the rows' names")
	list := flag.Bool("list", false, "print the rows' names and what they are")
	growth := flag.Bool("growth", false, "measure time and memory against size, in place of the table; -row chooses there, too")
	most := flag.Float64("most", 1, "with -growth: the `FRACTION` of the largest size to go to")
	tools := flag.String("tools", strings.Join(toolNames, ","), "tools to measure, in this order")
	out := flag.String("o", "", "`FILE` for the tables; default: standard output")
	keep := flag.Bool("keep", false, "keep the folder with projects and states, and say where it is")
	flag.IntVar(&b.runs, "runs", 5, "how often each tool does each row")
	flag.StringVar(&b.skiff, "skiff", "", "`PROGRAM` to measure; default: built of this folder, as it is released")
	flag.StringVar(&b.golang, "golang", "docker.io/library/golang:1.26-alpine", "`IMAGE` that the others build Go in")
	flag.StringVar(&b.static, "static", "", "`IMAGE` that ko builds on; default: its own")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	match, err := regexp.Compile("^(?:" + *pattern + ")")
	if err != nil {
		return err
	}
	if *list {
		printList(os.Stdout)
		return nil
	}
	var stop context.CancelFunc
	b.ctx, stop = signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if b.work, err = os.MkdirTemp("", "skiff-bench-"); err != nil {
		return err
	}
	defer func() {
		if *keep {
			fmt.Fprintln(b.log, "kept:", b.work)
			return
		}
		err = errors.Join(err, removeAll(b.work))
	}()
	if err := b.build(); err != nil {
		return err
	}
	stopBuildkit, err := b.choose(strings.Split(*tools, ","))
	if err != nil {
		return err
	}
	defer stopBuildkit()
	w := os.Stdout
	if *out != "" {
		if w, err = os.Create(*out); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, w.Close()) }()
	}
	if *growth {
		return b.growth(w, match, *most)
	}
	return b.table(w, match)
}

// build makes the program that is measured, unless the user named one.
func (b *bench) build() error {
	if b.skiff != "" {
		path, err := filepath.Abs(b.skiff)
		b.skiff = path
		return err
	}
	b.skiff = filepath.Join(b.work, "bin", "skiff")
	cmd := exec.CommandContext(b.ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", b.skiff, "github.com/skiff-build/skiff/cmd/skiff")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return quiet(cmd)
}

// choose leaves the tools that are installed, and says which are not.
func (b *bench) choose(names []string) (stop func(), err error) {
	stop = func() {}
	for _, name := range names {
		if !slices.Contains(toolNames, name) {
			return stop, fmt.Errorf("tool %q: choose of %s", name, strings.Join(toolNames, ", "))
		}
		if name == "buildkit" {
			if b.buildkitHost, stop, err = b.buildkit(); err != nil {
				fmt.Fprintln(b.log, "buildkit is left out:", err)
				continue
			}
		} else if program := programs[name]; program != "" {
			if _, err := exec.LookPath(program); err != nil {
				fmt.Fprintln(b.log, name, "is left out: it is not installed")
				continue
			}
		}
		b.tools = append(b.tools, name)
	}
	return stop, nil
}

// quiet runs a command, and shows what it said when it fails.
func quiet(cmd *exec.Cmd) error {
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, tail(said.String(), 20))
	}
	return nil
}

func tail(s string, lines int) string {
	all := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// removeAll removes a folder that may hold others without write permission, as Go's module cache does.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
