package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"text/template"
	"time"

	"github.com/docker/cli/templates"
	"github.com/docker/go-units"

	"github.com/skiff-build/skiff"
)

type tableOptions struct {
	quiet   bool
	noTrunc bool
	digests bool
	format  string // "", "table", "json", a Go template, or "table TEMPLATE"
}

// row is an image as docker images names and formats its fields, for tables, JSON and templates.
type row struct {
	Repository   string
	Tag          string
	Digest       string
	ID           string
	CreatedSince string
	CreatedAt    string
	Size         string
}

func newRow(i skiff.Image, noTrunc bool) row {
	none := func(s string) string {
		if s == "" {
			return "<none>"
		}
		return s
	}
	id := i.ID
	if !noTrunc {
		id = shortID(id)
	}
	since, at := "N/A", "N/A" // as docker says it
	if !i.Built.IsZero() {
		since, at = units.HumanDuration(time.Since(i.Built))+" ago", i.Built.Local().Format("2006-01-02 15:04:05 -0700 MST")
	}
	return row{
		Repository: none(i.Repository), Tag: none(i.Tag), Digest: none(i.Digest), ID: id,
		CreatedSince: since, CreatedAt: at, Size: humanSize(i.Size),
	}
}

// shortID is the form of an image ID that people read: 12 digits.
func shortID(id string) string {
	hex := strings.TrimPrefix(id, "sha256:")
	return hex[:min(12, len(hex))]
}

var headings = row{"REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "CREATED AT", "SIZE"}

const (
	tableFormat  = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
	digestFormat = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
)

// printTable writes images as docker images does.
func printTable(w io.Writer, images []skiff.Image, o tableOptions) error {
	format, isTable := strings.CutPrefix(o.format, "table")
	format = strings.TrimSpace(strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(format))
	switch {
	case o.quiet:
		format, isTable = "{{.ID}}", false
	case o.format == "json":
		return printJSON(w, images, o)
	case format == "":
		isTable = true
		if format = tableFormat; o.digests {
			format = digestFormat
		}
	}
	t, err := templates.New("format").Parse(format + "\n")
	if err != nil {
		return &usageError{text: "--format: " + err.Error()}
	}
	out := tabwriter.NewWriter(w, 0, 1, 3, ' ', 0)
	if isTable {
		if err := template.Must(t.Clone()).Funcs(templates.HeaderFunctions).Execute(out, headings); err != nil {
			return &usageError{text: "--format: " + err.Error()}
		}
	}
	for _, i := range images {
		if err := t.Execute(out, newRow(i, o.noTrunc)); err != nil {
			return &usageError{text: "--format: " + err.Error()}
		}
	}
	return out.Flush()
}

func printJSON(w io.Writer, images []skiff.Image, o tableOptions) error {
	for _, i := range images {
		if _, err := fmt.Fprintln(w, toJSON(newRow(i, o.noTrunc))); err != nil {
			return err
		}
	}
	return nil
}

func toJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
