package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const (
	helpWidth  = 80 // columns of the help: what a terminal has that nobody made wider
	helpColumn = 30 // where the texts about flags begin
)

// flagGroup is a part of a verb's flags in its help, in this order.
type flagGroup struct {
	title string
	flags []string
}

// buildGroups are the flags of skiff build, those first that most users need.
var buildGroups = []flagGroup{
	{"Flags", []string{"tag", "file", "build-arg", "target", "platform", "output", "push", "no-cache", "pull", "progress"}},
	{"What goes in", []string{"build-context", "secret", "ssh"}},
	{"RUN steps", []string{
		"network", "add-host", "ulimit", "shm-size", "allow", "memory", "memory-swap", "cpu-shares", "cpu-period", "cpu-quota", "cpuset-cpus",
		"cpuset-mems",
	}},
	{"The image", []string{"label", "annotation", "timestamps", "compression", "compression-level"}},
	{"What comes out", []string{"load", "quiet", "iidfile", "metadata-file"}},
	{"What is wrong with the image", []string{"check", "call", "strict", "ignore", "report", "add-missing"}},
	{"Images of Go packages, without a Dockerfile", []string{
		"dockerfile", "base", "add", "entrypoint", "cmd", "env", "tags", "ldflags", "gcflags", "debug", "label-vcs", "optimize",
		"image-env", "user", "workdir", "expose",
	}},
	{"Caches, and what knowing Go allows", []string{"explain", "no-cache-filter", "keep-storage", "go-base", "faithful"}},
}

// groupsOf are the groups of a verb's flags. Flags that no group names make one at the end.
func groupsOf(cmd *cobra.Command) []flagGroup {
	var named []flagGroup
	if cmd.Name() == "build" {
		named = slices.Clone(buildGroups)
	}
	rest := flagGroup{title: "Flags"}
	if len(named) > 0 {
		rest.title = "Others"
	}
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && !slices.ContainsFunc(named, func(g flagGroup) bool { return slices.Contains(g.flags, f.Name) }) {
			rest.flags = append(rest.flags, f.Name)
		}
	})
	cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			rest.flags = append(rest.flags, f.Name)
		}
	})
	return append(named, rest)
}

// setHelp gives a command and those below it the help of this file.
func setHelp(root *cobra.Command) {
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		cmd.InitDefaultHelpFlag()
		cmd.InitDefaultVersionFlag()
		w := cmd.OutOrStdout()
		about := cmd.Long
		if about == "" {
			about = cmd.Short
		}
		for line := range strings.Lines(strings.TrimSpace(about)) {
			fmt.Fprintln(w, strings.Join(wrap(strings.TrimRight(line, " \n"), helpWidth), "\n"))
		}
		fmt.Fprintln(w)
		writeUsage(w, cmd)
	})
	root.SetUsageFunc(func(cmd *cobra.Command) error {
		writeUsage(cmd.OutOrStderr(), cmd)
		return nil
	})
}

func writeUsage(w io.Writer, cmd *cobra.Command) {
	fmt.Fprintf(w, "Usage:\n")
	if cmd.Runnable() && !cmd.HasAvailableSubCommands() {
		fmt.Fprintf(w, "  %s\n", cmd.UseLine())
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(w, "  %s COMMAND\n", cmd.CommandPath())
	}
	if len(cmd.Aliases) > 0 {
		fmt.Fprintf(w, "\nAliases:\n  %s\n", cmd.NameAndAliases())
	}
	if cmd.HasExample() {
		fmt.Fprintf(w, "\nExamples:\n%s\n", cmd.Example)
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(w, "\nCommands:\n")
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() || c.Name() == "help" {
				writeItem(w, "  "+c.Name(), c.Short, 2+cmd.NamePadding()+1)
			}
		}
	}
	for _, g := range groupsOf(cmd) {
		if len(g.flags) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s:\n", g.title)
		for _, name := range g.flags {
			f := cmd.Flag(name)
			writeItem(w, flagForm(f), flagText(f), helpColumn)
		}
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(w, "\n%s COMMAND --help tells more of a command.\n", cmd.CommandPath())
	}
}

// flagForm is how a flag is written: "-t, --tag NAME[:TAG]".
func flagForm(f *pflag.Flag) string {
	form := "      --" + f.Name
	if f.Shorthand != "" {
		form = "  -" + f.Shorthand + ", --" + f.Name
	}
	value, _ := pflag.UnquoteUsage(f)
	switch {
	case value == "":
	case f.NoOptDefVal != "":
		form += "[=" + value + "]"
	default:
		form += " " + value
	}
	return form
}

// flagText says what a flag is for, and what it is where it is not given.
func flagText(f *pflag.Flag) string {
	_, text := pflag.UnquoteUsage(f)
	switch f.DefValue {
	case "", "false", "0", "[]":
		return text
	}
	return text + " (default " + strings.Trim(f.DefValue, "[]") + ")"
}

// writeItem writes a name, and a text from a column on.
func writeItem(w io.Writer, name, text string, column int) {
	lines := wrap(text, helpWidth-column)
	if n := utf8.RuneCountInString(name); n < column-1 {
		fmt.Fprintf(w, "%s%s%s\n", name, strings.Repeat(" ", column-n), lines[0])
		lines = lines[1:]
	} else {
		fmt.Fprintln(w, name)
	}
	for _, l := range lines {
		fmt.Fprintf(w, "%s%s\n", strings.Repeat(" ", column), l)
	}
}

// wrap breaks a line between words so that none is wider than width. A line that fits keeps its spaces.
func wrap(text string, width int) []string {
	if utf8.RuneCountInString(text) <= width {
		return []string{text}
	}
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
