package engine

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/moby/buildkit/solver/pb"
	"github.com/skiff-build/skiff/internal/inode"
)

// goFiles are what the go command writes at the root of a module or a workspace.
var goFiles = []string{"go.mod", "go.sum", "go.work", "go.work.sum"}

// linksIntoCaches says whether the step, where it writes what is meant to stay outside of Go's caches, may be led into
// one, or into the toolchain, by a symbolic link: a build context may hold any. Nothing runs in the step but the go
// command, so that what is seen before stays as it is. The mounts that show layers are made.
func (s *step) linksIntoCaches() (bool, error) {
	if s.linked != nil {
		return *s.linked, nil
	}
	l := linkFinder{guarded: []string{"usr/local/go"}}
	if err := l.show(s, "/", s.spec.Root.Path); err != nil {
		return false, err
	}
	for i, m := range s.req.Mounts[1:] {
		switch {
		case m.Cache != nil:
			l.guarded = append(l.guarded, strings.TrimPrefix(path.Clean(m.Dest), "/"))
		case m.Type == pb.MountType_BIND:
			if err := l.show(s, m.Dest, s.made[i].Source); err != nil {
				return false, err
			}
		}
	}
	found := slices.ContainsFunc(s.req.Writes, l.leads)
	s.linked = &found
	return found, nil
}

// linkFinder is the files of a step, as [inode.Resolve] wants them, before its caches are mounted.
type linkFinder struct {
	views   []view   // the root, and what is mounted on it: parents first
	guarded []string // without a slash at the beginning
}

type view struct {
	at   string // in the step, without a slash at the beginning; "": the root
	dir  string
	tree inode.Tree
}

func (l *linkFinder) show(s *step, at, dir string) error {
	tree, done, err := inode.Dir(dir)
	if errors.Is(err, syscall.ENOTDIR) {
		return nil // a single file is mounted
	}
	if err != nil {
		return err
	}
	s.later(done)
	l.views = append(l.views, view{strings.TrimPrefix(path.Clean(at), "/"), dir, tree})
	return nil
}

// in finds the view that a name, resolved but for its end, lies in.
func (l linkFinder) in(name string) (v view, rest string) {
	for _, v := range slices.Backward(l.views) {
		if v.at == "" || name == v.at {
			return v, orDot(name[len(v.at):])
		}
		if rest, ok := strings.CutPrefix(name, v.at+"/"); ok {
			return v, rest
		}
	}
	return l.views[0], orDot(name)
}

func orDot(name string) string {
	if name == "" {
		return "."
	}
	return name
}

// Lstat makes a linkFinder an [inode.Lstater].
func (l linkFinder) Lstat(name string) (inode.Info, error) {
	v, rest := l.in(name)
	return v.tree.Lstat(rest)
}

// leads says whether writing at, below or beside a path may end in a guarded place.
func (l linkFinder) leads(w string) bool {
	if l.file(w) || l.directory(w) || l.directory(path.Dir(w)) {
		return true
	}
	for dir := path.Clean(w); ; dir = path.Dir(dir) {
		if slices.ContainsFunc(goFiles, func(name string) bool { return l.file(path.Join(dir, name)) }) {
			return true
		}
		if dir == "/" || dir == "." {
			return false
		}
	}
}

// file says whether a path, followed to its end, is in a guarded place. What cannot be followed is taken for one.
func (l linkFinder) file(p string) bool {
	at, err := inode.Resolve(l, p, true)
	if errors.Is(err, syscall.ENOTDIR) {
		return false // nothing can be there
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return true
	}
	return slices.ContainsFunc(l.guarded, func(g string) bool { return at == g || strings.HasPrefix(at, g+"/") })
}

// directory says whether a directory holds a link to a guarded place: by which name a program is left there may not be
// known.
func (l linkFinder) directory(p string) bool {
	at, err := inode.Resolve(l, p, true)
	if err != nil {
		return false // there is none; file has seen where it would be
	}
	v, rest := l.in(strings.TrimPrefix(at, "."))
	entries, err := os.ReadDir(filepath.Join(v.dir, rest))
	if err != nil {
		return false // no directory
	}
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		return e.Type()&fs.ModeSymlink != 0 && l.file("/"+path.Join(at, e.Name()))
	})
}
