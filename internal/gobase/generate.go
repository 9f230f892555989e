package gobase

import (
	"bufio"
	"bytes"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/skiff-build/skiff/internal/busybox"
)

// maxLine bounds one line of a Go file in bytes.
const maxLine = 64 << 20

// maxGenerate bounds how many Go files are looked into for what go generate calls.
const maxGenerate = 20000

// judgeGenerate refuses what go generate would call and the base has not. The commands stand in the Go files
// of the context, as lines "//go:generate command …" (go help generate).
func (g *goCall) judgeGenerate() {
	t := g.s.t
	if needs := slices.DeleteFunc(slices.Clone(t.base.asked), func(p string) bool { return p == "git" }); len(needs) > 0 {
		g.s.refuse(g.text, "go generate may call what was installed: "+strings.Join(needs, ", "))
		return
	}
	seen := 0
	for _, c := range t.copies {
		l := g.s.j.open(c.local)
		if l.files == nil {
			g.s.refuse(g.text, "what go generate calls cannot be looked into")
			return
		}
		start := orDot(strings.TrimPrefix(c.from, "/"))
		// What cannot be read is the build's own error later.
		_ = fs.WalkDir(l.files, start, func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return nil
			case d.IsDir() && (d.Name() == ".git" || d.Name() == "vendor" || d.Name() == "node_modules"):
				return fs.SkipDir
			case d.IsDir() || path.Ext(name) != ".go":
				return nil
			}
			if seen++; seen > maxGenerate {
				return fs.SkipAll
			}
			data, err := fs.ReadFile(l.files, name)
			if err == nil {
				g.directives(name, data)
			}
			return nil
		})
	}
}

// directives judges the commands that one Go file names.
func (g *goCall) directives(name string, data []byte) {
	if !bytes.Contains(data, []byte("//go:generate ")) {
		return
	}
	aliases := map[string]bool{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), "//go:generate ")
		words := strings.Fields(rest)
		if !ok || len(words) == 0 {
			continue
		}
		if words[0] == "-command" && len(words) > 2 {
			aliases[words[1]] = true
			words = words[2:]
		}
		command := strings.Trim(words[0], `"`)
		ours := busybox.Has(command)
		t := g.s.t
		if command == "go" || command == "gofmt" || ours && !busybox.IsShell(command) && !busybox.IsCompiler(command) || aliases[command] || t.installed[command] || t.installed["*"] && !foreignTools[command] {
			continue
		}
		g.s.refuse(g.text, name+" has go generate call "+command+", which is not in the built-in base")
		return
	}
}
