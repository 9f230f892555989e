package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
)

func newHistory(g *global) *cobra.Command {
	var noTrunc, quiet bool
	cmd := &cobra.Command{
		Use:   "history [FLAGS] IMAGE",
		Short: "List the steps by which an image was made",
		Args:  exactArgs(1, "skiff history app:1"),
		RunE: interruptible(func(ctx context.Context, cmd *cobra.Command, args []string) error {
			state, err := g.open()
			if err != nil {
				return err
			}
			steps, err := state.History(ctx, args[0])
			if err != nil {
				return err
			}
			d, err := state.Inspect(ctx, args[0])
			if err != nil {
				return err
			}
			id := d.ID
			if !noTrunc {
				id = shortID(id)
			}
			out := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 1, 3, ' ', 0)
			if !quiet {
				fmt.Fprintln(out, "IMAGE\tCREATED\tCREATED BY\tSIZE\tCOMMENT")
			}
			for i, s := range steps {
				if i > 0 {
					id = "<missing>" // as docker's: only the last step has an image
				}
				if quiet {
					fmt.Fprintln(out, id)
					continue
				}
				since := "N/A"
				if s.Created.Year() > 1980 { // reproducible builds say 1970
					since = units.HumanDuration(time.Since(s.Created)) + " ago"
				}
				by := strings.Join(strings.Fields(s.CreatedBy), " ")
				if most := 45; !noTrunc && len([]rune(by)) > most {
					by = string([]rune(by)[:most-1]) + "…"
				}
				fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\n", id, since, by, humanSize(s.Size), strings.Join(strings.Fields(s.Comment), " "))
			}
			return out.Flush()
		}),
	}
	cmd.Flags().BoolVar(&noTrunc, "no-trunc", false, "print whole IDs and steps")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print IDs alone")
	return cmd
}
