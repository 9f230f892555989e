package fileop

import (
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/skiff-build/skiff/internal/inode"
)

// A test tree is written as lines of "TYPE MODE UID:GID NAME [REST]", where TYPE is d, f (REST is the
// content), l (REST is the target), p, s, c or b (REST is MAJOR:MINOR), and h (REST is the name of an
// earlier file, to which it is a hard link; mode and owner are not looked at). A capability follows a
// file's name as in "f+cap". Missing parents are made.

var types = map[byte]uint32{'d': inode.TypeDir, 'f': inode.TypeFile, 'l': inode.TypeLink, 'p': inode.TypeFIFO,
	's': inode.TypeSocket, 'c': inode.TypeChar, 'b': inode.TypeBlock}

// testCap is a valid VFS capability, revision 2: cap_net_bind_service, effective.
const testCap = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// makeTree writes the files that lines describe below dir.
func makeTree(t testing.TB, dir, lines string) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for l := range strings.Lines(lines) {
		f := strings.Fields(l)
		if len(f) == 0 {
			continue
		}
		name, rest := f[3], strings.Join(f[4:], " ")
		if n, err := strconv.Unquote(name); err == nil {
			name = n
		}
		p := filepath.Join(dir, name)
		makeParents(t, dir, path.Dir(name))
		if f[0] == "h" {
			check(os.Link(filepath.Join(dir, rest), p))
			continue
		}
		perm, err := strconv.ParseUint(f[1], 8, 32)
		check(err)
		want := inode.Info{Mode: types[f[0][0]] | uint32(perm)}
		_, err = fmt.Sscanf(f[2], "%d:%d", &want.UID, &want.GID)
		check(err)
		switch f[0][0] {
		case 'f':
			if strings.HasSuffix(f[0], "+cap") {
				want.Xattrs = map[string]string{inode.CapabilityXattr: testCap}
			}
			check(os.WriteFile(p, []byte(rest), 0o600))
			check(inode.Set(p, want))
		case 'd':
			if _, err := os.Lstat(p); err == nil {
				check(inode.Set(p, want))
				break
			}
			check(inode.Create(p, want))
		case 'l':
			want.Link = rest
			check(inode.Create(p, want))
		default:
			if rest != "" {
				_, err = fmt.Sscanf(rest, "%d:%d", &want.Major, &want.Minor)
				check(err)
			}
			check(inode.Create(p, want))
		}
		if f[0] != "l" {
			check(inode.SetTimes(p, 1e18))
		}
	}
}

// makeParents makes a directory and its parents below dir, 0755 0:0.
func makeParents(t testing.TB, dir, name string) {
	t.Helper()
	if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
		return
	}
	makeParents(t, dir, path.Dir(name))
	if err := inode.Create(filepath.Join(dir, name), inode.Info{Mode: inode.TypeDir | 0o755}); err != nil {
		t.Fatal(err)
	}
}

// showTree describes the files below dir in the form that makeTree takes, sorted, without the root.
func showTree(t testing.TB, dir string) string {
	t.Helper()
	tree, done, err := inode.Dir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	var b strings.Builder
	seen := map[uint64]string{}
	var walk func(name string)
	walk = func(name string) {
		names, err := tree.ReadDir(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, base := range names {
			at := path.Join(name, base)
			i, err := tree.Lstat(at)
			if err != nil {
				t.Fatal(err)
			}
			showFile(t, &b, tree, at, i, seen)
			if i.IsDir() {
				walk(at)
			}
		}
	}
	walk(".")
	return b.String()
}

func showFile(t testing.TB, b *strings.Builder, tree inode.Tree, name string, i inode.Info, seen map[uint64]string) {
	t.Helper()
	if first := seen[i.Ino]; first != "" {
		fmt.Fprintf(b, "h - - %s %s\n", name, first)
		return
	}
	typ, rest := "?", ""
	for c, bits := range types {
		if bits == i.Type() {
			typ = string(c)
		}
	}
	switch {
	case i.IsRegular():
		r, err := tree.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		rest = " " + string(data)
		if i.Nlink > 1 {
			seen[i.Ino] = name
		}
		if i.Xattrs[inode.CapabilityXattr] == testCap {
			typ = "f+cap"
		}
	case i.IsLink():
		rest = " " + i.Link
	case i.IsDevice():
		rest = fmt.Sprintf(" %d:%d", i.Major, i.Minor)
	}
	shown := name
	if q := strconv.Quote(name); q != `"`+name+`"` {
		shown = q
	}
	fmt.Fprintf(b, "%s %04o %d:%d %s%s\n", typ, i.Perm(), i.UID, i.GID, shown, strings.TrimRight(rest, " "))
}

// lines strips the indentation of a literal.
func lines(s string) string {
	var out strings.Builder
	for l := range strings.Lines(s) {
		if l = strings.TrimSpace(l); l != "" {
			out.WriteString(l + "\n")
		}
	}
	return out.String()
}
