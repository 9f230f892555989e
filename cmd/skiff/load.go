package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func newLoad(g *global) *cobra.Command {
	var input string
	var quiet bool
	cmd := &cobra.Command{
		Use:   "load [FLAGS]",
		Short: "Read images from a tar archive, docker's or OCI",
		Args:  maxArgs(0, "skiff load -i app.tar"),
		RunE: interruptible(func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			in := cmd.InOrStdin()
			if input != "" && input != "-" {
				f, err := os.Open(input)
				if err != nil {
					return fmt.Errorf("load: %w", err)
				}
				defer f.Close()
				in = f
			} else if f, ok := in.(*os.File); ok && isTerminal(f) {
				return &usageError{text: "an archive is not read from a terminal", hints: []string{"name a file with -i, or redirect"}}
			}
			state, err := g.open()
			if err != nil {
				return err
			}
			loaded, err := state.Load(ctx, in)
			if err != nil || quiet {
				return err
			}
			for _, name := range loaded {
				fmt.Fprintln(cmd.OutOrStdout(), "Loaded image: "+name)
			}
			return nil
		}),
	}
	cmd.Flags().StringVarP(&input, "input", "i", "", "`FILE` to read (default standard input)")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing")
	return cmd
}
