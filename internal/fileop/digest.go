package fileop

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"path"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/moby/buildkit/solver/pb"
	"github.com/skiff-build/skiff/internal/inode"
	"golang.org/x/sync/errgroup"
)

// Selector says which files of a tree a copy or a mount takes. The zero value takes the whole tree.
type Selector struct {
	Path        string   // in the tree; "" is its root
	Wildcard    bool     // wildcards in Path are patterns
	FollowLinks bool     // the last component of Path, or of what it matches, is followed
	Contents    bool     // of a directory only what it holds counts, not its own attributes
	Include     []string // patterns relative to Path, as BuildKit has them
	Exclude     []string
	Required    []string // paths of which something must be selected, else fs.ErrNotExist
}

// CopySelector returns what a copy takes of its source.
func CopySelector(a *pb.FileActionCopy) Selector {
	return Selector{
		Path: cleanPath(a.Src), Wildcard: a.AllowWildcard, FollowLinks: a.FollowSymlink, Contents: a.DirCopyContents,
		Include: a.IncludePatterns, Exclude: a.ExcludePatterns, Required: a.RequiredPaths,
	}
}

// DigestVersion changes with what [Digest] returns for the same files.
const DigestVersion = "skiff files 1"

// Digest returns a digest, in hexadecimal, of the files of t that sel selects: names below the selector's
// path, types, permissions, owners, link targets, device numbers, capabilities and contents. Times, sizes
// of directories, hard links, and the name of what Path itself names are no part of it, so equal files
// have equal digests wherever they lie. Content returns the sha256 of a regular file by its name in t,
// from an index, say; nil reads the file. It may be called concurrently. A path without wildcards that
// is missing is fs.ErrNotExist; a pattern without a match is a selection of nothing.
func Digest(ctx context.Context, t inode.Tree, sel Selector, content func(name string) (string, error)) (string, error) {
	if t == nil {
		t = emptyTree{}
	}
	read := content == nil
	if read {
		content = (&hasher{tree: t}).file
	}
	f, err := newFilter(sel.Include, sel.Exclude)
	if err != nil {
		return "", err
	}
	src := cleanPath(sel.Path)
	base, sources := "", []string{src}
	if sel.Wildcard {
		if base, _ = splitWildcards(src); base == src {
			base = ""
		}
		if sources, err = expand(ctx, t, src, sel.FollowLinks); err != nil {
			return "", err
		}
	}
	need := required{paths: sel.Required}
	list := &lister{ctx: ctx, content: content, read: read, hash: sha256.New(), contents: sel.Contents, required: &need}
	fmt.Fprintln(list.hash, DigestVersion)
	for _, source := range sources {
		top, err := resolveSource(t, source, sel.FollowLinks)
		if err != nil {
			return "", err
		}
		list.source, list.label = source, "."
		if base != "" {
			list.label = source // the names that a pattern matched count
		}
		if err := f.walk(ctx, t, top, list); err != nil {
			return "", err
		}
	}
	if err := need.check(); err != nil {
		return "", err
	}
	if err := list.flush(); err != nil {
		return "", err
	}
	return hex.EncodeToString(list.hash.Sum(nil)), nil
}

// lister is the visitor that lists what is selected. The list goes into the hash part by part, so that a large one takes no room.
type lister struct {
	ctx      context.Context // of the one call of Digest
	content  func(name string) (string, error)
	read     bool // whether content reads the files
	hash     hash.Hash
	contents bool
	required *required
	source   string
	label    string // name of the top in the list
	lines    []line
}

// line is a file in the list; content is set where that is to be added.
type line struct {
	label, rel string // together its name in the list
	name       string // in the tree
	info       inode.Info
	content    bool
	text       []byte
}

func (l *lister) dir(e entry) error {
	if l.contents && e.rel == "." {
		e.info = inode.Info{Mode: inode.TypeDir}
	}
	return l.file(e)
}

func (l *lister) leave(entry) error { return nil }

func (l *lister) file(e entry) error {
	l.required.saw(l.source, e.rel)
	i := e.info
	if i.IsLink() {
		i.Mode |= 0o777
	}
	var room []byte
	if n := len(l.lines); n < cap(l.lines) {
		room = l.lines[:n+1][n].text
	}
	if l.lines = append(l.lines, line{l.label, e.rel, e.name, i, i.IsRegular(), room}); len(l.lines) == cap(l.lines) && len(l.lines) >= listPart {
		return l.flush()
	}
	return nil
}

// listPart is how many lines are kept at least: enough to read contents side by side.
const listPart = 1000

// attributes describes a file, all but its content. With many files it counts that fmt is not used.
func attributes(b []byte, name string, i inode.Info) []byte {
	b = strconv.AppendQuote(append(b, "name "...), name)
	b = strconv.AppendUint(append(b, " mode "...), uint64(i.Mode), 8)
	b = strconv.AppendInt(append(b, " owner "...), int64(i.UID), 10)
	b = strconv.AppendInt(append(b, ':'), int64(i.GID), 10)
	b = strconv.AppendUint(append(b, " device "...), uint64(i.Major), 10)
	b = strconv.AppendUint(append(b, ':'), uint64(i.Minor), 10)
	b = strconv.AppendQuote(append(b, " link "...), i.Link)
	return hex.AppendEncode(append(b, " capability "...), []byte(i.Xattrs[inode.CapabilityXattr]))
}

// flushBatch is how many lines are written without looking what the others do.
const flushBatch = 16

// flush writes the lines, side by side, with the contents of files, and adds them to the hash.
func (l *lister) flush() error {
	g, ctx := errgroup.WithContext(l.ctx)
	var next atomic.Int64
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			for ctx.Err() == nil {
				end := int(next.Add(flushBatch))
				for i := end - flushBatch; i < min(end, len(l.lines)); i++ {
					if err := l.write(&l.lines[i]); err != nil {
						return err
					}
				}
				if end >= len(l.lines) {
					return nil
				}
			}
			return context.Cause(ctx)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, n := range l.lines {
		l.hash.Write(n.text)
	}
	l.lines = l.lines[:0]
	return nil
}

// write writes the text of a line.
func (l *lister) write(n *line) error {
	n.text = append(attributes(n.text[:0], path.Join(n.label, n.rel), n.info), " sha256 "...)
	switch {
	case n.content && l.read && n.info.Size == 0:
		n.text = append(n.text, emptyFile...)
	case n.content:
		sum, err := l.content(n.name)
		if err != nil {
			return err
		}
		n.text = append(n.text, sum...)
	}
	n.text = append(n.text, '\n')
	return nil
}

// emptyFile is the sha256 of nothing.
const emptyFile = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// hasher digests files of a tree. Its buffers are used again: there may be a million small files.
type hasher struct {
	tree    inode.Tree
	buffers sync.Pool // of *[]byte
}

func (s *hasher) file(name string) (string, error) {
	r, err := s.tree.Open(name)
	if err != nil {
		return "", err
	}
	defer r.Close()
	buf, _ := s.buffers.Get().(*[]byte)
	if buf == nil {
		b := make([]byte, 64<<10)
		buf = &b
	}
	defer s.buffers.Put(buf)
	h := sha256.New()
	if _, err := io.CopyBuffer(h, struct{ io.Reader }{r}, *buf); err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
