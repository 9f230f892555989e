package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func newRmi(g *global) *cobra.Command {
	var force, noPrune bool
	cmd := &cobra.Command{
		Use:   "rmi [FLAGS] IMAGE...",
		Short: "Remove images",
		Args:  minArgs(1, "skiff rmi app:1"),
		RunE: interruptible(func(ctx context.Context, cmd *cobra.Command, args []string) error {
			state, err := g.open()
			if err != nil {
				return err
			}
			var errs []error
			for _, name := range args {
				removed, err := state.Remove(ctx, name, force)
				for _, r := range removed.Untagged {
					fmt.Fprintln(cmd.OutOrStdout(), "Untagged: "+r)
				}
				if removed.Deleted != "" {
					fmt.Fprintln(cmd.OutOrStdout(), "Deleted: "+removed.Deleted)
				}
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		}),
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "remove all names of an image that is given by its ID, and do not complain of one that is not there")
	cmd.Flags().BoolVar(&noPrune, "no-prune", false, "as docker's; untagged parents are prune's business")
	_ = cmd.Flags().MarkHidden("no-prune")
	return cmd
}
