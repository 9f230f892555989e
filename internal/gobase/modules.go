package gobase

import (
	"context"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

// modules decides, for a tag below Go 1.21, whether the newest Go at hand is to be used: where a go.mod of the
// context or of a module that it needs asks for more than the tag's Go. From 1.21 on the image's own Go
// refuses such a go.mod (GOTOOLCHAIN=local), and so does ours.
func (j *judge) modules(ctx context.Context, b *base) {
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
	for _, c := range b.copies {
		key := c.local.Digest.String() + "\n" + c.from
		if l := j.open(c.local); l.files != nil && !seen[key] {
			seen[key] = true
			j.goMods(ctx, l.files, c, ask)
		}
	}
	if need == "" || compareGo(goLine(need), goLine(b.release)) <= 0 {
		return
	}
	instead, err := j.o.Tools.NewestAtHand(ctx, goLine(need), toolArch(b.arch))
	if err != nil {
		b.refuse(&Refusal{Where: where(b.source), Why: err.Error()})
		return
	}
	b.instead = instead
}

// maxGoMods bounds how many go.mod files of a context are read.
const maxGoMods = 64

// goMods reads the go.mod files that a copy brings along, not deeper than three folders.
func (j *judge) goMods(ctx context.Context, files fs.FS, c copied, ask func(string)) {
	found := 0
	visit := func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // the build itself will say so
		}
		if d.IsDir() {
			switch path.Base(name) {
			case ".git", "vendor", "node_modules", "testdata":
				return fs.SkipDir
			}
			if strings.Count(name, "/") > 2 {
				return fs.SkipDir
			}
			return nil
		}
		if path.Base(name) != "go.mod" || !selected(c, name) {
			return nil
		}
		if found++; found > maxGoMods {
			return fs.SkipAll
		}
		j.goMod(ctx, files, name, ask)
		return nil
	}
	starts := []string{orDot(strings.TrimPrefix(c.from, "/"))}
	if strings.ContainsAny(c.from, "*?[") {
		starts, _ = fs.Glob(files, starts[0]) // a bad pattern copies nothing
	}
	for _, start := range starts {
		_ = fs.WalkDir(files, start, visit) // visit returns no errors of its own
	}
}

func (j *judge) goMod(ctx context.Context, files fs.FS, name string, ask func(string)) {
	data, err := fs.ReadFile(files, name)
	if err != nil {
		return
	}
	mod, err := modfile.ParseLax(name, data, nil)
	if err != nil {
		return
	}
	if mod.Go != nil {
		ask(mod.Go.Version)
	}
	j.dependencies(ctx, files, path.Dir(name), mod, ask)
}

// dependencies asks for what the modules want that go.sum has the content of; without a go.sum, those that
// go.mod names.
func (j *judge) dependencies(ctx context.Context, files fs.FS, dir string, mod *modfile.File, ask func(string)) {
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
		ask(j.o.Tools.moduleGo(ctx, m))
	}
}
