package skiff

import (
	"context"
	"fmt"
	"io/fs"
	"os"

	"github.com/skiff-build/skiff/internal/engine"
	"github.com/skiff-build/skiff/internal/gobase"
)

// goBases gives the engine the layers of the built-in Go base.
type goBases struct{ bases *gobase.Bases }

func (g goBases) Layers(ctx context.Context, identifier string) ([]engine.BaseLayer, error) {
	layers, err := g.bases.Layers(ctx, identifier)
	if err != nil {
		return nil, err
	}
	var out []engine.BaseLayer
	for _, l := range layers {
		out = append(out, engine.BaseLayer{ID: l.ID, Open: l.Open})
	}
	return out, nil
}

// goPolicy reads --go-base.
func goPolicy(text string) (gobase.Policy, error) {
	switch p := gobase.Policy(text); p {
	case "":
		return gobase.Auto, nil
	case gobase.Auto, gobase.Builtin, gobase.Image:
		return p, nil
	}
	return "", fmt.Errorf("go-base %q: choose auto, builtin or image", text)
}

// goBaseOptions are the built-in base's part of a build.
func (b *build) goBaseOptions() gobase.Options {
	return gobase.Options{
		Policy: b.policy, Tools: b.tools, Pull: b.o.Pull, Note: b.steps.note,
		Local: func(name string) (fs.FS, bool) {
			dir, ok := b.df.Locals()[name]
			return os.DirFS(dir), ok
		},
	}
}

// stepEnv is what a step in the built-in base gets of this machine while it runs.
func stepEnv(_ context.Context, env []string) (engine.StepExtras, error) {
	x := gobase.StepEnv(env)
	return engine.StepExtras{Env: x.Env, Files: x.Files}, nil
}
