package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/skiff-build/skiff"
)

func newMan() *cobra.Command {
	return &cobra.Command{
		Use: "man FOLDER", Hidden: true, Short: "Write skiff's man pages, one for each command, to a folder",
		Args: exactArgs(1, "skiff man /usr/local/share/man/man1"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("write man pages: %w", err)
			}
			for _, c := range documented(cmd.Root()) {
				name := filepath.Join(args[0], manName(c)+".1")
				if err := writeText(name, manPage(c)); err != nil {
					return fmt.Errorf("write man pages: %w", err)
				}
			}
			return nil
		},
	}
}

// documented are a command and those below it that have pages.
func documented(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" && c.Name() != "completion" {
			all = append(all, documented(c)...)
		}
	}
	return all
}

func manName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// manPage is the page of a command, with the words and the groups of its help (man(7) has the language). There is no date in it: the same
// skiff writes the same page.
func manPage(cmd *cobra.Command) string {
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	var b strings.Builder
	request := func(name string, args ...string) {
		b.WriteString("." + name)
		for _, a := range args {
			b.WriteString(` "` + strings.ReplaceAll(roff(a), `"`, `\(dq`) + `"`)
		}
		b.WriteString("\n")
	}
	text := func(t string) {
		for line := range strings.Lines(t) {
			if line = roff(strings.TrimSpace(line)); line == "" {
				b.WriteString(".PP\n")
			} else if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
				b.WriteString(`\&` + line + "\n")
			} else {
				b.WriteString(line + "\n")
			}
		}
	}
	request("TH", strings.ToUpper(manName(cmd)), "1", "", "skiff "+version(), "skiff")
	request("SH", "NAME")
	text(manName(cmd) + " - " + cmd.Short)
	request("SH", "SYNOPSIS")
	if cmd.Runnable() && !cmd.HasAvailableSubCommands() {
		text(cmd.UseLine())
	} else {
		text(cmd.CommandPath() + " COMMAND")
	}
	about := cmd.Long
	if about == "" {
		about = cmd.Short + "."
	}
	request("SH", "DESCRIPTION")
	text(about)
	if cmd.HasAvailableSubCommands() {
		request("SH", "COMMANDS")
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() && c.Name() != "help" {
				request("TP")
				request("B", c.Name())
				text(c.Short)
			}
		}
	}
	for _, group := range groupsOf(cmd) {
		if len(group.flags) == 0 {
			continue
		}
		request("SH", strings.ToUpper(group.title))
		for _, name := range group.flags {
			f := cmd.Flag(name)
			request("TP")
			request("B", strings.TrimSpace(flagForm(f)))
			text(flagText(f))
		}
	}
	if cmd.HasExample() {
		request("SH", "EXAMPLES")
		request("nf")
		text(strings.Trim(cmd.Example, "\n"))
		request("fi")
	}
	request("SH", "EXIT STATUS")
	text("0 where it did what was asked, 1 where it failed, 125 after a mistake in the command line. docs/exit-codes.md has all of them.")
	var others []string
	for _, c := range append([]*cobra.Command{cmd.Root()}, documented(cmd.Root())...) {
		if c != cmd && (c == cmd.Parent() || c.Parent() == cmd) && (len(others) == 0 || others[len(others)-1] != manName(c)+"(1)") {
			others = append(others, manName(c)+"(1)")
		}
	}
	if len(others) > 0 {
		request("SH", "SEE ALSO")
		text(strings.Join(others, ", "))
	}
	return b.String()
}

// roff lets a text stand for itself: troff reads ASCII alone.
func roff(text string) string {
	var b strings.Builder
	for _, r := range skiff.PrintableLine(text) {
		switch {
		case r == '\\':
			b.WriteString(`\e`)
		case r == '-':
			b.WriteString(`\-`)
		case r >= utf8.RuneSelf:
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
