package fileop

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/patternmatcher"
	"github.com/skiff-build/skiff/internal/inode"
)

// expand returns the files of t that the pattern src matches, as absolute paths that are not resolved
// any further; src itself when it holds no wildcard. Links before the first component with a wildcard are
// followed, that last one with follow only. It is an error when there is nothing where the wildcards begin.
func expand(ctx context.Context, t inode.Tree, src string, follow bool) ([]string, error) {
	base, pattern := splitWildcards(src)
	if pattern == "" {
		return []string{base}, nil
	}
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, fmt.Errorf("%s: %w", src, err)
	}
	top, err := resolveSource(t, base, follow)
	if err != nil {
		return nil, err
	}
	info, err := t.Lstat(top)
	if err != nil {
		return nil, sourceError(base, err)
	}
	if !info.IsDir() {
		return nil, nil
	}
	m := matcher{tree: t, top: top, pattern: pattern, depth: strings.Count(pattern, "/")}
	if strings.Contains(pattern, "[") {
		m.depth = -1 // a class may match a slash
	}
	err = m.walk(ctx, ".")
	return m.found, err
}

// CheckSource tells whether a copy finds its source in src: its error is that of [Apply] for a source that is not there, and nil
// where there is one.
func CheckSource(ctx context.Context, a *pb.FileActionCopy, src inode.Tree) error {
	return step("copy", a.GetSrc(), checkSource(ctx, a, src))
}

func checkSource(ctx context.Context, a *pb.FileActionCopy, src inode.Tree) error {
	name := cleanPath(a.Src)
	if a.AllowWildcard {
		if _, pattern := splitWildcards(name); pattern != "" {
			found, err := expand(ctx, src, name, a.FollowSymlink)
			if err == nil && len(found) == 0 && !a.AllowEmptyWildcard {
				err = &notFoundError{a.Src}
			}
			return err
		}
	}
	top, err := resolveSource(src, name, a.FollowSymlink)
	if err != nil {
		return err
	}
	if _, err := src.Lstat(top); err != nil {
		return sourceError(name, err)
	}
	return nil
}

// matcher collects the files below top that the pattern matches. What lies below a match is no match.
type matcher struct {
	tree    inode.Tree
	top     string
	pattern string
	depth   int // slashes in the pattern, -1 for any number
	found   []string
}

func (m *matcher) walk(ctx context.Context, dir string) error {
	names, err := m.tree.ReadDir(path.Join(m.top, dir))
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		rel := path.Join(dir, name)
		if ok, _ := path.Match(m.pattern, rel); ok {
			m.found = append(m.found, path.Join("/", m.top, rel))
			continue
		}
		if m.depth >= 0 && strings.Count(rel, "/") >= m.depth {
			continue
		}
		info, err := m.tree.Lstat(path.Join(m.top, rel))
		if err != nil {
			return err
		}
		if info.IsDir() {
			if err := m.walk(ctx, rel); err != nil {
				return err
			}
		}
	}
	return nil
}

// splitWildcards cuts a path before its first component with a wildcard. What a final slash says is lost.
func splitWildcards(p string) (base, pattern string) {
	p = path.Clean(p)
	parts := strings.Split(p, "/")
	for i, part := range parts {
		if hasWildcard(part) {
			return path.Join("/", path.Join(parts[:i]...)), path.Join(parts[i:]...)
		}
	}
	return p, ""
}

// hasWildcard tells whether name has a wildcard that no backslash quotes.
func hasWildcard(name string) bool {
	for i := 0; i < len(name); i++ {
		switch name[i] {
		case '\\':
			i++
		case '*', '?', '[':
			return true
		}
	}
	return false
}

// resolveSource resolves a path of the source; only the links before the last component without follow.
func resolveSource(t inode.Tree, name string, follow bool) (string, error) {
	at, err := inode.Resolve(t, name, follow)
	if err != nil {
		return "", sourceError(name, err)
	}
	return at, nil
}

func sourceError(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return &notFoundError{path.Join("/", name)}
	}
	return err
}

// filter selects files of a tree by patterns relative to the top of a copy, as .dockerignore has them.
type filter struct {
	include, exclude *patternmatcher.PatternMatcher // nil: all, none
}

func newFilter(include, exclude []string) (f filter, err error) {
	if len(include) > 0 {
		if f.include, err = patternmatcher.New(include); err != nil {
			return f, fmt.Errorf("include patterns %q: %w", include, err)
		}
	}
	if len(exclude) > 0 {
		if f.exclude, err = patternmatcher.New(exclude); err != nil {
			return f, fmt.Errorf("exclude patterns %q: %w", exclude, err)
		}
	}
	return f, nil
}

// entry is a file that is selected.
type entry struct {
	name string // in the tree
	rel  string // below the top of the selection, "." for the top itself
	info inode.Info
	// late is true for a directory which is not selected itself, but holds something that is.
	late bool
}

// visitor is told what a selection holds, sorted, each directory before what it holds.
type visitor interface {
	dir(e entry) error
	leave(e entry) error // after what a directory holds
	file(e entry) error  // all that are no directories
}

// walk visits what f selects of the tree at top, a resolved name.
func (f filter) walk(ctx context.Context, t inode.Tree, top string, v visitor) error {
	w := walker{filter: f, tree: t, v: v}
	return w.walk(ctx, entry{name: top, rel: "."}, matchInfo{})
}

// walker holds the directories on the way to the current file, with whether the visitor knows them.
type walker struct {
	filter
	tree  inode.Tree
	v     visitor
	above []*entry
	told  int // how many of above
}

// matchInfo is what the patterns said of a directory; it goes on for what the directory holds.
type matchInfo struct{ include, exclude patternmatcher.MatchInfo }

func (w *walker) walk(ctx context.Context, e entry, parent matchInfo) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	selected, excluded, info, err := w.match(e.rel, parent)
	if err != nil {
		return err
	}
	// A pattern with "!" may bring back what an excluded directory holds.
	final := excluded && (w.exclude == nil || !w.exclude.Exclusions())
	if final && w.include == nil {
		return nil // even when it cannot be read
	}
	if e.info, err = w.tree.Lstat(e.name); err != nil {
		return sourceError(e.name, err)
	}
	if !e.info.IsDir() {
		if !selected {
			return nil
		}
		if err := w.tell(); err != nil {
			return err
		}
		return w.v.file(e)
	}
	e.late = !selected
	w.above = append(w.above, &e)
	defer func() {
		w.above = w.above[:len(w.above)-1]
		w.told = min(w.told, len(w.above))
	}()
	if selected {
		if err := w.tell(); err != nil {
			return err
		}
	}
	if !final {
		if err := w.children(ctx, e, info); err != nil {
			return err
		}
	}
	if w.told < len(w.above) {
		return nil
	}
	return w.v.leave(e)
}

func (w *walker) children(ctx context.Context, e entry, info matchInfo) error {
	names, err := w.tree.ReadDir(e.name)
	if err != nil {
		return err
	}
	for _, name := range names {
		child := entry{name: path.Join(e.name, name), rel: path.Join(e.rel, name)}
		if err := w.walk(ctx, child, info); err != nil {
			return err
		}
	}
	return nil
}

// tell tells the visitor of the directories on the way that it does not know yet.
func (w *walker) tell() error {
	for ; w.told < len(w.above); w.told++ {
		if err := w.v.dir(*w.above[w.told]); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) match(rel string, parent matchInfo) (selected, excluded bool, info matchInfo, err error) {
	if rel == "." {
		return true, false, info, nil
	}
	selected = true
	if w.include != nil {
		selected, info.include, err = w.include.MatchesUsingParentResults(rel, parent.include)
		if err != nil {
			return false, false, info, fmt.Errorf("match include patterns: %w", err)
		}
	}
	if w.exclude != nil {
		excluded, info.exclude, err = w.exclude.MatchesUsingParentResults(rel, parent.exclude)
		if err != nil {
			return false, false, info, fmt.Errorf("match exclude patterns: %w", err)
		}
	}
	return selected && !excluded, excluded, info, nil
}
