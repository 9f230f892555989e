package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skiff-build/skiff"
)

// runFailure is an error of skiff run itself, not of the program that it ran.
type runFailure struct{ error }

func (e *runFailure) Unwrap() error { return e.error }

func newRun(g *global) *cobra.Command {
	o := skiff.RunOptions{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	var envFiles []string
	var tty, interactive, rm bool
	var entrypoint, pull string
	var refused refusedFlags
	var limits limitFlags
	cmd := &cobra.Command{
		Use:     "run [FLAGS] IMAGE [ARGS...]",
		Short:   "Run the program of an image",
		Example: "  skiff run app:1\n  skiff run -it -v $PWD:/src -w /src alpine:3.22 sh",
		Args:    minArgs(1, "skiff run app:1"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Image, o.Args = args[0], args[1:]
			if err := refused.check(); err != nil {
				return err
			}
			if cmd.Flags().Changed("entrypoint") {
				o.Entrypoint = &entrypoint
			}
			var err error
			if o.Pull, err = skiff.ParsePullPolicy(pull); err != nil {
				return err
			}
			if !rm {
				return badFlag("rm", "false", "nothing of a run is kept: write to a folder of the host with -v")
			}
			if !interactive && !tty {
				o.Stdin = nil
			}
			if tty && !isTerminal(os.Stdin) {
				return &usageError{text: "--tty: standard input is not a terminal", hints: []string{"leave -t out"}}
			}
			o.TTY = tty
			env, err := environment(envFiles, o.Env)
			if err != nil {
				return err
			}
			o.Env = env
			if o.Limits, err = limits.read(); err != nil {
				return err
			}
			state, err := g.open()
			if err != nil {
				return &runFailure{err}
			}
			code, err := state.Run(cmd.Context(), o)
			switch {
			case err != nil && code != 0: // it did not start: 126 or 127, as in docker
				report(cmd.ErrOrStderr(), err)
				return exitCode(code)
			case err != nil:
				return &runFailure{withNames(cmd.Context(), state, o.Image, err)}
			case code != 0:
				return exitCode(code)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	refused.define(f, refusedByRun())
	f.StringArrayVarP(&o.Env, "env", "e", nil, "`NAME=VALUE`; NAME alone takes the value of the environment")
	f.StringArrayVar(&envFiles, "env-file", nil, "`FILE` of such lines")
	f.StringArrayVarP(&o.Volumes, "volume", "v", nil, "`HOST:INSIDE[:ro]`, a file or folder of the host")
	f.StringArrayVar(&o.Mounts, "mount", nil, "`MOUNT`: type=bind,source=HOST,target=INSIDE[,readonly], or type=tmpfs,target=INSIDE with tmpfs-size=SIZE, tmpfs-mode=MODE")
	f.StringArrayVar(&o.Tmpfs, "tmpfs", nil, "`INSIDE[:OPTIONS]`, a folder in memory: size=64m, mode=1777, exec, …")
	f.StringArrayVar(&o.AddHosts, "add-host", nil, "`HOST:IP` for /etc/hosts")
	f.BoolVar(&o.Init, "init", false, "let skiff be the first process: it passes signals on and takes care of orphans")
	f.StringVarP(&o.User, "user", "u", "", "`USER[:GROUP]`, names or numbers")
	f.StringVarP(&o.WorkDir, "workdir", "w", "", "`FOLDER` to start in")
	f.StringVar(&entrypoint, "entrypoint", "", "`PROGRAM` in the place of the image's")
	f.StringVar(&o.Network, "network", "default", "`NETWORK`: default (its own, which reaches other machines), host or none")
	f.StringArrayVarP(&o.Publish, "publish", "p", nil, "`[[ADDRESS:]PORT:]PORT` of this machine that leads to one of the program (several)")
	limits.defineRun(f)
	f.StringVar(&o.Hostname, "hostname", "", "`NAME` of the machine, as the program sees it")
	f.BoolVarP(&interactive, "interactive", "i", false, "give standard input to the program")
	f.BoolVarP(&tty, "tty", "t", false, "give the program a terminal")
	f.BoolVar(&o.ReadOnly, "read-only", false, "let the program not write to the image's files")
	f.BoolVar(&rm, "rm", true, "as docker's: what the program wrote goes when it ends, always")
	f.StringVar(&o.Platform, "platform", "", "`OS/ARCH[/VARIANT]` of the image (this machine's)")
	f.StringVar(&pull, "pull", "missing", "`WHEN` the registry is asked what the tag means: missing (it is not here), always or never")
	return cmd
}

// environment adds the lines of the files to what -e gave, -e last. A bare NAME is looked up here.
func environment(files, flags []string) ([]string, error) {
	var out []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read environment: %w", err)
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			if line != "" && line[0] != '#' {
				flags = append([]string{line}, flags...)
			}
		}
	}
	for _, e := range flags {
		name, _, ok := strings.Cut(e, "=")
		if name == "" {
			return nil, badFlag("env", fmt.Sprintf("%q", e), "want NAME=VALUE or NAME")
		}
		if !ok {
			value, set := os.LookupEnv(name)
			if !set {
				continue
			}
			e += "=" + value
		}
		out = append(out, e)
	}
	return out, nil
}

// withNames adds to an error of a registry that the image is not in the state, and which of its tags are: who runs what they
// have just built left the tag out, or mistyped it.
func withNames(ctx context.Context, state *skiff.State, name string, err error) error {
	var registry *skiff.RegistryError
	if !errors.As(err, &registry) {
		return err
	}
	repository := name
	if colon := strings.LastIndex(name, ":"); colon > strings.LastIndex(name, "/") {
		repository = name[:colon]
	}
	here, listErr := state.Images(ctx, repository)
	if listErr != nil || len(here) == 0 {
		return withHint(err, "there is no image "+name+" here either; skiff images lists what there is")
	}
	var names []string
	for _, i := range here {
		names = append(names, i.Repository+":"+i.Tag)
	}
	return withHint(err, "here is "+strings.Join(names, ", "))
}
