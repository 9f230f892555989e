package localdir

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/skiff-build/skiff/internal/inode"
	"golang.org/x/sync/errgroup"
)

// digest is a sha256 of a content.
type digest [sha256.Size]byte

// content is what a reading of a file gave.
type content struct {
	stamp  stamp // zero if the file changed each time it was read
	digest digest
}

// Digest returns the sha256, in hexadecimal, of the content of a regular file. It is the same for the life
// of the tree. If the file is written to meanwhile it is that of one reading; see [Tree.Changed].
func (t *Tree) Digest(name string) (string, error) {
	n, err := t.node("digest", name)
	if err == nil && !n.isRegular() {
		err = &fs.PathError{Op: "digest", Path: name, Err: errors.New("not a regular file")}
	}
	if err != nil {
		return "", err
	}
	if n.stamp.socket {
		d := digest(sha256.Sum256(nil))
		return hex.EncodeToString(d[:]), nil
	}
	if !t.known(name, n) {
		c, err := t.read(name)
		if err != nil {
			return "", t.named(name, err)
		}
		n.content.CompareAndSwap(nil, &c)
	}
	d := n.content.Load().digest
	return hex.EncodeToString(d[:]), nil
}

// known tells whether the content of a regular file has been read, or is in the index.
func (t *Tree) known(name string, n *node) bool {
	if n.stamp.socket || n.content.Load() != nil {
		return true
	}
	c := t.index().get(name, n.stamp)
	if c != nil {
		n.content.CompareAndSwap(nil, c)
	}
	return c != nil
}

// read hashes a file as it is now. If it changes under the reading it is read again, a few times.
func (t *Tree) read(name string) (c content, err error) {
	settled := false
	for range 3 {
		before, d, started, err := t.readOnce(name)
		if err != nil {
			return content{}, err
		}
		c = content{digest: d}
		fi, err := t.root.Lstat(filepath.FromSlash(name))
		if err != nil {
			return content{}, err
		}
		if stampOf(fi) != before {
			continue
		}
		c.stamp = before
		if settled = before.settled(started); settled {
			t.index().put(name, indexEntry{content: c})
		}
		break
	}
	if n := t.nodes[name]; n == nil || !settled || n.stamp != c.stamp {
		t.unsure.Store(true)
	}
	return c, nil
}

func (t *Tree) readOnce(name string) (before stamp, d digest, started time.Time, err error) {
	f, err := t.openRegular(name)
	if err != nil {
		return before, d, started, err
	}
	defer f.Close()
	started = time.Now()
	fi, err := f.Stat()
	if err != nil {
		return before, d, started, err
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	h := sha256.New()
	_, err = io.CopyBuffer(h, struct{ io.Reader }{f}, *buf)
	return stampOf(fi), digest(h.Sum(nil)), started, err
}

// openRegular opens a file which was a regular one when it was scanned. It does not wait for the other end
// of a fifo that has taken its place.
func (t *Tree) openRegular(name string) (*os.File, error) {
	f, err := t.root.OpenFile(filepath.FromSlash(name), os.O_RDONLY|nonblock, 0)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = errors.New("is no longer a regular file")
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// Changed returns which of the named files, of all with nil, may no longer have the content that [Tree.Digest] told of.
// It costs one lstat for each. A result made from such files must not be kept under a key made of digests.
func (t *Tree) Changed(names []string) []string {
	if names == nil {
		names = slices.Collect(maps.Keys(t.nodes))
	}
	var changed []string
	for _, name := range names {
		n := t.nodes[name]
		if n == nil {
			continue
		}
		told := n.stamp // of a digest that was remembered for many files together
		if c := n.content.Load(); c != nil {
			told = c.stamp
		} else if !n.isRegular() || n.stamp.socket || !t.recalled.Load() {
			continue
		}
		fi, err := t.root.Lstat(filepath.FromSlash(name))
		if err != nil || stampOf(fi) != told {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	return changed
}

// Sum returns a digest, in hexadecimal, of all that the tree holds: names, types, permissions, link targets,
// device numbers and contents, but no times. It reads what the index does not know, in parallel.
func (t *Tree) Sum(ctx context.Context) (string, error) {
	if err := t.hashAll(ctx); err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintln(h, "skiff folder 1")
	err := t.Walk(func(name string, i inode.Info) error {
		content := ""
		if i.IsRegular() {
			var err error
			if content, err = t.Digest(name); err != nil {
				return err
			}
		}
		fmt.Fprintf(h, "name %q mode %o device %d:%d link %q sha256 %s\n", name, i.Mode, i.Major, i.Minor, i.Link, content)
		return nil
	})
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// hashAll asks for all digests, so that those which are not known are computed side by side.
func (t *Tree) hashAll(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for name, n := range t.nodes {
		if !n.isRegular() || t.known(name, n) {
			continue
		}
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			_, err := t.Digest(name)
			return err
		})
	}
	return g.Wait()
}
