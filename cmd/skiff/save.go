package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/skiff-build/skiff"
)

func newSave(g *global) *cobra.Command {
	var output, format string
	var compression compressionFlags
	cmd := &cobra.Command{
		Use:   "save [FLAGS] IMAGE...",
		Short: "Write images to a tar archive",
		Args:  minArgs(1, "skiff save -o app.tar app:1"),
		RunE: interruptible(func(ctx context.Context, cmd *cobra.Command, args []string) error {
			if format != "docker" && format != "oci" {
				return badFlag("format", format, "choose docker or oci")
			}
			toStdout := output == "" || output == "-"
			if f, ok := raw(cmd.OutOrStdout()).(*os.File); toStdout && ok && isTerminal(f) {
				return &usageError{text: "an archive is not written to a terminal", hints: []string{"name a file with -o, or redirect"}}
			}
			c, err := compression.parse()
			if err != nil {
				return err
			}
			state, err := g.open()
			if err != nil {
				return err
			}
			save := func(w io.Writer) error {
				return state.Save(ctx, w, skiff.SaveOptions{Images: args, Format: format, Compression: c})
			}
			if toStdout {
				return save(raw(cmd.OutOrStdout()))
			}
			if err := skiff.WriteFile(output, save); err != nil {
				return fmt.Errorf("write archive: %w", err)
			}
			return nil
		}),
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "`FILE` to write (default standard output)")
	cmd.Flags().StringVar(&format, "format", "docker", "docker, which docker load reads in all versions, or oci")
	compression.define(cmd.Flags(), "of the images' own layers: `KIND[:LEVEL]`, gzip, zstd or uncompressed (default as they are kept)")
	return cmd
}
