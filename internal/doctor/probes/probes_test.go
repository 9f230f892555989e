//go:build linux

package probes

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/skiff-build/skiff/internal/doctor"
)

var update = flag.Bool("update", false, "write docs/doctor-probes.md; with SKIFF_PROBES")

// probe is a small program. Its source begins with directives, //probe:WORD ARGUMENT:
//
//	short      it is part of an ordinary run
//	cgo        it is built with cgo
//	flags F    it is built with these flags
//	tool NAME  the program that it runs is found by this name
//	alarm KIND it is predicted to need that, and does not: known
//	miss KIND  it needs that, and it is not predicted: known
type probe struct {
	name         string
	source       []byte
	short, cgo   bool
	flags        []string
	tool         string
	alarms, miss []doctor.NeedKind

	file   string
	binary *doctor.Binary

	// Of real programs:
	args    []string          // PEER in it is the TLS server's name
	files   map[string]string // in the root; likewise
	timeout time.Duration     // of one that serves
}

func read(t *testing.T) []*probe {
	t.Helper()
	archive, err := txtar.ParseFile(filepath.Join("testdata", "probes.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	var all []*probe
	for _, f := range archive.Files {
		p := &probe{name: strings.TrimSuffix(f.Name, ".go"), source: f.Data, tool: "probetool"}
		for line := range strings.Lines(string(f.Data)) {
			directive, ok := strings.CutPrefix(strings.TrimSpace(line), "//probe:")
			if !ok {
				continue
			}
			word, arg, _ := strings.Cut(directive, " ")
			switch word {
			case "short":
				p.short = true
			case "cgo":
				p.cgo = true
			case "flags":
				p.flags = splitFlags(arg)
			case "tool":
				p.tool = arg
			case "alarm":
				p.alarms = append(p.alarms, doctor.NeedKind(arg))
			case "miss":
				p.miss = append(p.miss, doctor.NeedKind(arg))
			default:
				t.Fatalf("%s: directive %q", p.name, directive)
			}
		}
		all = append(all, p)
	}
	return all
}

// splitFlags splits at spaces that a dash follows; -ldflags= keeps its own.
func splitFlags(s string) []string {
	if flags, ok := strings.CutPrefix(s, "-ldflags="); ok {
		return []string{"-ldflags=" + flags}
	}
	return strings.Fields(s)
}

// build compiles probes with a toolchain, those with nothing particular by one go command.
func build(t *testing.T, toolchain string, all []*probe) {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, text []byte) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", []byte("module example.com/probes\n\ngo 1.24\n"))
	var plain []string
	for _, p := range all {
		write(filepath.Join(p.name, "main.go"), p.source)
		p.file = filepath.Join(dir, "bin", p.name)
		if !p.cgo && p.flags == nil {
			plain = append(plain, "./"+p.name)
		}
	}
	compile := func(cgo string, flags, packages []string) {
		args := append([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", filepath.Join(dir, "bin") + "/"}, flags...)
		cmd := exec.CommandContext(t.Context(), "go", append(args, packages...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo, "GOTOOLCHAIN="+toolchain, "GOFLAGS=", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	if len(plain) > 0 {
		compile("0", nil, plain)
	}
	for _, p := range all {
		if p.cgo || p.flags != nil {
			cgo := "0"
			if p.cgo {
				cgo = "1"
			}
			compile(cgo, p.flags, []string{"./" + p.name})
		}
		f, err := os.Open(p.file)
		if err != nil {
			t.Fatal(err)
		}
		st, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		p.binary, err = doctor.ReadBinary(f, st.Size())
		f.Close()
		if err != nil {
			t.Fatalf("%s: %v", p.name, err)
		}
		if len(p.binary.Undecided) > 0 {
			t.Errorf("%s: undecided: %v", p.name, p.binary.Undecided)
		}
	}
}

// outcome is what was predicted of a probe, and what was seen.
type outcome struct {
	probe        *probe
	seen         []doctor.NeedKind // what it does not work without
	misses       []doctor.NeedKind // seen, and not even called possible
	alarms       []doctor.NeedKind // called likely or linked, and not seen
	unsupplied   []doctor.NeedKind // seen, and called possible: it is not supplied
	inferredGood bool              // it works with what is inferred
}

// judge runs a probe with everything, with nothing, with all but one, and with what was inferred.
func (b *bench) judge(t *testing.T, p *probe) outcome {
	o := outcome{probe: p}
	with := func(needed func(doctor.NeedKind) bool) string {
		supply := map[doctor.NeedKind]bool{}
		for _, k := range kinds {
			supply[k] = needed(k)
		}
		return b.run(t, p, supply)
	}
	full := with(func(doctor.NeedKind) bool { return true })
	if strings.Contains(full, "exit ") || full == "" {
		t.Errorf("%s: fails with everything that it may need: %s", p.name, full)
		return o
	}
	if with(func(doctor.NeedKind) bool { return false }) != full {
		for _, k := range kinds {
			if with(func(other doctor.NeedKind) bool { return other != k }) != full {
				o.seen = append(o.seen, k)
			}
		}
	}
	for _, k := range kinds {
		level, seen := p.binary.Need(k).Level, slices.Contains(o.seen, k)
		switch {
		case seen && level == doctor.None:
			o.misses = append(o.misses, k)
		case seen && level == doctor.Possible:
			o.unsupplied = append(o.unsupplied, k)
		case !seen && level >= doctor.Likely:
			o.alarms = append(o.alarms, k)
		}
	}
	inferred := with(func(k doctor.NeedKind) bool { return p.binary.Need(k).Level >= doctor.Likely })
	o.inferredGood = inferred == full
	if !o.inferredGood && len(o.misses)+len(o.unsupplied) == 0 {
		t.Errorf("%s: prints %q with everything, and %q with what is inferred", p.name, full, inferred)
	}
	if !slices.Equal(o.misses, p.miss) {
		t.Errorf("%s: missed needs %v, known are %v; %s", p.name, o.misses, p.miss, evidence(p.binary))
	}
	if !slices.Equal(o.alarms, p.alarms) {
		t.Errorf("%s: needs predicted and not seen %v, known are %v; %s", p.name, o.alarms, p.alarms, evidence(p.binary))
	}
	return o
}

func evidence(b *doctor.Binary) string {
	var all strings.Builder
	for _, n := range b.Needs {
		fmt.Fprintf(&all, "\n  %s %s %q %s", n.Kind, n.Level, n.Values, strings.Join(n.Evidence, "; "))
	}
	return all.String()
}

func TestProbes(t *testing.T) {
	toolchains := []string{"local"}
	named := os.Getenv("SKIFF_PROBES")
	if named != "" {
		toolchains = strings.Split(named, ",")
	}
	var docs bytes.Buffer
	docs.WriteString(preface)
	for _, toolchain := range toolchains {
		if named != "" {
			toolchain = "go" + strings.TrimPrefix(toolchain, "go")
		}
		t.Run(toolchain, func(t *testing.T) {
			all := read(t)
			if named == "" {
				all = slices.DeleteFunc(all, func(p *probe) bool { return !p.short })
			}
			if _, err := exec.LookPath("gcc"); err != nil || runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
				t.Log("no gcc: the programs with cgo are left out")
				all = slices.DeleteFunc(all, func(p *probe) bool { return p.cgo })
			}
			build(t, toolchain, all)
			b := newBench(t, all[slices.IndexFunc(all, func(p *probe) bool { return p.name == "hello" })].file)
			var outcomes []outcome
			for _, p := range all {
				outcomes = append(outcomes, b.judge(t, p))
			}
			text := table(toolchain, outcomes)
			t.Log("\n" + text)
			docs.WriteString(text)
		})
	}
	if *update && named != "" && !t.Failed() {
		if err := os.WriteFile(filepath.Join("..", "..", "..", "docs", "doctor-probes.md"), docs.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

const preface = `# Probes: what the doctor predicts of small programs, and what is seen

Each program of internal/doctor/probes/testdata/probes.txtar is built stripped, read by the doctor, and run in an empty root with
everything that it may need, with nothing, with everything but one thing, and with what was inferred (likely and linked).
*Seen* is what it does not print the same without. An alarm is what was inferred and not needed; what is seen and called possible
is reported, not supplied. Written by

    SKIFF_PROBES=1.24.9,1.25.3,1.26.8 go test ./internal/doctor/probes -update
`

// table is the outcome as Markdown, with the sums first.
func table(toolchain string, outcomes []outcome) string {
	var rows strings.Builder
	var misses, alarms, possible, good int
	for _, o := range outcomes {
		var predicted []string
		for _, k := range kinds {
			if n := o.probe.binary.Need(k); n.Level > doctor.None {
				text := fmt.Sprintf("%s %s", k, n.Level)
				if len(n.Values) > 0 && k != doctor.NeedLoader {
					text += " (" + strings.Join(n.Values, ", ") + ")"
				}
				predicted = append(predicted, text)
			}
		}
		var remarks []string
		for _, k := range o.misses {
			remarks = append(remarks, "missed: "+string(k))
		}
		for _, k := range o.alarms {
			remarks = append(remarks, "false alarm: "+string(k))
		}
		for _, k := range o.unsupplied {
			remarks = append(remarks, "not supplied: "+string(k))
		}
		misses, alarms, possible = misses+len(o.misses), alarms+len(o.alarms), possible+len(o.unsupplied)
		if o.inferredGood {
			good++
		}
		fmt.Fprintf(&rows, "| %s | %s | %s | %s |\n", o.probe.name, strings.Join(predicted, ", "), join(o.seen), strings.Join(remarks, ", "))
	}
	return fmt.Sprintf("\n## %s\n\n%d programs, %d work with what is inferred; %d needs missed, %d called possible only, %d false alarms.\n\n"+
		"| program | predicted | seen | |\n| --- | --- | --- | --- |\n%s", toolchain, len(outcomes), good, misses, possible, alarms, rows.String())
}

func join(kinds []doctor.NeedKind) string {
	var all []string
	for _, k := range kinds {
		all = append(all, string(k))
	}
	return strings.Join(all, ", ")
}
