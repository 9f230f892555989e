package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/agext/levenshtein"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/skiff-build/skiff"
)

// usageError is a mistake in the command line.
type usageError struct {
	text  string
	hints []string
}

func (e *usageError) Error() string { return e.text }

// hinted adds advice to an error.
type hinted struct {
	error
	hints []string
}

func (e *hinted) Unwrap() error { return e.error }

func withHint(err error, hints ...string) error { return &hinted{err, hints} }

// report prints err as one line, the lines of the Dockerfile that it is about and the advice there is. It returns the exit
// code.
func report(w io.Writer, err error) int {
	if errors.Is(err, errInterrupted) {
		fmt.Fprintln(w, "skiff: interrupted")
		return exitInterrupted
	}
	var golang *skiff.GoExitError
	if errors.As(err, &golang) { // as go prints it, and no word more
		_, _ = w.Write(golang.Output)
		return golang.Code
	}
	fmt.Fprint(w, skiff.DockerfileSource(err))
	text := oneText(err)
	var no *skiff.UnavailableError
	if errors.As(err, &no) && no.Mend != "" { // a line of its own, below
		text = strings.Replace(text, "; "+no.Mend, "", 1)
	}
	var registry *skiff.RegistryError
	if errors.As(err, &registry) && registry.Err != nil { // what to do is a line of its own, below
		text = registryText(text, registry)
	}
	var none *skiff.NoImageError
	if errors.As(err, &none) { // what cannot be had, and how to have it, are lines of their own, below
		text = fmt.Sprintf("%s: the built-in Go cannot stand in for the image: %v", none.Ref, none.Refusal)
	}
	fmt.Fprintf(w, "skiff: %s\n", skiff.PrintableLine(strings.TrimSpace(text)))
	for _, h := range hints(err) {
		fmt.Fprintf(w, "  %s\n", skiff.PrintableLine(h))
	}
	var usage *usageError
	var option *skiff.OptionError
	var failed *runFailure
	if errors.As(err, &usage) || errors.As(err, &option) || errors.As(err, &failed) {
		return exitUsage
	}
	if unread := (*unreadError)(nil); errors.As(err, &unread) {
		return exitUnread
	}
	return exitFailure
}

// oneText is the text of err. Of several errors that were joined each is a part of it; any other newline is from the text of others.
func oneText(err error) string {
	text := err.Error()
	for e := err; e != nil; e = errors.Unwrap(e) {
		several, ok := e.(interface{ Unwrap() []error })
		if !ok {
			continue
		}
		joined := errors.Join(several.Unwrap()...)
		if joined == nil {
			break
		}
		var parts []string
		for _, part := range several.Unwrap() {
			if part != nil {
				parts = append(parts, oneText(part))
			}
		}
		return strings.Replace(text, joined.Error(), strings.Join(parts, "; "), 1)
	}
	return text
}

// registryText is text, which e is part of, without e's hint and without what the frontend says before e of the same name. It is one
// line: what a network says may be several.
func registryText(text string, e *skiff.RegistryError) string {
	text = strings.Replace(text, e.Hint+": "+e.Err.Error(), e.Err.Error(), 1)
	if _, after, ok := strings.Cut(text, "failed to resolve source metadata for "); ok {
		if i := strings.Index(after, e.Step+" "); i >= 0 {
			text = after[i:]
		}
	}
	return strings.Join(strings.Fields(text), " ")
}

// hints are the ways out of err, a line each.
func hints(err error) []string {
	var usage *usageError
	var hint *hinted
	var none *skiff.NoImageError
	var missing *skiff.NoDockerfileError
	var no *skiff.UnavailableError
	var noMain *skiff.NoMainError
	var notDir *skiff.NotDirectoryError
	var registry *skiff.RegistryError
	isRegistry := errors.As(err, &registry) && registry.Err != nil
	switch {
	case errors.As(err, &usage):
		return usage.hints
	case errors.As(err, &hint) && isRegistry:
		return append([]string{registry.Hint}, hint.hints...)
	case errors.As(err, &hint):
		return hint.hints
	case errors.As(err, &none):
		cause := none.Err.Error()
		if registry := (*skiff.RegistryError)(nil); errors.As(none.Err, &registry) {
			cause = registry.Hint
		}
		return []string{
			"and the image cannot be had: " + cause,
			"a mirror of docker.io (docs/registries.md) settles it, or --build-context " + none.Ref + "=docker-image://REGISTRY/" + none.Ref,
		}
	case errors.As(err, &noMain):
		return meantPackages(".")
	case errors.As(err, &notDir):
		return []string{"for a Dockerfile give its name and the folder: skiff build -f " + notDir.Path + " " + filepath.Dir(notDir.Path)}
	case errors.As(err, &missing) && !missing.Given && isGoRoot(filepath.Dir(missing.Path)):
		return append(meantPackages(filepath.Dir(missing.Path)), "a Dockerfile is named with -f FILE")
	case errors.As(err, &missing) && !missing.Given:
		return []string{"name it with -f FILE, or give the folder that holds it: skiff build FOLDER",
			"without one, skiff builds a Go main package: give its folder"}
	case isRegistry:
		return []string{registry.Hint}
	case errors.As(err, &no) && no.Mend != "":
		return strings.Split(no.Mend, "\n")
	case errors.Is(err, syscall.ENOSPC):
		return []string{"skiff prune frees what no image needs; --root FOLDER keeps the state on another disk"}
	}
	return nil
}

// exactArgs is docker's check of the number of arguments, with an example of the right use.
func exactArgs(n int, example string) cobra.PositionalArgs {
	return countArgs(func(got int) bool { return got == n }, "exactly", n, example)
}

func minArgs(n int, example string) cobra.PositionalArgs {
	return countArgs(func(got int) bool { return got >= n }, "at least", n, example)
}

func maxArgs(n int, example string) cobra.PositionalArgs {
	return countArgs(func(got int) bool { return got <= n }, "at most", n, example)
}

func countArgs(ok func(int) bool, word string, n int, example string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if ok(len(args)) {
			return nil
		}
		plural := "s"
		if n == 1 {
			plural = ""
		}
		return &usageError{
			text:  fmt.Sprintf("%q requires %s %d argument%s", cmd.CommandPath(), word, n, plural),
			hints: []string{"for example: " + example, fmt.Sprintf("see %s --help", cmd.CommandPath())},
		}
	}
}

// flagError names the flag that is nearest to one that does not exist.
func flagError(cmd *cobra.Command, err error) error {
	e := &usageError{text: err.Error(), hints: []string{fmt.Sprintf("see %s --help", cmd.CommandPath())}}
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return e
	}
	name := unknown.GetSpecifiedName()
	if len(name) < 2 {
		return e
	}
	e.text = "unknown flag: --" + name
	if near := nearestFlag(cmd, name); near != "" {
		e.hints = append([]string{"did you mean --" + near + "?"}, e.hints...)
	}
	return e
}

func nearestFlag(cmd *cobra.Command, name string) string {
	var names []string
	add := func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	}
	cmd.Flags().VisitAll(add)
	cmd.InheritedFlags().VisitAll(add)
	return nearest(name, names)
}

// nearest is the name that a word was meant to be; "" where none is near. A letter that is wrong, missing or too many counts one,
// and so do two neighbours that changed places: a third of the word may be wrong, one letter of a short one. A word of three
// letters or more may also be where a name begins.
func nearest(word string, names []string) string {
	best, least := "", max(1, len(word)/3)+1
	for _, name := range names {
		d := levenshtein.Distance(word, name, nil)
		if swapped(word, name) {
			d = 1
		}
		if d < least && d < len(word) {
			best, least = name, d
		}
	}
	for _, name := range names {
		if best == "" && len(word) >= 3 && strings.HasPrefix(name, word) {
			best = name
		}
	}
	return best
}

// swapped says whether two neighbours that changed places make one word of the other: of a short word the usual typing error,
// which counts as two for a Levenshtein distance.
func swapped(a, b string) bool {
	for i := 0; i+1 < len(a) && len(a) == len(b); i++ {
		if a[i] != b[i] {
			return a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
		}
	}
	return false
}

func unknownCommand(cmd *cobra.Command, name string) error {
	e := &usageError{text: fmt.Sprintf("unknown command: %s", name)}
	var names []string
	for _, c := range cmd.Commands() {
		names = append(names, c.Name())
	}
	if near := nearest(name, names); near != "" {
		e.hints = []string{"did you mean skiff " + near + "?"}
	}
	e.hints = append(e.hints, "see skiff --help")
	return e
}
