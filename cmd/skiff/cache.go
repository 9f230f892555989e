package main

import (
	"context"
	"io"
	"os"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/skiff-build/skiff"
)

func newCache(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "Save the state to a file, and load it on another machine",
		Args:  maxArgs(0, "skiff cache save FILE"),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCacheSave(g), newCacheLoad(g))
	return cmd
}

func newCacheSave(g *global) *cobra.Command {
	var keep string
	cmd := &cobra.Command{
		Use:   "save [FLAGS] FILE",
		Short: "Write results, images and caches to one file (-: standard output)",
		Args:  cobra.MatchAll(minArgs(1, "skiff cache save cache.tar.zst"), maxArgs(1, "skiff cache save cache.tar.zst")),
		RunE: interruptible(func(ctx context.Context, cmd *cobra.Command, args []string) error {
			var n int64
			if keep != "" {
				var err error
				if n, err = units.FromHumanSize(keep); err != nil || n < 0 {
					return badFlag("keep-storage", keep, "want a size such as 1GB")
				}
			}
			state, err := g.open()
			if err != nil {
				return err
			}
			save := func(w io.Writer) error { return state.SaveCache(ctx, w, n) }
			if args[0] == "-" {
				return save(raw(cmd.OutOrStdout()))
			}
			return skiff.WriteFile(args[0], save)
		}),
	}
	cmd.Flags().StringVar(&keep, "keep-storage", "", "`SIZE` that the state may have before it is saved: what was used longest ago goes (default all)")
	return cmd
}

func newCacheLoad(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "load FILE",
		Short: "Read such a file (-: standard input) into an empty state",
		Args:  cobra.MatchAll(minArgs(1, "skiff cache load cache.tar.zst"), maxArgs(1, "skiff cache load cache.tar.zst")),
		RunE: interruptible(func(ctx context.Context, cmd *cobra.Command, args []string) error {
			in := cmd.InOrStdin()
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			state, err := g.open()
			if err != nil {
				return err
			}
			return state.LoadCache(ctx, in)
		}),
	}
}
