package gobase

import (
	"context"
	"go/version"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/skiff-build/skiff/internal/gotoolchain"
)

// modules decides which Go runs where a go.mod of the context, or of a module that it needs, asks for more than a tag below Go 1.21
// is. The tag's own comes first, since that is what the image does, and old Go builds much that says it is newer: only where it cannot
// read the go.mod, or has tried and failed, a newer one takes its place. From 1.21 on the image's own Go refuses such a go.mod
// (GOTOOLCHAIN=local), and so does ours.
func (j *judge) modules(ctx context.Context, b *base) {
	if atLeast(b.release, "1.21") {
		return
	}
	var m wanted
	seen := map[string]bool{}
	for _, c := range b.copies {
		key := c.local.Digest.String() + "\n" + c.from
		if l := j.open(c.local); l.files != nil && !seen[key] {
			seen[key] = true
			j.goMods(ctx, l.files, c, &m)
		}
	}
	b.goMods = m.lines
	if m.most == "" || gotoolchain.Compare(gotoolchain.Line(m.most), gotoolchain.Line(b.release)) <= 0 {
		return
	}
	why := m.unreadable(b.release)
	if why == "" {
		why = j.o.Newer.why(b, j.o.Tools.State())
	}
	if why == "" && libcRefusal(b.release, toolArch(b.arch)) != "" {
		why = "its go command does not run on this machine"
	}
	if why == "" {
		b.newer = gotoolchain.Line(m.most)
		return
	}
	b.insteadFor = why
	var err error
	if b.candidates, err = j.o.Tools.Candidates(ctx, m.most, m.toolchain, toolArch(b.arch)); err != nil {
		b.unmet = &Refusal{Where: where(b.source), Why: err.Error()}
		return
	}
	b.next()
}

// next takes the next newer Go, if there is one.
func (b *base) next() bool {
	if len(b.candidates) == 0 {
		return false
	}
	b.instead, b.candidates = b.candidates[0], b.candidates[1:]
	return true
}

// wanted is what go.mod files, and those of the modules that they need, ask for.
type wanted struct {
	lines     []string // of their go directives
	most      string   // the newest of them
	toolchain string   // the newest that a toolchain line of the context names; empty: none
	files     []*modfile.File
}

func (m *wanted) ask(line string) {
	if line == "" {
		return
	}
	m.lines = append(m.lines, line)
	if m.most == "" || gotoolchain.Compare(line, m.most) > 0 {
		m.most = line
	}
}

// unreadable says why the go command of a release below 1.21 reads none of the go.mod files of the context, so that there is nothing
// to try; empty where it may read one, or nobody knows.
func (m *wanted) unreadable(release string) string {
	why := ""
	for _, f := range m.files {
		if why = unknownTo(release, f); why == "" {
			return ""
		}
	}
	return why
}

// unknownTo names what a go command below 1.21 ends with an error about, in the go.mod of the main module.
func unknownTo(release string, f *modfile.File) string {
	// 1.13 does not look at the version, 1.15 does.
	if f.Go != nil && strings.Count(f.Go.Version, ".") == 2 && atLeast(release, "1.15") {
		return "its go command does not know the form of go " + f.Go.Version + " in go.mod"
	}
	for _, words := range directives(f) {
		if slices.Contains([]string{"toolchain", "godebug", "tool", "ignore"}, words[0]) {
			return "its go command does not know the word " + words[0] + " in go.mod"
		}
	}
	return ""
}

// directives are the lines of a go.mod, and the first words of its blocks, also those that a lax reading leaves out.
func directives(f *modfile.File) (all [][]string) {
	for _, stmt := range f.Syntax.Stmt {
		switch s := stmt.(type) {
		case *modfile.Line:
			all = append(all, s.Token)
		case *modfile.LineBlock:
			all = append(all, s.Token)
		}
	}
	return slices.DeleteFunc(all, func(words []string) bool { return len(words) == 0 })
}

// maxGoMods bounds how many go.mod files of a context are read.
const maxGoMods = 64

// goMods reads the go.mod files that a copy brings along, not deeper than three folders.
func (j *judge) goMods(ctx context.Context, files fs.FS, c copied, m *wanted) {
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
		j.goMod(ctx, files, name, m)
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

func (j *judge) goMod(ctx context.Context, files fs.FS, name string, m *wanted) {
	data, err := fs.ReadFile(files, name)
	if err != nil {
		return
	}
	mod, err := modfile.ParseLax(name, data, nil)
	if err != nil {
		return
	}
	m.files = append(m.files, mod)
	if mod.Go != nil {
		m.ask(mod.Go.Version)
	}
	for _, words := range directives(mod) {
		if words[0] != "toolchain" || len(words) < 2 {
			continue
		}
		if v := strings.TrimPrefix(words[1], "go"); version.IsValid("go"+v) && (m.toolchain == "" || gotoolchain.Compare(v, m.toolchain) > 0) {
			m.toolchain = v
		}
	}
	j.dependencies(ctx, files, path.Dir(name), mod, m)
}

// dependencies asks for what the modules want that go.sum has the content of; without a go.sum, those that
// go.mod names.
func (j *judge) dependencies(ctx context.Context, files fs.FS, dir string, mod *modfile.File, m *wanted) {
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
	for dep := range needed {
		m.ask(j.o.Tools.ModuleGo(ctx, dep))
	}
}
