package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/skiff-build/skiff"
)

// goFlags are the flags of a build from Go packages, without a Dockerfile.
type goFlags struct {
	opts       skiff.GoOptions
	dockerfile string
	add        []string
	entrypoint []string
	cmd        []string
}

// goOnly are the flags that say nothing where there is a Dockerfile, dockerOnly those that say nothing where there is none.
var (
	goOnly = []string{
		"add", "base", "cmd", "debug", "entrypoint", "env", "expose", "gcflags", "image-env", "label-vcs", "ldflags", "optimize", "tags", "user", "workdir",
	}
	dockerOnly = []string{
		"add-host", "add-missing", "allow", "build-arg", "build-context", "cpu-period", "cpu-quota", "cpu-shares",
		"cpuset-cpus", "cpuset-mems", "explain", "faithful", "file", "go-base", "memory", "memory-swap", "network", "no-cache-filter",
		"secret", "shm-size", "ssh", "target", "ulimit",
	}
)

func (f *goFlags) define(flags *pflag.FlagSet) {
	o := &f.opts
	flags.StringVar(&f.dockerfile, "dockerfile", "auto", "`none` builds the Go packages even where there is a Dockerfile")
	flags.StringVar(&o.LDFlags, "ldflags", "", "`FLAGS` of go build, after -s -w")
	flags.StringVar(&o.GCFlags, "gcflags", "", "`FLAGS` of go build")
	flags.StringVar(&o.Tags, "tags", "", "`TAGS` of go build, with commas between them")
	flags.StringArrayVar(&o.Env, "env", nil, "`NAME=VALUE` for go build")
	flags.BoolVarP(&o.Debug, "debug", "D", false, "keep symbol table and debug information")
	flags.BoolVar(&o.LabelVCS, "label-vcs", false, "stamp revision and date into the program, and label the image with them")
	flags.StringVar(&o.Optimize, "optimize", "", "`size`: build without inlining and alignment where that makes the programs smaller, and say what each choice saves and costs")
	flags.StringVar(&o.Base, "base", "", "`IMAGE` to build on (scratch, or that of .ko.yaml)")
	flags.StringArrayVar(&f.add, "add", nil, "`SOURCE:TARGET`, a file or folder for the image (several)")
	flags.StringArrayVar(&f.entrypoint, "entrypoint", nil, "`PROGRAM` that the image starts, and its first arguments (several, or a JSON array)")
	flags.StringArrayVar(&f.cmd, "cmd", nil, "`ARGUMENT` of the program where docker run gives none (several, or a JSON array)")
	flags.StringArrayVar(&o.Expose, "expose", nil, "`PORT[/PROTOCOL]` that the program listens on (several)")
	flags.StringVar(&o.User, "user", "", "`USER[:GROUP]` of the program (65532, or the base's where that is not root)")
	flags.StringVar(&o.WorkDir, "workdir", "", "`FOLDER` that the program starts in (/, or the base's)")
	flags.StringArrayVar(&o.ImageEnv, "image-env", nil, "`NAME=VALUE` for the program (several)")
}

// chosen tells whether args are Go packages to be built without a Dockerfile. They are where --dockerfile=none says so, where
// they can be nothing else, and where a folder has Go files and no Dockerfile.
func (f *goFlags) chosen(flags *pflag.FlagSet, args []string) (bool, error) {
	switch f.dockerfile {
	case "none":
		if flags.Changed("file") {
			return false, badFlag("dockerfile", "none", "and -f names one: leave one of the two out")
		}
		if slices.Contains(args, "-") {
			return false, badFlag("dockerfile", "none", "a context on standard input is built by its Dockerfile: name a folder or a package")
		}
		return true, nil
	case "auto":
	default:
		return false, badFlag("dockerfile", f.dockerfile, "choose auto or none; -f names the file")
	}
	if flags.Changed("file") {
		return false, nil
	}
	if slices.ContainsFunc(args, isGoFile) {
		return true, nil
	}
	withFile := slices.IndexFunc(args, hasDockerfile)
	if len(args) > 1 && withFile >= 0 {
		return false, &usageError{
			text:  fmt.Sprintf("%s has a Dockerfile: a build from one takes one folder", args[withFile]),
			hints: []string{"for Go packages say --dockerfile=none"},
		}
	}
	return withFile < 0 && (len(args) > 1 || looksLikeGo(args[0])), nil
}

func hasDockerfile(dir string) bool {
	for _, name := range skiff.DockerfileNames {
		if st, err := os.Stat(filepath.Join(dir, name)); err == nil && !st.IsDir() {
			return true
		}
	}
	return false
}

// isGoFile tells whether an argument is a Go source file: its folder is meant, as ko and people understand main.go.
func isGoFile(arg string) bool {
	st, err := os.Stat(arg)
	return err == nil && st.Mode().IsRegular() && filepath.Ext(arg) == ".go"
}

// looksLikeGo tells whether arg is a folder with Go files, or no folder and a pattern or import path.
func looksLikeGo(arg string) bool {
	if st, err := os.Stat(arg); err == nil && st.IsDir() {
		files, _ := filepath.Glob(filepath.Join(arg, "*.go"))
		return len(files) > 0
	}
	if strings.Contains(arg, "...") {
		return true
	}
	first, _, _ := strings.Cut(arg, "/")
	return strings.Contains(first, ".") && !strings.HasPrefix(arg, ".") && !strings.ContainsAny(arg, ":#@") && !strings.HasSuffix(arg, ".git")
}

// refuse finds flags that say nothing in the kind of build that was chosen.
func (f *goFlags) refuse(flags *pflag.FlagSet, isGo bool, args []string) error {
	names, why, hint := goOnly, "is for builds without a Dockerfile", "leave it out, or build the Go packages with --dockerfile=none"
	if isGo {
		names, why = dockerOnly, "is for builds from a Dockerfile, and "+strings.Join(args, " ")+" is built from Go packages"
		hint = "leave it out, or name the Dockerfile with -f"
	}
	for _, n := range names {
		if flags.Changed(n) {
			return &usageError{text: "--" + n + " " + why, hints: []string{hint}}
		}
	}
	return nil
}

// resolve turns the flags' texts into what they mean.
func (f *goFlags) resolve(args []string) (err error) {
	for _, arg := range args {
		if isGoFile(arg) {
			arg = filepath.Dir(arg)
		}
		if !slices.Contains(f.opts.Packages, arg) {
			f.opts.Packages = append(f.opts.Packages, arg)
		}
	}
	for _, text := range f.add {
		// The target is an absolute path: what stands before it may have a colon, as C:\ has.
		i := strings.LastIndex(text, ":/")
		if i <= 0 {
			return badFlag("add", fmt.Sprintf("%q", text), "want SOURCE:TARGET, TARGET an absolute path in the image")
		}
		f.opts.Add = append(f.opts.Add, skiff.Added{Source: text[:i], Target: text[i+1:]})
	}
	if f.opts.Entrypoint, err = words("entrypoint", f.entrypoint); err != nil {
		return err
	}
	f.opts.Cmd, err = words("cmd", f.cmd)
	return err
}

// words are the values of a flag, or the members of the JSON array that is its only value.
func words(flag string, values []string) ([]string, error) {
	if len(values) != 1 || !strings.HasPrefix(values[0], "[") {
		return values, nil
	}
	var list []string
	if err := json.Unmarshal([]byte(values[0]), &list); err != nil {
		return nil, badFlag(flag, values[0], "it is no JSON array of strings")
	}
	return list, nil
}

// runGo builds Go packages.
func (f *buildFlags) runGo(ctx context.Context, state *skiff.State, cmd *cobra.Command, args []string) error {
	if err := f.golang.resolve(args); err != nil {
		return err
	}
	f.golang.opts.Warn = func(text string) { fmt.Fprintf(cmd.ErrOrStderr(), "skiff: warning: %s\n", text) }
	if f.check {
		if _, format, _ := strings.Cut(f.call, ",format="); format == "json" {
			return badFlag("call", f.call, "go vet checks Go packages, and it prints text")
		}
		if err := state.CheckGo(ctx, f.opts, f.golang.opts); err != nil {
			return err
		}
		_, err := fmt.Fprintln(cmd.OutOrStdout(), "Check complete, no warnings found.")
		return err
	}
	res, err := state.BuildGo(ctx, f.opts, f.golang.opts)
	if err != nil {
		return f.failed(err)
	}
	return f.finish(cmd, res)
}

// printChoices writes what was tried to make the programs smaller.
func printChoices(w io.Writer, choices []skiff.SizeChoice) error {
	if len(choices) == 0 {
		return nil
	}
	out := tabwriter.NewWriter(w, 0, 1, 3, ' ', 0)
	fmt.Fprintln(out, "\nTRIED\tBYTES\tSAVED\tAPPLIED\tFLAGS\tPRICE")
	last := choices[0].Bytes
	for _, c := range choices {
		bytes, saved, applied := strconv.FormatInt(c.Bytes, 10), strconv.FormatInt(last-c.Bytes, 10), "no"
		if c.Bytes < 0 {
			bytes, saved, applied = "-", "-", "not in this Go"
		}
		if c.Applied {
			applied, last = "yes", c.Bytes
		}
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\t%s\n", c.Name, bytes, saved, applied, c.Flags, c.Price)
	}
	return out.Flush()
}
