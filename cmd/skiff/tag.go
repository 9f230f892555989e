package main

import (
	"context"

	"github.com/spf13/cobra"
)

func newTag(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "tag IMAGE NAME[:TAG]",
		Short: "Give an image one more name",
		Args:  exactArgs(2, "skiff tag app:1 registry.example.com/app:1"),
		RunE: interruptible(func(ctx context.Context, _ *cobra.Command, args []string) error {
			state, err := g.open()
			if err != nil {
				return err
			}
			return state.Tag(ctx, args[0], args[1])
		}),
	}
}
