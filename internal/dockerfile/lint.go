package dockerfile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/frontend/dockerfile/builder"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/frontend/subrequests/lint"
	"github.com/moby/buildkit/solver/errdefs"
)

// ErrFindings says that a check found something; what it is has been written.
var ErrFindings = errors.New("the check found something")

// Check runs the frontend's lint rules on c without building and writes the findings to w as docker build --check does, or as
// JSON. It returns [ErrFindings] where there were any.
func (d *Dockerfile) Check(ctx context.Context, c gwclient.Client, w io.Writer, asJSON bool) error {
	attrs := maps.Clone(d.attrs)
	attrs["requestid"] = lint.SubrequestLintDefinition.Name
	if attrs["frontend.caps"] == "" {
		attrs["frontend.caps"] = "moby.buildkit.frontend.subrequests+forward"
	}
	res, err := builder.Build(ctx, d.client(c, attrs))
	if err != nil {
		return err
	}
	text := res.Metadata["result.json"]
	var found lint.LintResults
	if err := json.Unmarshal(text, &found); err != nil {
		return fmt.Errorf("check Dockerfile: %w", err)
	}
	if asJSON {
		_, err = fmt.Fprintf(w, "%s\n", text)
	} else {
		err = printFindings(w, &found)
	}
	if err == nil && (len(found.Warnings) > 0 || found.Error != nil) {
		err = ErrFindings
	}
	return err
}

func printFindings(w io.Writer, found *lint.LintResults) error {
	var b bytes.Buffer
	switch n := len(found.Warnings); {
	case n == 1:
		fmt.Fprintln(&b, "Check complete, one warning has been found!")
	case n > 1:
		fmt.Fprintf(&b, "Check complete, %d warnings have been found!\n", n)
	case found.Error == nil:
		fmt.Fprintln(&b, "Check complete, no warnings found.")
	}
	if err := found.PrintTo(&b, nil); err != nil {
		return fmt.Errorf("check Dockerfile: %w", err)
	}
	if found.Error != nil {
		fmt.Fprint(&b, "\nERROR: ")
		found.PrintErrorTo(&b, nil)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// PrintWarnings writes what a build warned of, with the lines of the Dockerfile, as docker --debug build does at its end.
func PrintWarnings(w io.Writer, warnings []client.VertexWarning) {
	if len(warnings) == 0 {
		return
	}
	head := fmt.Sprintf("%d warnings found", len(warnings))
	if len(warnings) == 1 {
		head = "1 warning found"
	}
	fmt.Fprintf(w, "\n %s:\n", head)
	for _, warn := range warnings {
		fmt.Fprintf(w, " - %s\n", warn.Short)
		for _, d := range warn.Detail {
			fmt.Fprintf(w, "%s\n", d)
		}
		if warn.URL != "" {
			fmt.Fprintf(w, "More info: %s\n", warn.URL)
		}
		if warn.SourceInfo != nil && len(warn.Range) > 0 {
			src := errdefs.Source{Info: warn.SourceInfo, Ranges: warn.Range}
			_ = src.Print(w)
		}
		fmt.Fprintln(w)
	}
}
