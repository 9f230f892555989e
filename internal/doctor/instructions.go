package doctor

import (
	"fmt"
	"path"
	"strings"
)

// instructions reports what the Dockerfile does that makes builds differ from day to day, or slow.
func (e *examination) instructions() {
	d := e.o.Dockerfile
	if d == nil {
		return
	}
	for i, s := range d.Stages {
		if !d.used(i) {
			continue
		}
		e.base(d, i)
		for _, in := range s.Instructions {
			if in.Name == "RUN" {
				e.goCommand(d, in)
			}
		}
	}
}

// used says that the target is made of a stage: starts from it, or copies from it.
func (d *Dockerfile) used(i int) bool { return d.needs(d.Target, i, map[int]bool{}) }

func (d *Dockerfile) needs(from, i int, seen map[int]bool) bool {
	if from == i {
		return true
	}
	if from < 0 || from >= len(d.Stages) || seen[from] {
		return false
	}
	seen[from] = true
	if d.needs(d.stage(d.Stages[from].Base, from), i, seen) {
		return true
	}
	for _, in := range d.Stages[from].Instructions {
		for _, name := range append(mountedFrom(in.Text), in.From) {
			if d.needs(d.stage(name, from), i, seen) {
				return true
			}
		}
	}
	return false
}

// base reports a base image without a tag, or with one that moves.
func (e *examination) base(d *Dockerfile, i int) {
	name := d.Stages[i].Base
	if d.stage(name, i) >= 0 || strings.EqualFold(name, "scratch") || strings.ContainsAny(name, "@$") {
		return
	}
	f := Finding{ID: IDUnpinned, Severity: Warning, Path: name, Source: sourceOf(d.File, d.Stages[i].From)}
	_, tag, ok := strings.Cut(name[strings.LastIndexByte(name, '/')+1:], ":")
	switch {
	case !ok:
		f.Message = fmt.Sprintf("the base %s has no tag: it is another image from one day to the next", name)
		f.Remedy = remedies(versioned(d.Stages[i].From, name), "name a version for a tag, or the digest, as skiff pull prints it")
	case tag == "latest":
		f.Message = fmt.Sprintf("the base %s is another image from one day to the next", name)
		f.Remedy = remedies(versioned(d.Stages[i].From, name), "name a version for a tag, or the digest, as skiff pull prints it")
	case i == d.base():
		f.Severity = Info
		f.Message = fmt.Sprintf("the base %s ships, and its tag may be moved", name)
		f.Remedy = []string{"name its digest, as skiff pull " + name + " prints it"}
	default:
		return
	}
	e.find(f)
}

// versioned is FROM with the tag of a version, of an image whose versions are known here.
func versioned(in Instruction, name string) string {
	plain := strings.TrimSuffix(name, ":latest")
	if path.Base(plain) != "golang" {
		return ""
	}
	return becomes(in, strings.Replace(in.Text, name, strings.TrimSuffix(plain, "golang")+strings.TrimSuffix(donorImage, "-alpine"), 1))
}

var (
	tidy       = compiled(`\bgo mod tidy\b`)
	getModules = compiled(`\bgo get\s+(-u\b|-t\b|\./\.\.\.|[a-z0-9.-]+\.[a-z]+/)`)
	buildAll   = compiled(`\bgo (?:build|install)\b[^&|;]*?\s-a(?:\s|$)`)
	flagA      = compiled(`(\bgo (?:build|install)\b[^&|;]*?)\s-a(\s|$)`)
	mountFrom  = compiled(`--mount=\S*\bfrom=([^,\s]+)`)
)

// tidied is a command with go mod download in the place of go mod tidy; the same where there is more to it.
func tidied(text string) string {
	if getModules().MatchString(text) {
		return text
	}
	return tidy().ReplaceAllString(text, "go mod download")
}

func mountedFrom(text string) []string {
	var names []string
	for _, m := range mountFrom().FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	return names
}

// goCommand reports what a RUN asks of the go command that it should not.
func (e *examination) goCommand(d *Dockerfile, in Instruction) {
	if tidy().MatchString(in.Text) || getModules().MatchString(in.Text) {
		e.find(Finding{
			ID: IDTidy, Severity: Warning, Source: sourceOf(d.File, in),
			Message: "the build may change go.mod: what is built is then not what was committed, and another day gives other modules",
			Remedy:  remedies(becomes(in, tidied(in.Text)), "run go mod tidy and go get before the commit, and go mod download in the build"),
		})
	}
	if buildAll().MatchString(in.Text) {
		e.find(Finding{
			ID: IDBuildAll, Severity: Info, Source: sourceOf(d.File, in),
			Message: "go build -a compiles everything again, the standard library too; the result is the same without",
			Remedy:  remedies(becomes(in, flagA().ReplaceAllString(in.Text, "$1$2")), "leave -a out"),
		})
	}
}
