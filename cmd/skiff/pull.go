package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/skiff-build/skiff"
)

func newPull(g *global) *cobra.Command {
	var o skiff.PullOptions
	var quiet bool
	cmd := &cobra.Command{
		Use:   "pull [FLAGS] NAME[:TAG|@DIGEST]",
		Short: "Fetch an image from a registry",
		Args:  exactArgs(1, "skiff pull alpine:3.22"),
		RunE: interruptible(func(ctx context.Context, cmd *cobra.Command, args []string) error {
			state, err := g.open()
			if err != nil {
				return err
			}
			if !quiet {
				o.Progress = cmd.ErrOrStderr()
			}
			got, err := state.Pull(ctx, args[0], o)
			if err != nil {
				return err
			}
			if !quiet {
				fmt.Fprintf(cmd.OutOrStdout(), "Digest: %s\n", got.Digest)
			}
			fmt.Fprintln(cmd.OutOrStdout(), got.Name)
			return nil
		}),
	}
	cmd.Flags().StringVar(&o.Platform, "platform", "", "`OS/ARCH[/VARIANT]` of the image (this machine's)")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the name alone")
	return cmd
}
