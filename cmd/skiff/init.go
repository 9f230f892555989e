package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skiff-build/skiff"
)

func newInit() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "init [FLAGS] [FOLDER]",
		Short: "Write the Dockerfile and the .dockerignore of a Go module",
		Long: "Write a multi-stage Dockerfile and a .dockerignore for the Go module or workspace in FOLDER (.): with its version of Go, a " +
			"stage for each program (of several, those in the root and in cmd), what the finished programs need of an image, and the " +
			"ports that they listen on. Of a folder within the module, for the program in it alone; the files go to the module's root. " +
			"The programs are compiled for that, with the machine's go command.\n\n" +
			"A Dockerfile that is there stays as it is without --force; so does a .dockerignore, which is said.",
		Example: "  skiff init\n  skiff init ./cmd/app",
		Args:    maxArgs(1, "skiff init ."),
		RunE: interruptible(func(ctx context.Context, cmd *cobra.Command, args []string) error {
			folder := "."
			if len(args) == 1 {
				folder = args[0]
			}
			return runInit(ctx, cmd, folder, force)
		}),
	}
	cmd.Flags().BoolVar(&force, "force", false, "write over files that are there")
	return cmd
}

func runInit(ctx context.Context, cmd *cobra.Command, folder string, force bool) error {
	s, err := skiff.NewScaffold(ctx, folder)
	if noModule := (*skiff.NoModuleError)(nil); errors.As(err, &noModule) {
		return withHint(err, "go mod init NAME makes one")
	}
	if err != nil {
		return err
	}
	root := shownPath(s.Root)
	dockerfile, dockerignore := filepath.Join(root, "Dockerfile"), filepath.Join(root, ".dockerignore")
	if there, err := isThere(dockerfile); err != nil {
		return err
	} else if there && !force {
		return withHint(fmt.Errorf("%s is there already", dockerfile), "skiff init --force writes over it")
	}
	keeps, err := isThere(dockerignore)
	if err != nil {
		return err
	}
	out, errOut := cmd.OutOrStdout(), cmd.ErrOrStderr()
	if keeps && !force {
		fmt.Fprintf(errOut, "skiff: %s is there already, and stays as it is\n", dockerignore)
	} else if err := writeText(dockerignore, s.Dockerignore); err != nil {
		return err
	} else {
		fmt.Fprintln(out, "written: "+dockerignore)
	}
	if err := writeText(dockerfile, s.Dockerfile); err != nil {
		return err
	}
	fmt.Fprintln(out, "written: "+dockerfile)
	for _, n := range s.Notes {
		fmt.Fprintf(errOut, "skiff: %s\n", skiff.PrintableLine(n))
	}
	if len(s.Targets) == 0 {
		fmt.Fprintf(out, "\nskiff build -t %s %s\n", strings.ToLower(s.Programs[0]), root)
		return nil
	}
	fmt.Fprintln(out)
	for _, t := range s.Targets {
		fmt.Fprintf(out, "skiff build -t %s --target %s %s\n", t, t, root)
	}
	return nil
}

func isThere(name string) (bool, error) {
	_, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// shownPath is a path as the user would write it: relative to where they are, if it is there or below.
func shownPath(dir string) string {
	here, err := os.Getwd()
	if err != nil {
		return dir
	}
	if here, err = filepath.EvalSymlinks(here); err != nil {
		return dir
	}
	rel, err := filepath.Rel(here, dir)
	if err != nil || rel == ".." || strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return dir
	}
	return rel
}
