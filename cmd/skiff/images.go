package main

import (
	"context"

	"github.com/spf13/cobra"
)

func newImages(g *global) *cobra.Command {
	var o tableOptions
	var all bool
	var filter []string
	cmd := &cobra.Command{
		Use:     "images [FLAGS] [REPOSITORY[:TAG]]",
		Aliases: []string{"ls"},
		Short:   "List the images in the state",
		Args:    maxArgs(1, "skiff images app"),
		RunE: interruptible(func(ctx context.Context, cmd *cobra.Command, args []string) error {
			filters, err := parseFilters(filter)
			if err != nil {
				return err
			}
			state, err := g.open()
			if err != nil {
				return err
			}
			pattern := ""
			if len(args) == 1 {
				pattern = args[0]
			}
			images, err := state.Images(ctx, pattern)
			if err != nil {
				return err
			}
			if images, err = filters.apply(ctx, state, images); err != nil {
				return err
			}
			return printTable(cmd.OutOrStdout(), images, o)
		}),
	}
	cmd.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "print IDs alone")
	cmd.Flags().BoolVar(&o.noTrunc, "no-trunc", false, "print whole IDs")
	cmd.Flags().BoolVar(&o.digests, "digests", false, "print the digests of the manifests")
	cmd.Flags().StringVar(&o.format, "format", "", "`FORMAT`: table, json, or a Go template over .Repository .Tag .Digest .ID .CreatedSince .CreatedAt .Size")
	cmd.Flags().StringArrayVarP(&filter, "filter", "f", nil, "`NAME=VALUE` that images have: reference, label, dangling, before, since or until (several)")
	cmd.Flags().BoolVarP(&all, "all", "a", false, "as docker's; there are no intermediate images to add")
	return cmd
}
