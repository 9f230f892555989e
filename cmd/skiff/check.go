package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skiff-build/skiff"
)

// checkFlags are the flags of check.
type checkFlags struct {
	o      skiff.DiagnoseOptions
	format string
	failOn string
	report string
}

func newCheck(g *global) *cobra.Command {
	var f checkFlags
	cmd := &cobra.Command{
		Use:   "check [FLAGS] IMAGE|FILE.tar|OCI-LAYOUT|PROGRAM",
		Short: "Say what an image lacks, and what it holds that it should not",
		Long: "Examine an image, or a Go program, and say what its programs need and do not find, whether it starts at all, and " +
			"what ships that should not. A name that begins with ./, ../ or / is a path. An image that is not here is pulled.\n\n" +
			"The exit code is 0 where nothing was found that is as bad as --fail-on says, 1 where something was, 2 where what is " +
			"to be checked could not be read, and 125 after a mistake in the command line.",
		Example: "  skiff check app:1\n" +
			"  skiff check ./app.tar --format json\n" +
			"  skiff check app:1 --format sarif > skiff.sarif\n" +
			"  skiff check ./bin/app --ignore debug-info",
		Args: exactArgs(1, "skiff check app:1"),
		RunE: interruptible(func(ctx context.Context, cmd *cobra.Command, args []string) error {
			return f.run(ctx, g, cmd, args[0])
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.o.Platform, "platform", "", "`OS/ARCH[/VARIANT]` of an image for several (all of them)")
	flags.StringSliceVar(&f.o.Ignore, "ignore", nil, "`IDS` of findings to leave out")
	flags.StringVar(&f.format, "format", "text", "`FORMAT`: text, json, sarif (SARIF 2.1.0), or github (annotations of GitHub Actions)")
	flags.StringVar(&f.failOn, "fail-on", "warning", "`SEVERITY` of findings from which on the exit code is 1: error, warning, info, or none")
	flags.StringVar(&f.report, "report", "", "`FILE` to write all that is known of the image to: text; JSON where its name ends in .json; the findings as SARIF where it ends in .sarif")
	return cmd
}

func (f *checkFlags) run(ctx context.Context, g *global, cmd *cobra.Command, what string) error {
	if !slices.Contains(reportFormats, f.format) {
		return badFlag("format", f.format, "choose "+strings.Join(reportFormats, ", "))
	}
	level := skiff.Severity(f.failOn)
	if f.failOn != "none" && !severity(level) {
		return badFlag("fail-on", f.failOn, "choose error, warning, info or none")
	}
	if err := knownIDs(f.o.Ignore); err != nil {
		return err
	}
	state, err := g.open()
	if err != nil {
		return &unreadError{err}
	}
	f.o.Progress = cmd.ErrOrStderr()
	reports, err := state.Diagnose(ctx, what, f.o)
	if err != nil {
		return &unreadError{err}
	}
	if f.report != "" {
		if err := writeReport(f.report, reports); err != nil {
			return err
		}
	}
	if err := printReports(cmd.OutOrStdout(), reports, f.format); err != nil {
		return err
	}
	for _, r := range reports {
		if f.failOn != "none" && len(r.Summary(level)) > 0 {
			return exitCode(exitFailure)
		}
	}
	return nil
}

// unreadError says that what was to be checked could not be read: nothing is known of it, neither good nor bad.
type unreadError struct{ error }

func (e *unreadError) Unwrap() error { return e.error }

func severity(s skiff.Severity) bool {
	return s == skiff.SeverityError || s == skiff.SeverityWarning || s == skiff.SeverityInfo
}

func knownIDs(ids []string) error {
	for _, id := range ids {
		if !slices.Contains(skiff.FindingIDs, id) {
			return &usageError{
				text: fmt.Sprintf("--ignore %s: there is no such finding", id), hints: []string{"there are " + strings.Join(skiff.FindingIDs, ", ")},
			}
		}
	}
	return nil
}

// reportFormats are the forms in which what was found is written.
var reportFormats = []string{"text", "json", "sarif", "github"}

// printReports writes what was found: for people, as a JSON array of reports, as a SARIF log, or as annotations of GitHub Actions.
func printReports(w io.Writer, reports []*skiff.Report, format string) error {
	switch format {
	case "json":
		return encodeReports(w, reports)
	case "sarif":
		return skiff.WriteSARIF(w, reports, version())
	case "github":
		return skiff.WriteAnnotations(w, reports)
	}
	for i, r := range reports {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := r.WriteFindings(coloured(w)); err != nil {
			return err
		}
	}
	return nil
}

func encodeReports(w io.Writer, reports []*skiff.Report) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(append([]*skiff.Report{}, reports...)) // none is a list, too
}

// writeReport writes all of the reports to a file, in whole or not at all.
func writeReport(path string, reports []*skiff.Report) error {
	var b bytes.Buffer
	err, w := error(nil), skiff.Printable(&b)
	switch {
	case strings.HasSuffix(path, ".json"):
		err = encodeReports(w, reports)
	case strings.HasSuffix(path, ".sarif"):
		err = skiff.WriteSARIF(w, reports, version())
	default:
		for i, r := range reports {
			if i > 0 {
				fmt.Fprint(w, "\n\n")
			}
			err = errors.Join(err, r.WriteText(w))
		}
	}
	if err == nil {
		err = writeText(path, b.String())
	}
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// most is how many findings a build tells of by itself.
const most = 12

// printSummary says in a line each what was found in a build's images that is a warning or worse.
func printSummary(w io.Writer, reports []*skiff.Report, kept bool) {
	w = coloured(w)
	for _, r := range reports {
		lines := r.Summary(skiff.SeverityWarning)
		if len(lines) == 0 {
			continue
		}
		name := r.Name
		if name == "" {
			name = shortID(r.ID)
		}
		platform := ""
		if len(reports) > 1 {
			platform = " --platform " + r.Platform
		}
		if kept {
			fmt.Fprintf(w, "\nskiff check %s%s tells more of:\n", name, platform)
		} else { // an archive or a folder has it alone
			fmt.Fprintf(w, "\nfound in the image%s, of which --report FILE tells more:\n", strings.Replace(platform, " --platform", " for", 1))
		}
		for _, line := range lines[:min(most, len(lines))] {
			fmt.Fprintf(w, "  %s\n", line)
		}
		if n := len(lines) - most; n > 0 {
			fmt.Fprintf(w, "  and %d more\n", n)
		}
	}
}

// findingLines are the findings that a build failed on.
func findingLines(found *skiff.FindingsError) []string {
	var lines []string
	for _, r := range found.Reports {
		lines = append(lines, r.Summary(found.Level)...)
	}
	return append(lines, "leave some out with --ignore ID, or mend what is certain with --add-missing")
}

// setDoctor reads what the doctor is to do.
func (f *buildFlags) setDoctor() error {
	f.opts.Strict = skiff.Severity(f.strict)
	if f.strict != "" && !severity(f.opts.Strict) {
		return badFlag("strict", f.strict, "choose error, warning or info")
	}
	f.opts.Examine = !f.quiet || f.report != ""
	return knownIDs(f.opts.Ignore)
}
