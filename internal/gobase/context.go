package gobase

import (
	"encoding/json"
	"io/fs"
	"path"
	"strings"
	"sync"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/patternmatcher"

	"github.com/skiff-build/skiff/internal/graph"
)

// localFiles is a local source as far as it can be looked into.
type localFiles struct {
	files fs.FS // nil: cannot be looked into
}

func (j *judge) open(v *graph.Vertex) localFiles {
	name, _ := strings.CutPrefix(v.Op.GetSource().GetIdentifier(), "local://")
	if l, ok := j.local[name]; ok {
		return l
	}
	l := localFiles{}
	if j.o.Local != nil {
		if files, ok := j.o.Local(name); ok {
			l.files = files
		}
	}
	j.local[name] = l
	return l
}

// repository reports whether a copy of a local source brings a .git along, and into which folder.
func (j *judge) repository(c copied) (folder string, found bool) {
	git, folder := path.Join(c.from, ".git"), c.to
	if path.Base(c.from) == ".git" { // COPY .git .git
		git, folder = c.from, path.Dir(c.to)
	}
	if strings.ContainsAny(c.from, "*?[") {
		// A pattern with names of its own, such as COPY *.go: only one that can mean .git counts.
		if ok, _ := path.Match(path.Base(c.from), ".git"); !ok {
			return "", false
		}
		git = path.Join(path.Dir(c.from), ".git")
	}
	name := strings.TrimPrefix(path.Join("/", git), "/")
	if !selected(c, name+"/HEAD") {
		return "", false
	}
	l := j.open(c.local)
	if l.files == nil {
		return folder, true
	}
	if _, err := fs.Stat(l.files, name); err != nil {
		return "", false
	}
	return folder, true
}

// selected reports whether a file of a local source is among those that the copy takes: .dockerignore and
// the paths that the frontend asks for stand in the source's attributes, --exclude in the copy.
func selected(c copied, name string) bool {
	attrs := c.local.Op.GetSource().GetAttrs()
	if excluded(patterns(attrs[pb.AttrExcludePatterns]), name) || excluded(c.exclude, strings.TrimPrefix(name, strings.TrimPrefix(c.from, "/")+"/")) {
		return false
	}
	if include := patterns(attrs[pb.AttrIncludePatterns]); len(include) > 0 && !excluded(include, name) {
		return false
	}
	follow := patterns(attrs[pb.AttrFollowPaths])
	if len(follow) == 0 {
		return true
	}
	for _, p := range follow {
		p = strings.Trim(p, "/")
		if at := strings.IndexAny(p, "*?["); at >= 0 {
			p = strings.TrimPrefix(path.Dir("/"+p[:at]+"x"), "/")
		}
		if p == "" || p == "." || name == p || strings.HasPrefix(name, p+"/") {
			return true
		}
	}
	return false
}

// patterns reads a list in an attribute of a source; a broken one is empty.
func patterns(text string) []string {
	var list []string
	if json.Unmarshal([]byte(text), &list) != nil {
		return nil
	}
	return list
}

// excluded reports whether a name, or a folder above it, matches patterns of .dockerignore's kind.
func excluded(list []string, name string) bool {
	if len(list) == 0 {
		return false
	}
	v, ok := matchers.Load(strings.Join(list, "\x00"))
	if !ok {
		m, err := patternmatcher.New(list)
		if err != nil {
			m, _ = patternmatcher.New(nil)
		}
		v, _ = matchers.LoadOrStore(strings.Join(list, "\x00"), &matcher{m: m})
	}
	m := v.(*matcher)
	m.mu.Lock()
	defer m.mu.Unlock()
	ok, err := m.m.MatchesOrParentMatches(name)
	return err == nil && ok
}

// matchers holds a *matcher for each list of patterns: make asks for thousands of names of one context.
var matchers sync.Map

// matcher has a lock since patterns are compiled where they are first used.
type matcher struct {
	mu sync.Mutex
	m  *patternmatcher.PatternMatcher
}

// inContext reports whether a path of a tree is a file that was copied from a local source; unknown counts
// as yes.
func (j *judge) inContext(t *tree, p string) bool {
	for _, c := range t.copies {
		rest, ok := below(p, c.to)
		if !ok {
			continue
		}
		l := j.open(c.local)
		if l.files == nil {
			return true
		}
		name := strings.TrimPrefix(path.Join(c.from, rest), "/")
		info, err := fs.Stat(l.files, orDot(name))
		if err == nil && !info.IsDir() {
			return true
		}
		if info, err := fs.Stat(l.files, orDot(strings.TrimPrefix(c.from, "/"))); err == nil && !info.IsDir() && path.Base(c.from) == path.Base(p) {
			return true
		}
	}
	return false
}

func orDot(name string) string {
	if name == "" {
		return "."
	}
	return name
}
