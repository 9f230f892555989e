package fileop

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/skiff-build/skiff/internal/inode"
)

const digestTree = `
	d 0755 0:0 a
	f 0644 0:0 a/f x
	f 0600 3:4 a/g y
	l 0777 0:0 l a
	c 0600 0:0 dev 1:3`

func digest(t *testing.T, files string, sel Selector) (string, error) {
	t.Helper()
	dir := t.TempDir()
	makeTree(t, dir, files)
	tree, done, err := inode.Dir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	return Digest(t.Context(), tree, sel, nil)
}

// TestDigestChanges changes one thing at a time in the tree.
func TestDigestChanges(t *testing.T) {
	whole, err := digest(t, digestTree, Selector{})
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := digest(t, digestTree, Selector{}); again != whole {
		t.Errorf("the same files have the digests %s and %s", whole, again)
	}
	for _, c := range []struct{ old, new string }{
		{"a/f x", "a/f z"},
		{"a/f x", "a/F x"},
		{"0600 3:4 a/g", "0640 3:4 a/g"},
		{"0600 3:4 a/g", "0600 5:4 a/g"},
		{"0600 3:4 a/g", "0600 3:5 a/g"},
		{"f 0600 3:4 a/g", "f+cap 0600 3:4 a/g"},
		{"l a", "l b"},
		{"dev 1:3", "dev 1:5"},
		{"c 0600", "b 0600"},
		{"d 0755", "d 0700"},
	} {
		changed := strings.Replace(digestTree, c.old, c.new, 1)
		if got, err := digest(t, changed, Selector{}); err != nil || got == whole {
			t.Errorf("%s -> %s: digest %s, %v: no change", c.old, c.new, got, err)
		}
	}
}

// TestDigestSelects compares the digest of a selection with that of another one: equal or not.
func TestDigestSelects(t *testing.T) {
	for _, c := range []struct {
		name  string
		a     string
		selA  Selector
		b     string
		selB  Selector
		equal bool
	}{
		{"path", digestTree, Selector{Path: "/a"}, `d 0755 0:0 q
			f 0644 0:0 q/f x
			f 0600 3:4 q/g y`, Selector{Path: "q"}, true},
		{"link", digestTree, Selector{Path: "/l", FollowLinks: true}, digestTree, Selector{Path: "/a"}, true},
		{"link itself", digestTree, Selector{Path: "/l"}, digestTree, Selector{Path: "/a"}, false},
		{"own mode", `d 0700 0:0 a`, Selector{Path: "a"}, `d 0755 0:0 a`, Selector{Path: "a"}, false},
		{"own mode without", `d 0700 0:0 a`, Selector{Path: "a", Contents: true}, `d 0755 0:0 a`, Selector{Path: "a", Contents: true}, true},
		{"exclude", digestTree, Selector{Path: "a", Exclude: []string{"g"}}, `f 0644 0:0 a/f x`, Selector{Path: "a"}, true},
		{"include", digestTree, Selector{Path: "a", Include: []string{"f"}}, `f 0644 0:0 a/f x`, Selector{Path: "a"}, true},
		{"elsewhere", digestTree, Selector{Path: "a"}, digestTree + "\nf 0644 0:0 z z", Selector{Path: "a"}, true},
		{"wildcard", digestTree, Selector{Path: "/a/*", Wildcard: true}, digestTree + "\nf 0644 0:0 z z", Selector{Path: "/a/*", Wildcard: true}, true},
		{"wildcard names", `f 0644 0:0 f x`, Selector{Path: "/*", Wildcard: true}, `f 0644 0:0 g x`, Selector{Path: "/*", Wildcard: true}, false},
		{"wildcard without match", digestTree, Selector{Path: "/z*", Wildcard: true}, ``, Selector{Path: "/z*", Wildcard: true}, true},
		{"names cannot be confused", `f 0644 0:0 a x
			f 0644 0:0 b y`, Selector{}, `f 0644 0:0 "a\nb" xy`, Selector{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := digest(t, c.a, c.selA)
			if err != nil {
				t.Fatal(err)
			}
			b, err := digest(t, c.b, c.selB)
			if err != nil {
				t.Fatal(err)
			}
			if (a == b) != c.equal {
				t.Errorf("digests %s and %s, want equal: %v", a, b, c.equal)
			}
		})
	}
}

func TestDigestErrors(t *testing.T) {
	for _, sel := range []Selector{
		{Path: "/missing"},
		{Path: "/missing/*", Wildcard: true},
		{Path: "/", Include: []string{"a/z"}, Required: []string{"/a/z"}},
	} {
		if _, err := digest(t, digestTree, sel); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%+v: %v, want fs.ErrNotExist", sel, err)
		}
	}
	if _, err := digest(t, digestTree, Selector{Path: "a[", Wildcard: true}); err == nil {
		t.Error("a bad pattern: no error")
	}
	broken := errors.New("broken")
	_, err := Digest(t.Context(), contentTree{}, Selector{}, func(string) (string, error) { return "", broken })
	if !errors.Is(err, broken) {
		t.Errorf("error of the content function: %v", err)
	}
}

// contentTree holds one file.
type contentTree struct{ emptyTree }

func (contentTree) ReadDir(string) ([]string, error) { return []string{"f"}, nil }
func (contentTree) Lstat(name string) (inode.Info, error) {
	if name == "f" {
		return inode.Info{Mode: inode.TypeFile}, nil
	}
	return emptyTree{}.Lstat(name)
}

// TestAttributesText holds the text that keys are made of: with another one, every build would start anew.
func TestAttributesText(t *testing.T) {
	for _, i := range []inode.Info{
		{Mode: inode.TypeFile | 0o644, UID: 1, GID: 1 << 31},
		{Mode: inode.TypeChar | 0o4600, Major: 4, Minor: 1 << 20, Xattrs: map[string]string{inode.CapabilityXattr: "\x01\xff"}},
		{Mode: inode.TypeLink | 0o777, Link: "a \"b\"\xff\n"},
	} {
		name := "dir/ü \x00\xfe\""
		want := fmt.Sprintf("name %q mode %o owner %d:%d device %d:%d link %q capability %x", name,
			i.Mode, i.UID, i.GID, i.Major, i.Minor, i.Link, i.Xattrs[inode.CapabilityXattr])
		if got := string(attributes(nil, name, i)); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
