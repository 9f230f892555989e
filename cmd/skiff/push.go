package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/skiff-build/skiff"
)

func newPush(g *global) *cobra.Command {
	var o skiff.PushOptions
	var quiet bool
	var compression compressionFlags
	cmd := &cobra.Command{
		Use:   "push [FLAGS] NAME[:TAG]",
		Short: "Send an image to a registry",
		Args:  exactArgs(1, "skiff push registry.example.com/app:1"),
		RunE: interruptible(func(ctx context.Context, cmd *cobra.Command, args []string) error {
			var err error
			if o.Compression, err = compression.parse(); err != nil {
				return err
			}
			state, err := g.open()
			if err != nil {
				return err
			}
			if !quiet {
				o.Progress = cmd.ErrOrStderr()
			}
			sent, err := state.Push(ctx, args[0], o)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: digest: %s\n", sent.Name, sent.Digest)
			return nil
		}),
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "show no progress")
	compression.define(cmd.Flags(), "of the image's own layers: `KIND[:LEVEL]`, gzip (default), zstd or uncompressed")
	return cmd
}
