package dockerfile

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Stage is one FROM of a Dockerfile and what follows it, as it is written: variables are not replaced.
type Stage struct {
	Name         string // "" for none
	Base         string // an image, or the name of a stage
	From         Instruction
	Instructions []Instruction
}

// Instruction is one instruction of a stage.
type Instruction struct {
	Line    int      // from 1
	Name    string   // "COPY"
	Text    string   // all of it, on one line
	From    string   // of COPY --from
	Sources []string // of COPY and ADD
	Dest    string   // likewise
}

// Text reads the Dockerfile; nil where it is in a context at a URL.
func (d *Dockerfile) Text() ([]byte, error) {
	if d.remote && d.temp == "" {
		return nil, nil
	}
	text, err := os.ReadFile(d.path())
	if os.IsNotExist(err) { // the name in lower case: see locate
		text, err = os.ReadFile(filepath.Join(d.locals["dockerfile"], strings.ToLower(d.attrs["filename"])))
	}
	if err != nil {
		return nil, fmt.Errorf("read Dockerfile: %w", err)
	}
	return text, nil
}

func (d *Dockerfile) path() string { return filepath.Join(d.locals["dockerfile"], d.attrs["filename"]) }

// File is the path of the Dockerfile as the user knows it, "Dockerfile" for one from standard input.
func (d *Dockerfile) File() string {
	if d.temp != "" {
		return d.attrs["filename"]
	}
	return d.path()
}

// Stages takes the text of a Dockerfile apart. target is the index of the stage named so; "" is the last.
func Stages(text []byte, target string) (stages []Stage, index int, err error) {
	tree, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, 0, fmt.Errorf("read Dockerfile: %w", err)
	}
	// The frontend has linted it; none at all would not do where a comment configures one.
	parsed, _, err := instructions.Parse(tree.AST, linter.New(&linter.Config{SkipAll: true}))
	if err != nil {
		return nil, 0, fmt.Errorf("read Dockerfile: %w", err)
	}
	index = len(parsed) - 1
	for i, s := range parsed {
		if target != "" && (strings.EqualFold(s.Name, target) || fmt.Sprint(i) == target) {
			index = i
		}
		out := Stage{Name: s.Name, Base: s.BaseName, From: Instruction{Name: "FROM", Text: oneLine(s.SourceCode), Line: line(s.Location)}}
		for _, c := range s.Commands {
			out.Instructions = append(out.Instructions, instruction(c))
		}
		stages = append(stages, out)
	}
	return stages, index, nil
}

func instruction(c instructions.Command) Instruction {
	i := Instruction{Name: strings.ToUpper(c.Name()), Line: line(c.Location())}
	if s, ok := c.(fmt.Stringer); ok {
		i.Text = oneLine(s.String())
	}
	switch c := c.(type) {
	case *instructions.CopyCommand:
		i.From, i.Sources, i.Dest = c.From, c.SourcePaths, c.DestPath
	case *instructions.AddCommand:
		i.Sources, i.Dest = c.SourcePaths, c.DestPath
	}
	return i
}

func line(at []parser.Range) int {
	if len(at) == 0 {
		return 0
	}
	return at[0].Start.Line
}

// oneLine joins lines and takes the marks of their continuation away.
func oneLine(code string) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(strings.ReplaceAll(code, "\\\n", " "), "`\n", " ")), " ")
}
