package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/docker/cli/templates"
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
	cmd.Flags().StringVarP(&format, "format", "f", "", "`TEMPLATE` of Go, with docker's functions, over all that the JSON shows; or json, on one line")
	return cmd
}

func inspectWith(cmd *cobra.Command, format string, found []*skiff.ImageDetails) error {
	if format == "json" {
		fmt.Fprintln(cmd.OutOrStdout(), toJSON(found))
		return nil
	}
	t, err := templates.New("format").Option("missingkey=error").Parse(format)
	if err != nil {
		return &usageError{text: "--format: " + err.Error()}
	}
	for _, d := range found {
		value, err := asShown(d, format)
		if err != nil {
			return err
		}
		var line bytes.Buffer // nothing is printed of a template that fails
		if err := t.Execute(&line, value); err != nil {
			return &usageError{text: "--format: " + err.Error()}
		}
		fmt.Fprintln(cmd.OutOrStdout(), line.String())
	}
	return nil
}

// asShown is what the JSON of an image shows, so that a template may name all of it. Docker's templates also know the id as .ID.
func asShown(d *skiff.ImageDetails, format string) (map[string]any, error) {
	text, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var value map[string]any
	if err := dec.Decode(&value); err != nil {
		return nil, err
	}
	value = withNumbers(value).(map[string]any)
	if strings.Contains(format, ".ID") {
		value["ID"] = value["Id"]
	}
	return value, nil
}

// withNumbers makes of JSON's numbers those that templates can compare and print: whole ones where they are.
func withNumbers(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for key, inner := range v {
			v[key] = withNumbers(inner)
		}
	case []any:
		for i, inner := range v {
			v[i] = withNumbers(inner)
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		n, _ := v.Float64() // a number of JSON
		return n
	}
	return value
}
