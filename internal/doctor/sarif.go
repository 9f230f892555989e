package doctor

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
)

// The parts of SARIF 2.1.0 that reports need
// (https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/sarif-v2.1.0-os.html; the numbers are its sections).
type (
	sarifLog struct { // 3.13
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct { // 3.14
		Tool       sarifTool     `json:"tool"`
		ColumnKind string        `json:"columnKind"`
		Results    []sarifResult `json:"results"`
	}
	sarifTool struct { // 3.18
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct { // 3.19
		Name           string      `json:"name"`
		Version        string      `json:"version,omitempty"`
		InformationURI string      `json:"informationUri"`
		Rules          []sarifRule `json:"rules"`
	}
	sarifRule struct { // 3.49
		ID               string    `json:"id"`
		ShortDescription sarifText `json:"shortDescription"`
		HelpURI          string    `json:"helpUri"`
	}
	sarifText struct { // 3.11, 3.12
		Text string `json:"text"`
	}
	sarifResult struct { // 3.27
		RuleID       string            `json:"ruleId"`
		RuleIndex    int               `json:"ruleIndex"`
		Level        string            `json:"level"`
		Message      sarifText         `json:"message"`
		Locations    []sarifLocation   `json:"locations"`
		Fingerprints map[string]string `json:"partialFingerprints"`
	}
	sarifLocation struct { // 3.28
		Physical sarifPhysical  `json:"physicalLocation"`
		Logical  []sarifLogical `json:"logicalLocations"`
	}
	sarifPhysical struct { // 3.29
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct { // 3.4
		URI string `json:"uri"`
	}
	sarifRegion struct { // 3.30
		StartLine int        `json:"startLine"`
		Snippet   *sarifText `json:"snippet,omitempty"`
	}
	sarifLogical struct { // 3.33
		Name string `json:"fullyQualifiedName"`
		Kind string `json:"kind,omitempty"`
	}
)

const (
	sarifSchema = "https://json.schemastore.org/sarif-2.1.0.json"
	homepage    = "https://github.com/skiff-build/skiff"
)

// sarifLevels are SARIF's words for the severities (3.27.10).
var sarifLevels = map[Severity]string{Error: "error", Warning: "warning", Info: "note"}

// WriteSARIF writes what the reports found as one SARIF 2.1.0 log with one run: GitHub takes no second run of a tool. What is found alike
// in the images of several platforms is one result. version is skiff's.
func WriteSARIF(w io.Writer, reports []*Report, version string) error {
	run := sarifRun{
		Tool:       sarifTool{sarifDriver{Name: "skiff", Version: version, InformationURI: homepage}},
		ColumnKind: "utf16CodeUnits", Results: []sarifResult{},
	}
	for _, id := range IDs {
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{
			ID: id, ShortDescription: sarifText{meanings[id]}, HelpURI: homepage + "/blob/main/docs/doctor.md#findings",
		})
	}
	seen := map[string]bool{}
	for _, r := range reports {
		for _, f := range r.Findings {
			res := r.sarif(f)
			key := fmt.Sprint(res.RuleID, res.Level, res.Message.Text, res.Locations[0].Physical.Artifact.URI, res.Fingerprints)
			if !seen[key] {
				seen[key] = true
				run.Results = append(run.Results, res)
			}
		}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(sarifLog{Schema: sarifSchema, Version: "2.1.0", Runs: []sarifRun{run}})
}

func (r *Report) sarif(f Finding) sarifResult {
	file, line, text := r.place(f)
	physical := sarifPhysical{Artifact: sarifArtifact{fileURI(file)}}
	if line > 0 {
		physical.Region = &sarifRegion{StartLine: line}
		if text != "" {
			physical.Region.Snippet = &sarifText{text}
		}
	}
	logical := []sarifLogical{{Name: r.subject(), Kind: "module"}}
	if f.Path != "" {
		logical = append(logical, sarifLogical{Name: r.subject() + ":" + f.Path})
	}
	// Alerts are told apart by it over time: by what was found where, not by the line, which moves.
	print := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", f.ID, f.Path, text))
	return sarifResult{
		RuleID: f.ID, RuleIndex: slices.Index(IDs, f.ID), Level: sarifLevels[f.Severity], Message: sarifText{f.details()},
		Locations:    []sarifLocation{{Physical: physical, Logical: logical}},
		Fingerprints: map[string]string{"skiffFinding/v1": fmt.Sprintf("%x", print[:16])},
	}
}

// subject is what was examined.
func (r *Report) subject() string {
	if r.Name != "" {
		return r.Name
	}
	return r.Digest
}

// place is where a finding is shown: the instruction that it comes from; else the Dockerfile of the image; else, without one, the path in
// the image, or the name of what was examined. A line of 0 is none.
func (r *Report) place(f Finding) (file string, line int, text string) {
	if f.Source != nil {
		return f.Source.File, f.Source.Line, f.Source.Text
	}
	for _, l := range r.Layers {
		if l.Source != nil {
			return l.Source.File, 1, ""
		}
	}
	if f.Path != "" {
		return strings.TrimPrefix(f.Path, "/"), 0, ""
	}
	return r.subject(), 0, ""
}

// details are the message with what was seen and what mends it.
func (f Finding) details() string {
	lines := []string{f.Message}
	for _, e := range f.Evidence {
		lines = append(lines, "Seen: "+e)
	}
	for i, m := range f.Remedy {
		head := "Mend: "
		if i > 0 {
			head = "Or: "
		}
		lines = append(lines, head+m)
	}
	return strings.Join(lines, "\n")
}

// fileURI is a reference to a file: relative as the path is, so that it stands for a file of the repository; a URL where it is absolute.
func fileURI(file string) string {
	if strings.Contains(file, "://") { // the Dockerfile of a context that was fetched
		if u, err := url.Parse(file); err == nil {
			return u.String()
		}
	}
	path := filepath.ToSlash(file)
	if filepath.IsAbs(file) {
		return (&url.URL{Scheme: "file", Path: "/" + strings.TrimPrefix(path, "/")}).String()
	}
	return (&url.URL{Path: strings.TrimPrefix(path, "./")}).String() // a colon in its first part gets "./" before it
}
