package fileop

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/pb"
	"github.com/skiff-build/skiff/internal/inode"
)

// dockerCopy is a copy as the Dockerfile frontend asks for it (dispatchCopy in its convert_copy.go).
func dockerCopy(src, dest string, opts ...func(*pb.FileActionCopy)) *pb.FileActionCopy {
	a := &pb.FileActionCopy{Src: src, Dest: dest, Mode: -1, Timestamp: -1, FollowSymlink: true, DirCopyContents: true,
		CreateDestPath: true, AllowWildcard: true, AllowEmptyWildcard: true}
	for _, o := range opts {
		o(a)
	}
	return a
}

func byID(id uint32) *pb.UserOpt { return &pb.UserOpt{User: &pb.UserOpt_ByID{ByID: id}} }
func byName(n string) *pb.UserOpt {
	return &pb.UserOpt{User: &pb.UserOpt_ByName{ByName: &pb.NamedUserOpt{Name: n}}}
}

func withOwner(user, group *pb.UserOpt) func(*pb.FileActionCopy) {
	return func(a *pb.FileActionCopy) { a.Owner = &pb.ChownOpt{User: user, Group: group} }
}
func withMode(m int32) func(*pb.FileActionCopy) { return func(a *pb.FileActionCopy) { a.Mode = m } }
func withModeStr(s string) func(*pb.FileActionCopy) {
	return func(a *pb.FileActionCopy) { a.Mode, a.ModeStr = 0, s }
}
func withExclude(p ...string) func(*pb.FileActionCopy) {
	return func(a *pb.FileActionCopy) { a.ExcludePatterns = p }
}
func withParents(pattern, required string) func(*pb.FileActionCopy) {
	return func(a *pb.FileActionCopy) {
		a.IncludePatterns = []string{pattern}
		if required != "" {
			a.RequiredPaths = []string{required}
		}
	}
}
func replacing(a *pb.FileActionCopy)   { a.AlwaysReplaceExistingDestPaths = true }
func unpacking(a *pb.FileActionCopy)   { a.AttemptUnpackDockerCompatibility = true }
func notContents(a *pb.FileActionCopy) { a.DirCopyContents = false }
func notFollowing(a *pb.FileActionCopy) {
	a.FollowSymlink = false
}

const passwd = `
	f 0644 0:0 etc/passwd bin:x:7:8:bin:/bin:/sbin/nologin
	f 0644 0:0 etc/group staff:x:50:a,b
`

var copyRules = []struct {
	name     string
	src, dst string // trees
	do       *pb.FileActionCopy
	want     string // tree, or the error after "error:"
}{
	{"file to directory", `f 0640 0:0 a/f x`, `d 0755 0:0 d`, dockerCopy("/a/f", "/d"), `d 0755 0:0 d
		f 0640 0:0 d/f x`},
	{"file to file", `f 0640 0:0 f x`, ``, dockerCopy("/f", "/d"), `f 0640 0:0 d x`},
	{"file to new directory", `f 0640 0:0 f x`, ``, dockerCopy("/f", "/d/"), `d 0755 0:0 d
		f 0640 0:0 d/f x`},
	{"file to dot", `f 0640 0:0 f x`, ``, dockerCopy("/f", "/d/."), `d 0755 0:0 d
		f 0640 0:0 d/f x`},
	{"file to root", `f 0640 0:0 f x`, ``, dockerCopy("/f", "/"), `f 0640 0:0 f x`},
	{"file replaces file and owner", `f 0640 1:2 f x`, `f 0777 3:4 g y`, dockerCopy("/f", "/g"), `f 0640 1:2 g x`},
	{"empty file", `f 0644 0:0 f`, ``, dockerCopy("/f", "/g"), `f 0644 0:0 g`},
	{"owners, devices, fifos and capabilities stay", `
		d 0700 5:6 t/d
		f+cap 0755 7:8 t/d/f x
		c 0640 1:2 t/c 1:3
		b 0660 1:2 t/b 8:1
		p 0600 3:4 t/p
		s 0600 3:4 t/s
		l 0777 9:10 t/l nowhere`, ``, dockerCopy("/t", "/"), `
		b 0660 1:2 b 8:1
		c 0640 1:2 c 1:3
		d 0700 5:6 d
		f+cap 0755 7:8 d/f x
		l 0777 9:10 l nowhere
		p 0600 3:4 p
		f 0600 3:4 s`},
	{"directory gives contents, made 0755 0:0", `d 0700 5:5 t
		d 2711 1:1 t/s
		f 4755 0:0 t/s/f x`, ``, dockerCopy("/t", "/n"), `d 0755 0:0 n
		d 2711 1:1 n/s
		f 4755 0:0 n/s/f x`},
	{"existing directory keeps mode and owner", `d 0700 5:5 t
		f 0644 0:0 t/f x`, `d 1777 3:3 n`, dockerCopy("/t", "/n"), `d 1777 3:3 n
		f 0644 0:0 n/f x`},
	{"existing directory below takes those of the source", `d 0700 5:5 t/s
		f 0644 0:0 t/s/f x`, `d 1777 3:3 n/s`, dockerCopy("/t", "/n"), `d 0755 0:0 n
		d 0700 5:5 n/s
		f 0644 0:0 n/s/f x`},
	{"unwritable directories", `d 0500 5:5 t/s
		f 0000 5:5 t/s/f x`, ``, dockerCopy("/t", "/n/"), `d 0755 0:0 n
		d 0500 5:5 n/s
		f 0000 5:5 n/s/f x`},
	{"hard links stay within a copy", `f 0644 0:0 t/a x
		h - - t/b t/a
		h - - t/s/c t/a`, ``, dockerCopy("/t", "/"), `f 0644 0:0 a x
		h - - b a
		d 0755 0:0 s
		h - - s/c a`},

	{"chown parents", `f 0640 0:0 f x`, `d 0755 0:0 a`, dockerCopy("/f", "/a/b/c/", withOwner(byID(7), nil)), `d 0755 0:0 a
		d 0755 7:7 a/b
		d 0755 7:7 a/b/c
		f 0640 7:7 a/b/c/f x`},
	{"chown by name takes primary group", `f 0640 0:0 f x`, passwd, dockerCopy("/f", "/g", withOwner(byName("bin"), nil)), `
		d 0755 0:0 etc
		f 0644 0:0 etc/group staff:x:50:a,b
		f 0644 0:0 etc/passwd bin:x:7:8:bin:/bin:/sbin/nologin
		f 0640 7:8 g x`},
	{"chown unknown name, known group", `f 0640 0:0 f x`, passwd, dockerCopy("/f", "/g", withOwner(byName("who"), byName("staff"))), `
		d 0755 0:0 etc
		f 0644 0:0 etc/group staff:x:50:a,b
		f 0644 0:0 etc/passwd bin:x:7:8:bin:/bin:/sbin/nologin
		f 0640 0:50 g x`},
	{"chown group alone", `f 0640 3:3 f x`, ``, dockerCopy("/f", "/g", withOwner(byID(0), byID(9))), `f 0640 0:9 g x`},
	{"chown links", `l 0777 3:3 t/l x`, ``, dockerCopy("/t", "/", withOwner(byID(1), byID(2))), `l 0777 1:2 l x`},
	{"parents below setgid inherit the group", `f 0640 3:3 f x`, `d 2775 0:50 v`, dockerCopy("/f", "/v/n/"), `d 2775 0:50 v
		d 0755 0:50 v/n
		f 0640 3:3 v/n/f x`},

	{"chmod covers parents and directories", `d 0755 0:0 t/s
		f 0755 0:0 t/s/f x
		l 0777 0:0 t/s/l f`, ``, dockerCopy("/t", "/p/q/", withMode(0o640)), `d 0640 0:0 p
		d 0640 0:0 p/q
		d 0640 0:0 p/q/s
		f 0640 0:0 p/q/s/f x
		l 0777 0:0 p/q/s/l f`},
	{"chmod setuid not for parents", `f 0755 0:0 f x`, ``, dockerCopy("/f", "/p/", withMode(0o4711)), `d 0711 0:0 p
		f 4711 0:0 p/f x`},
	{"chmod symbolic", `d 0700 0:0 t/s
		f 0644 0:0 t/s/f x`, ``, dockerCopy("/t", "/p/", withModeStr("go=rX,u+s")), `d 0755 0:0 p
		d 4755 0:0 p/s
		f 4644 0:0 p/s/f x`},

	{"links on the way are followed", `f 0644 0:0 f x`, `l 0777 0:0 a /b
		d 0755 0:0 b`, dockerCopy("/f", "/a/"), `l 0777 0:0 a /b
		d 0755 0:0 b
		f 0644 0:0 b/f x`},
	{"target of a dangling link is made", `f 0644 0:0 f x`, `l 0777 0:0 a n/o`, dockerCopy("/f", "/a/"), `l 0777 0:0 a n/o
		d 0755 0:0 n
		d 0755 0:0 n/o
		f 0644 0:0 n/o/f x`},
	{"a final link is written through", `f 0644 0:0 f x`, `l 0777 0:0 a b
		f 0600 1:1 b old`, dockerCopy("/f", "/a"), `l 0777 0:0 a b
		f 0644 0:0 b x`},
	{"link to a directory counts as it", `f 0644 0:0 f x`, `l 0777 0:0 a b
		d 0755 0:0 b`, dockerCopy("/f", "/a"), `l 0777 0:0 a b
		d 0755 0:0 b
		f 0644 0:0 b/f x`},
	{"links cannot leave the root", `f 0644 0:0 f x`, `l 0777 0:0 a ../../../../tmp/skiff-out`, dockerCopy("/f", "/a/"), `
		l 0777 0:0 a ../../../../tmp/skiff-out
		d 0755 0:0 tmp
		d 0755 0:0 tmp/skiff-out
		f 0644 0:0 tmp/skiff-out/f x`},
	{"link loop", `f 0644 0:0 f x`, `l 0777 0:0 a b
		l 0777 0:0 b a`, dockerCopy("/f", "/a/"), `error: too many levels of symbolic links`},
	{"file on the way", `f 0644 0:0 f x`, `f 0644 0:0 a y`, dockerCopy("/f", "/a/"), `error: mkdir /a: not a directory`},
	{"directory onto file", `f 0644 0:0 t/f x`, `f 0644 0:0 a y`, dockerCopy("/t", "/a"), `error: cannot copy a directory to /a`},
	{"inner directory onto link", `f 0644 0:0 t/s/f x`, `l 0777 0:0 s d
		d 0755 0:0 d`, dockerCopy("/t", "/"), `error: cannot copy a directory to /s`},
	{"inner directory onto link, replacing", `f 0644 0:0 t/s/f x`, `l 0777 0:0 s d
		d 0755 0:0 d`, dockerCopy("/t", "/", replacing), `d 0755 0:0 d
		d 0755 0:0 s
		f 0644 0:0 s/f x`},
	{"file onto directory", `f 0644 0:0 t/s x`, `d 0755 0:0 s`, dockerCopy("/t", "/"), `error: cannot replace the directory /s`},
	{"file onto directory, replacing", `f 0644 0:0 t/s x`, `f 0644 0:0 s/f y`, dockerCopy("/t", "/", replacing), `f 0644 0:0 s x`},
	{"link onto file", `l 0777 0:0 t/s x`, `f 0644 0:0 s y`, dockerCopy("/t", "/"), `l 0777 0:0 s x`},
	{"inner link is replaced, not written through", `f 0644 0:0 t/s x`, `l 0777 0:0 s y
		f 0644 0:0 y old`, dockerCopy("/t", "/"), `f 0644 0:0 s x
		f 0644 0:0 y old`},
	{"device is replaced, not opened", `f 0644 0:0 s x`, `c 0666 0:0 s 1:3`, dockerCopy("/s", "/s"), `f 0644 0:0 s x`},

	{"source link is followed", `l 0777 0:0 l t
		f 0644 0:0 t/f x
		l 0777 0:0 t/dangling nowhere`, ``, dockerCopy("/l", "/d"), `d 0755 0:0 d
		l 0777 0:0 d/dangling nowhere
		f 0644 0:0 d/f x`},
	{"source link keeps its name", `l 0777 0:0 l t
		f 0644 0:0 t x`, `d 0755 0:0 d`, dockerCopy("/l", "/d"), `d 0755 0:0 d
		f 0644 0:0 d/l x`},
	{"source link unfollowed", `l 0777 3:4 l t
		f 0644 0:0 t x`, ``, dockerCopy("/l", "/d", notFollowing), `l 0777 3:4 d t`},
	{"source link cannot leave", `l 0777 0:0 l ../../../etc/f
		f 0644 0:0 etc/f x`, ``, dockerCopy("/l", "/d"), `f 0644 0:0 d x`},
	{"source loop", `l 0777 0:0 l l`, ``, dockerCopy("/l", "/d"), `error: too many levels of symbolic links`},
	{"dot dot stays inside", `f 0644 0:0 f x`, ``, dockerCopy("../../f", "/d"), `f 0644 0:0 d x`},
	{"missing", ``, ``, dockerCopy("/f", "/d/"), `error: "/f": not found`},
	{"missing below a file", `f 0644 0:0 f x`, ``, dockerCopy("/f/g", "/d/"), `error: "/f/g": not found`},
	{"directory itself", `f 0644 0:0 t/f x`, `d 0755 0:0 d`, dockerCopy("/t", "/d", notContents), `d 0755 0:0 d
		d 0755 0:0 d/t
		f 0644 0:0 d/t/f x`},
	{"root without contents", `f 0644 0:0 t/f x`, `d 0755 0:0 d`, dockerCopy("/", "/d", notContents), `d 0755 0:0 d
		d 0755 0:0 d/t
		f 0644 0:0 d/t/f x`},

	{"wildcard", `f 0644 0:0 a.go 1
		f 0644 0:0 b.go 2
		f 0644 0:0 c 3
		f 0644 0:0 s/d.go 4`, ``, dockerCopy("/*.go", "/d/"), `d 0755 0:0 d
		f 0644 0:0 d/a.go 1
		f 0644 0:0 d/b.go 2`},
	{"wildcard in the middle", `f 0644 0:0 a/x/f 1
		f 0644 0:0 b/x/f 2`, ``, dockerCopy("/?/x/f", "/d"), `f 0644 0:0 d 2`},
	{"wildcard on directories and links to them", `f 0644 0:0 t1/f x
		l 0777 0:0 t2 t3
		f 0644 0:0 t3/g y`, ``, dockerCopy("/t[12]", "/d"), `d 0755 0:0 d
		f 0644 0:0 d/f x
		f 0644 0:0 d/g y`},
	{"wildcard quoted", `f 0644 0:0 [a] x
		f 0644 0:0 a y`, ``, dockerCopy("/[[]a]", "/d"), `f 0644 0:0 d x`},
	{"double star is one", `f 0644 0:0 f x
		f 0644 0:0 s/g y
		f 0644 0:0 s/s/h z`, ``, dockerCopy("/**/g", "/d/"), `d 0755 0:0 d
		f 0644 0:0 d/g y`},
	{"wildcard without match makes nothing", `f 0644 0:0 f x`, ``, dockerCopy("/g*", "/d/"), ``},
	{"wildcard below nothing", ``, ``, dockerCopy("/g/*", "/d/"), `error: "/g": not found`},
	{"bad pattern", `f 0644 0:0 f x`, ``, dockerCopy("/a[", "/d/"), `error: syntax error in pattern`},

	{"exclude", `f 0644 0:0 t/a.go 1
		f 0644 0:0 t/a_test.go 2
		f 0644 0:0 t/s/b_test.go 3
		f 0644 0:0 t/s/keep_test.go 4`, ``, dockerCopy("/t", "/d", withExclude("**/*_test.go", "!**/keep*")), `d 0755 0:0 d
		f 0644 0:0 d/a.go 1
		d 0755 0:0 d/s
		f 0644 0:0 d/s/keep_test.go 4`},
	{"exclude a directory but for some", `f 0644 0:0 t/s/a 1
		f 0644 0:0 t/s/b 2
		d 0700 3:3 t/s`, ``, dockerCopy("/t", "/d", withExclude("s", "!s/b")), `d 0755 0:0 d
		d 0700 3:3 d/s
		f 0644 0:0 d/s/b 2`},
	{"exclude everything makes the destination", `f 0644 0:0 t/a 1`, ``, dockerCopy("/t", "/d", withExclude("*")), `d 0755 0:0 d`},

	{"parents", `d 0700 3:3 a/b
		f 0644 0:0 a/b/f x
		f 0644 0:0 a/c y`, ``, dockerCopy("/", "/d/", withParents("a/b/f", "/a/b/f")), `d 0755 0:0 d
		d 0755 0:0 d/a
		d 0700 3:3 d/a/b
		f 0644 0:0 d/a/b/f x`},
	{"parents after a pivot", `f 0644 0:0 a/b/f x`, ``, dockerCopy("/a", "/d/", withParents("b/f", "/a/b/f")), `d 0755 0:0 d
		d 0755 0:0 d/b
		f 0644 0:0 d/b/f x`},
	{"parents, any depth", `f 0644 0:0 a/b/f.go x
		f 0644 0:0 a/g.go y
		d 0755 0:0 c`, ``, dockerCopy("/", "/", withParents("**/*.go", "")), `d 0755 0:0 a
		d 0755 0:0 a/b
		f 0644 0:0 a/b/f.go x
		f 0644 0:0 a/g.go y`},
	{"parents, missing", `f 0644 0:0 a/b x`, ``, dockerCopy("/", "/d/", withParents("a/c", "/a/c")), `error: "/a/c": not found`},
	{"parents, existing directory keeps owner", `d 0700 3:3 a
		f 0644 0:0 a/f x`, `d 0755 4:4 a`, dockerCopy("/", "/", withParents("a/f", "/a/f")), `d 0700 4:4 a
		f 0644 0:0 a/f x`},

	{"names of any bytes", `f 0644 0:0 "t/\xff\xfe" x`, ``, dockerCopy("/t", "/"), `f 0644 0:0 "\xff\xfe" x`},
}

func TestCopy(t *testing.T) {
	for _, c := range copyRules {
		t.Run(c.name, func(t *testing.T) {
			got := runAction(t, c.src, c.dst, &pb.FileAction{Action: &pb.FileAction_Copy{Copy: c.do}})
			if want := lines(c.want); !matches(got, want) {
				t.Errorf("got:\n%swant:\n%s", got, want)
			}
		})
	}
}

// matches compares a result of runAction; of an error a part is enough.
func matches(got, want string) bool {
	if part, ok := strings.CutPrefix(want, "error: "); ok {
		return strings.HasPrefix(got, "error: ") && strings.Contains(got, strings.TrimSpace(part))
	}
	return got == want
}

// runAction applies an action to trees and returns the destination, or "error: " and the error.
func runAction(t *testing.T, src, dst string, a *pb.FileAction) string {
	t.Helper()
	srcDir, dstDir := t.TempDir(), t.TempDir()
	makeTree(t, srcDir, src)
	makeTree(t, dstDir, dst)
	tree, done, err := inode.Dir(srcDir)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	users, doneUsers, err := inode.Dir(dstDir)
	if err != nil {
		t.Fatal(err)
	}
	defer doneUsers()
	if err := Apply(t.Context(), dstDir, a, tree, users); err != nil {
		if strings.Contains(err.Error(), dstDir) || strings.Contains(err.Error(), srcDir) {
			t.Errorf("error names a directory of the host: %v", err)
		}
		return "error: " + err.Error() + "\n"
	}
	return showTree(t, dstDir)
}

func TestCopyErrors(t *testing.T) {
	dir := t.TempDir()
	apply := func(ctx context.Context, a *pb.FileActionCopy, users inode.Tree) error {
		return Apply(ctx, dir, &pb.FileAction{Action: &pb.FileAction_Copy{Copy: a}}, nil, users)
	}
	if err := apply(t.Context(), dockerCopy("/f", "/"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing source: %v, want fs.ErrNotExist", err)
	}
	err := apply(t.Context(), dockerCopy("/", "/", withOwner(byName("bin"), nil)), nil)
	if err == nil || !strings.Contains(err.Error(), "bin") {
		t.Errorf("owner by name without a tree: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := apply(ctx, dockerCopy("/", "/"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := Apply(t.Context(), dir, &pb.FileAction{}, nil, nil); err == nil {
		t.Error("no action: no error")
	}
}
