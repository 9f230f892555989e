package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/skiff-build/skiff/internal/printable"
)

// MarshalJSON writes lists that are empty as such, never as null.
func (r *Report) MarshalJSON() ([]byte, error) {
	type plain Report
	out := plain(*r)
	out.Entrypoint, out.Ignored, out.Undecided = list(out.Entrypoint), list(out.Ignored), list(out.Undecided)
	out.Layers, out.Largest, out.Programs, out.Findings = list(out.Layers), list(out.Largest), list(out.Programs), list(out.Findings)
	for i, p := range out.Programs {
		out.Programs[i].Needs = list(p.Needs)
	}
	for i, f := range out.Findings {
		out.Findings[i].Evidence, out.Findings[i].Remedy = list(f.Evidence), list(f.Remedy)
	}
	return json.Marshal(out)
}

// list is a copy that is not nil.
func list[T any](l []T) []T { return append(make([]T, 0, len(l)), l...) }

// WriteJSON writes the report as JSON; its form is [Schema].
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(r)
}

// WriteFindings writes what was found for people to read.
func (r *Report) WriteFindings(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintln(&b, printable.Line(r.title()))
	for _, f := range r.Findings {
		f.write(&b)
	}
	if len(r.Undecided) > 0 {
		fmt.Fprintln(&b, "\nNot decided:")
		for _, u := range r.Undecided {
			fmt.Fprintf(&b, "  %s\n", printable.Line(u))
		}
	}
	fmt.Fprintf(&b, "\n%s\n", r.count())
	_, err := io.WriteString(w, b.String())
	return err
}

// title is the first line: what was examined.
func (r *Report) title() string {
	parts := []string{r.Name}
	if r.Platform != "" {
		parts = append(parts, r.Platform)
	}
	if r.ID != "" {
		parts = append(parts, short(r.ID))
	}
	parts = append(parts, human(r.Bytes))
	if n := len(r.Layers); n == 1 {
		parts = append(parts, "1 layer")
	} else if n > 1 {
		parts = append(parts, fmt.Sprintf("%d layers", n))
	}
	for _, p := range r.Programs[:min(len(r.Programs), 1)] {
		parts = append(parts, strings.TrimSpace(p.Path+" "+p.GoVersion))
	}
	return strings.Join(parts, "  ")
}

func short(digest string) string {
	hex := strings.TrimPrefix(digest, "sha256:")
	return hex[:min(12, len(hex))]
}

// write is one finding: what, what was seen, where it comes from, what mends it.
func (f Finding) write(b *strings.Builder) {
	fmt.Fprintf(b, "\n%-8s %s: %s\n", f.Severity, f.ID, printable.Line(f.Message))
	line := func(head, text string) { fmt.Fprintf(b, "  %-6s %s\n", head, printable.Line(text)) }
	if f.Source != nil {
		line("line", fmt.Sprintf("%s  %s", f.Source, clip(f.Source.Text)))
	}
	for i, e := range f.Evidence {
		head := ""
		if i == 0 {
			head = "seen"
		}
		line(head, e)
	}
	for i, r := range f.Remedy {
		head := "or"
		if i == 0 {
			head = "mend"
		}
		indent := strings.Repeat(" ", 9)
		if strings.Contains(r, "<<") { // the end of a here-document begins its line
			indent = ""
		}
		// A remedy may be several instructions, a line each.
		fmt.Fprintf(b, "  %-6s %s\n", head, strings.ReplaceAll(printable.Text(r), "\n", "\n"+indent))
	}
}

// clip shortens a long instruction.
func clip(text string) string {
	const most = 100
	if r := []rune(text); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return text
}

// count is the last line: how many findings of each severity.
func (r *Report) count() string {
	var parts []string
	for _, s := range Severities {
		switch n := r.Count(s); {
		case n == 1:
			parts = append(parts, "1 "+string(s))
		case n > 1 && s != Info:
			parts = append(parts, fmt.Sprintf("%d %ss", n, s))
		case n > 1:
			parts = append(parts, fmt.Sprintf("%d infos", n))
		}
	}
	text := strings.Join(parts, ", ")
	if text == "" {
		text = "Nothing found"
	}
	if len(r.Ignored) > 0 {
		text += "; ignored: " + strings.Join(r.Ignored, ", ")
	}
	return text
}

// Summary is a line for each finding that is at least as bad as s.
func (r *Report) Summary(s Severity) []string {
	var lines []string
	for _, f := range r.Findings {
		if !f.Severity.AtLeast(s) {
			continue
		}
		at := ""
		if f.Source != nil {
			at = " (" + f.Source.String() + ")"
		}
		lines = append(lines, printable.Line(fmt.Sprintf("%s: %s: %s%s", f.Severity, f.ID, f.Message, at)))
	}
	return lines
}

// WriteText writes all of the report for people to read.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	row := func(head, text string) {
		if text != "" {
			fmt.Fprintf(&b, "%-12s %s\n", head, printable.Line(text))
		}
	}
	row("image", r.Name)
	row("digest", r.Digest)
	row("id", r.ID)
	row("platform", r.Platform)
	if len(r.Entrypoint) > 0 {
		row("starts", toJSON(r.Entrypoint))
	}
	row("user", r.User)
	row("size", human(r.Bytes))
	if r.StageBytes > r.Bytes {
		row("stages", human(r.StageBytes)+", what the image was made from and what it holds")
	}
	r.writeLayers(&b)
	fmt.Fprintln(&b, "\nLargest files")
	for _, f := range r.Largest {
		fmt.Fprintf(&b, "  %8s  %s\n", human(f.Bytes), printable.Line(f.Path))
	}
	if len(r.Programs) > 0 {
		fmt.Fprintln(&b, "\nGo programs")
	}
	for _, p := range r.Programs {
		fmt.Fprintf(&b, "  %s\n", printable.Line(fmt.Sprintf("%s  %s  %s  %s", p.Path, p.Arch, p.GoVersion, p.Main)))
		for _, n := range p.Needs {
			fmt.Fprintf(&b, "    %s\n", n)
		}
	}
	fmt.Fprint(&b, "\nFindings\n\n")
	if err := r.WriteFindings(&b); err != nil {
		return err
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) writeLayers(b *strings.Builder) {
	if len(r.Layers) == 0 {
		return
	}
	fmt.Fprintln(b, "\nLayers, lowest first\n  unpacked    stored  files  by")
	for _, l := range r.Layers {
		by := l.CreatedBy
		if l.Source != nil {
			by = fmt.Sprintf("%s  %s", l.Source, l.Source.Text)
		}
		fmt.Fprintf(b, "  %8s  %8s  %5d  %s\n", human(l.Bytes), human(l.Compressed), l.Files, printable.Line(clip(by)))
	}
}
