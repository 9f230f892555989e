package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/skiff-build/skiff/internal/gocache"
	"github.com/skiff-build/skiff/internal/inode"
	"github.com/skiff-build/skiff/internal/sandbox"
	"github.com/skiff-build/skiff/internal/whiteout"
)

// stateOf says what a tree answers to one who names these paths: for each component on the way what it is, and of one that is opened, which
// its value says, the content, or the names in a directory. Times are no part of it, as they are none of a copy's key, nor is the size
// of what is not opened: the go command asks for both to find what it has cached, and no more. seen is told each name that is looked
// at, on the way through symbolic links, too.
func stateOf(ctx context.Context, t inode.Tree, paths map[string]bool, seen func(name string) error) (*treeState, error) {
	s := &treeState{tree: t, seen: seen, state: map[string]string{}, infos: map[string]inode.Info{}}
	for p, open := range paths {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		if err := s.look(p, open); err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
	}
	return s, nil
}

type treeState struct {
	tree    inode.Tree
	seen    func(name string) error
	state   map[string]string
	infos   map[string]inode.Info // of those that are there
	missing string                // the last name that was not
}

// Lstat is for [inode.Resolve].
func (s *treeState) Lstat(name string) (inode.Info, error) {
	key := stateAttributes + name
	if text, known := s.state[key]; known {
		if text == "" {
			s.missing = name
			return inode.Info{}, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
		}
		return s.infos[name], nil
	}
	if s.seen != nil {
		if err := s.seen(name); err != nil {
			return inode.Info{}, err
		}
	}
	info, err := s.tree.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		s.state[key], s.missing = "", name
		return info, err
	}
	if err != nil {
		return info, err
	}
	mode := info.Mode
	if info.IsLink() {
		mode |= 0o777
	}
	s.state[key] = fmt.Sprintf("%o %d %d %d %d %q %q", mode, info.UID, info.GID, info.Major, info.Minor, info.Link, info.Xattrs[inode.CapabilityXattr])
	s.infos[name] = info
	return info, nil
}

func (s *treeState) look(p string, open bool) error {
	name, err := inode.Resolve(s, p, true)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ELOOP):
		return nil // what led to it is in the state
	case err != nil:
		return err
	}
	info, err := s.Lstat(name)
	switch {
	case err != nil:
		return err
	case info.IsRegular() && open:
		return s.content(name)
	case info.IsDir() && open:
		return s.names(name)
	}
	return nil
}

func (s *treeState) content(name string) error {
	if _, known := s.state[stateContent+name]; known {
		return nil
	}
	f, err := s.tree.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	s.state[stateContent+name] = shortSum(h.Sum(nil))
	return nil
}

func (s *treeState) names(name string) error {
	if _, known := s.state[stateNames+name]; known {
		return nil
	}
	names, err := s.tree.ReadDir(name)
	if err != nil {
		return err
	}
	h := sha256.New()
	for _, n := range names {
		info, err := s.tree.Lstat(path.Join(name, n))
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%q %o\n", n, info.Type())
	}
	s.state[stateNames+name] = shortSum(h.Sum(nil))
	return nil
}

// shortSum is half of a sha256, which is enough to tell files apart that nobody makes to be alike: who can choose a file that the go
// command reads chooses what it builds anyway.
func shortSum(sum []byte) string { return hex.EncodeToString(sum[:16]) }

// compareInputs looks whether what a step read is what it was.
func compareInputs(ctx context.Context, j *job, req inputsReq) (resp inputsResp, err error) {
	tree, err := j.tree(ctx, treeReq{Chain: req.Chain})
	if err != nil {
		return resp, err
	}
	now, err := stateOf(ctx, tree, req.Was.Paths, nil)
	if err != nil {
		return resp, err
	}
	var entries []string
	if resp.Changed, entries = changedState(req.Was.State, now.state); len(entries) == 0 {
		return resp, nil
	}
	// A few files of Go alone: what they import, embed and are built for decides which files are read.
	if !slices.ContainsFunc(entries, func(e string) bool { return !strings.HasPrefix(e, stateContent) || !strings.HasSuffix(e, ".go") }) {
		resp.Carry = sameShapes(ctx, j, req.Was.Chain, tree, resp.Changed)
	}
	if n := len(resp.Changed); n > maxChangedNames {
		resp.Changed = append(resp.Changed[:maxChangedNames], fmt.Sprintf("%d more", n-maxChangedNames))
	}
	return resp, nil
}

// maxChangedNames bounds what is told of what has changed.
const maxChangedNames = 100

// sameShapes says whether these files of Go have, in the chain of before, the same shape as in the tree.
func sameShapes(ctx context.Context, j *job, before []string, now inode.Tree, names []string) bool {
	old, err := j.tree(ctx, treeReq{Chain: before})
	if err != nil {
		return false // its layers are gone
	}
	for _, name := range names {
		name = strings.TrimPrefix(name, "/")
		a, err1 := shapeOf(old, name)
		b, err2 := shapeOf(now, name)
		if err1 != nil || err2 != nil || a != b {
			return false
		}
	}
	return true
}

// maxShape bounds a file that is looked into, in bytes.
const maxShape = 4 << 20

// shapeOf is what of a file of Go decides which other files a go command reads: all to the end of its imports, with build constraints
// and what stands before import "C", and the lines that embed.
func shapeOf(t inode.Tree, name string) (string, error) {
	f, err := t.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxShape+1))
	if err != nil {
		return "", err
	}
	if len(data) > maxShape {
		return "", errors.New("too large")
	}
	return goShape(name, data)
}

func goShape(name string, data []byte) (string, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, data, parser.ImportsOnly|parser.ParseComments)
	if err != nil {
		return "", err
	}
	end := file.Name.End()
	for _, d := range file.Decls {
		end = max(end, d.End())
	}
	head := fset.PositionFor(end, false).Offset
	shape := bytes.NewBuffer(slices.Clone(data[:head]))
	for line := range bytes.Lines(data[head:]) {
		if bytes.Contains(line, []byte("go:embed")) {
			fmt.Fprintf(shape, "\n%q", bytes.TrimSpace(line))
		}
	}
	return shape.String(), nil
}

// usualInputs are what the sandbox itself looks at before a step begins.
var usualInputs = []string{"/bin/sh", "/etc/passwd", "/etc/group"}

// maxInputs bounds what is remembered of a step.
const maxInputs = 200_000

// inputs are what the step has read of what it stands on. It has ended well, and its layer is there.
func (s *step) inputs(ctx context.Context, made string) *foundInputs {
	found := &foundInputs{Paths: map[string]bool{}}
	err := func() error {
		for _, p := range append(slices.Clone(usualInputs), path.Join("/", s.req.Cwd)) {
			found.Paths[p] = false
		}
		if s.trace == nil {
			for p, open := range s.req.Inputs.Carry {
				found.Paths[p] = open
			}
		} else if err := s.traced(found.Paths); err != nil {
			return err
		}
		if err := s.written(made, found.Paths); err != nil {
			return err
		}
		if len(found.Paths) > maxInputs {
			return fmt.Errorf("it named %d files", len(found.Paths))
		}
		return s.state(ctx, found)
	}()
	if err != nil {
		return &foundInputs{Why: err.Error()}
	}
	return found
}

// traced adds the paths of the root that the step named. Those in mounts are no part of what it stands on.
func (s *step) traced(paths map[string]bool) error {
	names, opened, err := s.trace.Paths()
	if err != nil {
		return err
	}
	for _, p := range names {
		if place, mounted := s.mounted(path.Clean(p)); mounted {
			if err := staysIn(place, p); err != nil {
				return err
			}
			continue
		}
		if slices.Contains(strings.Split(p, "/"), "..") && s.passesMount(p) {
			return fmt.Errorf("it named %s", p)
		}
		paths[p] = paths[p] || opened[p]
	}
	return nil
}

// mounted says where a mount of the step is that a path leads to.
func (s *step) mounted(p string) (dest string, ok bool) {
	i := slices.IndexFunc(s.spec.Mounts, func(m specs.Mount) bool { return covers(path.Clean(m.Destination), p) && m.Destination != "/" })
	if i < 0 {
		return "", false
	}
	return path.Clean(s.spec.Mounts[i].Destination), true
}

// staysIn refuses a path in a mount that may lead out of it.
func staysIn(dest, p string) error {
	parts := strings.Split(p, "/")
	if slices.Contains(parts, "..") {
		return fmt.Errorf("it named %s", p)
	}
	if dest == "/proc" {
		for _, magic := range []string{"cwd", "root", "fd", "map_files", "task"} {
			if slices.Contains(parts, magic) {
				return fmt.Errorf("it named %s", p)
			}
		}
	}
	return nil
}

// passesMount says whether a path with ".." in it enters a mount on its way.
func (s *step) passesMount(p string) bool {
	for i := 1; i <= len(p); i++ {
		if i == len(p) || p[i] == '/' {
			if _, mounted := s.mounted(path.Clean(p[:i])); mounted {
				return true
			}
		}
	}
	return false
}

// written adds what the layer of the step has: that a directory below has these attributes, and that a file there is this one, is what
// it rests on. A layer that hides something below is not for another place.
func (s *step) written(made string, paths map[string]bool) error {
	if made == "" {
		return nil
	}
	dir := filepath.Join(s.job.root, "layers", made, "fs")
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		if d.IsDir() && whiteout.IsOpaque(p) {
			return fmt.Errorf("it removed /%s", rel)
		}
		if !d.IsDir() {
			info, err := inode.Lstat(p)
			if err != nil {
				return err
			}
			if whiteout.Is(p, info) {
				return fmt.Errorf("it removed /%s", rel)
			}
		}
		paths["/"+strings.TrimPrefix(rel, ".")] = !d.IsDir()
		return nil
	})
}

// state asks what the step stood on for what it named, and leaves out what says nothing.
func (s *step) state(ctx context.Context, found *foundInputs) error {
	tree, err := s.job.tree(ctx, treeReq{Chain: s.req.Mounts[0].Chain})
	if err != nil {
		return err
	}
	now, err := stateOf(ctx, tree, found.Paths, func(name string) error {
		// A link led there: into the toolchain or this program, which have no other names, or else who knows where.
		p := "/" + name
		dest, mounted := s.mounted(p)
		if mounted && dest != goroot && !strings.HasPrefix(dest, sandbox.SelfPath) {
			return fmt.Errorf("a link leads to %s, where something is mounted", dest)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if elsewhere, err := includesElsewhere(tree, now.state); err != nil || elsewhere {
		return errors.Join(err, errors.New("assembly includes a file by a path"))
	}
	found.Paths = now.shorten(found.Paths)
	found.State = now.state
	return nil
}

// shorten puts the first directory that is missing in the place of all paths below it: a temporary one has thousands.
func (s *treeState) shorten(paths map[string]bool) map[string]bool {
	short := map[string]bool{}
	for p, open := range paths {
		s.missing = ""
		if _, err := inode.Resolve(s, p, true); errors.Is(err, fs.ErrNotExist) && covers("/"+s.missing, path.Clean(p)) && path.Clean(p) == p {
			p, open = "/"+s.missing, false
		}
		short[p] = short[p] || open
	}
	return short
}

// includesElsewhere: what assembly includes by a path the go command does not look at, so that a package which it took from its cache
// says nothing of it.
func includesElsewhere(t inode.Tree, state map[string]string) (bool, error) {
	for key := range state {
		name, isContent := strings.CutPrefix(key, stateContent)
		if ext := path.Ext(name); !isContent || ext != ".s" && ext != ".h" {
			continue
		}
		f, err := t.Open(name)
		if err != nil {
			return false, err
		}
		data, err := io.ReadAll(io.LimitReader(f, maxShape+1))
		f.Close()
		if err != nil || len(data) > maxShape || gocache.IncludesPath(data) {
			return true, err
		}
	}
	return false, nil
}
