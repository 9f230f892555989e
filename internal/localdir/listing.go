package localdir

import (
	"context"
	"crypto/sha256"
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
// tells which files differ. The names are relative to that directory.
type Listing map[string]fingerprint

type fingerprint struct {
	dir    bool
	digest digest // of all attributes and the content
}

// Listing returns the listing of what the directory dir holds, and how many bytes. Contents that are not known are read.
func (t *Tree) Listing(ctx context.Context, dir string) (l Listing, bytes int64, err error) {
	l = make(Listing, len(t.nodes))
	var text []byte
	err = t.walk(dir, func(name string, i inode.Info) error {
		content := ""
		if i.IsRegular() {
			if content, err = t.Digest(name); err != nil {
				return err
			}
			bytes += i.Size
		}
		text = describe(text[:0], i, content)
		rel := name
		if dir != "." {
			rel = strings.TrimPrefix(name, dir+"/")
		}
		l[rel] = fingerprint{i.IsDir(), sha256.Sum256(text)}
		return ctx.Err()
	})
	return l, bytes, err
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
	for name, now := range l {
		was, had := old[name]
		if had && was.dir != now.dir {
			return nil, nil, false
		}
		if was != now {
			changed = append(changed, name)
		}
	}
	for name := range old {
		if _, still := l[name]; still {
			continue
		}
		if _, still := l[path.Dir(name)]; still || path.Dir(name) == "." {
			gone = append(gone, name)
		}
	}
	slices.Sort(changed)
	slices.Sort(gone)
	return changed, gone, true
}

// Encode writes a listing for [DecodeListing].
func (l Listing) Encode() []byte {
	b := make([]byte, 0, len(l)*80)
	for name, f := range l {
		kind := byte('f')
		if f.dir {
			kind = 'd'
		}
		b = appendText(append(b, kind), name)
		b = append(b, f.digest[:]...)
	}
	return b
}

// DecodeListing is the inverse of [Listing.Encode].
func DecodeListing(b []byte) (Listing, error) {
	d := decoder{b: b, text: string(b)}
	l := make(Listing, len(b)/80)
	for len(d.b) > 0 {
		kind := d.b[0]
		d.b = d.b[1:]
		name := d.string()
		f := fingerprint{dir: kind == 'd'}
		d.digest(&f.digest)
		if d.err != nil || kind != 'd' && kind != 'f' {
			return nil, errors.New("broken listing")
		}
		l[name] = f
	}
	return l, nil
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
