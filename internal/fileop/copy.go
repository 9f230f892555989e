package fileop

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"github.com/skiff-build/skiff/internal/inode"
	"golang.org/x/sync/errgroup"
)

// copyFiles copies what the action selects of src.
func copyFiles(ctx context.Context, dst *rootDir, a *pb.FileActionCopy, src, users inode.Tree) error {
	o, err := readOwner(a.Owner, users)
	if err != nil {
		return err
	}
	mode, err := readMode(a)
	if err != nil {
		return err
	}
	filter, err := newFilter(a.IncludePatterns, a.ExcludePatterns)
	if err != nil {
		return err
	}
	if err := checkDest(dst, a); err != nil {
		return err
	}
	sources := []string{cleanPath(a.Src)}
	if a.AllowWildcard {
		if sources, err = expand(ctx, src, cleanPath(a.Src), a.FollowSymlink); err != nil {
			return err
		}
		if len(sources) == 0 && !a.AllowEmptyWildcard {
			return &notFoundError{a.Src}
		}
	}
	need := required{paths: a.RequiredPaths}
	for _, name := range sources {
		c := &copier{
			action: a, src: src, dst: dst, filter: filter, owner: o, mode: mode, time: timeOf(a.Timestamp),
			links: map[[2]uint64]string{}, required: &need,
		}
		if err := c.copySource(ctx, name); err != nil {
			return err
		}
	}
	return need.check()
}

// checkDest makes a missing parent of the destination an error, unless the action makes it.
func checkDest(dst *rootDir, a *pb.FileActionCopy) error {
	if a.CreateDestPath {
		return nil
	}
	name, err := dst.resolve(a.Dest)
	if err != nil {
		return err
	}
	parent, err := dst.lstat(path.Dir(name))
	if err == nil && parent == nil {
		return &notFoundError{path.Dir(path.Join("/", a.Dest))}
	}
	return err
}

// copier copies one source. It is the visitor of what is selected of it.
type copier struct {
	action   *pb.FileActionCopy
	src      inode.Tree
	dst      *rootDir
	filter   filter
	owner    *owner
	mode     chmod
	time     *int64
	required *required

	source string               // the path of the top as the pattern gave it
	target string               // where the top goes
	made   map[string]bool      // directories made at the target, by rel
	files  *errgroup.Group      // small files that are being made; nil for none
	links  map[[2]uint64]string // target of the first of several hard links, by device and inode
}

func (c *copier) copySource(ctx context.Context, source string) error {
	if c.action.AttemptUnpackDockerCompatibility {
		if done, err := c.unpack(ctx, source); done || err != nil {
			return err
		}
	}
	top, err := resolveSource(c.src, source, c.action.FollowSymlink)
	if err != nil {
		return err
	}
	info, err := c.src.Lstat(top)
	if err != nil {
		return sourceError(source, err)
	}
	parents, err := c.prepare(source, info)
	if err != nil {
		return err
	}
	c.source, c.made = source, map[string]bool{}
	err = c.filter.walk(ctx, c.src, top, c)
	if err := cmp.Or(err, c.wait()); err != nil {
		return err
	}
	for _, name := range parents {
		if err := c.dst.setTime(name, c.time); err != nil {
			return err
		}
	}
	return nil
}

// prepare decides where the source goes and makes the directories on the way, which it returns innermost
// first. A final slash of the destination makes it a directory; a file goes into a directory that exists.
func (c *copier) prepare(source string, info inode.Info) (made []string, err error) {
	dest := cleanPath(c.action.Dest)
	dir := dest
	if d, base := path.Split(dest); base != "" && base != "." {
		dir = d
	}
	made, err = c.mkdirAll(made, dir, true)
	if err != nil {
		return nil, err
	}
	if c.target, err = c.dst.resolve(dest); err != nil {
		return nil, err
	}
	have, err := c.dst.lstat(c.target)
	if err != nil {
		return nil, err
	}
	contents := c.action.DirCopyContents
	if have != nil && (info.IsDir() && !contents || !info.IsDir() && have.IsDir()) {
		c.target = path.Join(c.target, path.Base(source))
	}
	parent := path.Dir(c.target)
	if contents && info.IsDir() && have == nil {
		parent = c.target
	}
	return c.mkdirAll(made, parent, false)
}

func (c *copier) mkdirAll(made []string, name string, resolve bool) ([]string, error) {
	if resolve {
		var err error
		if name, err = c.dst.resolve(name); err != nil {
			return nil, err
		}
	}
	dirs, err := c.dst.mkdirAll(name, c.mode.parents(), c.owner, c.time)
	for _, d := range dirs {
		made = append([]string{d}, made...)
	}
	return made, err
}

func (c *copier) at(rel string) string { return path.Join(c.target, rel) }

// dir makes or enters a directory. The attributes of one that is selected come when it is left, since
// they may forbid to write; those of one that only lies on the way come at once, if it is new.
func (c *copier) dir(e entry) error {
	c.required.saw(c.source, e.rel)
	target := c.at(e.rel)
	have, err := c.dst.lstat(target)
	if err != nil {
		return err
	}
	if have != nil && !have.IsDir() {
		if !c.action.AlwaysReplaceExistingDestPaths {
			return fmt.Errorf("cannot copy a directory to %s, which is none", path.Join("/", target))
		}
		if err := c.dst.removeAll(target); err != nil {
			return err
		}
		have = nil
	}
	switch {
	case have == nil:
		c.made[e.rel] = true
		if err := c.dst.mkdir(target, inode.Info{Mode: 0o700}, nil); err != nil || !e.late {
			return err
		}
		return c.setInfo(target, e.info)
	case e.late:
		have.Mode = e.info.Mode
		return c.dst.set(target, *have, nil)
	}
	return nil
}

// leave gives a directory its attributes. The top keeps those that it had.
func (c *copier) leave(e entry) error {
	if err := c.wait(); err != nil {
		return err
	}
	target := c.at(e.rel)
	made := c.made[e.rel]
	delete(c.made, e.rel)
	if made || e.rel != "." && !e.late {
		return c.setInfo(target, e.info)
	}
	if e.rel == "." {
		return c.dst.setTime(target, c.mtime(e.info))
	}
	return nil
}

// file copies what is no directory. It takes the place of any file but a directory.
func (c *copier) file(e entry) error {
	c.required.saw(c.source, e.rel)
	target := c.at(e.rel)
	if err := c.clear(e.rel, target); err != nil {
		return err
	}
	switch e.info.Type() {
	case inode.TypeFile:
		return c.copyRegular(e, target)
	case inode.TypeSocket: // a socket is copied as an empty file
		e.info.Mode = inode.TypeFile | e.info.Perm()
		return c.dst.writeFile(target, c.attributes(e.info), *c.mtime(e.info), nil)
	}
	want := c.attributes(e.info)
	if err := inode.Create(c.dst.path(target), want); err != nil {
		return c.dst.bare(err)
	}
	return c.dst.setTime(target, c.mtime(e.info))
}

// clear makes room for a file. Nothing is in the way where this copy has made the directory: names come once.
func (c *copier) clear(rel, target string) error {
	switch {
	case rel != "." && c.made[path.Dir(rel)]:
		return nil
	case c.action.AlwaysReplaceExistingDestPaths:
		return c.dst.removeAll(target)
	}
	return c.dst.clear(target)
}

// copyRegular copies a regular file, or makes a hard link where an earlier one of the same source was.
func (c *copier) copyRegular(e entry, target string) error {
	if id := [2]uint64{e.info.Dev, e.info.Ino}; e.info.Nlink > 1 && e.info.Ino != 0 {
		if first, ok := c.links[id]; ok {
			if err := c.wait(); err != nil {
				return err
			}
			return c.dst.bare(os.Link(c.dst.path(first), c.dst.path(target)))
		}
		c.links[id] = target
	}
	if !c.made[path.Dir(e.rel)] {
		return c.write(e, target)
	}
	// Where nothing can be in the way the order is of no account: files are made on all processors, as it is the kernel that takes
	// the time.
	if c.files == nil {
		c.files = &errgroup.Group{}
		c.files.SetLimit(runtime.GOMAXPROCS(0))
	}
	c.files.Go(func() error { return c.write(e, target) })
	return nil
}

// wait returns when all files are there that are being made.
func (c *copier) wait() error {
	if c.files == nil {
		return nil
	}
	err := c.files.Wait()
	c.files = nil
	return err
}

// write makes a regular file. It may run beside others.
func (c *copier) write(e entry, target string) error {
	want, mtime := c.attributes(e.info), *c.mtime(e.info)
	if e.info.Size == 0 {
		return c.dst.writeFile(target, want, mtime, nil)
	}
	r, err := c.src.Open(e.name)
	if err != nil {
		return sourceError(e.name, err)
	}
	return errors.Join(c.dst.writeFile(target, want, mtime, r), r.Close())
}

// attributes returns those that a copy of a file with these has.
func (c *copier) attributes(i inode.Info) inode.Info {
	i.Mode = c.mode.apply(i)
	if c.owner != nil {
		i.UID, i.GID = c.owner.uid, c.owner.gid
	}
	return i
}

func (c *copier) setInfo(target string, i inode.Info) error {
	return c.dst.set(target, c.attributes(i), c.mtime(i))
}

func (c *copier) mtime(i inode.Info) *int64 {
	if c.time != nil {
		return c.time
	}
	return &i.Mtime
}

// required is the paths of which something has to be copied.
type required struct {
	paths []string
	found map[string]bool
}

// saw notes that the file rel below source was taken. The source itself does not count, as in BuildKit.
func (r *required) saw(source, rel string) {
	if rel == "." {
		return
	}
	name := path.Join("/", source, rel)
	for _, p := range r.paths {
		if strings.HasPrefix(name, p) {
			if r.found == nil {
				r.found = map[string]bool{}
			}
			r.found[p] = true
		}
	}
}

func (r *required) check() error {
	for _, p := range r.paths {
		if !r.found[p] {
			return &notFoundError{p}
		}
	}
	return nil
}
