package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// dockerGroups are the words of docker's for which there are commands: others than the verbs are made only where one is said.
var dockerGroups = []string{"image", "buildx", "builder", "system", "container", "ps", "exec", "import", "export"}

// dockerWords are the groups under which docker has the verbs, too: skiff image ls is skiff images. What docker does under a word and skiff
// does otherwise is an error that says the command.
func dockerWords(g *global) []*cobra.Command {
	return []*cobra.Command{
		group("image", renamed(newImages(g), "ls", "list"), renamed(newRmi(g), "rm", "remove"), newInspect(g), newTag(g), newPush(g), newPull(g),
			newSave(g), newLoad(g), newBuild(g), newHistory(g),
			instead("prune", "skiff prune removes what no image needs; skiff prune -a removes the images, too; skiff rmi some of them")),
		group("buildx", newBuild(g), renamed(newPrune(g), "prune"), renamed(newSystemDF(g), "du"),
			instead("bake", "there are no bake files: call skiff build for each image"),
			instead("imagetools", "skiff inspect tells of an image that is here, skiff pull brings it"),
			instead("create", "there are no builders to make: skiff build builds by itself"), instead("use", "there are no builders to choose: leave it out"),
			instead("ls", "there are no builders to list: leave it out")),
		group("builder", newBuild(g), renamed(newPrune(g), "prune")),
		group("system", renamed(newSystemDF(g), "df"), renamed(newPrune(g), "prune")),
		group("container", newRun(g)),
		instead("ps", "there are no containers to list: skiff run ends with its program"),
		instead("exec", "start what you want to start by skiff run IMAGE COMMAND"),
		instead("import", "FROM scratch and ADD root.tar / in a Dockerfile makes an image of a file system"),
		instead("export", "skiff build -o type=tar,dest=root.tar writes a file system"),
	}
}

// group is a word of docker's before a verb. Help does not list it: the verbs stand for themselves.
func group(name string, verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: name, Hidden: true, Short: "As docker's",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, v := range verbs {
		v.DisableFlagsInUseLine = true
	}
	cmd.AddCommand(verbs...)
	return cmd
}

// renamed gives a verb the word that docker has for it in a group.
func renamed(cmd *cobra.Command, name string, aliases ...string) *cobra.Command {
	_, rest, _ := strings.Cut(cmd.Use, " ")
	cmd.Use, cmd.Aliases = strings.TrimSpace(name+" "+rest), aliases
	return cmd
}

// instead is a word of docker's for which there is another way.
func instead(name, way string) *cobra.Command {
	return &cobra.Command{
		Use: name, Hidden: true, Short: way, DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return &usageError{text: "there is no " + cmd.CommandPath(), hints: []string{way}}
		},
	}
}

func newSystemDF(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "df", Short: "Say what the state takes on the disk", Args: maxArgs(0, "skiff system df"),
		RunE: interruptible(func(_ context.Context, cmd *cobra.Command, _ []string) error {
			state, err := g.open()
			if err != nil {
				return err
			}
			u, err := state.DiskUsage()
			if err != nil {
				return err
			}
			out := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 1, 3, ' ', 0)
			fmt.Fprintln(out, "TYPE\tSIZE")
			for _, row := range []struct {
				name  string
				bytes int64
			}{{"Images' blobs", u.Blobs}, {"Layers", u.Layers}, {"Caches", u.Caches}, {"Records", u.Records}, {"Other", u.Other}, {"Total", u.Total()}} {
				fmt.Fprintf(out, "%s\t%s\n", row.name, humanSize(row.bytes))
			}
			return out.Flush()
		}),
	}
}
