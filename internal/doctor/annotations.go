package doctor

import (
	"fmt"
	"io"
	"strings"
)

// annotationWords are the workflow commands of GitHub Actions for the severities
// (https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands).
var annotationWords = map[Severity]string{Error: "error", Warning: "warning", Info: "notice"}

var (
	annotationText  = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	annotationValue = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

// WriteAnnotations writes a workflow command of GitHub Actions for each finding, which shows it at its line of the Dockerfile. What is
// found alike in the images of several platforms is written once. Nothing of a finding can end its command or begin another one.
func WriteAnnotations(w io.Writer, reports []*Report) error {
	seen := map[string]bool{}
	for _, r := range reports {
		for _, f := range r.Findings {
			where := ""
			if f.Source != nil {
				where = fmt.Sprintf("file=%s,line=%d,", annotationValue.Replace(strings.TrimPrefix(f.Source.File, "./")), f.Source.Line)
			}
			text := fmt.Sprintf("::%s %stitle=%s::%s\n", annotationWords[f.Severity], where,
				annotationValue.Replace("skiff: "+f.ID), annotationText.Replace(f.details()))
			if seen[text] {
				continue
			}
			seen[text] = true
			if _, err := io.WriteString(w, text); err != nil {
				return err
			}
		}
	}
	return nil
}
