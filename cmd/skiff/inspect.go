package main

import (
	"context"
	"encoding/json"
	"fmt"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/skiff-build/skiff"
)

func newInspect(g *global) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "inspect [FLAGS] IMAGE...",
		Short: "Print what is known of images, as JSON",
		Args:  minArgs(1, "skiff inspect app:1"),
		RunE: interruptible(func(ctx context.Context, cmd *cobra.Command, args []string) error {
			state, err := g.open()
			if err != nil {
				return err
			}
			found := []*skiff.ImageDetails{}
			for _, name := range args {
				d, err := state.Inspect(ctx, name)
				if err != nil {
					return err
				}
				found = append(found, d)
			}
			if format != "" {
				return inspectWith(cmd, format, found)
			}
			enc := json.NewEncoder(cmd.OutOrStdout())
			enc.SetIndent("", "    ")
			enc.SetEscapeHTML(false)
			return enc.Encode(found)
		}),
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "Go `TEMPLATE` over the fields of the JSON")
	return cmd
}

func inspectWith(cmd *cobra.Command, format string, found []*skiff.ImageDetails) error {
	t, err := template.New("format").Funcs(template.FuncMap{"json": toJSON}).Parse(format)
	if err != nil {
		return &usageError{text: "--format: " + err.Error()}
	}
	for _, d := range found {
		if err := t.Execute(cmd.OutOrStdout(), d); err != nil {
			return &usageError{text: "--format: " + err.Error()}
		}
		fmt.Fprintln(cmd.OutOrStdout())
	}
	return nil
}
