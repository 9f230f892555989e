package doctor

import (
	"path"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Dockerfile is what an image was built from: its stages as they are written.
type Dockerfile struct {
	File   string // as the user knows it
	Stages []Stage
	Target int // index of the stage that ships
}

// Stage is one FROM and what follows it.
type Stage struct {
	Name         string // "" for none
	Base         string // as written: an image, or the name of a stage
	Instructions []Instruction
	From         Instruction
}

// Instruction is one instruction of a Dockerfile.
type Instruction struct {
	Line    int
	Name    string   // "COPY"
	Text    string   // all of it, on one line
	From    string   // of COPY --from
	Sources []string // of COPY and ADD
	Dest    string   // likewise
}

// Ignored are the ids that comments of a Dockerfile say not to report: # skiff: ignore=ID[,ID]
func Ignored(text string) []string {
	var ids []string
	for line := range strings.Lines(text) {
		comment, ok := strings.CutPrefix(strings.TrimSpace(line), "#")
		if !ok {
			continue
		}
		rest, ok := strings.CutPrefix(strings.TrimSpace(comment), "skiff:")
		if !ok {
			continue
		}
		for _, word := range strings.Fields(rest) {
			if list, ok := strings.CutPrefix(word, "ignore="); ok {
				ids = append(ids, strings.Split(list, ",")...)
			}
		}
	}
	return ids
}

// stage finds a stage by its name or number, as FROM and COPY --from give it.
func (d *Dockerfile) stage(name string, before int) int {
	for i := before - 1; i >= 0; i-- {
		if name != "" && (strings.EqualFold(d.Stages[i].Name, name) || name == strconv.Itoa(i)) {
			return i
		}
	}
	return -1
}

// shipped are the instructions whose results ship: of the target, and of the stages that it starts from, the first one first.
func (d *Dockerfile) shipped() []Instruction {
	var all []Instruction
	for i := d.Target; i >= 0 && i < len(d.Stages); {
		s := d.Stages[i]
		base := d.stage(s.Base, i)
		all = slices.Concat([]Instruction{s.From}, d.triggers(base), s.Instructions, all)
		i = base
	}
	return all
}

// triggers are what the ONBUILD instructions of a stage do first in a stage that starts from it, at their own lines.
func (d *Dockerfile) triggers(stage int) []Instruction {
	if stage < 0 {
		return nil
	}
	var all []Instruction
	for _, in := range d.Stages[stage].Instructions {
		if words := strings.Fields(in.Text); in.Name == "ONBUILD" && len(words) > 1 {
			all = append(all, Instruction{Line: in.Line, Name: strings.ToUpper(words[1]), Text: in.Text})
		}
	}
	return all
}

// base is the index of the stage whose FROM names the image that ships.
func (d *Dockerfile) base() int {
	i := d.Target
	for next := i; next >= 0; next = d.stage(d.Stages[i].Base, i) {
		i = next
	}
	return i
}

// layerOrigin is what made a layer.
type layerOrigin struct {
	createdBy   string
	file        string
	instruction *Instruction // nil where it is not known
}

func (l layerOrigin) source() *Source {
	if l.instruction == nil {
		return nil
	}
	return sourceOf(l.file, *l.instruction)
}

func sourceOf(file string, i Instruction) *Source {
	return &Source{File: file, Line: i.Line, Text: redact(i.Text)}
}

// originsOf tells the layers of an image what made them. Instructions and history are matched from their ends: what a base
// image brings along, its ONBUILD instructions too, comes first in the history.
func originsOf(history []v1.History, layers int, d *Dockerfile) []layerOrigin {
	out := make([]layerOrigin, layers)
	var instructions []Instruction
	if d != nil {
		instructions = d.shipped()
	}
	at := layers - 1
	for i := len(history) - 1; i >= 0 && at >= 0; i-- {
		h := history[i]
		var match *Instruction
		if n := len(instructions); n > 0 {
			last := &instructions[n-1]
			switch {
			case instructionOf(h.CreatedBy) == last.Name:
				match = last
				instructions = instructions[:n-1]
			case !writesHistory(last.Name):
				instructions = instructions[:n-1]
				i++ // look at the entry again
				continue
			}
		}
		if h.EmptyLayer {
			continue
		}
		out[at].createdBy = redact(h.CreatedBy)
		if match != nil {
			out[at].file, out[at].instruction = d.File, match
		}
		at--
	}
	return out
}

// writesHistory says that an instruction leaves an entry in the history of the image (BuildKit's dockerfile2llb convert.go, dispatch).
func writesHistory(name string) bool { return name != "FROM" && name != "ONBUILD" }

// instructionOf is the instruction in a CreatedBy of BuildKit's frontend: "COPY /app /app # buildkit".
func instructionOf(createdBy string) string {
	word, _, _ := strings.Cut(createdBy, " ")
	return strings.ToUpper(word)
}

// bringing is the instruction that brought a file into the image.
func (e *examination) bringing(layer int) *Source {
	if layer < 0 || layer >= len(e.layers) {
		return nil
	}
	return e.layers[layer].source()
}

// stageOf is the name of the stage that the file of a layer was copied from, by which COPY --from finds more of its files;
// "" where that is not known.
func (e *examination) stageOf(layer int) string {
	if layer < 0 || layer >= len(e.layers) || e.layers[layer].instruction == nil {
		return ""
	}
	return e.layers[layer].instruction.From
}

// last is the last of the shipped instructions with that name; nil for none.
func (e *examination) last(name string) *Source {
	if e.o.Dockerfile == nil {
		return nil
	}
	all := e.o.Dockerfile.shipped()
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Name == name {
			return sourceOf(e.o.Dockerfile.File, all[i])
		}
	}
	return nil
}

// relativeTo is a path below dir, for a COPY of its source.
func relativeTo(name, dir string) string {
	return strings.TrimPrefix(path.Clean(name), strings.TrimSuffix(path.Clean(dir), "/")+"/")
}
