package main

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/skiff-build/skiff"
)

// asksForCompletion says that a shell asks what could come next: only then is it worth to find out.
func asksForCompletion(args []string) bool {
	return len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd)
}

// completionTime is what somebody who waits for a completion may be kept waiting: a go command over a large module takes longer.
const completionTime = 5 * time.Second

// Words that flags take.
var (
	platformWords = []string{
		"linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6", "linux/386", "linux/ppc64le", "linux/riscv64", "linux/s390x", "linux/loong64",
	}
	severityWords = []string{string(skiff.SeverityError), string(skiff.SeverityWarning), string(skiff.SeverityInfo)}
	outputWords   = []string{"type=local,dest=", "type=tar,dest=", "type=oci,dest=", "type=docker,dest=", "type=image", "type=registry"}
)

// flagWords are the words that a flag of a verb takes, by "VERB FLAG", or by FLAG alone for all verbs.
var flagWords = map[string][]string{
	"platform":       platformWords,
	"progress":       {"auto", "plain", "tty", "quiet", "rawjson"},
	"pull":           {"missing", "always", "never"},
	"network":        {"default", "none", "host"},
	"go-base":        {"auto", "builtin", "image"},
	"timestamps":     {"epoch", "keep"},
	"compression":    {"gzip", "zstd", "uncompressed"},
	"optimize":       {"size"},
	"allow":          {"network.host", "security.insecure"},
	"call":           {"build", "check"},
	"dockerfile":     {"auto", "none"},
	"faithful":       append([]string{"all"}, skiff.Rewrites...),
	"ignore":         skiff.FindingIDs,
	"strict":         severityWords,
	"fail-on":        append([]string{"none"}, severityWords...),
	"output":         outputWords,
	"check format":   reportFormats,
	"images format":  {"table", "json"},
	"inspect format": {"json"},
	"save format":    {"docker", "oci"},
	"images filter":  {"before=", "dangling=true", "label=", "reference=", "since=", "until="},
}

// setCompletions tells the shells' completion what the flags and arguments of all verbs may be.
func setCompletions(g *global, root *cobra.Command) {
	for _, cmd := range root.Commands() {
		setCompletions(g, cmd)
		name := cmd.Name()
		if name == "ls" || name == "list" {
			name = "images"
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			words, ok := flagWords[name+" "+f.Name]
			if !ok {
				words, ok = flagWords[f.Name]
			}
			if ok {
				_ = cmd.RegisterFlagCompletionFunc(f.Name, oneOf(words)) // an error would be one of another function there
			}
		})
		switch name {
		case "build":
			_ = cmd.RegisterFlagCompletionFunc("target", fromDockerfile(func(stages, _ []string) []string { return stages }))
			_ = cmd.RegisterFlagCompletionFunc("build-arg", fromDockerfile(func(_, args []string) []string {
				var words []string
				for _, a := range args {
					words = append(words, a+"=")
				}
				return words
			}))
			_ = cmd.RegisterFlagCompletionFunc("tag", imageNames(g))
			cmd.ValidArgsFunction = packagesAndFolders
		case "init":
			cmd.ValidArgsFunction = packagesAndFolders
		case "run", "history", "tag", "push", "verify":
			cmd.ValidArgsFunction = first(imageNames(g))
		case "inspect", "rmi", "rm", "save", "images":
			cmd.ValidArgsFunction = imageNames(g)
		case "check":
			cmd.ValidArgsFunction = first(imagesAndFiles(g))
		}
	}
}

// oneOf completes words. One that ends in "=" or with a type goes on after it.
func oneOf(words []string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return matching(words, begun)
	}
}

// matching are the words that begin as the user has; of a list with commas, the last member counts.
func matching(words []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	list := ""
	if i := strings.LastIndex(begun, ","); i >= 0 && !strings.Contains(begun, "=") {
		list = begun[:i+1]
	}
	var found []cobra.Completion
	directive := cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	for _, w := range words {
		if strings.HasPrefix(list+w, begun) {
			found = append(found, list+w)
			if strings.HasSuffix(w, "=") {
				directive |= cobra.ShellCompDirectiveNoSpace
			}
		}
	}
	return found, directive
}

// first completes the first argument alone; what follows is files, of which the shell knows.
func first(f cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		return f(cmd, args, begun)
	}
}

// imageNames completes the names of the images in the state, which is not made where there is none.
func imageNames(g *global) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(context.Background(), completionTime)
		defer cancel()
		state, err := g.open()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		images, err := state.Images(ctx, "")
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, i := range images {
			name := i.Repository + ":" + i.Tag
			if i.Repository != "" && i.Tag != "" && !slices.Contains(args, name) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		return matching(names, begun)
	}
}

// imagesAndFiles are images, and where none begins so, files.
func imagesAndFiles(g *global) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		names, directive := imageNames(g)(cmd, args, begun)
		if len(names) == 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		return names, directive
	}
}

// fromDockerfile completes what the Dockerfile of the command line has: that of -f, else that of the folder, else that of this one.
func fromDockerfile(pick func(stages, args []string) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		name, _ := cmd.Flags().GetString("file") // build has the flag
		if name == "" {
			dir := "."
			if len(args) > 0 {
				dir = args[0]
			}
			for _, n := range skiff.DockerfileNames {
				if name == "" && isFile(filepath.Join(dir, n)) {
					name = filepath.Join(dir, n)
				}
			}
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		stages, buildArgs, err := skiff.OutlineDockerfile(text)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return matching(pick(stages, buildArgs), begun)
	}
}

func isFile(name string) bool {
	st, err := os.Stat(name)
	return err == nil && st.Mode()&fs.ModeType == 0
}

// packagesAndFolders completes the main packages of the module or workspace here, and where none begins so, folders.
func packagesAndFolders(_ *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var found []cobra.Completion
	if isGoRoot(".") {
		for _, name := range mainFolders(".") {
			if strings.HasPrefix(name, begun) && !slices.Contains(args, name) {
				found = append(found, name)
			}
		}
	}
	if len(found) == 0 {
		return nil, cobra.ShellCompDirectiveFilterDirs
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}
