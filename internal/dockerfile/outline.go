package dockerfile

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Outline is what a Dockerfile lets the caller choose: its stages that have names, and its build arguments, each once, in their order.
func Outline(text []byte) (stages, args []string, err error) {
	tree, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, nil, fmt.Errorf("read Dockerfile: %w", err)
	}
	parsed, meta, err := instructions.Parse(tree.AST, linter.New(&linter.Config{SkipAll: true}))
	if err != nil {
		return nil, nil, fmt.Errorf("read Dockerfile: %w", err)
	}
	add := func(all []string, name string) []string {
		if name == "" || slices.Contains(all, name) {
			return all
		}
		return append(all, name)
	}
	for _, a := range meta {
		for _, kv := range a.Args {
			args = add(args, kv.Key)
		}
	}
	for _, s := range parsed {
		stages = add(stages, s.Name)
		for _, c := range s.Commands {
			if a, ok := c.(*instructions.ArgCommand); ok {
				for _, kv := range a.Args {
					args = add(args, kv.Key)
				}
			}
		}
	}
	return stages, args, nil
}
