package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/skiff-build/skiff"
)

func newPrune(g *global) *cobra.Command {
	var force, all bool
	var keep string
	cmd := &cobra.Command{
		Use:   "prune [FLAGS]",
		Short: "Remove caches and results of earlier builds that no image needs",
		Args:  maxArgs(0, "skiff prune"),
		RunE: interruptible(func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			o := skiff.PruneOptions{Images: all}
			if keep != "" {
				n, err := units.FromHumanSize(keep)
				if err != nil || n < 0 {
					return badFlag("keep-storage", keep, "want a size such as 10GB")
				}
				o.Keep = n
			}
			if !force && !confirm(cmd, all) {
				return nil
			}
			state, err := g.open()
			if err != nil {
				return err
			}
			done, err := state.Prune(ctx, o)
			if err != nil {
				return err
			}
			for _, name := range done.Untagged {
				fmt.Fprintln(cmd.OutOrStdout(), "Untagged: "+name)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Total reclaimed space: %s\n", humanSize(done.Bytes))
			return nil
		}),
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	cmd.Flags().BoolVarP(&all, "all", "a", false, "remove the images, too")
	cmd.Flags().StringVar(&keep, "keep-storage", "", "`SIZE` that may stay, most recently used first (0)")
	return cmd
}

// confirm asks on a terminal. Where nobody can answer, prune goes on as with -f: a script that calls it means it.
func confirm(cmd *cobra.Command, all bool) bool {
	in, ok := cmd.InOrStdin().(*os.File)
	if !ok || !isTerminal(in) {
		return true
	}
	what := "Go's caches and the results of earlier builds that no image needs"
	if all {
		what = "all images, all results of earlier builds and Go's caches"
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "This removes %s. Go on? [y/N] ", what)
	answer, _ := bufio.NewReader(in).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return true
	}
	return false
}
