package doctor_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/skiff-build/skiff/internal/doctor"
)

// sarifObjects are the objects of SARIF 2.1.0 that a log of skiff's may have, as sections 3.13 to 3.51 of the specification describe
// them: the type of each property, with "!" where it must be there. A type is string, int, uri, version, level, the name of another
// object, or one of these in an array ("[]") or as the values of an object ("{}").
var sarifObjects = map[string]map[string]string{
	"log":              {"$schema": "uri", "version": "version!", "runs": "[]run!"},
	"run":              {"tool": "tool!", "columnKind": "columnKind", "results": "[]result"},
	"tool":             {"driver": "toolComponent!"},
	"toolComponent":    {"name": "string!", "version": "string", "informationUri": "uri", "rules": "[]reporting"},
	"reporting":        {"id": "string!", "shortDescription": "message", "helpUri": "uri"},
	"message":          {"text": "string!"},
	"result":           {"ruleId": "string", "ruleIndex": "int", "level": "level", "message": "message!", "locations": "[]location", "partialFingerprints": "{}string"},
	"location":         {"physicalLocation": "physicalLocation", "logicalLocations": "[]logicalLocation"},
	"physicalLocation": {"artifactLocation": "artifactLocation", "region": "region"},
	"artifactLocation": {"uri": "uri"},
	"region":           {"startLine": "line", "snippet": "message"},
	"logicalLocation":  {"fullyQualifiedName": "string", "kind": "string"},
}

// checkSARIF holds a value of JSON against a type.
func checkSARIF(value any, kind, at string) error {
	kind = strings.TrimSuffix(kind, "!")
	if inner, ok := strings.CutPrefix(kind, "[]"); ok {
		list, ok := value.([]any)
		if !ok {
			return fmt.Errorf("%s: no array", at)
		}
		for i, v := range list {
			if err := checkSARIF(v, inner, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
		return nil
	}
	if inner, ok := strings.CutPrefix(kind, "{}"); ok {
		kind = inner
		for name, v := range value.(map[string]any) {
			if err := checkSARIF(v, inner, at+"."+name); err != nil {
				return err
			}
		}
		return nil
	}
	text, isText := value.(string)
	number, isNumber := value.(float64)
	ok := true
	switch kind {
	case "string":
		ok = isText && text != ""
	case "uri":
		_, err := url.Parse(text)
		ok = isText && text != "" && err == nil
	case "version":
		ok = text == "2.1.0"
	case "level":
		ok = slices.Contains([]string{"none", "note", "warning", "error"}, text)
	case "columnKind":
		ok = text == "utf16CodeUnits" || text == "unicodeCodePoints"
	case "int":
		ok = isNumber && number == float64(int(number)) && number >= -1
	case "line":
		ok = isNumber && number == float64(int(number)) && number >= 1
	default:
		return checkSARIFObject(value, kind, at)
	}
	if !ok {
		return fmt.Errorf("%s: %v is no %s", at, value, kind)
	}
	return nil
}

func checkSARIFObject(value any, kind, at string) error {
	object, ok := value.(map[string]any)
	if !ok {
		return fmt.Errorf("%s: no %s", at, kind)
	}
	properties := sarifObjects[kind]
	if properties == nil {
		return fmt.Errorf("%s: there is no %s in SARIF", at, kind)
	}
	for name, v := range object {
		if properties[name] == "" {
			return fmt.Errorf("%s: a %s has no %s", at, kind, name)
		}
		if err := checkSARIF(v, properties[name], at+"."+name); err != nil {
			return err
		}
	}
	for name, p := range properties {
		if _, ok := object[name]; !ok && strings.HasSuffix(p, "!") {
			return fmt.Errorf("%s: the %s of a %s is missing", at, name, kind)
		}
	}
	return nil
}

// hostileReports are reports whose texts try to be more than texts.
func hostileReports() []*doctor.Report {
	source := &doctor.Source{File: "a b/Docker%file:1,x", Line: 7, Text: "COPY . /"}
	found := doctor.Finding{
		ID: doctor.IDSecret, Severity: doctor.Error, Message: "100% of\n::error::it\r::set-output name=x::y", Path: "/a:b,c/é",
		Evidence: []string{"one", "two"}, Remedy: []string{"line 7 becomes: COPY app /", "or not"}, Source: source,
	}
	bare := doctor.Finding{ID: doctor.IDRoot, Severity: doctor.Warning, Message: "the program runs as root"}
	file := doctor.Finding{ID: doctor.IDDebug, Severity: doctor.Info, Message: "debug", Path: "/usr/bin/app"}
	layers := []doctor.Layer{{Source: &doctor.Source{File: "/abs/Dockerfile", Line: 3}}}
	return []*doctor.Report{
		{Name: "app:1", Platform: "linux/amd64", Layers: layers, Findings: []doctor.Finding{found, bare}},
		{Name: "app:1", Platform: "linux/arm64", Layers: layers, Findings: []doctor.Finding{found, bare}},
		{Name: "app:2", Findings: []doctor.Finding{file, bare}},
	}
}

func TestSARIF(t *testing.T) {
	for name, reports := range map[string][]*doctor.Report{"none": nil, "clean": {{Name: "x"}}, "hostile": hostileReports()} {
		var b bytes.Buffer
		if err := doctor.WriteSARIF(&b, reports, "v1.2.3"); err != nil {
			t.Fatal(err)
		}
		var log any
		if err := json.Unmarshal(b.Bytes(), &log); err != nil {
			t.Fatal(err)
		}
		if err := checkSARIF(log, "log", name); err != nil {
			t.Errorf("%v\n%s", err, &b)
		}
		var typed struct {
			Runs []struct {
				Tool struct {
					Driver struct{ Rules []struct{ ID string } }
				}
				Results []struct {
					RuleID, Level string
					RuleIndex     int
					Locations     []struct {
						PhysicalLocation struct {
							ArtifactLocation struct{ URI string }
							Region           struct{ StartLine int }
						}
					}
				}
			}
		}
		if err := json.Unmarshal(b.Bytes(), &typed); err != nil || len(typed.Runs) != 1 {
			t.Fatalf("%v, %d runs", err, len(typed.Runs))
		}
		if len(typed.Runs[0].Tool.Driver.Rules) != len(doctor.IDs) {
			t.Errorf("%s: %d rules, there are %d findings", name, len(typed.Runs[0].Tool.Driver.Rules), len(doctor.IDs))
		}
		var got []string
		for _, r := range typed.Runs[0].Results {
			if id := typed.Runs[0].Tool.Driver.Rules[r.RuleIndex].ID; id != r.RuleID {
				t.Errorf("%s: the index of %s is that of %s", name, r.RuleID, id)
			}
			p := r.Locations[0].PhysicalLocation
			got = append(got, fmt.Sprintf("%s %s %s:%d", r.Level, r.RuleID, p.ArtifactLocation.URI, p.Region.StartLine))
		}
		var want []string
		if name == "hostile" { // what both platforms have is told once
			want = []string{
				"error secret a%20b/Docker%25file:1,x:7", "warning root-user file:///abs/Dockerfile:1", "note debug-info usr/bin/app:0",
				"warning root-user ./app:2:0",
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q\nwant %q", name, got, want)
		}
	}
}

// TestSARIFCheck: the check of the test above finds what is wrong.
func TestSARIFCheck(t *testing.T) {
	for _, text := range []string{
		`{"version":"2.1.0"}`, `{"version":"2.0.0","runs":[]}`, `{"version":"2.1.0","runs":[{"tool":{}}]}`,
		`{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"x"}},"results":[{"level":"info","message":{"text":"x"}}]}]}`,
		`{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"x"}},"results":[{"message":{}}]}]}`,
		`{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"x"}},"findings":[]}]}`,
	} {
		var log any
		if err := json.Unmarshal([]byte(text), &log); err != nil {
			t.Fatal(err)
		}
		if checkSARIF(log, "log", "log") == nil {
			t.Errorf("passes: %s", text)
		}
	}
}

func TestAnnotations(t *testing.T) {
	var b bytes.Buffer
	if err := doctor.WriteAnnotations(&b, hostileReports()); err != nil {
		t.Fatal(err)
	}
	want := `::error file=a b/Docker%25file%3A1%2Cx,line=7,title=skiff%3A secret::100%25 of%0A::error::it%0D::set-output name=x::y%0A` +
		`Seen: one%0ASeen: two%0AMend: line 7 becomes: COPY app /%0AOr: or not
::warning title=skiff%3A root-user::the program runs as root
::notice title=skiff%3A debug-info::debug
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", &b, want)
	}
}

// TestFindingsAreDocumented: each id has a row of its own in docs/doctor.md, and no other has one.
func TestFindingsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "## Findings")
	table, _, _ = strings.Cut(table, "\n## ")
	var ids []string
	for line := range strings.Lines(table) {
		if rest, ok := strings.CutPrefix(line, "| `"); ok {
			id, _, _ := strings.Cut(rest, "`")
			ids = append(ids, id)
		}
	}
	want := slices.Sorted(slices.Values(doctor.IDs))
	if slices.Sort(ids); !slices.Equal(ids, want) {
		t.Errorf("documented %q\nthere are   %q", ids, want)
	}
}
