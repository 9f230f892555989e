package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/skiff-build/skiff"
)

// buildFlags are the flags of build as they were given. Those that only say what is done anyway, or ask for what is not
// built, are in refused.go.
type buildFlags struct {
	opts        skiff.BuildOptions
	buildArgs   []string
	labels      []string
	contexts    []string
	secrets     []string
	ssh         []string
	outputs     []string
	annotations []string
	shmSize     string
	limits      limitFlags
	keepStorage string
	timestamps  string
	progress    string
	compression compressionFlags
	iidFile     string
	metadata    string
	call        string
	pull        string
	check       bool
	quiet       bool
	push        bool
	load        bool
	strict      string
	report      string
	refused     refusedFlags
	golang      goFlags
}

func newBuild(g *global) *cobra.Command {
	var f buildFlags
	cmd := &cobra.Command{
		Use:   "build [FLAGS] FOLDER|URL|PACKAGE...|-",
		Short: "Build an image from a Dockerfile, or from Go packages",
		Long: "Build an image from the Dockerfile in FOLDER, in the git repository or tar at URL, or in the tar on standard input (-); where there is none, from the Go main package in it, or from the " +
			"packages that patterns and import paths name, with the machine's own go command. A name that ends in a slash, " +
			"-t PREFIX/, makes an image of each main package.",
		Example: "  skiff build -t app:1 .\n" +
			"  skiff build -t app:1 -f build/Dockerfile --build-arg VERSION=1 .\n" +
			"  skiff build -o type=local,dest=out .\n" +
			"  skiff build -t app:1 ./cmd/app\n" +
			"  skiff build -t registry.example/team/ --push ./cmd/...",
		Args: minArgs(1, "skiff build -t app:1 ."),
		RunE: interruptible(func(ctx context.Context, cmd *cobra.Command, args []string) error {
			return f.run(ctx, g, cmd, args)
		}),
	}
	f.define(cmd.Flags())
	return cmd
}

func (f *buildFlags) define(flags *pflag.FlagSet) {
	o := &f.opts
	flags.SortFlags = true
	flags.StringArrayVarP(&o.Tags, "tag", "t", nil, "name of the image, `NAME[:TAG]` (several)")
	flags.StringVarP(&o.File, "file", "f", "", "`FILE`, the Dockerfile (default FOLDER/Dockerfile; - is standard input)")
	flags.StringVar(&o.Target, "target", "", "the `STAGE` to build")
	flags.StringArrayVar(&f.buildArgs, "build-arg", nil, "`NAME=VALUE` of an ARG; NAME alone takes the value of the environment")
	flags.StringArrayVar(&f.labels, "label", nil, "`KEY=VALUE` of a label")
	flags.StringArrayVar(&f.annotations, "annotation", nil, "`[LEVEL:]KEY=VALUE` of an annotation; level is manifest (default), index, manifest-descriptor or index-descriptor")
	flags.StringSliceVar(&o.Platforms, "platform", platformsFromEnv(), "`OS/ARCH[/VARIANT]` to build for; several give an index")
	flags.StringArrayVar(&f.contexts, "build-context", nil, "`NAME=FOLDER`, docker-image://, oci-layout:// or a URL, for FROM and COPY --from")
	flags.StringArrayVar(&f.secrets, "secret", nil, "`id=ID[,src=FILE|,env=NAME]` for RUN --mount=type=secret")
	flags.StringArrayVar(&f.ssh, "ssh", nil, "`default|ID[=SOCKET|KEYFILE[,KEYFILE]]` for RUN --mount=type=ssh")
	flags.BoolVar(&o.NoCache, "no-cache", false, "take no results of earlier builds")
	flags.StringSliceVar(&o.NoCacheFilter, "no-cache-filter", nil, "`STAGES` that take no results of earlier builds")
	flags.StringVar(&f.pull, "pull", "missing", "`WHEN` registries are asked what a tag means: missing (what is not here), always or never; alone: always")
	flags.Lookup("pull").NoOptDefVal = "always"
	flags.StringVar(&f.progress, "progress", "", "`MODE`: auto, plain, tty, quiet or rawjson (default BUILDKIT_PROGRESS, else auto)")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "print the image's ID alone")
	flags.StringVar(&f.iidFile, "iidfile", "", "`FILE` to write the image's ID to")
	flags.StringVar(&f.metadata, "metadata-file", "", "`FILE` to write the build's metadata to, as JSON")
	flags.StringArrayVarP(&f.outputs, "output", "o", nil, "`OUTPUT`: type=local, tar, oci, docker, image or registry with ,dest=PATH; a folder; or - for a tar on standard output (several)")
	flags.BoolVar(&f.push, "push", false, "push the image: -o type=registry")
	flags.BoolVar(&f.load, "load", false, "keep the image, and load it into the Docker daemon where there is one")
	flags.BoolVar(&o.Explain, "explain", false, "say of each step that runs why: a file of the context, an argument, a base, or the first time")
	flags.BoolVar(&f.check, "check", false, "check the Dockerfile, or the Go packages, and build nothing")
	flags.StringVar(&f.call, "call", "build", "`METHOD`: build, or check[,format=json]")
	flags.StringVar(&o.Network, "network", "default", "`NETWORK` of the RUN steps: default (their own, which reaches other machines), none, or host with --allow network.host")
	flags.StringArrayVar(&o.AddHosts, "add-host", nil, "`HOST:IP` for /etc/hosts of the RUN steps")
	flags.StringArrayVar(&o.Ulimits, "ulimit", nil, "`NAME=SOFT[:HARD]` limit of the RUN steps")
	flags.StringVar(&f.shmSize, "shm-size", "", "`SIZE` of /dev/shm in the RUN steps (64m)")
	f.limits.define(flags, "a RUN step")
	flags.StringArrayVar(&o.Allow, "allow", nil, "`ENTITLEMENT` that RUN may use: network.host or security.insecure")
	flags.StringVar(&o.GoBase, "go-base", "auto", "`BASE` of golang stages that do not ship: auto, builtin or image")
	flags.StringSliceVar(&o.Faithful, "faithful", nil, "leave `REWRITES` out that knowing Go allows: "+strings.Join(skiff.Rewrites, ", ")+"; alone: all")
	flags.Lookup("faithful").NoOptDefVal = "all"
	flags.StringVar(&f.keepStorage, "keep-storage", "", "`SIZE` of the state above which the least recently used goes (10GB or a tenth of the disk)")
	flags.StringVar(&f.timestamps, "timestamps", "epoch", "`TIMES` in new layers: epoch (SOURCE_DATE_EPOCH, else 0) or keep")
	flags.StringVar(&f.strict, "strict", "", "fail where the image has findings of `SEVERITY` or worse: error, warning or info; alone: warning")
	flags.Lookup("strict").NoOptDefVal = "warning"
	flags.BoolVar(&o.AddMissing, "add-missing", false, "add what programs need and the image lacks: CA certificates, time zones, users, /tmp, a home")
	flags.StringSliceVar(&o.Ignore, "ignore", nil, "`IDS` of findings to leave out; a comment in the Dockerfile does, too: # skiff: ignore=ID")
	flags.StringVar(&f.report, "report", "", "`FILE` to write all that is known of the image to: text; JSON where its name ends in .json; the findings as SARIF where it ends in .sarif")
	f.compression.define(flags, "of new layers that leave by -o or --push: `KIND[:LEVEL]`, gzip (default), zstd or uncompressed")
	f.refused.define(flags, refusedByBuild())
	f.golang.define(flags)
}

func platformsFromEnv() []string {
	if p := os.Getenv("DOCKER_DEFAULT_PLATFORM"); p != "" {
		return strings.Split(p, ",")
	}
	return nil
}

func (f *buildFlags) run(ctx context.Context, g *global, cmd *cobra.Command, args []string) error {
	if err := f.refused.check(); err != nil {
		return err
	}
	isGo, err := f.golang.chosen(cmd.Flags(), args)
	if err != nil {
		return err
	}
	if err := f.golang.refuse(cmd.Flags(), isGo, args); err != nil {
		return err
	}
	if !isGo && len(args) > 1 {
		return exactArgs(1, "skiff build -t app:1 .")(cmd, args)
	}
	f.opts.Context = args[0]
	if err := f.resolve(cmd.InOrStdin()); err != nil {
		return err
	}
	state, err := g.open()
	if err != nil {
		return err
	}
	f.opts.Progress, f.opts.ProgressMode = raw(cmd.ErrOrStderr()), f.progress
	f.opts.Stdout = raw(cmd.OutOrStdout())
	if isGo {
		return f.runGo(ctx, state, cmd, args)
	}
	if f.check {
		return f.runCheck(ctx, state, cmd.OutOrStdout())
	}
	res, err := state.Build(ctx, f.opts)
	if err != nil {
		return f.failed(err)
	}
	return f.finish(cmd, []*skiff.BuildResult{res})
}

func (f *buildFlags) runCheck(ctx context.Context, state *skiff.State, out io.Writer) error {
	_, format, _ := strings.Cut(f.call, ",format=")
	err := state.Check(ctx, f.opts, out, format == "json")
	if errors.Is(err, skiff.ErrFindings) {
		return exitCode(exitFailure)
	}
	return err
}

// finish prints and writes what a build came to: one image, or several of Go packages.
func (f *buildFlags) finish(cmd *cobra.Command, results []*skiff.BuildResult) error {
	out, errOut := cmd.OutOrStdout(), cmd.ErrOrStderr()
	var ids []string
	var rows []skiff.Image
	for _, res := range results {
		if res.ID != "" && len(res.Pushed) > 0 {
			ids, rows = append(ids, res.Descriptor.Digest.String()), append(rows, res.Images()...)
		} else if res.ID != "" {
			ids, rows = append(ids, res.ID), append(rows, res.Images()...)
		}
	}
	if f.iidFile != "" {
		if err := writeText(f.iidFile, strings.Join(ids, "\n")); err != nil {
			return fmt.Errorf("write image ID: %w", err)
		}
	}
	if f.metadata != "" {
		if err := writeMetadata(f.metadata, results); err != nil {
			return err
		}
	}
	var reports []*skiff.Report
	for _, res := range results {
		reports = append(reports, res.Reports...)
	}
	if f.report != "" {
		if err := writeReport(f.report, reports); err != nil {
			return err
		}
	}
	switch {
	case slices.ContainsFunc(results, func(r *skiff.BuildResult) bool { return r.StdoutUsed }):
		printPushed(errOut, results)
		return nil
	case f.quiet:
		for _, id := range ids {
			fmt.Fprintln(out, id)
		}
		return nil
	}
	for _, res := range results {
		skiff.PrintWarnings(errOut, res.Warnings)
	}
	if len(rows) > 0 {
		if err := printTable(out, rows, tableOptions{}); err != nil {
			return err
		}
	}
	if err := printChoices(out, results[0].SizeChoices); err != nil {
		return err
	}
	for _, res := range results {
		if line := weights(res); line != "" {
			fmt.Fprintln(out, line)
		}
	}
	for _, res := range results {
		printSummary(errOut, res.Reports, res.Kept)
	}
	printPushed(out, results)
	return nil
}

// failed writes the report of an image that --strict refuses: it says why.
func (f *buildFlags) failed(err error) error {
	var found *skiff.FindingsError
	if !errors.As(err, &found) {
		return err
	}
	if f.report != "" {
		if werr := writeReport(f.report, found.Reports); werr != nil {
			return errors.Join(err, werr)
		}
	}
	return withHint(err, findingLines(found)...)
}

// weights says what the stages weighed against what ships, where stages were left behind.
func weights(res *skiff.BuildResult) string {
	const worth = 1 << 20 // of a megabyte less nobody needs to hear
	if res.ID == "" || res.StageBytes < res.Size+worth {
		return ""
	}
	return fmt.Sprintf("\nThe stages weighed %s; %s of it ships.", humanSize(res.StageBytes), humanSize(res.Size))
}

func humanSize(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }
