package doctor

import (
	"context"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// ExamineProgram reports what a Go program of size bytes needs of an image. Nothing is wrong with that: its findings are all [Info].
func ExamineProgram(name string, r io.ReaderAt, size int64) (*Report, error) {
	b, err := ReadBinary(r, size)
	if err != nil {
		return nil, err
	}
	p := goProgram{Binary: b, path: name, bytes: size}
	report := &Report{
		Schema: Schema, Name: name, Platform: "linux/" + b.Arch, Bytes: size, Findings: []Finding{}, Programs: []Program{describeProgram(p)},
		Undecided: b.Undecided,
	}
	for _, n := range b.Needs {
		what := wanted[n.Kind]
		switch {
		case n.Level == None || what == "":
		case n.Level == Possible:
			report.Undecided = append(report.Undecided, fmt.Sprintf("it may need %s: %s", what, strings.Join(n.Evidence, "; ")))
		default:
			if len(n.Values) > 0 {
				what += " (" + strings.Join(n.Values, ", ") + ")"
			}
			report.Findings = append(report.Findings, Finding{
				ID: string(n.Kind), Severity: Info, Path: name, Message: "it needs " + what, Evidence: n.Evidence,
			})
		}
	}
	if b.Interp != "" || len(b.Libraries) > 0 {
		f := Finding{ID: IDLoader, Severity: Info, Path: name, Message: "it needs the loader " + b.Interp, Evidence: b.Libraries}
		if len(b.Libraries) == 0 {
			f.ID, f.Remedy = IDPIE, []string{"build it without -buildmode=pie"}
		}
		report.Findings = append(report.Findings, f)
	}
	if !b.Stripped && b.DebugBytes >= worthDebug {
		report.Findings = append(report.Findings, debugFinding(p))
	}
	report.sort()
	return report, nil
}

// Missing returns what the Go programs of an image need and the image lacks, as far as it is certain: [Linked] and [Likely] needs. A
// loader and libraries are not among it: those of another system need not fit.
func Missing(ctx context.Context, img v1.Image, o Options) (Supply, error) {
	e, err := open(ctx, img, o)
	if err != nil {
		return Supply{}, fmt.Errorf("examine image: %w", err)
	}
	if err := e.readPrograms(ctx); err != nil {
		return Supply{}, fmt.Errorf("examine image: %w", err)
	}
	var programs []*Binary
	for _, p := range e.programs {
		b := *p.Binary
		b.Needs = nil
		for _, n := range p.Needs {
			if n.Kind != NeedLoader {
				b.Needs = append(b.Needs, n)
			}
		}
		programs = append(programs, &b)
	}
	return Complete(programs, e.supplyOptions())
}
