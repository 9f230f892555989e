package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func newVerify(g *global) *cobra.Command {
	var state bool
	cmd := &cobra.Command{
		Use:   "verify --state",
		Short: "Look at all that skiff keeps, by its content, and mend what is damaged",
		Args:  maxArgs(0, "skiff verify --state"),
		RunE: interruptible(func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			if !state {
				return badFlag("state", "false", "say what is to be verified: skiff verify --state")
			}
			s, err := g.open()
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			v, err := s.Verify(ctx, func(line string) { fmt.Fprintln(out, line) })
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "Looked at %d records, %d layers, %d blobs and %d caches: ", v.Records, v.Layers, v.Blobs, v.Caches)
			switch v.Damaged {
			case 0:
				fmt.Fprintln(out, "nothing is damaged")
			default:
				fmt.Fprintf(out, "%d damaged, which the next builds make again\n", v.Damaged)
			}
			if len(v.Broken) > 0 {
				return fmt.Errorf("images lack layers that cannot be made again: build, pull or load them: %s", strings.Join(v.Broken, ", "))
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&state, "state", false, "the state: records, layers, blobs, Go's caches")
	return cmd
}
