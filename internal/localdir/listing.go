package localdir

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/skiff-build/skiff/internal/inode"
)

// Listing says what each file below a directory of a tree is, its content and its time, too: of two listings [Listing.Diff]
// tells which files differ. The names are relative to that directory. With many files it counts that it is one piece of bytes, in
// the order of [Tree.Walk]: for each file d or f, the name behind its length, and a digest of all attributes and the content.
type Listing struct {
	b []byte
	n int // files
}

// Len is the number of files.
func (l Listing) Len() int { return l.n }

// Listing returns the listing of what the directory dir holds, and how many bytes. Contents that are not known are read.
func (t *Tree) Listing(ctx context.Context, dir string) (l Listing, size int64, err error) {
	l.b = make([]byte, 0, 80*len(t.nodes))
	var text []byte
	err = t.walk(dir, func(name string, i inode.Info) error {
		content := ""
		if i.IsRegular() {
			if content, err = t.Digest(name); err != nil {
				return err
			}
			size += i.Size
		}
		text = describe(text[:0], i, content)
		rel := name
		if dir != "." {
			rel = strings.TrimPrefix(name, dir+"/")
		}
		l.add(rel, i.IsDir(), sha256.Sum256(text))
		return ctx.Err()
	})
	return l, size, err
}

func (l *Listing) add(name string, dir bool, d digest) {
	kind := byte('f')
	if dir {
		kind = 'd'
	}
	l.b = append(appendText(append(l.b, kind), name), d[:]...)
	l.n++
}

// describe writes all attributes of a file. With many files it counts that fmt is not used.
func describe(b []byte, i inode.Info, content string) []byte {
	b = strconv.AppendUint(append(b, "mode "...), uint64(i.Mode), 8)
	b = strconv.AppendInt(append(b, " time "...), i.Mtime, 10)
	b = strconv.AppendUint(append(b, " device "...), uint64(i.Major), 10)
	b = strconv.AppendUint(append(b, ':'), uint64(i.Minor), 10)
	b = strconv.AppendQuote(append(b, " link "...), i.Link)
	return append(append(b, " sha256 "...), content...)
}

// Diff returns the files that are not as they were in old, sorted, and those of old that are gone, of a directory that is gone only
// itself. ok is false where a directory took the place of a file, or a file that of a directory.
func (l Listing) Diff(old Listing) (changed, gone []string, ok bool) {
	now, was := firstOf(l), firstOf(old)
	var goneDir []byte // with a slash
	for now.name != nil || was.name != nil {
		order := inOrder(now.name, was.name)
		switch {
		case order < 0:
			changed = append(changed, string(now.name))
		case order > 0:
			if goneDir == nil || !bytes.HasPrefix(was.name, goneDir) {
				gone, goneDir = append(gone, string(was.name)), append(bytes.Clone(was.name), '/')
			}
		case now.dir != was.dir:
			return nil, nil, false
		case !bytes.Equal(now.digest, was.digest):
			changed = append(changed, string(now.name))
		}
		if order <= 0 {
			now.next()
		}
		if order >= 0 {
			was.next()
		}
	}
	slices.Sort(changed)
	slices.Sort(gone)
	return changed, gone, true
}

// inOrder compares names by their place in a listing. Nil is the end.
func inOrder(a, b []byte) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return inode.CompareNames(a, b)
}

// cursor goes through a listing.
type cursor struct {
	rest         []byte
	name, digest []byte // parts of the listing; nil after the end
	dir          bool
}

func firstOf(l Listing) *cursor {
	c := &cursor{rest: l.b}
	c.next()
	return c
}

// next goes to the next file. It is false where the bytes are no listing.
func (c *cursor) next() bool {
	rest := c.rest
	*c = cursor{}
	if len(rest) == 0 {
		return true
	}
	kind := rest[0]
	size, n := binary.Uvarint(rest[1:])
	if kind != 'd' && kind != 'f' || n <= 0 || size == 0 || size > uint64(len(rest)) {
		return false
	}
	rest = rest[1+n:]
	if uint64(len(rest)) < size+sha256.Size {
		return false
	}
	*c = cursor{name: rest[:size:size], dir: kind == 'd', digest: rest[size : size+sha256.Size], rest: rest[size+sha256.Size:]}
	return true
}

// Encode writes a listing for [DecodeListing].
func (l Listing) Encode() []byte { return l.b }

// DecodeListing is the inverse of [Listing.Encode]. The listing keeps b.
func DecodeListing(b []byte) (Listing, error) {
	l := Listing{b: b}
	var last []byte
	for c := (&cursor{rest: b}); ; l.n++ {
		if !c.next() || c.name != nil && last != nil && inOrder(last, c.name) >= 0 {
			return Listing{}, errors.New("broken listing")
		}
		if c.name == nil {
			return l, nil
		}
		last = c.name
	}
}

// Part lists the named files of a folder, and the directories that hold them, as they are now. Files that are gone are left out.
// The names must be clean and relative.
func Part(ctx context.Context, dir string, names []string) (*Tree, error) {
	root, err := os.OpenRoot(dir) // closed with the last reference to the tree
	if err != nil {
		return nil, fmt.Errorf("read build context: %w", err)
	}
	t := newTree(dir, root)
	nothing := &dirIndex{entries: map[string]*indexEntry{}}
	t.index = func() *dirIndex { return nothing }
	f := t.filler(ctx)
	for _, name := range names {
		t.addWithParents(name, f)
	}
	if err := f.wait(nil); err != nil {
		return nil, fmt.Errorf("read build context: %w", err)
	}
	return t, nil
}

func (t *Tree) addWithParents(name string, f *filler) {
	if t.nodes[name] != nil {
		return
	}
	t.addWithParents(path.Dir(name), f)
	f.add(t.add(name))
}

// IsFolder tells whether name is a directory of the tree that is reached without a link.
func (t *Tree) IsFolder(name string) bool {
	n := t.nodes[name]
	return n != nil && n.isDir()
}
