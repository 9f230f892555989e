// Skiff builds container images from Dockerfiles without a daemon, keeps them and runs them.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/skiff-build/skiff"
)

// Exit codes as docker's: 125 is a mistake in the command line or of skiff run itself, 130 an interrupt.
const (
	exitFailure     = 1
	exitUnread      = 2 // of check alone: what it is to look at could not be read
	exitUsage       = 125
	exitInterrupted = 130
)

func main() {
	if os.Getenv("GOGC") == "" {
		tuneGC()
	}
	skiff.Init()
	os.Exit(run(os.Args[1:]))
}

// tuneGC lets the heap grow to 16 MB before the first collection: an unchanged build ends below that, and so does the start of
// every process that a step takes. From then on half of what lives comes on top, which is enough: with large contexts most
// of the memory lives long.
func tuneGC() {
	debug.SetGCPercent(400) // of a smallest heap of 4 MB
	// Not a smaller object: those share a block, and live as long as their neighbours.
	runtime.AddCleanup(new([16]byte), func(percent int) { debug.SetGCPercent(percent) }, 50)
}

// run does what args ask for and returns the exit code.
func run(args []string) int {
	var g global
	root := newRoot(&g)
	g.args = args
	if slices.ContainsFunc(args, func(arg string) bool { return slices.Contains(dockerGroups, arg) }) {
		root.AddCommand(dockerWords(&g)...)
	}
	if asksForCompletion(args) {
		setCompletions(&g, root)
	}
	root.SetArgs(args)
	// What is printed holds text of others: see [raw].
	root.SetOut(skiff.Printable(os.Stdout))
	root.SetErr(skiff.Printable(os.Stderr))
	code := exitOf(root.ExecuteContext(context.Background()))
	// What goes wrong in the clean-up takes nothing away from what the command did.
	if err := g.close(); err != nil {
		fmt.Fprintf(os.Stderr, "skiff: warning: clean up: %s\n", skiff.PrintableLine(err.Error()))
	}
	return code
}

// exitOf reports err and returns the exit code.
func exitOf(err error) int {
	var code exitCode
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	}
	return report(skiff.Printable(os.Stderr), err)
}

// exitCode ends skiff with a code and says nothing more.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// global are the settings of every verb.
type global struct {
	root  string
	args  []string     // of the command line
	state *skiff.State // nil until a verb needs it
}

func newRoot(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use:           "skiff",
		Short:         "Build container images without a daemon",
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&g.root, "root", "", "`FOLDER` of skiff's state (default: SKIFF_ROOT, else $XDG_DATA_HOME/skiff)")
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if verb := firstWord(g.args); !cmd.HasParent() && verb != "" {
			return unknownCommand(cmd, verb) // a flag after it is that of a verb that does not exist
		}
		return flagError(cmd, err)
	})
	setHelp(cmd)
	cmd.AddCommand(
		newBuild(g), newImages(g), newInspect(g), newTag(g), newRmi(g), newPrune(g), newSave(g), newLoad(g),
		newPull(g), newPush(g), newRun(g), newCheck(g), newVerify(g), newCache(g), newLogin(g), newLogout(g), newVersion(), newHistory(g), newInit(), newMan(),
	)
	for _, verb := range cmd.Commands() {
		verb.DisableFlagsInUseLine = true // they say [FLAGS] themselves, before the arguments
	}
	return cmd
}

// firstWord is the first argument that is no flag; "" for none.
func firstWord(args []string) string {
	for _, a := range args {
		if !strings.HasPrefix(a, "-") {
			return a
		}
	}
	return ""
}

// open opens the state, which stays open until the command has ended.
func (g *global) open() (state *skiff.State, err error) {
	g.state, err = skiff.Open(skiff.Config{Root: g.root, Warn: func(text string) {
		fmt.Fprintf(os.Stderr, "skiff: warning: %s\n", text)
	}})
	return g.state, err
}

func (g *global) close() error {
	if g.state == nil {
		return nil
	}
	return g.state.Close()
}

// grace is how long an interrupted command may clean up. What it leaves then is swept by the next one.
const grace = 800 * time.Millisecond

// interruptible gives f a context that the first SIGINT or SIGTERM cancels. The second, or a clean-up that takes longer than
// [grace], ends the process.
func interruptible(f func(ctx context.Context, cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ctx, cancel := context.WithCancelCause(cmd.Context())
		defer cancel(nil)
		signals := make(chan os.Signal, 2)
		signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
		defer signal.Stop(signals)
		go func() {
			select {
			case <-signals:
			case <-ctx.Done():
				return
			}
			cancel(errInterrupted)
			select {
			case <-signals:
			case <-time.After(grace):
			}
			os.Exit(exitInterrupted)
		}()
		err := f(ctx, cmd, args)
		if errors.Is(context.Cause(ctx), errInterrupted) {
			return errInterrupted
		}
		return err
	}
}

var errInterrupted = errors.New("interrupted")
