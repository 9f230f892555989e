package gobase

import (
	"io/fs"
	"path"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/moby/buildkit/solver/pb"

	"github.com/skiff-build/skiff/internal/graph"
)

// modules decides, for a tag below Go 1.21, whether the newest Go at hand is to be used: where a go.mod of the
// context or of a module that it needs asks for more than the tag's Go. From 1.21 on the image's own Go
// refuses such a go.mod (GOTOOLCHAIN=local), and so does ours.
func (j *judge) modules(g *graph.Graph, b *base) {
	if atLeast(b.release, "1.21") {
		return
	}
	need := ""
	ask := func(line string) {
		if line == "" {
			return
		}
		b.goMods = append(b.goMods, line)
		if need == "" || compareGo(line, need) > 0 {
			need = line
		}
	}
	seen := map[string]bool{}
	// The walk's only error is a circle, and a decoded graph has none.
	_ = graph.Walk(g, func(v *graph.Vertex) error {
		name, ok := strings.CutPrefix(v.Op.GetSource().GetIdentifier(), "local://")
		if !ok || seen[name] {
			return nil
		}
		if l := j.open(v); l.files != nil {
			seen[name] = true
			j.goMods(l.files, v, ask)
		}
		return nil
	})
	if need == "" || compareGo(goLine(need), goLine(b.release)) <= 0 {
		return
	}
	instead, err := j.o.Tools.NewestAtHand(j.ctx, goLine(need), b.arch)
	if err != nil {
		b.refuse(&Refusal{Where: where(b.source), Why: err.Error()})
		return
	}
	b.instead = instead
}

// maxGoMods bounds how many go.mod files of a context are read.
const maxGoMods = 64

// goMods reads the go.mod files of a context that the build gets to see, not deeper than three folders.
func (j *judge) goMods(files fs.FS, v *graph.Vertex, ask func(string)) {
	found := 0
	exclude := patterns(v.Op.GetSource().GetAttrs()[pb.AttrExcludePatterns])
	// Unreadable folders are not the decision's business: the build itself will say so.
	_ = fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if d.IsDir() {
			base := path.Base(name)
			if name != "." && (strings.Count(name, "/") > 2 || base == ".git" || base == "vendor" || base == "node_modules" || base == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if path.Base(name) != "go.mod" || excluded(exclude, name) {
			return nil
		}
		if found++; found > maxGoMods {
			return fs.SkipAll
		}
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return nil
		}
		mod, err := modfile.ParseLax(name, data, nil)
		if err != nil {
			return nil
		}
		if mod.Go != nil {
			ask(mod.Go.Version)
		}
		j.dependencies(files, path.Dir(name), mod, ask)
		return nil
	})
}

// dependencies asks for what the modules want that go.sum has the content of; without a go.sum, those that
// go.mod names.
func (j *judge) dependencies(files fs.FS, dir string, mod *modfile.File, ask func(string)) {
	needed := map[module.Version]bool{}
	if data, err := fs.ReadFile(files, path.Join(dir, "go.sum")); err == nil {
		for line := range strings.Lines(string(data)) {
			if f := strings.Fields(line); len(f) == 3 && !strings.HasSuffix(f[1], "/go.mod") {
				needed[module.Version{Path: f[0], Version: f[1]}] = true
			}
		}
	}
	for _, r := range mod.Require {
		if len(needed) == 0 || !r.Indirect {
			needed[r.Mod] = true
		}
	}
	for m := range needed {
		ask(j.o.Tools.moduleGo(j.ctx, m))
	}
}
