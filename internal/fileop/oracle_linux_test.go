package fileop

import (
	"context"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/continuity/fs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/skiff-build/skiff/internal/inode"
	fscopy "github.com/tonistiigi/fsutil/copy"
)

// TestAgainstBuildKit runs random copies over random trees through the copy package that BuildKit uses, as
// its docopy calls it (solver/llbsolver/file/backend.go), and holds that the result, or that there is an
// error, is the same. It needs to chown, and so real root.
func TestAgainstBuildKit(t *testing.T) {
	if os.Getenv(inNamespace) != "" {
		t.Skip("the reference needs real root")
	}
	seed := int64(20)
	rounds := 60
	if s := os.Getenv("SKIFF_TEST_ROUNDS"); s != "" { // for more: "ROUNDS SEED"
		fmt.Sscan(s, &rounds, &seed)
	}
	src, dst := t.TempDir(), t.TempDir()
	r := rand.New(rand.NewSource(seed))
	failed, errors := 0, 0
	for i := 0; i < rounds && failed < 5; i++ {
		srcTree, dstTree := randomTree(r), randomTree(r)
		a := randomCopy(r, srcTree, dstTree)
		got, want := [2]string{}, [2]string{}
		for j, do := range []func(src, dst string, a *pb.FileActionCopy) error{ours, reference} {
			s, d := filepath.Join(src, fmt.Sprint(i, "-", j)), filepath.Join(dst, fmt.Sprint(i, "-", j))
			for _, dir := range []string{s, d} {
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			makeTree(t, s, srcTree)
			makeTree(t, d, dstTree)
			res := &got
			if j == 1 {
				res = &want
			}
			if err := do(s, d, a); err != nil {
				res[0], res[1] = "error", err.Error()
				errors++
			} else {
				res[0] = showTree(t, d)
			}
			os.RemoveAll(s)
			os.RemoveAll(d)
		}
		// The reference looks for the targets in a directory of which nothing is selected, and fails where a
		// file or a looping link is in the way. We do not look.
		if strings.HasPrefix(want[1], "failed to stat") {
			continue
		}
		if got[0] != want[0] {
			failed++
			t.Errorf("round %d: %v\nsource:\n%sdestination:\n%sgot:  %s\n%s\nwant: %s\n%s", i, a, srcTree, dstTree, got[1], got[0], want[1], want[0])
		}
	}
	t.Logf("%d copies, %d of them errors", rounds, errors/2)
}

func ours(src, dst string, a *pb.FileActionCopy) error {
	tree, done, err := inode.Dir(src)
	if err != nil {
		return err
	}
	defer done()
	return Apply(context.Background(), dst, &pb.FileAction{Action: &pb.FileAction_Copy{Copy: a}}, tree, nil)
}

// reference is docopy, with an owner that is known already.
func reference(src, dst string, a *pb.FileActionCopy) error {
	srcPath, dstPath := cleanPath(a.Src), cleanPath(a.Dest)
	if !a.CreateDestPath {
		p, err := fs.RootPath(dst, filepath.Join("/", a.Dest))
		if err != nil {
			return err
		}
		if _, err := os.Lstat(filepath.Dir(p)); err != nil {
			return err
		}
	}
	opt := func(ci *fscopy.CopyInfo) {
		ci.IncludePatterns, ci.ExcludePatterns = a.IncludePatterns, a.ExcludePatterns
		ci.Chown = func(old *fscopy.User) (*fscopy.User, error) { return old, nil }
		if o := a.Owner; o != nil {
			u := &fscopy.User{UID: int(o.User.GetByID()), GID: int(o.Group.GetByID())}
			ci.Chown = func(*fscopy.User) (*fscopy.User, error) { return u, nil }
		}
		if a.ModeStr != "" {
			ci.ModeStr = a.ModeStr
		} else if m := int(a.Mode); m != -1 {
			ci.Mode = &m
		}
		ci.CopyDirContents, ci.FollowLinks = a.DirCopyContents, a.FollowSymlink
		ci.AlwaysReplaceExistingDestPaths = a.AlwaysReplaceExistingDestPaths
	}
	matches := []string{srcPath}
	if a.AllowWildcard {
		var err error
		if matches, err = fscopy.ResolveWildcards(src, srcPath, a.FollowSymlink); err != nil {
			return err
		}
		if len(matches) == 0 && !a.AllowEmptyWildcard {
			return fmt.Errorf("%s not found", srcPath)
		}
	}
	for _, m := range matches {
		if err := fscopy.Copy(context.Background(), src, m, dst, dstPath, opt); err != nil {
			return err
		}
	}
	return nil
}

var randomNames = []string{"a", "b", "c", "a.go"}

// randomName is a path of few names, so that source, destination and links meet.
func randomName(r *rand.Rand) string {
	parts := make([]string, 1+r.Intn(3))
	for i := range parts {
		parts[i] = randomNames[r.Intn(len(randomNames))]
	}
	return strings.Join(parts, "/")
}

// randomTree is a tree in the form of makeTree.
func randomTree(r *rand.Rand) string {
	kinds := map[string]string{} // of each path that is taken
	var b strings.Builder
	for range 2 + r.Intn(10) {
		name := randomName(r)
		parts := strings.Split(name, "/")
		free := kinds[name] == ""
		for i := 1; i < len(parts); i++ {
			p := strings.Join(parts[:i], "/")
			if k := kinds[p]; k != "" && k != "d" {
				free = false
			}
		}
		if !free {
			continue
		}
		for i := 1; i < len(parts); i++ {
			kinds[strings.Join(parts[:i], "/")] = "d"
		}
		owner := fmt.Sprintf("%d:%d", r.Intn(3), r.Intn(3))
		switch k := r.Intn(10); {
		case k < 4:
			fmt.Fprintf(&b, "f %s %s %s content of %s %d\n", []string{"0644", "0755", "4711", "0600"}[r.Intn(4)], owner, name, name, r.Intn(5))
			kinds[name] = "f"
		case k < 6:
			fmt.Fprintf(&b, "d %s %s %s\n", []string{"0755", "2775", "1777", "0700"}[r.Intn(4)], owner, name)
			kinds[name] = "d"
		case k < 9:
			target := randomName(r)
			switch r.Intn(5) {
			case 0:
				target = "/" + target
			case 1:
				target = "../" + target
			case 2:
				target = "."
			}
			fmt.Fprintf(&b, "l 0777 %s %s %s\n", owner, name, target)
			kinds[name] = "l"
		default:
			fmt.Fprintf(&b, "p 0600 %s %s\n", owner, name)
			kinds[name] = "p"
		}
	}
	return b.String()
}

// nameIn is a path in a tree, mostly.
func nameIn(r *rand.Rand, tree string) string {
	lines := strings.Split(strings.TrimSpace(tree), "\n")
	fields := strings.Fields(lines[r.Intn(len(lines))])
	if len(fields) < 4 || r.Intn(4) == 0 {
		return randomName(r)
	}
	parts := strings.Split(fields[3], "/")
	return strings.Join(parts[:1+r.Intn(len(parts))], "/")
}

func randomCopy(r *rand.Rand, src, dst string) *pb.FileActionCopy {
	pick := func(list ...string) string { return list[r.Intn(len(list))] }
	a := dockerCopy("/"+nameIn(r, src), "/"+nameIn(r, dst))
	switch r.Intn(6) {
	case 0:
		a.Src = "/"
	case 1:
		a.Src = pick("/*", "/a*", "/*/*", "/?", "/[ab]", "/*.go", "/a/*", "/b/*/c", "/**", "/*/a")
	case 2:
		a.Src += pick("/", "/.")
	}
	a.Dest += pick("", "", "/", "/.")
	if r.Intn(8) == 0 {
		a.Dest = "/"
	}
	if r.Intn(4) == 0 {
		a.Owner = &pb.ChownOpt{User: byID(uint32(r.Intn(4))), Group: byID(uint32(r.Intn(4)))}
	}
	switch r.Intn(8) {
	case 0:
		a.Mode = []int32{0o640, 0o4755, 0o700}[r.Intn(3)]
	case 1:
		a.Mode, a.ModeStr = 0, pick("u+x", "go-rwx", "a=rX", "+t")
	}
	patterns := []string{"a", "b/c", "*", "**/a", "*/b", "**/*.go", "!a", "!**/c", "c/**"}
	if r.Intn(4) == 0 {
		a.ExcludePatterns = []string{pick(patterns...), pick(patterns...)}
	}
	if r.Intn(4) == 0 {
		a.IncludePatterns = []string{pick(patterns...)}
		if strings.HasPrefix(a.IncludePatterns[0], "!") {
			a.IncludePatterns[0] = "**"
		}
	}
	a.FollowSymlink = r.Intn(5) > 0
	a.DirCopyContents = r.Intn(5) > 0
	a.CreateDestPath = r.Intn(8) > 0
	a.AlwaysReplaceExistingDestPaths = r.Intn(6) == 0
	return a
}
